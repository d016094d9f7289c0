"""Lesson 8.4 · Scoreboard: who has the thing now, and how many are there?

Needs decoding, grammar, loader, loop, metrics, ngram, plots, stories. Used by
scripts/train_gpt.py.

Idea      A model is handed the first paragraph of a story that it has never seen and tells the
          rest. Then three questions are put to what it wrote. Is the hero of the last sentence the
          one of the first? Does the thing end up with whoever took it last? Is the sum right? An
          n-gram model knows what usually stands beside what and must guess; attention can look back
          and copy. Beside it stands the loss, with the grammar's own entropy as the floor.
Math      loss = −Σ ln p(token | the story so far) / number of tokens, every story by itself     (1)
          floor = −Σ ln p(story) / the same number of tokens                                     (2)
Shapes    A row of the scoreboard: name, loss, and shares in [0, 1]: of the stories whose answer is
          right, and of words. The holder is whoever took the thing last (lesson notation).
          hero   every mention of the hero is right, and the last step, which names it, is told
          holder the step that says who has the thing is told, with the right person and thing, and
                 everybody on the way keeps one name
          sums   the step with the result is told, the result and what was counted are right
          known  the share of words that are words of the grammar
Pitfalls  A story that stops early answers no question: it gets no credit. A step is recognised by
          its own wording with any words in its slots; one that is garbled counts as not told.
          Truth is what this telling says: where it gives the thing to Mara, Mara has it, even if
          the story the prompt comes from goes on otherwise.
          A window of text would cut stories, and no model can guess a hero it was not shown:
          therefore (1) has every story to itself.
Cost      200 stories of 100 tokens, each token a pass over the story so far: without a cache about
          as much as training on 0.5 million tokens.
Try       build it    a fourth question: is the friend in the right place?
          break it    let `answers` forget to move the thing. Which test notices?
          measure it  temperature=0.2 in `told_by_gpt`, then python scripts/train_gpt.py
                      --data stories: which of the three shares rise, which fall?
See       Weston et al. 2015 (bAbI, tasks 2 and 7) · Olsson et al. 2022 (induction heads)
"""

import re
import textwrap
from dataclasses import dataclass
from itertools import chain, takewhile

import numpy as np

from tinygrad_edu.data.grammar import Choice, Slot, Sum
from tinygrad_edu.data.loader import evaluation_batches, token_stream
from tinygrad_edu.data.stories import grammar, opening, reading, vocabulary, words_of
from tinygrad_edu.eval.ngram import NGram
from tinygrad_edu.files.plots import plots
from tinygrad_edu.inference.decoding import generate_many
from tinygrad_edu.train.loop import evaluate
from tinygrad_edu.train.metrics import smoothed

QUESTIONS = ("hero", "holder", "sums")
PANELS = 6  # snapshots that a picture has room for


@dataclass(frozen=True)
class Row:
    """One line of the scoreboard; `shares` is empty for the grammar itself."""

    name: str
    loss: float
    shares: dict


def step_pattern(sequence):
    """(regular expression, mentions): a step with any word of its list in every slot.

    mentions: the Slots and Sums in the order of the groups that hold what was said.
    """
    expression, mentions = "", []
    for part in sequence:
        if isinstance(part, str):
            expression += re.escape(part)
        elif isinstance(part, Choice):
            inside = [step_pattern(option) for _, option in part.options]
            expression += "(?:" + "|".join(one for one, _ in inside) + ")"
            mentions += chain.from_iterable(more for _, more in inside)
        else:
            expression += r"(\w+)"
            mentions.append(part)
    return expression, mentions


def mentions_told(plot, text):
    """What the steps of `plot` that are found in `text` say: (step, mention, word), in order."""
    found = []
    for step in plot.steps:
        expression, mentions = step_pattern(step)
        for match in re.finditer(rf"(?<!\w){expression}(?!\w)", text):
            for place, mention in enumerate(mentions, start=1):
                if match[place] is not None:
                    found.append((match.start(place), step, mention, match[place]))
    return [rest for _, *rest in sorted(found, key=lambda one: one[0])]


