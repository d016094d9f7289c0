"""Lesson 7.13 · Gauges: what healthy looks like

Needs metrics, plots. Used by practice, scripts/train_grpo.py, scripts/train_ppo.py,
scripts/break_rlhf.py.

Idea      Most runs that do not learn from rewards fail in silence: the loss of PPO says nothing, it
          may rise while all goes well. What speaks are the numbers below, and only to those who
          know which values are usual. So all but reward and score have a band here, and a word for
          leaving it where that matters: what it means, and what to do. Bands are rules of
          thumb, from the runs of these lessons and of the papers below; a number outside is a
          reason to look, and several at once are a diagnosis.
          One picture needs no band: reward and exact score over the distance from the beginning.
          As long as both rise, the judge is right about what the model has begun to write. Where
          the reward goes on rising and the score turns down, the model has found what the judge
          does not know: that is reward hacking (docs/hacking.png), and the distance where it begins
          is what the leash should be set to.
Math      a gauge is lit where its median over the last w rows lies outside its band: w a tenth of
          the rows, 5 at least                                                                   (1)
Shapes    rows: dicts name → number or None, one a step · GAUGES: name → Gauge(band, below, above)
Pitfalls  The reward alone is the worst gauge: it also rises when the judge is being fooled. Look at
          a score that training does not see, and at the distance that it was bought with.
          A band is about a state, not a moment: a single step outside is noise, hence the median.
          Entropy and lengths have no band of their own that suits all tasks; what counts is how far
          they are from where they began, so they are measured against the first rows.
          The largest ratio of a step is that of one token among tens of thousands: it is large
          where a rare token was drawn and becomes likely, which is what practice is for.
Cost      Nothing.
Try       build it    a gauge of your own: the share of answers that end by themselves.
          break it    python scripts/break_rlhf.py: which gauges are lit by which mistake?
          measure it  the bands on your own runs: python scripts/train_grpo.py prints them
See       Huang et al. 2022 "The 37 implementation details of PPO" · Zheng et al. 2023 "Secrets of
          RLHF", part I, section 5 (what to watch) · Gao et al. 2022 (reward against distance)
"""

import statistics
from typing import NamedTuple

from ..files.plots import plots
from ..train.metrics import smoothed


class Gauge(NamedTuple):
    """A number with its healthy band [low, high]; relative: of the value that it began with."""

    title: str
    low: float | None = None
    high: float | None = None
    below: str = ""
    above: str = ""
    relative: bool = False


# Where a band comes from: a ratio of 1 and a distance of 0 by definition; the clip fraction and the
# distance of a step from the papers below, where 0.1 to 0.3 and about 0.02 are usual; the rest from
# runs of train_grpo.py, train_ppo.py and break_rlhf.py that went well, and from those that did not.
GAUGES = {
    "reward": Gauge("reward, mean of a step"),
    "score": Gauge("exact score, which training does not see"),
    "kl": Gauge(
        "distance from the reference, nats an answer", -0.1, 10.0,
        "negative on average: the two log-probabilities are not of the same tokens",
        "far from where it began: what the reward says there is guessing; raise the KL weight, or "
        "lower the learning rate"),
    "entropy": Gauge(
        "entropy, nats a token, of its beginning", 0.1, 3.0,
        "no more trying out: answers of a group are all the same, and nothing is left to learn "
        "from; a lower learning rate, an entropy bonus, more KL",
        "it becomes undecided: rewards are noise to it, or their sign is wrong", relative=True),
    "clip_fraction": Gauge(
        "share of tokens beyond the clip", 0.0, 0.3, "",
        "updates are too long: fewer epochs, or a lower learning rate"),
    "update_kl": Gauge(
        "how far one step moves the policy, nats a token", 0.0, 0.05, "",
        "each step leaves its own data behind: fewer epochs, or a lower learning rate"),
    "first_ratio": Gauge(
        "largest ratio before anything has moved", 1.0, 1.01, "",
        "the log-probabilities of the data are not the policy's: stale, of another temperature, or "
        "of another mask"),
    "ratio": Gauge(
        "largest ratio of a step", 1.0, 100.0, "",
        "single tokens are thrown far: a lower learning rate, or look at first_ratio"),
    "explained_variance": Gauge(
        "share of the returns that the value model explains", 0.2, 1.0,
        "the value model knows nothing: its learning rate, its weight, its scale, or a mask", ""),
    "length": Gauge(
        "length of the answers, of its beginning", 0.5, 1.5,
        "answers shrink: is silence the safest answer?",
        "answers grow: does the reward pay by the token?", relative=True),
    "gradient_norm": Gauge(
        "gradient norm, before clipping", 0.0, 20.0, "",
        "gradients are large: unwhitened advantages, or rewards of another scale"),
}


