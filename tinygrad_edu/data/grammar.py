"""Lesson 4.27 · A grammar of stories: text whose entropy is known

Needs nothing. Used by notation, stories, story_score.

Idea      How good can a language model of a text possibly be? For text of people nobody knows. So
          let a machine write the text: a grammar makes one random choice after another, every
          choice has a known probability, and so has the whole story. Minus the logarithm of that
          probability, on average, is the entropy of the stories, and no model can have a lower
          loss; how close one comes is a statement about the model alone. A story is more than a
          chain of words because a slot is drawn once and then repeated: who was named in the first
          line returns in the last.
Math      p(story) = product of the probabilities of its choices                                (1)
          H(choice) = Σᵢ pᵢ·(−ln pᵢ + H(what follows option i))       H(slot) = ln(words left)  (2)
          If two stories made by different choices always differ, then the entropy of the text is
          that of the choices, and −ln p(story) is found by reading the choices back.           (3)
Shapes    a sequence: a tuple of strings, Slots, Sums and Choices
          values: dict from slot to word · random: anything whose random() is uniform on [0, 1)
Pitfalls  An optional step may draw a slot, so how much later slots can still choose depends on the
          way taken: (2) is followed for every set of drawn slots, with its probability.
          Two ways to one text would make (3) wrong: `derivations` yields all ways, and a test
          reads thousands of stories and finds one way for each.
          random.choice may consume its generator differently in another Python; random() does not.
Cost      A story: one random number for each choice. Reading back tries options from left to right
          and drops one at its first wrong letter.
Try       build it    entropy per token: divide by the tokens a story has on average. Which steps
                      of a story carry most of it?
          break it    give a phrase an option twice. Which test of tests/data/test_grammar.py
                      notices?
          measure it  python -m tinygrad_edu.data.stories
See       Shannon 1948, section 6 and appendix 2 (2) · Booth, Thompson 1973 · Cover, Thomas 2006,
          section 2.2 (the chain rule of entropy)
"""

import math
from collections import Counter
from dataclasses import dataclass

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
           "eleven", "twelve", "thirteen", "fourteen"]


@dataclass(frozen=True)
class Slot:
    """{name}, or with `takes` {>name}; "holder" is the slot whose word is the last taker's."""

    name: str
    takes: bool = False


@dataclass(frozen=True)
class Sum:
    """{first+second} or {first-second}: sign is 1 or −1."""

    first: str
    sign: int
    second: str

    def value(self, values):
        """The result as a word."""
        first, second = (NUMBERS.index(values[name]) for name in (self.first, self.second))
        return NUMBERS[first + self.sign * second]


@dataclass(frozen=True)
class Choice:
    """One of several sequences: options are pairs (probability, sequence)."""

    options: tuple


@dataclass(frozen=True)
class Plot:
    """A sequence of strings, Slots, Sums and Choices, and the steps that it is made of."""

    title: str
    sequence: tuple
    steps: tuple


