"""Lesson 4.117 · Preference pairs: two answers of which a program knows the better one

Needs conversations, instructions, stories, tasks. Used by scripts/make_data.py.

Idea      A reward model learns from pairs of answers which of two is better. Pairs of people hold
          a hundred habits, and nobody can say whether a model found the meaning or a habit; the
          best known habit is to like the longer one. So pairs are made here in which nothing but
          the request decides. Two beginnings of stories are told by the same plot in the same
          words, and one thing in them differs: the hero, the thing, the number, or what is counted.
          Each of the two is what one request asks for and what another does not, so it is the
          better answer once and the worse one once. Whoever does not read the request is right in
          exactly half of the cases, whatever he looks at. A second maker spoils this on purpose,
          with pairs in which the longer answer was liked: a reward with a loophole, to be found.
Math      couple of texts (A, B), requests (a, b): pairs (a: A ≻ B) and (b: B ≻ A)              (1)
          hence P(chosen is f-est) = ½ for every function f of the answer alone, length among them
          a mixed-up answer has the words of its twin in another order, so the same length       (2)
          loophole: of a share of pairs the longer, worse answer is chosen                       (3)
Shapes    a list of Preferences; both pairs of (1) are in it, or neither
Pitfalls  (1) says nothing about form: both answers are good English. A reward model that met only
          such pairs would be content with a list of names. Hence (2).
          (2) can be seen without the request; so the length is balanced, other looks are not.
          Both pairs of a couple belong to one side of any split, or one teaches the other: plots,
          heroes and things are held out as in lesson instructions, for both texts.
Cost      0.2 ms a pair.
Try       build it    a fault that is one wrong letter. How does a reward model see it, that reads
                      tokens?
          break it    leave out the second pair of (1). How far from 0.5 does a length-only
                      classifier come, and which test notices?
          measure it  python scripts/make_data.py preferences --count 2000 --loophole 0.3
See       Bai et al. 2022, section 2 (preferences of people) · Singhal et al. 2023 (length) · Gao et
          al. 2023 (what happens to a proxy that is optimised)
"""

import random as python_random

from tinygrad_edu.data.conversations import Preference
from tinygrad_edu.data.instructions import BREAK, KINDS, Begin, key_of, opening_sequence
from tinygrad_edu.data.stories import grammar
from tinygrad_edu.data.tasks import below

FAULTS = ("hero", "thing", "number", "item", "order")
BEGIN = Begin()


def draw_preferences(random, count, held_out=False, faults=FAULTS, loophole=0.0):
    """A list of `count` Preferences of one side, shuffled.

    faults: what distinguishes the worse answer, each as often as another. loophole: the share of
    pairs in which a longer and worse answer was liked, (3).
    """
    found = []
    # A couple makes two pairs, (3) one: so often it has to be drawn.
    often = 2 * loophole / (1 + loophole)
    while len(found) < count:
        if random.random() < often:
            found.append(spoilt(random, held_out))
        else:
            found += couple(random, below(random, faults), held_out)
    keys = [random.random() for _ in range(count)]
    order = sorted(range(count), key=keys.__getitem__)
    return [found[k] for k in order]


def couple(random, fault, held_out=False):
    """Two Preferences, (1): what is chosen in one is rejected in the other, but for (2)."""
    plot, values, told = telling(random, held_out)
    text = told(values)
    asked = request(random, plot, values)
    if fault == "order":
        again = request(random, plot, values)
        return [Preference(words, text, mixed_up(random, text)) for words in (asked, again)]
    other = with_another(random, fault, values, held_out)
    twin = told(other)
    asked_too = request(random, plot, other)
    return [Preference(asked, text, twin), Preference(asked_too, twin, text)]


def spoilt(random, held_out=False):
    """A Preference of somebody who likes what is long: a right answer against a wrong one that
    goes on and on, (3).
    """
    plot, values, told = telling(random, held_out)
    asked = request(random, plot, values)
    other = with_another(random, "hero", values, held_out)
    whole = grammar().write(plot.sequence, random, dict(other))
    _, middle, _ = whole.split(BREAK)
    longer = f"{told(other)} {middle}"
    return Preference(asked, longer, told(values))


def telling(random, held_out):
    """(plot, values, function from values to the same telling with other words in its slots)."""
    plot, values = BEGIN.cast(random, held_out)
    sequence = opening_sequence(plot)
    named = {getattr(part, "name", "") for part in sequence}
    for slot in ("item", "a", "c"):
        if slot in named:
            values[slot] = below(random, grammar().words[slot])
    # All slots have their words, so what is left to chance is the same for the same seed.
    seed = int(random.random() * 2**53)

    def told(values):
        return grammar().write(sequence, python_random.Random(seed), dict(values))

    return plot, values, told


def request(random, plot, values):
    """The messages of a request that names all that can be wished."""
    return (("user", BEGIN.request(random, BEGIN.hardest, key_of(plot, values))),)


def with_another(random, fault, values, held_out):
    """Values with another word in one slot, of the same side where the slot has sides."""
    slot = fault
    if fault == "number":
        slot = "a" if "a" in values else "c"
    words = grammar().words[slot]
    if slot in KINDS:
        words = BEGIN.side(slot, held_out)
    others = [word for word in words if word != values[slot]]
    return {**values, slot: below(random, others)}


def mixed_up(random, text):
    """The words of a text in another order, its first and its last where they were: (2)."""
    first, *words, last = text.split(" ")
    order = words
    while order == words:
        order = sorted(words, key=lambda _: random.random())
    return " ".join([first, *order, last])


def with_loophole(score, per_word=0.02):
    """A flawed proxy of a score function: each word of an answer is worth something.

    score: a function of a text, as lesson tasks' `score` with its problem given.
    """
    return lambda text: score(text) + per_word * len(text.split())
