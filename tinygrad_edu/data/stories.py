"""Lesson 4.29 · Stories: a corpus that we wrote the grammar of

Needs corpus, grammar, notation. Used by sources, story_score,
scripts/train_gpt.py.

Idea      Forty plots for children, told by the grammar in stories.txt. In each a hero is named at
          the start and once more at the very end, a thing changes hands, and there is something to
          count. To tell who has the thing now, how many there are and who the story is about,
          one must look back dozens of words: more than counting neighbours can, easy for
          attention. Some pairs of plot and hero, and of plot and thing, never occur in training:
          a model that gets those stories right has learnt to look back, not learnt them by heart.
Math      held out  ⇔  u(plot, hero) < 0.06  or  u(plot, thing) < 0.06       u: corpus (1)       (1)
          floor = Σ −ln p(story) / Σ (tokens of the story + its end), over held-out stories      (2)
Shapes    a document: ("stories/0000017", the story) · p is that of the whole grammar
Pitfalls  Given that a story is held out, it is likelier than p says, by the factor 1/P(held out):
          who knew the split could be 2 nats a story better. A model cannot know it: nothing in
          training tells which pairs are missing by rule and which by chance. So p is the floor.
          (2) is the mean over these very stories; the entropy is that over all stories there
          could be, and differs a little.
Cost      A random number for each choice of a story; nothing is downloaded.
Try       build it    hold out by pairs of hero and friend. Does the model notice?
          break it    hold out whole plots. Which loss does the model have on a plot never seen?
          measure it  python -m tinygrad_edu.data.stories: three stories, the entropy, the words
See       Weston et al. 2015 (bAbI: questions on generated stories) · Eldan, Li 2023 (TinyStories) ·
          Lake, Baroni 2018 (unseen combinations)
"""

import functools
import random as python_random
import re
import sys
from pathlib import Path

from tinygrad_edu.data.corpus import Corpus, hashed
from tinygrad_edu.data.grammar import NUMBERS
from tinygrad_edu.data.notation import read_grammar

HELD_OUT_PAIRS = 0.06
STORIES = 20_000
ENTITIES = ("hero", "thing")


@functools.cache
def grammar():
    """The grammar of the stories, read once."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    return read_grammar(text)


def is_held_out(plot, values):
    """Equation (1): whether a story with this plot and these entities is kept from training."""
    pairs = (f"{plot.title}/{name}/{values[name]}" for name in ENTITIES)
    return any(hashed(pair) < HELD_OUT_PAIRS for pair in pairs)


def draw(random):
    """One story: (plot, values, text). random: a random.Random, of which random() alone is used."""
    return grammar().draw(random)


@functools.lru_cache(maxsize=1)
def story_corpus(seed=0, count=STORIES):
    """A Corpus of `count` stories, the same for the same seed on every machine."""
    random = python_random.Random(seed)
    parts = [], []
    for number in range(count):
        plot, values, text = draw(random)
        document = f"stories/{number:07}", text.encode("utf-8")
        parts[is_held_out(plot, values)].append(document)
    return Corpus(f"stories:{seed}", *parts)


def read_stories(spec="stories"):
    """The corpus that `stories` or `stories:SEED` names; ValueError where SEED is no number."""
    name, colon, seed = spec.partition(":")
    if name != "stories" or (colon and not re.fullmatch("[0-9]{1,18}", seed)):
        raise ValueError(f"{spec!r} is not stories with a number: write stories or stories:7")
    return story_corpus(int(seed or 0))


def entropy():
    """H of a story in nats."""
    return grammar().entropy()


def log_probability(text):
    """ln p of a story, exactly; raises ValueError for text that the grammar cannot write."""
    return reading(text)[2]


def reading(text):
    """How the grammar writes a story: (plot, values, ln p). ValueError where it cannot."""
    found = next(grammar().derivations(text), None)
    if found is None:
        raise ValueError(f"the grammar does not write the text that begins {text[:40]!r}")
    return found


def opening(text):
    """The first paragraph of a story: it introduces hero, thing and a number of items."""
    return text.partition("\n\n")[0]


@functools.cache
def vocabulary():
    """The set of words that stories can have."""
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    lists = {word for words in grammar().words.values() for word in words}
    told = text[text.index("\nphrase ") :]
    told = re.sub(r"\{[^}]*\}|<\w+>|^(phrase|plot) .*", " ", told, flags=re.MULTILINE)
    sums = set(words_of(" ".join(NUMBERS[1:12])))
    return lists | set(words_of(told)) | sums


def words_of(text):
    """The words of a text: runs of letters, as they are written."""
    return re.findall(r"[A-Za-z]+", text)


if __name__ == "__main__":
    generator = python_random.Random(int(*sys.argv[1:2] or [0]))
    for _ in range(3):
        print(draw(generator)[2], end="\n\n")
    print(f"plots={len(grammar().plots)} words={len(vocabulary())} entropy={entropy():.4f} nats")
