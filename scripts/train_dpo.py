"""Prefer the better of two answers, without a reward model: DPO and its relatives.

    python scripts/train_dpo.py                          right answers rather than wrong ones
    python scripts/train_dpo.py --rejected own           the wrong ones are its own mistakes
    python scripts/train_dpo.py --loss ipo               or kto, orpo, simpo
    python scripts/train_dpo.py runs/sft --data FILE     preferences of your own
    python scripts/train_dpo.py --resume                 go on where a run stopped

SFT is the run folder that it begins with, and its reference: that of train_sft.py, which is made
where it is not there. It has imitated a crowd that slips (lesson world), so there is something to
prefer: the right answer to the usual slip, and to answers with exchanged characters (--slips says
how many of which). At the end both models answer unseen problems, and a program says who is right.
Every flag: --help.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.conversations import Preference
from tinygrad_edu.data.turns import Turns
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.rlhf.dpo import (
    LOSSES,
    PreferenceTraining,
    implicit_pairs,
    must_begin_at_the_reference,
    preference_batch,
)
from tinygrad_edu.rlhf.reward import (
    accuracy,
    fitting_pairs,
    interval,
    length_only,
    preferences_of_file,
)
from tinygrad_edu.rlhf.sft import draw_answers, score_answers
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
from tinygrad_edu.rlhf.world import JUDGED, asked, messages_of, pairs_of, problems, room_for
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
SFT = Path("runs/sft")  # where none is named


@dataclass
class Settings(StageSettings):
    """The settings of a run."""

    sft: Path = option(SFT, "run folder to begin with; runs/sft is made where it is not there",
                       positional=True)
    loss: str = option("dpo", "what is minimised", choices=tuple(LOSSES))
    beta: float | None = option(
        None, "how hard it is to leave the reference (default: what suits --loss)", low=1e-6)
    data: Path | None = option(None, "preferences as JSONL; none: mistakes in answers to --task")
    task: str = option("addition", "small tasks to answer", choices=JUDGED)
    level: int | None = option(None, "their difficulty (default: what is hard for so small a "
                               "model)", low=1)
    slips: float = option(0.5, "share of made wrong answers that are the usual slip; in the others "
                          "characters are exchanged", low=0.0, high=1.0)
    rejected: Literal["made", "own"] = option(
        "made", "wrong answers: made from the right ones, or the fine-tuned model's own mistakes")
    problems: int = option(10_000, "problems whose answers are compared", low=2, high=10**7)
    ask: int = option(1000, "held-out problems that both models answer at the end", low=1)
    out: Path = option(Path("runs/dpo"), "run folder")
    optimizer: str = option("muon", "how a gradient becomes a step", choices=(*OPTIMIZERS,))
    steps: int = option(200, "optimizer steps", low=1, high=2**53)
    batch: int = option(64, "pairs in a step", low=1, high=2**20)
    lr: float | None = option(
        None, "largest learning rate (default: what suits --loss)", low=0.0)

    def __post_init__(self):
        self.lr = LOSSES[self.loss].rate if self.lr is None else self.lr
        super().__post_init__()


def main():
    """Read the flags, train, let both models answer."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.data:
            idle = "task", "level", "slips", "rejected", "problems", "ask"
            refuse_idle(given, idle, "with --data")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        if settings.sft == SFT:
            run_before(SFT, HERE / "train_sft.py")
        (policy, tokenizer), (reference, _) = (runs.load_run(settings.sft) for _ in range(2))
        context, turns = policy.config.context, Turns(tokenizer)
        pairs, held = examples(settings, reference, turns, context)
        stage.check(f"{checksum_of(settings.sft)} "
                    f"{checksum(array for pair in pairs + held for row in pair for array in row)}")
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
        options = {} if settings.beta is None else {"beta": settings.beta}
        model = PreferenceTraining(policy, settings.loss, reference, **options).train()

        def batch(step):
            return [preference_batch(pairs, settings.loss, context, settings.batch, settings.seed,
                                     step)]

        if stage.done == 0:
            must_begin_at_the_reference(model.eval().loss(*batch(0)[0]).item(), settings.loss)
            model.train()
        optimizer = make_optimizer(settings.optimizer, policy.named_parameters(), settings.decay)
        stage.restore(policy, optimizer)

    def look(step):
        return {"held_out_accuracy": accuracy(implicit_pairs(model, held[:200]))[0]}

    columns = "accuracy", "margin", "chosen", "rejected", "held_out_accuracy"
    metrics = fit(stage, model, optimizer, batch, saver(stage, policy, optimizer), columns, look,
                  "train_dpo.py")
    complete(stage, policy)
    finish(settings, model, reference, turns, held, metrics)


