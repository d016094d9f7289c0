"""Learn from pairs of answers which one is better: a reward model.

    python scripts/train_reward.py                        right and wrong answers to small tasks
    python scripts/train_reward.py runs/sft --data FILE   preferences of your own, or of HH-RLHF
    python scripts/train_reward.py --resume               go on where a run stopped

SFT is the run folder that it begins with: that of train_sft.py, which is made where it is not
there. FILE is JSONL with prompt, chosen and rejected, or chosen and rejected alone. Flags: --help.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.conversations import read_preferences
from tinygrad_edu.data.curation import deduplicate, split_by_prompt
from tinygrad_edu.data.turns import Turns
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.reward import (
    HEAD,
    RewardModel,
    accuracy,
    calibration,
    fitting_pairs,
    length_only,
    pairs_of_step,
    reward_pairs,
)
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
from tinygrad_edu.rlhf.world import NAMES, preferences, problems
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
    task: str = option("sort", "small tasks whose answers are judged", choices=NAMES)
    pairs: int = option(6000, "pairs to learn from", low=2, high=10**7)
    held_out: int = option(1000, "held-out pairs to judge at the end", low=2, high=10**6)
    out: Path = option(Path("runs/reward"), "run folder")
    steps: int = option(150, "optimizer steps", low=1, high=2**53)


def main():
    """Read the flags, train, judge held-out pairs."""
    settings, given = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        stage = open_stage(settings, given, runs)
        settings = stage.settings
        if settings.sft == SFT:
            run_before(SFT, HERE / "train_sft.py")
        trunk, tokenizer = runs.load_run(settings.sft)
        context = trunk.config.context
        pairs, margins, held = examples(settings, Turns(tokenizer), context)
        stage.check(f"{checksum_of(settings.sft)} {len(pairs)} {settings.data}")
        save_tokenizer(tokenizer, stage.path / "tokenizer.json")
    model = RewardModel(trunk).train()
    optimizer = AdamW(model.named_parameters(), decay=settings.decay)
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
        seed, sides = settings.seed, ((settings.pairs, False), (settings.held_out, True))
        train, held = (preferences(problems(settings.task, count, seed, side), seed)
                       for count, side in sides)
    else:
        kept, copies = deduplicate(read_preferences(settings.data))
        train, held = split_by_prompt(kept)
        print(f"{len(train):,} pairs to learn from, {len(held):,} held out, {copies:,} copies left "
              "out")
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
