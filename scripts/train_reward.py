"""Learn from pairs of answers which one is better: a reward model.

    python scripts/train_reward.py                        right and wrong answers to small tasks
    python scripts/train_reward.py runs/sft --data FILE   preferences of your own, or of HH-RLHF
    python scripts/train_reward.py --resume               go on where a run stopped

SFT is the run folder that it begins with: that of train_sft.py, which is made where it is not
there. Without --data a right answer is compared with a wrong one of the same length: the slip that
is usual for the task (lesson world), or characters exchanged; --slips says how many of which. FILE
is JSONL with prompt, chosen and rejected, or chosen and rejected alone, as HH-RLHF. Flags: --help.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.turns import Turns
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.rlhf.reward import (
    HEAD,
    RewardModel,
    accuracy,
    calibration,
    fitting_pairs,
    length_only,
    pairs_of_step,
    preferences_of_file,
    reward_pairs,
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
from tinygrad_edu.rlhf.world import JUDGED, pairs_of
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
SFT = Path("runs/sft")  # where none is named


@dataclass
class Settings(StageSettings):
    """The settings of a run."""

    sft: Path = option(SFT, "run folder to begin with; runs/sft is made where it is not there",
                       positional=True)
    data: Path | None = option(None, "preferences as JSONL; none: answers to --task")
    task: str = option("addition", "small tasks whose answers are judged", choices=JUDGED)
    level: int | None = option(None, "their difficulty (default: what is hard for so small a "
                               "model)", low=1)
    slips: float = option(0.5, "share of wrong answers that are the usual slip; in the others "
                          "characters are exchanged", low=0.0, high=1.0)
    pairs: int = option(60_000, "pairs to learn from", low=2, high=10**7)
    held_out: int = option(1000, "held-out pairs to judge at the end", low=2, high=10**6)
    out: Path = option(Path("runs/reward"), "run folder")
    optimizer: str = option("muon", "how a gradient becomes a step", choices=(*OPTIMIZERS,))
    steps: int = option(400, "optimizer steps", low=1, high=2**53)
    batch: int = option(256, "pairs in a step", low=1, high=2**20)
    lr: float = option(4e-3, "largest learning rate", low=0.0)


def main():
    """Read the flags, train, judge held-out pairs."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.data:
            refuse_idle(given, ("task", "level", "slips", "pairs", "held_out"), "with --data")
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        if settings.sft == SFT:
            run_before(SFT, HERE / "train_sft.py")
        trunk, tokenizer = runs.load_run(settings.sft)
        context = trunk.config.context
        pairs, margins, held = examples(settings, Turns(tokenizer), context)
        stage.check(f"{checksum_of(settings.sft)} {checksum([margins])} "
                    f"{checksum(array for pair in pairs + held for row in pair for array in row)}")
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
    model = RewardModel(trunk).train()
    optimizer = make_optimizer(settings.optimizer, model.named_parameters(), settings.decay)
    with errors_in_one_sentence():
        if stage.arrays is not None:
            model.head.weight.assign(stage.arrays[HEAD])
        stage.restore(trunk, optimizer)

    def batch(step):
        return [pairs_of_step(pairs, margins, settings.batch, settings.seed, step)]

    def look(step):
        return {"held_out_accuracy": accuracy(reward_pairs(model, held[:200]))[0]}

    save = saver(stage, trunk, optimizer, lambda: {HEAD: model.head.weight.data})
    metrics = fit(stage, model, optimizer, batch, save, ("accuracy", "margin", "held_out_accuracy"),
                  look, "train_reward.py")
    complete(stage, trunk)
    finish(settings, model, held, metrics)


def examples(settings, turns, context):
    """(pairs of rows to train on, their margins, held-out pairs of rows)."""
    if settings.data is None:
        sides = ((settings.pairs, False), (settings.held_out, True))
        train, held = (pairs_of(settings.task, count, settings.seed, side, settings.level,
                                settings.slips) for count, side in sides)
    else:
        train, held = preferences_of_file(settings.data, turns, context)
    margins = np.array([preference.margin for preference in train])
    return fitting_pairs(turns, train, context), margins, fitting_pairs(turns, held, context)


def finish(settings, model, held, metrics):
    """Judge the held-out pairs, beside a judge who only counts tokens; draw; sum up."""
    differences = reward_pairs(model, held)
    share, low, high = accuracy(differences)
    by_length, least, most = accuracy(length_only(held))
    print(f"of {len(held):,} held-out pairs {share:.1%} are judged right (95 %: {low:.1%} to "
          f"{high:.1%}); by length alone {by_length:.1%} ({least:.1%} to {most:.1%})")
    print("as sure as it is right?  sure  right  pairs")
    for sure, right, count in calibration(differences):
        print(f"                        {sure:5.1%} {right:6.1%} {count:6,}")
    show_curves(metrics, settings.out, "reward model",
                [("loss, nats a pair", ["loss"]),
                 ("pairs judged right", ["accuracy", "held_out_accuracy"]),
                 ("reward of chosen − of rejected", ["margin"])])
    speed = (metrics.last("tokens") or 0) / (metrics.last("seconds") or 1)
    print(f"accuracy={share:.4f} low={low:.4f} high={high:.4f} length_only={by_length:.4f} "
          f"pairs={len(held)} steps={settings.steps} tokens_per_s={speed:.0f} out={settings.out}")


if __name__ == "__main__":
    with program():
        main()
