"""Make a model answer: supervised fine-tuning of a base model.

    python scripts/train_sft.py                          small tasks; makes a base first, if need be
    python scripts/train_sft.py runs/base --data FILE    conversations of your own, as JSONL
    python scripts/train_sft.py --out runs/sft --resume  go on where a run stopped

BASE is a run folder of train_gpt.py. The result is one, too: ask it with scripts/generate.py. Every
flag: --help.
"""

from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.data.conversations import read_conversations
from tinygrad_edu.data.curation import deduplicate, split_by_prompt
from tinygrad_edu.data.turns import Turns
from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.reward import interval
from tinygrad_edu.rlhf.sft import checked_rows, held_out_loss, score_answers, sft_batch
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum_of,
    complete,
    fit,
    open_stage,
    run_before,
    saver,
    show_curves,
)
from tinygrad_edu.rlhf.world import NAMES, asked, conversations, problems, worksheet
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
BASE = Path("runs/base")  # where none is named
# What makes a base of worksheets within three minutes.
BASE_FLAGS = ("--tokenizer", "char", "--layers", 4, "--heads", 4, "--width", 128, "--context", 64,
              "--batch", 32, "--lr", 3e-3, "--warmup", 50, "--sample", "58+67")


@dataclass
class Settings(StageSettings):
    """The settings of a run."""

    base: Path = option(BASE, "run folder to begin with; runs/base is made where it is not there",
                        positional=True)
    base_steps: int = option(1500, "steps of a base that is made", low=1)
    data: Path | None = option(None, "conversations as JSONL; none: problems of --task")
    task: str = option("all", "small tasks to answer", choices=NAMES)
    examples: int = option(20_000, "problems to learn from", low=2, high=10**7)
    ask: int = option(400, "held-out problems that are answered before and after", low=1)
    out: Path = option(Path("runs/sft"), "run folder")
    steps: int = option(400, "optimizer steps", low=1, high=2**53)
    batch: int = option(64, "examples in a step", low=1, high=2**20)


def main():
    """Read the flags, train, score, say where it is."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        base_to_begin_with(settings)
        model, tokenizer = runs.load_run(settings.base)
        turns = Turns(tokenizer)
        train_rows, held_rows, questions = examples(settings, turns, model.config.context)
        stage.check(f"{checksum_of(settings.base)} {len(train_rows)} {settings.data}")
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
    before = scores(model, turns, questions, settings)
    model.train()
    optimizer = AdamW(model.named_parameters(), decay=settings.decay)
    with errors_in_one_sentence():
        stage.restore(model, optimizer)
    loss_before = held_out_loss(model, held_rows[:200])

    def batch(step):
        return [sft_batch(train_rows, settings.batch, settings.seed, step)]

    def look(step):
        return {"val_loss": held_out_loss(model, held_rows[:200])}

    metrics = fit(stage, model, optimizer, batch, saver(stage, model, optimizer), look=look,
                  script="train_sft.py")
    complete(stage, model)
    finish(settings, model, turns, questions, held_rows, metrics, before, loss_before)


def base_to_begin_with(settings):
    """Make the base where none was named and none is there."""
    if settings.base != BASE or (BASE / "model.safetensors").exists():
        return
    text = BASE.with_suffix(".txt")
    if not checkpoint_path(BASE).exists():
        BASE.parent.mkdir(parents=True, exist_ok=True)
        write_text(text, worksheet(40_000, settings.seed))
    run_before(BASE, HERE / "train_gpt.py", "--data", text, "--steps", settings.base_steps,
               *BASE_FLAGS)


def examples(settings, turns, context):
    """(rows to train on, held-out rows, questions that a program can judge)."""
    if settings.data is None:
        train = conversations(problems(settings.task, settings.examples, settings.seed))
        found = problems(settings.task, settings.ask, settings.seed, held_out=True)
        held, questions = conversations(found), asked(found)
    else:
        kept, copies = deduplicate(read_conversations(settings.data))
        train, held = split_by_prompt(kept)
        questions = []
        print(f"{len(train):,} conversations to learn from, {len(held):,} held out, "
              f"{copies:,} copies left out")
    rows = (checked_rows(map(turns.tokens_and_mask, part), context) for part in (train, held))
    return *rows, questions


def scores(model, turns, questions, settings):
    """The scores of greedy answers to held-out questions; None where nobody can judge."""
    if not questions:
        return None
    return score_answers(model, turns, questions, 32, settings.seed, greedy=True)[0]


def finish(settings, model, turns, questions, held_rows, metrics, before, loss_before):
    """Look once more, draw, and print the line that sums the run up."""
    loss = held_out_loss(model, held_rows)
    show_curves(metrics, settings.out, "supervised fine-tuning",
                [("loss, nats per token", ["loss", "val_loss"]),
                 ("norm of the gradient", ["gradient_norm"])])
    words = f"val_loss={loss:.4f}"
    if questions:
        after, texts = score_answers(model, turns, questions, 32, settings.seed, greedy=True)
        for (messages, _), text, score in list(zip(questions, texts, after, strict=True))[:5]:
            print(f"{'right' if score else 'wrong'}  {messages[-1][1]}  ->  {text}")
        low, high = interval(after.mean(), len(after))
        words = (f"exact={after.mean():.3f} exact_low={low:.3f} exact_high={high:.3f} "
                 f"exact_before={before.mean():.3f} {words}")
    print(f"ask it: python scripts/generate.py {settings.out} --prompt 'sort 4 1 3\\n'")
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or 1)
    print(f"{words} steps={settings.steps} tokens_per_s={speed:.0f} out={settings.out}")


if __name__ == "__main__":
    with program():
        main()