def answers(story, continuation):
    """dict from question to whether the continuation of this story's opening answers it right."""
    plot, *_ = reading(story)
    told = mentions_told(plot, opening(story) + continuation)
    values, right, asked = {}, dict.fromkeys(QUESTIONS, True), set()
    for step, mention, word in told:
        question = question_of(mention)
        # What was said earlier decides what is right here.
        if isinstance(mention, Sum):
            asked.add("sums")
            expected = {mention.first, mention.second} <= set(values) and mention.value(values)
        elif mention.name in values:
            expected = values[mention.name]
        else:
            # The first mention: any word of the list will do that nobody else in the story has.
            expected = word if word in grammar().free(mention.name, values) else None
            if expected:
                values[mention.name] = word
        right[question] &= word == expected
        if isinstance(mention, Slot) and mention.takes:
            values["holder"] = word
        if mention == Slot("holder"):
            asked.add("holder")
        if mention == Slot("hero") and step is plot.steps[-1]:
            asked.add("hero")
    return {question: right[question] and question in asked for question in QUESTIONS}


def question_of(mention):
    """The question that a mention belongs to."""
    if isinstance(mention, Sum) or mention.name in ("item", "a", "b", "c", "d"):
        return "sums"
    return "hero" if mention.name == "hero" else "holder"


def shares(stories, continuations):
    """What the scoreboard says of continuations (str) of the openings of stories (str)."""
    found = [answers(*pair) for pair in zip(stories, continuations, strict=True)]
    words = words_of(" ".join(continuations))
    result = {question: sum(one[question] for one in found) / len(found) for question in QUESTIONS}
    result["all"] = sum(all(one.values()) for one in found) / len(found)
    result["known"] = sum(word in vocabulary() for word in words) / max(len(words), 1)
    return result


def prompts(tokenizer, stories, end):
    """The ids of each story's opening, with the mark that a document begins before it."""
    return [[end, *map(int, tokenizer.encode(opening(story)))] for story in stories]


def told_by_gpt(model, tokenizer, stories, end, seed=0, max_new=200, temperature=0.8, **more):
    """How a GPT goes on after each story's opening: a list of str."""
    randoms = [np.random.default_rng([seed, row]) for row in range(len(stories))]
    begun = prompts(tokenizer, stories, end)
    ids = generate_many(model, begun, max_new, randoms, (end,), temperature=temperature, **more)
    return [tokenizer.decode(one) for one in ids]


def told_by_ngram(model, tokenizer, stories, end, seed=0, max_new=200, temperature=0.8,
                  progress=iter):
    """The same for an n-gram model."""
    texts = []
    for row, prompt in enumerate(progress(prompts(tokenizer, stories, end))):
        random = np.random.default_rng([seed, row])
        written = model.sample(prompt, max_new, random, temperature)
        texts.append(tokenizer.decode(list(takewhile(lambda token: token != end, written))))
    return texts


