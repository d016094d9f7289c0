"""Go on training a model on text of your own.

    python scripts/finetune.py MODEL --data notes/          .txt .md .py: it learns their language
    python scripts/finetune.py MODEL --data talks.jsonl     conversations: it learns the answers
    python scripts/finetune.py MODEL --data notes/ --full   all weights in place of an adapter
    python scripts/finetune.py MODEL --data notes/ --export it.gguf

MODEL is a run folder, a folder of safetensors, a .gguf file or a name (smollm2). What it has learnt
is measured on a part of your text that is held out, what it has forgotten on general text. Every
flag: --help.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.conversations import read_conversations
from tinygrad_edu.data.corpus import in_memory
from tinygrad_edu.data.curation import split_by_prompt
from tinygrad_edu.data.loader import draw_batch, evaluation_batches, token_stream
from tinygrad_edu.data.open_models import located
from tinygrad_edu.data.packing import pack
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.data.turns import ChatTurns, Turns
from tinygrad_edu.files.atomic import refuse_unwritable
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.memory import peak_resident_bytes
from tinygrad_edu.models import run as runs
from tinygrad_edu.models.export import save_opened
from tinygrad_edu.models.gguf_model import describe, save_gguf_model
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.adapter import save_adapter
from tinygrad_edu.rlhf.lora import TrainedPart, add_lora, merge_lora, trained_share
from tinygrad_edu.rlhf.sft import draw_answers, score_answers
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum,
    fit,
    open_stage,
    saver,
    show_curves,
)
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields
from tinygrad_edu.train.loop import evaluate
from tinygrad_edu.train.program import program

ANSWERS = 5
PROMPT = 24  # tokens of held-out text that an answer goes on with
ROW = 256  # tokens that are read together
PASS = 256  # tokens that go through the model together: more are hardly faster, and need memory
LONGEST = 1024  # tokens of a conversation, unless --context says otherwise
RATES = {"lora": 1e-3, "full": 3e-5}
GENERAL = 200_000  # characters of general text
BEGAN = time.perf_counter()


@dataclass
class Settings(StageSettings):
    """What to train on what, and how."""

    model: Path = option(Path(), "run folder, folder of safetensors, .gguf file, or name",
                         positional=True)
    data: Path = option(Path(), "a file .txt .md .py .jsonl, or a folder of texts")
    general: Path | None = option(
        None, "text that shows what is forgotten (default: the manual that Python brings along)")
    lora: bool = option(False, "train an adapter, which is the default")
    full: bool = option(False, "train all weights")
    four_bit: bool = option(False, "keep the frozen weights of an adapter's base in four bits")
    rank: int = option(8, "rank of the adapter", low=1, high=4096)
    alpha: float = option(16.0, "its scale is alpha / rank", low=1e-6)
    context: int | None = option(None, "tokens that are read together (default: 256; more where "
                                 "a conversation is longer, up to 1,024)", low=8)
    parts: int | None = option(None, "passes that a step is cut into, to need less memory "
                               "(default: some 256 tokens a pass)", low=1)
    look: int = option(16, "rows of held-out and of general text in a look", low=1)
    max_new: int = option(40, "tokens of the answers before and after", low=1)
    ask: int = option(0, "held-out questions whose answers are compared, word for word, with those "
                      "in the data, before and after", low=0)
    export: Path | None = option(None, "write the model, adapter merged, as a .gguf file")
    out: Path = option(Path("runs/finetune"), "run folder")
    steps: int = option(40, "optimizer steps", low=1, high=2**53)
    batch: int = option(8, "rows of --context tokens in a step; a row holds one stretch of text, "
                        "or several conversations", low=1, high=2**20)
    warmup: int = option(5, "steps over which the learning rate grows", low=0)
    lr: float = option(0.0, "largest learning rate (default: what suits an adapter or all weights)",
                       low=0.0)

    def __post_init__(self):
        if self.lora and self.full:
            raise ValueError("--lora and --full exclude each other: give one of them")
        if self.four_bit and self.full:
            raise ValueError("--four-bit is for the base of an adapter: leave out --full")
        if self.parts and self.batch % self.parts:
            raise ValueError(f"--batch {self.batch} does not divide into {self.parts} --parts")
        self.lr = self.lr or RATES["full" if self.full else "lora"]
        self.evaluate_every = self.evaluate_every or max(1, self.steps // 4)
        super().__post_init__()


class Texts:
    """Text to go on with: rows are windows of a stream of tokens."""

    def __init__(self, settings, opened):
        special = opened.tokenizer.special
        end = special.get(END_OF_TEXT, opened.ends[0] if opened.ends else None)
        corpus = read_corpus(settings.data)
        print(corpus.statistics())
        self.train, self.held_out = (token_stream(part, opened.tokenizer.encode, end)
                                     for part in (corpus.train, corpus.held_out))
        self.context = min(settings.context or ROW, opened.model.config.context)
        self.settings, self.opened, self.asked = settings, opened, []
        if settings.ask:
            raise ValueError("--ask needs questions: conversations, in a .jsonl file")

    def rows(self, step):
        """The rows of a step, (x, y)."""
        of = self.settings
        return draw_batch(self.train, of.batch, self.context, of.seed, step)

    def held_out_batches(self):
        """Rows from all over the held-out text, one at a time."""
        return evaluation_batches(self.held_out, 1, self.context, self.settings.look)

    def prompts(self):
        """(shown, ids) of beginnings from the held-out text."""
        places = np.linspace(0, max(0, len(self.held_out) - 2 * PROMPT), ANSWERS).astype(int)
        for place in places:
            ids = self.held_out[place : place + PROMPT]
            yield self.opened.tokenizer.decode(ids), [*self.opened.begins, *ids.tolist()]


class Talks:
    """Conversations: their answers are learnt, and a row holds as many of them as fit."""

    def __init__(self, settings, opened):
        self.turns = Turns(opened.tokenizer)
        if opened.template is not None:
            self.turns = ChatTurns(opened.tokenizer, opened.template, opened.names)
        train, self.asked = split_by_prompt(read_conversations(settings.data))
        sides = [list(map(self.turns.tokens_and_mask, part)) for part in (train, self.asked)]
        longest = max(len(ids) - 1 for side in sides for ids, _ in side)
        row = settings.context or min(max(longest, ROW), LONGEST)
        self.context, left_out = min(row, opened.model.config.context), []
        try:
            packed, self.held_out = (pack(side, self.context, left_out) for side in sides)
        except ValueError:
            raise ValueError(f"{settings.data}: no conversation to learn from, or none to hold "
                             f"out, can be used with a --context of {self.context}; "
                             f"{left_out[-1]}") from None
        print(f"{len(train):,} conversations to learn from in {len(packed):,} rows of "
              f"{self.context} tokens, {packed.padding:.1%} of them empty; {len(self.asked):,} "
              "held out")
        if left_out:
            print(f"{len(left_out):,} are left out; a longer --context takes those that are too "
                  f"long. The first: {left_out[0]}")
        self.settings, self.packed, self.train = settings, packed, packed.x

    def rows(self, step):
        """The rows of a step, (x, y, segments)."""
        return self.packed.of_step(self.settings.batch, self.settings.seed, step)

    def held_out_batches(self):
        """Rows of held-out conversations, one at a time."""
        return (self.held_out.rows([row]) for row in range(len(self.held_out))[:self.settings.look])

    def prompts(self):
        """(shown, ids) of held-out questions."""
        for talk in self.asked[:ANSWERS]:
            yield talk.prompt[-1][1], self.turns.prompt(talk.prompt).tolist()


def main():
    """Read the flags, look, train, look again."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if not settings.resume and {"model", "data"} - given:
            raise ValueError("name a MODEL and the --data to train it on; see --help")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        opened = open_to_train(settings)
        talks = settings.data.name.endswith((".jsonl", ".jsonl.gz"))
        source = (Talks if talks else Texts)(settings, opened)
        source.rows(0)                             # a text that is too short is refused now
        general = general_text(settings, opened)
        stage.check(f"{checksum(t.data for t in opened.model.parameters())} "
                    f"{checksum([source.train])} {source.context}")
    model = opened.model
    before = seen(opened, source, general, settings)
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

    def batch(step):
        return in_parts(source.rows(step), settings.parts)

    def look(step):
        return looks(model, source, general, settings)

    metrics = fit(stage, model, optimizer, batch, saver(stage, part, optimizer),
                  ("general_loss",), look, "finetune.py")
    model.eval()
    finish(settings, opened, source, general, metrics, before, share)


