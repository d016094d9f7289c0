"""Go on training a model on text of your own.

    python scripts/finetune.py MODEL --data notes/          .txt .md .py: it learns their language
    python scripts/finetune.py MODEL --data talks.jsonl     conversations: it learns the answers
    python scripts/finetune.py MODEL --data notes/ --full   all weights in place of an adapter
    python scripts/finetune.py MODEL --data notes/ --export it.gguf

MODEL is a run folder, a folder of safetensors or a .gguf file. What it has learnt is measured on a
part of your text that is held out, what it has forgotten on general text. Every flag: --help.
"""

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.conversations import read_conversations
from tinygrad_edu.data.curation import split_by_prompt
from tinygrad_edu.data.loader import draw_batch, evaluation_batches, token_stream
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.data.turns import ChatTurns, Turns
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.memory import peak_resident_bytes
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import save_gguf_model
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.adapter import save_adapter
from tinygrad_edu.rlhf.lora import TrainedPart, add_lora, merge_lora, trained_share
from tinygrad_edu.rlhf.sft import checked_rows, draw_answers, held_out_loss, sft_batch
from tinygrad_edu.rlhf.stage import StageSettings, fit, open_stage, saver, show_curves
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields
from tinygrad_edu.train.loop import evaluate
from tinygrad_edu.train.program import program

ANSWERS = 5
PROMPT = 24  # tokens of held-out text that an answer goes on with
RATES = {"lora": 5e-4, "full": 3e-5}


@dataclass
class Settings(StageSettings):
    """What to train on what, and how."""

    model: Path = option(Path(), "run folder, folder of safetensors, or .gguf file",
                         positional=True)
    data: Path = option(Path(), "a file .txt .md .py .jsonl, or a folder of texts")
    general: Path | None = option(
        None, "text that shows what is forgotten (default: the manual that Python brings along)")
    lora: bool = option(False, "train an adapter, which is the default")
    full: bool = option(False, "train all weights")
    four_bit: bool = option(False, "keep the frozen weights of an adapter's base in four bits")
    rank: int = option(8, "rank of the adapter", low=1, high=4096)
    alpha: float = option(16.0, "its scale is alpha / rank", low=1e-6)
    context: int = option(256, "tokens that are read together, of texts", low=8)
    parts: int = option(4, "passes that a step is cut into, to need less memory", low=1)
    look: int = option(16, "windows of held-out and of general text in a look", low=1)
    max_new: int = option(40, "tokens of the answers before and after", low=1)
    export: Path | None = option(None, "write the model, adapter merged, as a .gguf file")
    out: Path = option(Path("runs/finetune"), "run folder")
    steps: int = option(60, "optimizer steps", low=1, high=2**53)
    batch: int = option(8, "windows or conversations in a step", low=1, high=2**20)
    warmup: int = option(5, "steps over which the learning rate grows", low=0)
    lr: float = option(0.0, "largest learning rate (default: what suits an adapter or all weights)",
                       low=0.0)

    def __post_init__(self):
        if self.lora and self.full:
            raise ValueError("--lora and --full exclude each other: give one of them")
        if self.batch % self.parts:
            raise ValueError(f"--batch {self.batch} does not divide into {self.parts} --parts")
        self.lr = self.lr or RATES["full" if self.full else "lora"]
        super().__post_init__()


class Texts:
    """Text to go on with: windows of a stream of tokens."""

    def __init__(self, settings, opened):
        special = opened.tokenizer.special
        end = special.get(END_OF_TEXT, opened.ends[0] if opened.ends else None)
        corpus = read_corpus(str(settings.data))
        print(corpus.statistics())
        encode = opened.tokenizer.encode
        self.train, self.held_out = (token_stream(part, encode, end) for part in
                                     (corpus.train, corpus.held_out))
        self.settings, self.opened = settings, opened
        self.batch(0)                              # refuses a text that is too short

    def batch(self, step):
        """The (x, y) parts of a step."""
        of = self.settings
        x, y = draw_batch(self.train, of.batch, of.context, of.seed, step)
        return list(zip(np.split(x, of.parts), np.split(y, of.parts), strict=True))

    def held_out_loss(self, model):
        """Nats a token on windows from all over the held-out text."""
        return loss_of(model, self.held_out, self.settings)

    def prompts(self):
        """(shown, ids) of beginnings from the held-out text."""
        places = np.linspace(0, max(0, len(self.held_out) - 2 * PROMPT), ANSWERS).astype(int)
        for place in places:
            ids = self.held_out[place : place + PROMPT]
            yield self.opened.tokenizer.decode(ids), [*self.opened.begins, *ids.tolist()]

    def checksum(self):
        """A number for what is trained on."""
        return zlib.crc32(self.train.tobytes())


class Talks:
    """Conversations: the answers are learnt."""

    def __init__(self, settings, opened):
        if opened.template is None:
            turns = Turns(opened.tokenizer)
        else:
            turns = ChatTurns(opened.tokenizer, opened.template, opened.names)
        found = read_conversations(settings.data)
        train, self.asked = split_by_prompt(found)
        context = min(opened.model.config.context, 4 * settings.context)
        self.rows, self.held = (checked_rows(map(turns.tokens_and_mask, part), context)
                                for part in (train, self.asked))
        print(f"{len(train):,} conversations to learn from, {len(self.asked):,} held out")
        self.settings, self.turns = settings, turns

    def batch(self, step):
        """The (x, y) parts of a step; each is padded by itself."""
        of = self.settings
        size = of.batch // of.parts
        return [sft_batch(self.rows, size, of.seed, step * of.parts + part)
                for part in range(of.parts)]

    def held_out_loss(self, model):
        """Nats a token of held-out answers."""
        return held_out_loss(model, self.held[: 4 * self.settings.look], 4)

    def prompts(self):
        """(shown, ids) of held-out questions."""
        for talk in self.asked[:ANSWERS]:
            yield talk.prompt[-1][1], self.turns.prompt(talk.prompt).tolist()

    def checksum(self):
        """A number for what is trained on."""
        return zlib.crc32(b"".join(ids.tobytes() for ids, _ in self.rows))