def reading(rows, name):
    """The median that (1) speaks of, of a column, or None where nothing was written down."""
    values = [row[name] for row in rows if row.get(name) is not None]
    if not values:
        return None
    window = max(5, len(values) // 10)
    last = statistics.median(values[-window:])                                                 # (1)
    if GAUGES[name].relative:
        first = statistics.median(values[: min(5, len(values))])
        return last / first if first else None
    return last


def verdict(name, value):
    """What a reading says: "" inside its band, else the word for the side it is on."""
    gauge = GAUGES[name]
    # A hair outside is inside: a mean of numbers that are 1 may be 1 plus a rounding.
    if gauge.low is not None and value < gauge.low - 1e-9:
        return gauge.below
    if gauge.high is not None and value > gauge.high + 1e-9:
        return gauge.above
    return ""


def lit(rows):
    """Names of the gauges that are outside their bands: (1)."""
    readings = {name: reading(rows, name) for name in GAUGES}
    return [name for name, value in readings.items()
            if value is not None and verdict(name, value)]


def table(rows):
    """All gauges as text: the reading, its band, and what it means to be outside."""
    lines = [f"{'':18} {'now':>9}  {'healthy':<14}"]
    for name, gauge in GAUGES.items():
        value = reading(rows, name)
        if value is None:  # nobody wrote it down: GRPO has no value model
            continue
        word = verdict(name, value)
        mark = f"!! {word}" if word else ""
        lines.append(f"{name:18} {value:9.3g}  {band(gauge):<14} {mark}".rstrip())
    return "\n".join(lines)


def band(gauge):
    """The band of a gauge as text."""
    if gauge.low is None and gauge.high is None:
        return "-"
    times = "×" if gauge.relative else ""
    return f"{times}{gauge.low:g} to {times}{gauge.high:g}"


def draw_gauges(rows, path, title):
    """Write a PNG with a panel for every gauge, its band in green. ImportError without matplotlib.
    """
    pyplot = plots("the picture of the gauges needs")
    names = [name for name in GAUGES if reading(rows, name) is not None]
    height = -(-len(names) // 3)
    # Three panels a row; those that are left over at the end stay empty.
    figure, axes = pyplot.subplots(height, 3, figsize=(11, 2.4 * height), layout="constrained",
                                   squeeze=False)
    for place, name in zip(axes.flat, names, strict=False):
        draw_one(place, rows, name)
    for place in axes.flat[len(names) :]:
        place.set_axis_off()
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_one(axes, rows, name, beside=()):
    """One panel: the numbers, their running average, the band; red where the gauge is lit.

    beside: the rows of another run, drawn in gray.
    """
    gauge = GAUGES[name]
    steps, values = noted(rows, name)
    if beside:
        others, theirs = noted(beside, name)
        axes.plot(others, smoothed(theirs), color="gray", lw=0.8)
    # A relative band is drawn in the unit of the numbers, around those that it is relative to.
    scale = statistics.median(values[:5]) if gauge.relative else 1.0
    color = "tab:red" if verdict(name, reading(rows, name)) else "tab:blue"
    axes.plot(steps, values, color=color, alpha=0.3, lw=0.8)
    axes.plot(steps, smoothed(values), color=color)
    if gauge.low is not None:
        axes.axhspan(gauge.low * scale, gauge.high * scale, color="tab:green", alpha=0.08)
        # The numbers decide what is seen, or a wide band would press them flat.
        low, high = min(values), max(values)
        # What only differs by rounding is a straight line.
        room = max(0.05 * (high - low), 0.01 * abs(high)) or 0.05
        axes.set_ylim(low - room, high + room)
    axes.set_title(name, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def draw_price(found, path, title=""):
    """Write a PNG: reward and exact score over the distance that they were bought with.

    found: title -> rows, a panel for each. Reward rises and score falls: the reward is hacked.
    The many rewards are running averages, which lag a little behind; the few scores are as they
    were.
    """
    pyplot = plots("the picture of reward and score needs")
    figure, axes = pyplot.subplots(1, len(found), figsize=(5 * len(found), 3.6), squeeze=False,
                                   layout="constrained", sharey=True)
    for place, (name, rows) in zip(axes[0], found.items(), strict=True):
        twin = place.twinx()
        for side, column, color in ((place, "reward", "tab:blue"), (twin, "score", "tab:orange")):
            known = [row for row in rows if row.get(column) is not None]
            away, values = ([row[each] for row in known] for each in ("kl", column))
            side.plot(smoothed(away), smoothed(values), ".-", ms=4, lw=0.8, color=color)
            side.set_ylabel("reward, what the judge says" if column == "reward" else
                            "exact score, what is true", color=color)
        place.set(title=name, xlabel="nats from the beginning, an answer")
        place.grid(alpha=0.3)
        twin.set_ylim(-0.03, 1.03)                 # a share, and the same in all panels
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def noted(rows, name):
    """(steps, values) of the rows in which a number was written down."""
    pairs = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return zip(*pairs, strict=True)