def open_to_train(settings):
    """The model with float32 weights. What could not be written at the end is refused now."""
    opened = open_model(settings.model, widen=True)
    if settings.context and settings.context > opened.model.config.context:
        raise ValueError(f"--context {settings.context} is more than the "
                         f"{opened.model.config.context} tokens that this model reads")
    if settings.export:
        describe(opened.model)
        if not settings.export.parent.is_dir():
            raise FileNotFoundError(f"--export {settings.export}: there is no such folder")
        refuse_unwritable(settings.export)
        tokenizer_fields(settings, opened)
    return opened


def general_text(settings, opened):
    """Tokens of text that has nothing to do with the data, or that somebody chose."""
    if settings.general is None:
        from pydoc_data.topics import topics

        text = "\n".join(topics[name] for name in sorted(topics))[:GENERAL]
        found = in_memory([("topics", text.encode())])
    else:
        corpus = read_corpus(settings.general)
        found = corpus.train + corpus.held_out
    try:
        return token_stream(found, opened.tokenizer.encode)
    except ValueError as error:
        raise ValueError("the general text (choose another with --general): "
                         f"{error}") from None


def in_parts(rows, parts):
    """Arrays with the rows of a step -> its passes, as many or of about PASS tokens each."""
    B, T = rows[0].shape
    parts = min(B, parts or -(-B * T // max(PASS, T)))
    return list(zip(*(np.array_split(array, parts) for array in rows), strict=True))


def looks(model, source, general, settings):
    """Nats a token: on held-out text of the user, and on general text."""
    rows = evaluation_batches(general, 1, source.context, settings.look)
    batches = {"val_loss": source.held_out_batches(), "general_loss": rows}
    return {name: evaluate(model, some)[0] for name, some in batches.items()}


def answers(opened, source, settings):
    """(prompt, what the model goes on with) of some held-out prompts, greedy."""
    shown, prompts = zip(*source.prompts(), strict=True)
    drawn = draw_answers(opened.model, prompts, opened.ends, settings.max_new, greedy=True)
    return list(zip(shown, map(opened.tokenizer.decode, drawn), strict=True))


def seen(opened, source, general, settings):
    """(losses, answers, share of exact answers): what is looked at before and after."""
    losses, exact = looks(opened.model, source, general, settings), None
    if settings.ask:
        talks = source.asked[: settings.ask]
        found, _ = score_answers(opened.model, source.turns, list(map(exactly, talks)),
                                 settings.max_new, greedy=True)
        exact = found.mean()
    return losses, answers(opened, source, settings), exact


def exactly(talk):
    """(messages, score function) of a conversation: 1 for its own answer, 0 for any other."""
    return talk.prompt, lambda text: float(text.strip() == talk.answer.strip())


def finish(settings, opened, source, general, metrics, before, share):
    """Look once more, show answers, write files, sum up."""
    model, (losses, texts, exact) = opened.model, before
    after, new_texts, new_exact = seen(opened, source, general, settings)
    for (prompt, old), (_, new) in zip(texts, new_texts, strict=True):
        print(f"----- {prompt!r}\nbefore: {old!r}\nafter:  {new!r}")
    if not settings.full:
        save_adapter(settings.out / "adapter", model, settings.model.name)
        merge_lora(model)
    try:
        save_opened(settings.out / "merged", opened)
    except ValueError as error:
        print(f"no folder with the merged weights: {error}")
    if settings.export:
        with errors_in_one_sentence():
            save_gguf_model(settings.export, model, tokenizer_fields(settings, opened))
        print(f"for llama.cpp: {settings.export}")
    show_curves(metrics, settings.out, "fine-tuning",
                [("loss, nats per token", ["loss", "val_loss"]),
                 ("loss on general text", ["general_loss"])])
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or math.inf)
    words = f"exact={new_exact:.4f} exact_before={exact:.4f} " if settings.ask else ""
    print(f"{words}val_loss={after['val_loss']:.4f} val_loss_before={losses['val_loss']:.4f} "
          f"general_loss={after['general_loss']:.4f} "
          f"general_loss_before={losses['general_loss']:.4f} trained_share={share:.4f} "
          f"tokens_per_s={speed:.0f} memory_mb={(peak_resident_bytes() or 0) / 1e6:.0f} "
          f"seconds={time.perf_counter() - BEGAN:.0f} steps={settings.steps} out={settings.out}")


def tokenizer_fields(settings, opened):
    """What a GGUF file says of the tokenizer: as its source had it, or made from it."""
    path = located(settings.model)
    if path.is_file():
        found = load_gguf(path).settings
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