def main():
    """Read the flags, look, train, look again."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if not settings.resume and {"model", "data"} - given:
            raise ValueError("name a MODEL and the --data to train it on; see --help")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        opened = open_model(settings.model, widen=True)
        settings.context = min(settings.context, opened.model.config.context)
        source = (Talks if settings.data.suffix == ".jsonl" or settings.data.name.endswith(
            ".jsonl.gz") else Texts)(settings, opened)
        general = general_text(settings, opened)
        stage.check(f"{settings.model.name} {source.checksum()}")
    model = opened.model
    before = look_at(model, source, general, settings), answers(opened, source, settings)
    if not settings.full:
        with errors_in_one_sentence():
            add_lora(model, settings.rank, settings.alpha, seed=settings.seed,
                     four_bit=settings.four_bit)
    part, share = TrainedPart(model), trained_share(model)
    count = sum(tensor.size for _, tensor in part.named_parameters())
    print(f"{count:,} numbers are trained, {share:.2%} of the model")
    optimizer = AdamW(part.named_parameters(), decay=settings.decay)
    with errors_in_one_sentence():
        stage.restore(part, optimizer)
    model.train()

    def look(step):
        return look_at(model, source, general, settings)

    metrics = fit(stage, model, optimizer, source.batch, saver(stage, part, optimizer),
                  ("general_loss",), look, "finetune.py")
    model.eval()
    finish(settings, opened, source, general, metrics, before, share)


def general_text(settings, opened):
    """Tokens of text that has nothing to do with the data, or that somebody chose."""
    if settings.general is None:
        from pydoc_data.topics import topics

        text = "\n".join(topics[name] for name in sorted(topics))[:200_000]
    else:
        text = settings.general.read_text(encoding="utf-8")
    return np.asarray(opened.tokenizer.encode(text))


def loss_of(model, tokens, settings):
    """Nats a token on some windows of a stream."""
    batches = evaluation_batches(tokens, settings.batch // settings.parts, settings.context,
                                 settings.look)
    return evaluate(model, batches)[0]


def look_at(model, source, general, settings):
    """Both losses: on held-out text of the user, and on general text."""
    return {"val_loss": source.held_out_loss(model),
            "general_loss": loss_of(model, general, settings)}


def answers(opened, source, settings):
    """(prompt, what the model goes on with) of some held-out prompts, greedy."""
    shown, prompts = zip(*source.prompts(), strict=True)
    drawn = draw_answers(opened.model, prompts, opened.ends, settings.max_new, greedy=True)
    return list(zip(shown, map(opened.tokenizer.decode, drawn), strict=True))


def finish(settings, opened, source, general, metrics, before, share):
    """Look once more, show answers, write files, sum up."""
    model, (losses, texts) = opened.model, before
    after = look_at(model, source, general, settings)
    for (prompt, old), (_, new) in zip(texts, answers(opened, source, settings), strict=True):
        print(f"----- {prompt!r}\nbefore: {old!r}\nafter:  {new!r}")
    if not settings.full:
        save_adapter(settings.out / "adapter", model, settings.model.name)
        merge_lora(model)
    save_published(settings.out / "merged", model)
    if settings.export:
        with errors_in_one_sentence():
            save_gguf_model(settings.export, model, tokenizer_fields(settings, opened))
        print(f"for llama.cpp: {settings.export}")
    show_curves(metrics, settings.out, "fine-tuning",
                [("loss, nats per token", ["loss", "val_loss"]),
                 ("loss on general text", ["general_loss"])])
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or math.inf)
    print(f"val_loss={after['val_loss']:.4f} val_loss_before={losses['val_loss']:.4f} "
          f"general_loss={after['general_loss']:.4f} "
          f"general_loss_before={losses['general_loss']:.4f} trained_share={share:.4f} "
          f"tokens_per_s={speed:.0f} memory_mb={(peak_resident_bytes() or 0) / 1e6:.0f} "
          f"seconds={metrics.last('seconds') or 0:.0f} steps={settings.steps} out={settings.out}")


def tokenizer_fields(settings, opened):
    """What a GGUF file says of the tokenizer: as its source had it, or made from it."""
    if settings.model.suffix == ".gguf":
        found = load_gguf(settings.model).settings
        return {name: value for name, value in found.items() if name.startswith("tokenizer.")}
    fields = to_fields(opened.tokenizer)
    if opened.ends:
        fields["tokenizer.ggml.eos_token_id"] = opened.ends[0]
    if opened.begins:
        fields["tokenizer.ggml.bos_token_id"] = opened.begins[0]
        fields["tokenizer.ggml.add_bos_token"] = True
    if opened.template:
        fields["tokenizer.chat_template"] = opened.template
    return fields


if __name__ == "__main__":
    with program():
        main()
