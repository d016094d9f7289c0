"""Lesson 4.17 · Added tokens and templates: numbers for what no text says

Needs nothing. Used by pipeline, hf_json.

Idea      A model that only sees text cannot know where a text begins, which of two comes first, or
          who is speaking. Such events get tokens of their own, added to the list after training, or
          reserved before it. They enter in two ways. A template puts them around a text: [CLS] at
          its front, [SEP] at its end. Or they are spelt in the text, <|im_start|> by a chat
          program, and are cut out before anything else looks at it.
Math      room = tokens of a template beside the text: a row of T tokens holds T − room of text  (1)
Shapes    a text of N characters → parts (begin, end, token or None) that cover it in order
          a row (M,) → the row with the template around it, (M + room,), and a kind for each token
Pitfalls  Some added tokens swallow the white space beside them (lstrip, rstrip); some are not found
          inside a word; some are `normalized`: they are looked for after the normalizer, in its
          spelling. Each flag changes ids.
          Where one name begins another, <a> and <a><b>, the longer is meant.
          Only tokens marked special are dangerous: whoever can write them into a prompt can end it.
          So they are recognised where the caller allows them. The others always are.
Cost      One regular expression over the text; it is compiled once for each set of allowed names.
Try       build it    a template for questions: [CLS] A [SEP] B [SEP], B of kind 1.
          break it    sort the names by their length, the shortest first. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.added
See       Devlin et al. 2019, figure 2 (kinds of positions) · huggingface/tokenizers, documentation,
          "AddedToken"
"""

import re
from dataclasses import dataclass

import numpy as np

WHOLE = {"A": 0, "B": 1}  # what a template may hold beside tokens: the text, and a second one


@dataclass(frozen=True)
class Added:
    """A token that is found in the text as it is spelt, before the model sees anything."""

    content: str
    id: int
    special: bool = False
    single_word: bool = False  # not inside a word
    lstrip: bool = False  # takes the white space on its left with it
    rstrip: bool = False
    normalized: bool = False  # looked for after the normalizer, not before


class Finder:
    """Cuts a text at added tokens: leftmost first, of two that begin together the longer."""

    def __init__(self, added, normal):
        """added: list of Added. normal: how the text that will be searched spells a content."""
        self.added = {normal(token.content): token for token in added if normal(token.content)}
        self.patterns = {}  # allowed names -> compiled pattern, or None

    def pattern(self, allowed):
        """A pattern of all tokens that are not special or are allowed; None where there are none.

        White space and borders of words are looked at in the pattern itself, so that a token which
        may not stand there does not hide a shorter one that may.
        """
        if allowed not in self.patterns:
            found = [(spelt, token) for spelt, token in self.added.items()
                     if not token.special or token.content in allowed]
            found.sort(key=lambda pair: -len(pair[0]))
            parts = [guarded(spelt, token) for spelt, token in found]
            self.patterns[allowed] = re.compile("|".join(parts)) if parts else None
        return self.patterns[allowed]

    def cut(self, text, allowed):
        """Yield (begin, end, Added or None) for the parts of the text, empty ones left out."""
        pattern, done = self.pattern(allowed), 0
        for match in pattern.finditer(text) if pattern else ():
            token = self.added[match[0]]
            begin, end = match.span()
            if token.lstrip:  # but nothing that the token before has taken
                begin = done + len(text[done:begin].rstrip())
            if token.rstrip:
                end += len(text[end:]) - len(text[end:].lstrip())
            if done < begin:
                yield done, begin, None
            yield begin, end, token
            done = end
        if done < len(text):
            yield done, len(text), None


def guarded(spelt, token):
    """The pattern of one added token."""
    escaped = re.escape(spelt)
    return rf"(?<!\w){escaped}(?!\w)" if token.single_word else escaped



def extended(tokens, added):
    """A model's tokens, with the added ones where their ids are; ValueError for a gap."""
    tokens = list(tokens)
    for token in sorted(added, key=lambda each: each.id):
        spelt = token.content.encode()
        if token.id == len(tokens):
            tokens.append(spelt)
        elif not 0 <= token.id < len(tokens):
            raise ValueError(f"the added token {token.content!r} has the id {token.id}, but the "
                             f"list before it ends with {len(tokens) - 1}")
        else:
            tokens[token.id] = spelt
    return tokens


@dataclass(frozen=True)
class Template:
    """What stands around a text, or around two: rows of (what, kind).

    what: "A" for the text, "B" for the second one, or the id of a token. kind is what a model with
    two kinds of positions (BERT) is told of it: 0 or 1.
    """

    single: tuple
    pair: tuple = (("A", 0), ("B", 1))

    def __post_init__(self):
        for row, wanted in ((self.single, ["A"]), (self.pair, ["A", "B"])):
            if sorted(what for what, _ in row if what in WHOLE) != wanted:
                raise ValueError(f"a template has to hold each text once, this one is {row}")

    @property
    def before(self):
        """How many tokens stand before a text."""
        return [what for what, _ in self.single].index("A")

    @property
    def room(self):
        """How many tokens stand around a text, (1)."""
        return len(self.single) - 1

    def around(self, ids, other=None):
        """(ids, kinds), both (M,) int32: the template around one row of ids, or around two."""
        parts = self.single if other is None else self.pair
        rows = [(ids, other)[WHOLE[what]] if what in WHOLE else [what] for what, _ in parts]
        kinds = [np.full(len(row), kind) for row, (_, kind) in zip(rows, parts, strict=True)]
        return np.concatenate(rows).astype(np.int32), np.concatenate(kinds).astype(np.int32)


BARE = Template((("A", 0),))


if __name__ == "__main__":
    from timeit import timeit

    finder = Finder([Added(f"<|extra_{k}|>", k) for k in range(100)], str)
    sample = ("def f(x): return x < 3 and <|extra_7|> | 2\n" * 1000)
    seconds = timeit(lambda: list(finder.cut(sample, frozenset())), number=20) / 20
    found = sum(token is not None for *_, token in finder.cut(sample, frozenset()))
    print(f"found={found} mb_per_s={len(sample) / seconds / 1e6:.0f}")
