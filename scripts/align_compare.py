"""Six ways to an assistant, side by side, within one budget of generated tokens.

    python scripts/align_compare.py               from runs/sft and runs/reward, three seeds
    python scripts/align_compare.py --seeds 5     two more seeds, beside those that are there
    python scripts/align_compare.py --fresh       fine-tuning and reward model anew for each seed
    python scripts/align_compare.py --tokens 150000 --out runs/compare-more

A base model; the fine-tuned one that has imitated a crowd that slips (lesson world); and four ways
to do better from there, each of which may let a model write --tokens tokens. What is counted:
best-of-n trains nothing, so its tokens are those of the examination, and n is what they pay for;
PPO and GRPO write in every step of practice. DPO writes none: a program has made its pairs, so it
stays below the budget. Reading and updating is not counted. All are examined on problems that no
training saw, by a program; the intervals are over the seeds of the last training.
Nats away are measured, but for best of n, which has a bound: ln n − (n − 1)/n.
Missing runs are made by their scripts in --out, and what is there is not made again. Every flag:
--help.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.files.plots import plots
from tinygrad_edu.ml.intervals import fold_interval
from tinygrad_edu.models import run as runs
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.rlhf.best_of_n import curve
from tinygrad_edu.rlhf.logprobs import frozen_logprobs
from tinygrad_edu.rlhf.practice import Exercise, answers_gauges, learnt
from tinygrad_edu.rlhf.reward import load_reward, reward_rows
from tinygrad_edu.rlhf.rollout import refuse_other_tokenizer
from tinygrad_edu.rlhf.stage import run_before
from tinygrad_edu.train.program import program

HERE = Path(__file__).resolve().parent
METHODS = "base", "SFT", "best of n", "DPO", "PPO", "GRPO"
BATCH, GROUP = 256, 8                              # answers in a step of practice; to one problem
SFT, REWARD = Path("runs/sft"), Path("runs/reward")  # what all seeds begin with


@dataclass
class Settings:
    """The settings of a comparison."""

    tokens: int = option(50_000, "tokens that each way may let a model write", low=5000)
    seeds: int = option(3, "trainings of each, with the seeds 1, 2, …", low=2, high=100)
    fresh: bool = option(False, "also fine-tuning and the reward model anew for each seed")
    examine: int = option(500, "held-out problems in an examination", low=2)
    out: Path = option(Path("runs/compare"), "folder of all runs, the table and the picture")


def main():
    """Make what is missing, examine, compare."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        same_budget(settings)
        rows = []
        for seed in range(1, settings.seeds + 1):
            folders = made(settings, seed)
            rows += seen(settings, seed, folders)
    write_table(rows, settings.out / "table.csv")
    found = summed_up(rows)
    print_table(found, settings)
    draw(found, rows, settings)
    words = " ".join(f"{name.replace(' ', '_').lower()}={np.mean(found[name]['exact']):.3f}"
                     for name in METHODS)
    print(f"{words} tokens={settings.tokens} seeds={settings.seeds} out={settings.out}")


def same_budget(settings):
    """Claim the folder; ValueError where it holds runs of another budget."""
    note, mine = settings.out / "budget.json", {"tokens": settings.tokens, "fresh": settings.fresh}
    if note.exists() and json.loads(note.read_text()) != mine:
        raise ValueError(f"{settings.out} holds runs of other --tokens or --fresh ({note}): give "
                         "those, or choose another --out")
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(note, json.dumps(mine))