def some_of(corpus, count):
    """`count` held-out stories (str) spread over the corpus, or as many as there are."""
    held_out = [text.decode("utf-8") for _, text in corpus.held_out]
    return held_out[:: max(len(held_out) // count, 1)][:count]


def scoreboard(model, tokenizer, corpus, end, seed=0, order=6, count=200, progress=iter):
    """Rows for an n-gram model of the training text, for the GPT, and for the grammar.

    count held-out stories, spread over the corpus. end: id of the token between documents.
    progress wraps what takes long, as tqdm does.
    """
    stories = some_of(corpus, count)
    rival = NGram(token_stream(corpus.train, tokenizer.encode, end), order, tokenizer.vocab_size)
    tokens = [np.array([end, *tokenizer.encode(story), end]) for story in stories]
    stream = np.concatenate([tokens[0], *(one[1:] for one in tokens[1:])])
    windows = (evaluation_batches(one, 8, model.config.context) for one in tokens)
    loss, targets = evaluate(model, chain.from_iterable(windows))                              # (1)
    floor = -sum(reading(story)[2] for story in stories) / targets                             # (2)
    guessed = told_by_ngram(rival, tokenizer, stories, end, seed, progress=progress)
    told = told_by_gpt(model, tokenizer, stories, end, seed, progress=progress)
    return [
        Row(f"{order}-gram", rival.loss(stream), shares(stories, guessed)),
        Row("GPT", loss, shares(stories, told)),
        Row("the grammar", floor, {}),
    ]


def table(rows):
    """The scoreboard as text."""
    names = (*QUESTIONS, "all", "known")
    # A share is a percentage, a loss is in nats per token.
    lines = [f"{'':12}{'loss':>8}" + "".join(f"{name:>9}" for name in names)]
    for row in rows:
        cells = (f"{row.shares[name]:9.1%}" if row.shares else f"{'':9}" for name in names)
        lines.append(f"{row.name:12}{row.loss:8.4f}" + "".join(cells).rstrip())
    return "\n".join(lines)


def snapshot_steps(steps, count=5):
    """Steps at which to look, the first and the last and between them equal ratios."""
    between = np.geomspace(max(steps // 40, 1), steps, count - 1)
    return sorted({0, *(round(step) for step in between)})


def draw_growth(snapshots, losses, rows, path):
    """Write a PNG: how one prompt is continued after more and more steps, below the loss.

    snapshots: (steps taken, text) pairs, the prompt at the start of each text; of many some are
    shown. losses: (steps taken, training loss) pairs. rows: of the scoreboard. Raises ImportError
    without matplotlib, ValueError without a snapshot or a loss.
    """
    pyplot = plots("no picture of the stories, it needs")
    from matplotlib import ticker

    if not snapshots or not losses:
        raise ValueError("no picture of the stories, samples or losses from training are gone")
    chosen = np.linspace(0, len(snapshots) - 1, min(len(snapshots), PANELS)).round().astype(int)
    snapshots = [snapshots[place] for place in chosen]
    figure = pyplot.figure(figsize=(3.1 * len(snapshots), 6.8), layout="constrained")
    grid = figure.add_gridspec(2, len(snapshots), height_ratios=(1, 1.2))
    axes = figure.add_subplot(grid[0, :])
    steps, losses = zip(*losses, strict=True)
    curve = smoothed(losses, 0.9)
    axes.plot(steps, losses, color="tab:blue", alpha=0.25, lw=0.8)
    axes.plot(steps, curve, color="tab:blue", label="GPT, training")
    for row, style in zip([rows[0], rows[-1]], ("--", ":"), strict=True):
        axes.axhline(row.loss, color="black", ls=style, lw=1, label=f"{row.name}, held out")
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="loss, nats per token")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    for step, _ in snapshots:
        axes.plot([max(step, 1)], [np.interp(step, steps, curve)], "o", color="tab:orange")
    axes.grid(alpha=0.3)
    axes.legend()
    for column, (step, text) in enumerate(snapshots):
        panel = figure.add_subplot(grid[1, column])
        panel.axis("off")
        panel.set_title(f"after {step:,} steps", loc="left", color="tab:orange", weight="bold")
        panel.text(0, 1, wrapped(text), va="top", family="serif", size=9, parse_math=False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def wrapped(text, columns=36, lines=26):
    """Text in lines of some columns, paragraphs kept; what makes more lines is cut off."""
    printable = "".join(sign if sign.isprintable() or sign == "\n" else "□" for sign in text)
    paragraphs = (textwrap.wrap(part, columns) or [""] for part in printable.split("\n"))
    result = list(chain.from_iterable(paragraphs))
    return "\n".join(result[:lines] + (["…"] if len(result) > lines else []))
