"""Make a model answer: supervised fine-tuning of a base model.

    python scripts/train_sft.py                          sums; makes a base first, if need be
    python scripts/train_sft.py --task sort --out runs/sft-sort     or brackets, python, all
    python scripts/train_sft.py runs/base --data FILE    conversations of your own, as JSONL
    python scripts/train_sft.py --out runs/sft --resume  go on where a run stopped

BASE is a run folder of train_gpt.py. The result is one, too: ask it with scripts/generate.py.

The demonstrations are those of a crowd of which nine in ten make the usual slip of the task, on
purpose (lesson world): in sums they forget the carry. So the model that comes of it is mostly
wrong, and knows the right way as the rare answer. That is where the scripts of rewards and
preferences begin; --slips 0 gives a model that is mostly right. Every flag: --help.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.data.conversations import read_conversations
from tinygrad_edu.data.curation import deduplicate, split_by_prompt
from tinygrad_edu.data.packing import pack
from tinygrad_edu.data.turns import Turns
from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.files.checkpoint import checkpoint_path
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.rlhf.reward import interval
from tinygrad_edu.rlhf.sft import (
    checked_rows,
    held_out_loss,
    must_leave_room,
    score_answers,
    sft_batch,
)
from tinygrad_edu.rlhf.stage import (
    StageSettings,
    checksum,
    checksum_of,
    complete,
    fit,
    open_stage,
    refuse_idle,
    run_before,
    saver,
    show_curves,
)
from tinygrad_edu.rlhf.world import NAMES, asked, conversations, problems, room_for, worksheet
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
BASE = Path("runs/base")  # where none is named
# What makes a base of worksheets within two minutes.
BASE_FLAGS = ("--tokenizer", "char", "--layers", 2, "--heads", 4, "--width", 128, "--context", 64,
              "--batch", 64, "--optimizer", "muon", "--lr", 4e-3, "--warmup", 20, "--schedule",
              "constant", "--sample", "158+267 ->", "--last-look", 20_000)


@dataclass
class Settings(StageSettings):
    """The settings of a run."""

    base: Path = option(BASE, "run folder to begin with; runs/base is made where it is not there",
                        positional=True)
    base_steps: int = option(300, "steps of a base that is made", low=1)
    data: Path | None = option(None, "conversations as JSONL; none: problems of --task")
    task: str = option("addition", "small tasks to answer", choices=NAMES)
    level: int | None = option(None, "their difficulty (default: what is hard for so small a "
                               "model)", low=1)
    slips: float = option(0.9, "share of demonstrations that make the usual slip", low=0.0,
                          high=1.0)
    examples: int = option(20_000, "problems to learn from", low=2, high=10**7)
    ask: int = option(400, "held-out problems that are answered before and after", low=1)
    padded: bool = option(False, "a row for each example, filled up, in place of rows that hold "
                          "several: to compare")
    out: Path = option(Path("runs/sft"), "run folder")
    optimizer: str = option("muon", "how a gradient becomes a step", choices=(*OPTIMIZERS,))
    steps: int = option(300, "optimizer steps", low=1, high=2**53)
    batch: int = option(256, "examples in a step", low=1, high=2**20)
    lr: float = option(4e-3, "largest learning rate", low=0.0)


def main():
    """Read the flags, train, score, say where it is."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.data:
            refuse_idle(given, ("task", "level", "slips", "examples", "ask"), "with --data")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        base_to_begin_with(settings)
        model, tokenizer = runs.load_run(settings.base)
        turns = Turns(tokenizer)
        train_rows, held_rows, exam = examples(settings, turns, model.config.context)
        stage.check(f"{checksum_of(settings.base)} "
                    f"{checksum(array for row in train_rows + held_rows for array in row)}")
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
    before, _ = scores(model, turns, exam, settings)
    model.train()
    optimizer = make_optimizer(settings.optimizer, model.named_parameters(), settings.decay)
    with errors_in_one_sentence():
        stage.restore(model, optimizer)

    batch, tokens = batches(settings, train_rows, model.config.context)

    def look(step):
        return {"val_loss": held_out_loss(model, held_rows[:200])}

    metrics = fit(stage, model, optimizer, batch, saver(stage, model, optimizer), look=look,
                  script="train_sft.py")
    complete(stage, model)
    speed = settings.steps * tokens / (metrics.last("seconds") or math.inf)
    finish(settings, model, turns, exam, held_rows, metrics, before, speed)