def made(settings, seed):
    """name -> run folder of every model of a seed; trains those that are missing."""
    def run(name, *flags, to=None):
        return run_before(to or settings.out / f"{name}-{seed}", HERE / f"train_{name}.py", *flags,
                          "--seed", seed)

    sft = run("sft", to=None if settings.fresh else SFT)
    task, level, _ = learnt(sft, runs)
    same = "--task", task, *(("--level", level) if level else ())
    reward = run("reward", sft, *same, to=None if settings.fresh else REWARD)
    room = exercise(sft, seed).room                # tokens of an answer at most; all sums need it
    dpo = run("dpo", sft, *same)
    ppo = run("ppo", sft, "--reward", reward, "--batch", BATCH, "--steps",
              settings.tokens // (BATCH * room))
    grpo = run("grpo", sft, "--batch", BATCH // GROUP, "--group", GROUP, "--steps",
               settings.tokens // (BATCH * room), "--no-control")
    base = runs.read_run(sft)[1]["settings"]["base"]
    return {"base": base, "SFT": sft, "reward": reward, "DPO": dpo, "PPO": ppo, "GRPO": grpo}


def exercise(folder, seed):
    """The Exercise of what a run of train_sft.py has learnt."""
    _, tokenizer = runs.load_run(folder)
    task, level, _ = learnt(folder, runs)
    return Exercise(tokenizer, task, level, seed)


# ---- the examination ----------------------------------------------------------------------------


def seen(settings, seed, folders):
    """A row for every method: how right it is, what the reward model thinks, how far it went."""
    judge, tokenizer = load_reward(folders["reward"], runs)
    models = {name: runs.load_run(folder) for name, folder in folders.items() if name != "reward"}
    for name, (_, other) in models.items():
        refuse_other_tokenizer(tokenizer, other, f"the model in {folders[name]}")
    exam, reference = exercise(folders["SFT"], seed), models["SFT"][0]
    rows = []
    for name, (model, _) in models.items():
        written, found = exam.answers(model, settings.examine, "exam", held_out=True)
        base = frozen_logprobs(reference, written.ids, written.mask).data
        rows.append({"method": name, "n": 1, "seed": seed,
                     "exact": exam.exact(written, found).mean(),
                     "greedy": exam.examine(model, settings.examine),
                     "kl": answers_gauges(written, base)["kl"],
                     "reward": reward_rows(judge, written.rows()).mean()})
    return [*rows, *best_of(settings, seed, exam, reference, judge)]


def best_of(settings, seed, exam, model, judge):
    """Rows of best-of-k for k up to the n that the budget pays for; the last is the method's."""
    n = max(2, settings.tokens // (settings.examine * exam.room))
    written, found = exam.answers(model, settings.examine, "exam", n, held_out=True)
    shape = settings.examine, n
    ks = sorted({min(n, 2**k) for k in range(n.bit_length() + 1)})
    points = curve(reward_rows(judge, written.rows()).reshape(shape),
                   exam.exact(written, found).reshape(shape), ks)
    return [{"method": "best of n" if k == n else f"best of {k}", "n": k, "seed": seed,
             "exact": score, "greedy": None, "kl": bound, "reward": reward}
            for k, bound, reward, score in points]


# ---- table and picture --------------------------------------------------------------------------


def write_table(rows, path):
    """All rows as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def summed_up(rows):
    """name -> column -> its values over the seeds."""
    names = dict.fromkeys(row["method"] for row in rows)
    return {name: {column: [row[column] for row in rows if row["method"] == name]
                   for column in ("n", "exact", "greedy", "kl", "reward")} for name in names}


def interval_of(values):
    """(mean, low, high) over seeds, Student's, cut at 0 and 1."""
    low, high = np.clip(fold_interval(values, 0.0), 0.0, 1.0)
    return float(np.mean(values)), low, high


def print_table(found, settings):
    """One line a method."""
    n = found["best of n"]["n"][0]
    print(f"{settings.seeds} seeds, {settings.tokens:,} generated tokens each, "
          f"{settings.examine:,} held-out problems; best of n: n = {n}")
    print(f"{'':10} {'exact':>6} {'19 in 20':>13}  {'greedy':>6} {'nats away':>9} {'reward':>7}")
    for name in METHODS:
        mean, low, high = interval_of(found[name]["exact"])
        greedy = found[name]["greedy"]
        likeliest = f"{np.mean(greedy):6.3f}" if greedy[0] is not None else f"{'':6}"
        print(f"{name:10} {mean:6.3f} {low:6.3f}-{high:.3f}  {likeliest} "
              f"{np.mean(found[name]['kl']):9.2f} {np.mean(found[name]['reward']):7.2f}")


def draw(found, rows, settings):
    """Write compare.png: who is right how often; and how far each went for it."""
    try:
        pyplot = plots("the picture of the comparison needs")
    except ImportError as error:
        print(error)
        return
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for place, name in enumerate(METHODS):
        mean, low, high = interval_of(found[name]["exact"])
        bar = left.barh(place, mean, alpha=0.5, color=f"C{place}")
        left.plot([low, high], [place, place], color=bar[0].get_facecolor(), lw=3, alpha=1)
        left.plot(found[name]["exact"], [place] * len(found[name]["exact"]), "k.", ms=4)
        if name not in ("base", "best of n"):
            right.plot(found[name]["kl"], found[name]["exact"], "o", color=f"C{place}", label=name)
    ladder = [name for name in found if name.startswith("best of")]
    right.plot([np.mean(found[name]["kl"]) for name in ladder],
               [np.mean(found[name]["exact"]) for name in ladder], "o-", ms=4, color="C2",
               label="best of 1, 2, 4, … n")
    left.set(yticks=range(len(METHODS)), yticklabels=METHODS, xlim=(0, 1),
             xlabel="share of held-out problems answered rightly")
    left.invert_yaxis()
    right.set(xlabel="nats from the fine-tuned model", ylabel="share that is right", ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend()
    figure.suptitle(f"{settings.tokens:,} generated tokens for each way, {settings.seeds} seeds")
    picture = settings.out / "compare.png"
    figure.savefig(picture, dpi=110)
    pyplot.close(figure)
    print(f"the table as a picture: {picture}")


if __name__ == "__main__":
    with program():
        main()
