"""Lesson 4.28 · Notation: a grammar that reads like the stories it tells

Needs grammar. Used by stories.

Idea      Forty plots written as Python objects would be a wall of brackets. In a notation of their
          own they look like stories with holes, so that whoever wants another plot writes one down.
          Reading it is a small compiler: cut the text into pieces, then let one function read a
          sequence and another one a choice, each calling the other where brackets nest.
Math      sequence = { text | slot | phrase | "[" choice "]" }                                   (1)
          choice = option { "|" option }        option = [ weight "*" ] sequence                 (2)
          p(option) = weight / sum of the weights of its choice                                  (3)
Shapes    sections that begin in the first column, what belongs to them indented; "#": a comment
            list name, words           {name}      a slot with a word of its list, drawn once
            slots x y from name        {x} {y}     two slots of one list: never the same word
            numbers a 2 6              {a} {a+b}   two … six; sums and differences are worked out
            {>x}                       prints {x}, who has the thing from here on: {holder}
            phrase mood, x|y           <mood>      one of the options, drawn anew each time
            [x|3*y]                    an option in place, here with weights 1 and 3
            plot title, lines          a step a line, "?" before one that is left out half of the
                                       time; an empty line starts a paragraph
Pitfalls  Spaces count inside brackets: "went[| slowly] home". A phrase must stand above its first
          use. The first step of a paragraph carries the empty line: it cannot be optional.
Cost      One pass over the text, once a program.
Try       build it    <phrase:2>, a phrase that is drawn twice without repeating an option.
          break it    nest brackets in a plot of stories.txt and forget one. What does the message
                      of python -m tinygrad_edu.data.stories say?
          measure it  python -m timeit -s "from tinygrad_edu.data.stories import grammar" \\
                      "grammar.__wrapped__()"
See       Wirth 1977 (the notation of (1), (2)) · Aho, Lam, Sethi, Ullman 2006, section 4.4
          (recursive descent)
"""

import re

from tinygrad_edu.data.grammar import NUMBERS, Choice, Grammar, Plot, Slot, Sum


class Reader:
    """Reads one file into a Grammar."""

    def __init__(self):
        self.grammar = Grammar()
        self.phrases = {}

    def read_section(self, head, body):
        """Take up one section; ValueError where it is none."""
        kind, *rest = head.split()
        grammar = self.grammar
        if kind == "list":
            grammar.add_slots(rest, rest[0], tuple(body.split()))
        elif kind == "numbers":
            low, high = map(int, rest[1:])
            grammar.add_slots(rest[:1], rest[0], tuple(NUMBERS[low : high + 1]))
        elif kind == "slots":
            grammar.add_slots(rest[:-2], rest[-1], grammar.words[rest[-1]])
        elif kind == "phrase":
            self.phrases[rest[0]] = self.read("[" + re.sub(r"\s*\n\s*", "", body.strip()) + "]")
        elif kind == "plot":
            grammar.plots.append(self.read_plot(" ".join(rest), body))
        else:
            raise ValueError(f"{head!r} begins with none of list, numbers, slots, phrase, plot")

    def read_plot(self, title, body):
        """A Plot from its lines."""
        sequence, steps = [], []
        between = ""
        for line in map(str.strip, body.strip().split("\n")):
            if not line:
                between = "\n\n"
                continue
            step = self.read(line.removeprefix("? "))
            steps.append(step)
            if line.startswith("? ") and between != " ":
                raise ValueError(f"a paragraph cannot begin with an optional step: {line!r}")
            if line.startswith("? "):
                sequence.append(Choice(((0.5, (between, *step)), (0.5, ()))))
            else:
                sequence += [between, *step]
                between = " "
        return Plot(title, tuple(sequence), tuple(steps))

    def read(self, text):
        """A sequence from text with slots, phrases and options: (1)."""
        pieces = re.findall(r"\{[^{}]*\}|<\w+>|[\[\]|]|[^{}<>\[\]|]+", text)
        if "".join(pieces) != text:
            raise ValueError(f"a bracket is not closed in {text!r}")
        sequence = self.read_sequence(pieces)
        if pieces:
            raise ValueError(f"{pieces[0]!r} stands outside of brackets in {text!r}")
        return sequence

    def read_sequence(self, pieces):
        """Take pieces up to the next | or ] of this level from the list; returns the sequence."""
        sequence = []
        while pieces and pieces[0] not in "|]":
            piece = pieces.pop(0)
            if piece == "[":
                sequence.append(self.read_choice(pieces))
            elif piece[0] == "<":
                if piece[1:-1] not in self.phrases:
                    raise ValueError(f"there is no phrase {piece[1:-1]!r}")
                sequence += self.phrases[piece[1:-1]]
            elif piece[0] == "{":
                sequence.append(self.read_slot(piece[1:-1]))
            else:
                sequence.append(piece)
        return tuple(sequence)

    def read_choice(self, pieces):
        """Take the options of a bracket and its end from the list of pieces; a Choice: (2)."""
        weights, options = [], []
        while not options or pieces.pop(0) == "|":
            if "]" not in pieces:
                raise ValueError("a bracket is not closed: [ needs a ]")
            weight, star, rest = pieces[0].partition("*")
            if star:
                pieces[0] = rest
            weights.append(int(weight) if star else 1)
            options.append(self.read_sequence(pieces))
        total = sum(weights)
        return Choice(tuple((w / total, o) for w, o in zip(weights, options, strict=True)))  # (3)

    def read_slot(self, text):
        """A Slot or a Sum from what stands between braces."""
        found = re.fullmatch(r"(\w+)([+-])(\w+)", text)
        if found:
            return Sum(found[1], 1 if found[2] == "+" else -1, found[3])
        name = text.removeprefix(">")
        if name not in self.grammar.words and name != "holder":
            raise ValueError(f"there is no list for the slot {name!r}")
        return Slot(name, takes=text.startswith(">"))


def read_grammar(text):
    """The Grammar that a text describes in the notation of Shapes; a fault raises ValueError."""
    reader = Reader()
    for head, body in sections(text):
        reader.read_section(head, body)
    return reader.grammar


def sections(text):
    """(first line, body) of every section: what is indented belongs to the line above it."""
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for section in re.findall(r"^\S.*\n(?:[ \t]+.*\n|\n)*", text, flags=re.MULTILINE):
        head, _, body = section.partition("\n")
        yield head, body