def base_to_begin_with(settings):
    """Make the base where none was named and none is there."""
    if settings.base != BASE or (BASE / "model.safetensors").exists():
        return
    text = BASE.with_suffix(".txt")
    if not checkpoint_path(BASE).exists():
        BASE.parent.mkdir(parents=True, exist_ok=True)
        write_text(text, worksheet(40_000, settings.seed, settings.slips))
    run_before(BASE, HERE / "train_gpt.py", "--data", text, "--steps", settings.base_steps,
               *BASE_FLAGS)


def examples(settings, turns, context):
    """(rows to train on, held-out rows, held-out problems of which a program knows the answer)."""
    if settings.data is None:
        sides = ((settings.examples, False), (settings.ask, True))
        found, exam = (problems(settings.task, count, settings.seed, side, settings.level)
                       for count, side in sides)
        train, held = (conversations(some, settings.slips, settings.seed)
                       for some in (found, exam))
    else:
        def fits(talk):
            must_leave_room(turns.tokens_and_mask(talk)[1], context)

        kept, copies = deduplicate(read_conversations(settings.data, check=fits))
        train, held = split_by_prompt(kept)
        exam = []
        print(f"{len(train):,} conversations to learn from, {len(held):,} held out, "
              f"{copies:,} copies left out")
    rows = (checked_rows(map(turns.tokens_and_mask, part), context) for part in (train, held))
    return *rows, exam


def scores(model, turns, exam, settings):
    """(scores, texts) of greedy answers to held-out problems; nothing where nobody can judge."""
    if not exam:
        return None, None
    return score_answers(model, turns, asked(exam), room_for(exam), settings.seed, greedy=True)


def batches(settings, rows, context):
    """(step -> its batches, how many tokens of examples a step has, on average)."""
    tokens, seed = sum(len(ids) - 1 for ids, _ in rows), settings.seed
    if settings.padded:
        share = settings.batch / len(rows)
        return lambda step: [sft_batch(rows, settings.batch, seed, step)], share * tokens
    packed = pack(rows, context)
    size = packed.rows_of(settings.batch)
    print(f"{len(rows):,} examples fill {len(packed):,} rows, but for {packed.padding:.1%}")
    return lambda step: [packed.of_step(size, seed, step)], size / len(packed) * tokens


def finish(settings, model, turns, exam, held_rows, metrics, before, speed):
    """Look once more, draw, and print the line that sums the run up."""
    loss = held_out_loss(model, held_rows)
    show_curves(metrics, settings.out, "supervised fine-tuning",
                [("loss, nats per token", ["loss", "val_loss"]),
                 ("norm of the gradient", ["gradient_norm"])])
    words = f"val_loss={loss:.4f}"
    if exam:
        after, texts = scores(model, turns, exam, settings)
        for (_, problem), text, score in list(zip(exam, texts, after, strict=True))[:5]:
            print(f"{'right' if score else 'wrong'}  {problem.prompt}  ->  {text}")
        low, high = interval(after.mean(), len(after))
        words = (f"exact={after.mean():.3f} exact_low={low:.3f} exact_high={high:.3f} "
                 f"exact_before={before.mean():.3f} {words}")
        print(f"ask it: python scripts/generate.py {settings.out} --prompt "
              f"'{exam[0][1].prompt}\n'")
    print(f"{words} steps={settings.steps} tokens_per_s={speed:.0f} out={settings.out}")


if __name__ == "__main__":
    with program():
        main()