class Grammar:
    """Word lists and plots. Lesson notation reads them from a file."""

    def __init__(self):
        self.words = {}  # slot -> its words
        self.family = {}  # slot -> the list it draws from: no word twice within a family
        self.plots = []

    def add_slots(self, names, family, words):
        """Slots that draw from `words`, never two of them the same one."""
        self.words.update(dict.fromkeys(names, words))
        self.family.update(dict.fromkeys(names, family))

    # ---- writing ------------------------------------------------------------------------------

    def free(self, name, drawn):
        """The words that a slot may still take when the slots of `drawn` have theirs.

        drawn: dict from slot to word.
        """
        family = self.family[name]
        taken = {word for slot, word in drawn.items() if self.family.get(slot) == family}
        return [word for word in self.words[name] if word not in taken]

    def draw(self, random):
        """A story: (plot, values, text), with the probability of equation (1)."""
        plot = self.plots[int(random.random() * len(self.plots))]
        values = {}
        return plot, values, self.write(plot.sequence, random, values)

    def write(self, sequence, random, values):
        """The text of a sequence; what is drawn on the way is added to `values`."""
        pieces = []
        for part in sequence:
            if isinstance(part, str):
                pieces.append(part)
            elif isinstance(part, Choice):
                pieces.append(self.write(pick(part, random.random()), random, values))
            else:
                if self.is_drawn_by(part, values):
                    words = self.free(part.name, values)
                    values[part.name] = words[int(random.random() * len(words))]
                pieces.append(say(part, values))
        return "".join(pieces)

    def is_drawn_by(self, part, drawn):
        """Whether this part is the first mention of a slot: the place where its word is drawn."""
        return isinstance(part, Slot) and part.name != "holder" and part.name not in drawn

    # ---- entropy, and reading back ------------------------------------------------------------

    def entropy(self):
        """H of a whole story in nats: equation (2)."""
        below = [self.sequence_entropy(plot.sequence, frozenset())[0] for plot in self.plots]
        return math.log(len(below)) + sum(below) / len(below)

    def sequence_entropy(self, sequence, drawn):
        """(H, ends) of a sequence: ends counts the probability of each set of drawn slots after it.

        drawn: the set of slots that have a word before it.
        """
        total, ends = 0.0, {drawn: 1.0}
        for part in sequence:
            after = Counter()
            for before, p in ends.items():
                h, sets = self.part_entropy(part, before)
                total += p * h
                for one, q in sets.items():
                    after[one] += p * q
            ends = after
        return total, ends

    def part_entropy(self, part, drawn):
        """The same of one part: (2)."""
        if isinstance(part, Choice):
            total, ends = 0.0, Counter()
            for p, option in part.options:
                h, sets = self.sequence_entropy(option, drawn)
                total += p * (h - math.log(p))
                for one, q in sets.items():
                    ends[one] += p * q
            return total, ends
        if self.is_drawn_by(part, drawn):
            relatives = sum(self.family[slot] == self.family[part.name] for slot in drawn)
            words = len(self.words[part.name]) - relatives
            return math.log(words), {drawn | {part.name}: 1.0}
        return 0.0, {drawn: 1.0}

    def derivations(self, text):
        """All ways to this text, as (plot, values, ln p): one for a story, none for other text."""
        for plot in self.plots:
            for end, values, log_p in self.parse(plot.sequence, text, 0, {}):
                if end == len(text):
                    yield plot, values, log_p - math.log(len(self.plots))

    def parse(self, sequence, text, start, values):
        """All ways to read a sequence at text[start:]: yields (end, values, ln p)."""
        if not sequence:
            yield start, values, 0.0
            return
        for end, known, log_p in self.parse_part(sequence[0], text, start, values):
            for last, all_known, rest in self.parse(sequence[1:], text, end, known):
                yield last, all_known, log_p + rest

    def parse_part(self, part, text, start, values):
        """The same for one part."""
        if isinstance(part, Choice):
            for p, option in part.options:
                for end, known, rest in self.parse(option, text, start, values):
                    yield end, known, rest + math.log(p)
            return
        is_new = self.is_drawn_by(part, values)
        words = self.free(part.name, values) if is_new else [None]
        for word in words:
            known = {**values, part.name: word} if is_new else dict(values)
            said = part if isinstance(part, str) else say(part, known)
            if text.startswith(said, start):
                yield start + len(said), known, -math.log(len(words))


def pick(choice, u):
    """The option of a Choice that a number u, uniform on [0, 1), falls on."""
    for p, option in choice.options:
        u -= p
        if u < 0:
            return option
    return choice.options[-1][1]  # the sum of the probabilities may end a rounding below 1


def say(part, values):
    """The word that a Slot or a Sum prints; notes who holds the thing in values["holder"]."""
    if isinstance(part, Sum):
        return part.value(values)
    if part.takes:
        values["holder"] = values[part.name]
    return values[part.name]