def examples(settings, reference, turns, context):
    """(pairs of rows to train on, held-out ones)."""
    counts = (settings.problems, False), (settings.ask, True)
    if settings.data is None and settings.rejected == "made":
        train, held = (pairs_of(settings.task, count, settings.seed, side, settings.level,
                                settings.slips) for count, side in counts)
    elif settings.data is None:
        train, held = (mistakes(settings, reference, turns, *some) for some in counts)
        print(f"{len(train):,} mistakes to learn from, {len(held):,} held out")
        if not train or not held:
            raise ValueError(f"the model in {settings.sft} makes no mistakes in these tasks: "
                             "there is nothing to prefer; choose a harder --task")
    else:
        train, held = preferences_of_file(settings.data, turns, context)
    return fitting_pairs(turns, train, context), fitting_pairs(turns, held, context)


def mistakes(settings, model, turns, count, held_out):
    """Preferences: the right answer, rather than a wrong one that the model has given."""
    found = problems(settings.task, count, settings.seed + 1, held_out, settings.level)
    prompts = [turns.prompt(messages_of(problem)).tolist() for _, problem in found]
    bar = tqdm(total=len(prompts), desc="its own answers", leave=False)

    def progress(places):
        for place in places:
            yield place
            bar.update(places.step)

    drawn = draw_answers(model, prompts, turns.stop, room_for(found), settings.seed,
                         progress=progress)
    bar.close()
    texts = map(turns.tokenizer.decode, drawn)
    return [Preference(messages_of(problem), problem.answer, text)
            for (task, problem), text in zip(found, texts, strict=True)
            if text.strip() and not task.score(problem, text)]


def finish(settings, model, reference, turns, held, metrics):
    """Compare with the model it began with; draw; sum up."""
    share, low, high = accuracy(implicit_pairs(model, held))
    by_length, least, most = accuracy(length_only(held))
    print(f"of {len(held):,} held-out pairs the policy's own reward judges {share:.1%} right "
          f"(95 %: {low:.1%} to {high:.1%}); by length alone {by_length:.1%} ({least:.1%} to "
          f"{most:.1%})")
    words = f"accuracy={share:.4f} low={low:.4f} high={high:.4f} length_only={by_length:.4f}"
    if settings.data is None:
        words += " " + compare(settings, model.policy, reference, turns)
    show_curves(metrics, settings.out, settings.loss,
                [("loss", ["loss"]), ("pairs judged right", ["accuracy", "held_out_accuracy"]),
                 ("ln π of the answers, nats", ["chosen", "rejected"])])
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or 1)
    print(f"{words} loss={settings.loss} steps={settings.steps} tokens_per_s={speed:.0f} "
          f"out={settings.out}")


def compare(settings, policy, reference, turns):
    """Both answer held-out problems, drawn at temperature 1, and the checker says who is right."""
    found = problems(settings.task, settings.ask, settings.seed + 2, True, settings.level)
    before, after = (score_answers(model, turns, asked(found), room_for(found), settings.seed)[0]
                     for model in (reference, policy))
    won, lost = int((after > before).sum()), int((after < before).sum())
    wins = won / max(1, won + lost)
    low, high = interval(wins, max(1, won + lost))
    print(f"of {len(after):,} held-out problems the policy answers {after.mean():.1%} right, the "
          f"model before {before.mean():.1%}; it wins {won:,}, loses {lost:,}, the rest are ties "
          "(temperature 1)")
    return (f"wins={wins:.4f} wins_low={low:.4f} wins_high={high:.4f} exact={np.mean(after):.4f} "
            f"exact_before={np.mean(before):.4f}")


if __name__ == "__main__":
    with program():
        main()
