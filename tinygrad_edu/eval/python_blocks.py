"""Lesson 8.1 · Does it parse? The share of sampled Python that is Python

Needs nothing. Used by scripts/score_python.py.

Idea      A loss says how surprised a model is, not whether what it writes holds together. Python
          offers a judge: its own parser. A function that opens a bracket, a string or a block has
          to close it, often many tokens later than an n-gram model can look back. So let models
          write functions and count those that `ast.parse` accepts. The parser knows nothing of
          names or meaning: it is a judge of form alone.
Math      share = accepted / blocks,  accepted ⇔ ast.parse accepts it and it is not trivial
          95 % interval (Wilson), z = 1.96, n blocks, s = share:
          (s + z²/2n ± z·√(s(1 − s)/n + z²/4n²)) / (1 + z²/n)                                   (1)
Shapes    sample(generator) → str: a text that begins with PROMPT, then what the model wrote, some
          hundred tokens. The block in it: from its first line that begins with def, async def or
          class, up to either the next line with something in column 0 that is no closing bracket,
          or, where the model ran out of tokens first, the last complete line.
          trivial: fewer than 3 lines that are neither blank nor a comment, or a body of nothing
          but a docstring, pass and `...`
Pitfalls  Whatever fills no lines parses; without the rule on trivial blocks the model that always
          stops at once wins. Compare models at equal limits of tokens only, with one tokenizer
          for all: a longer block has more chances to fail.
          A block that the limit cuts inside a string or a bracket is rejected, for every model;
          score text of people in the same way to see what that costs.
          str.splitlines cuts at form feeds and seven other characters, Python's parser does not.
          The parser's verdict depends on Python's version: name it beside the share.
          100 blocks leave about ± 10 percentage points (1).
Cost      The parser is nothing beside sampling. `finished` tells a sampler that it may stop early.
Try       build it    score by compile() instead: which errors does the parser leave to it?
          break it    drop the rule on trivial blocks and score "def f(): pass" a hundred times.
          measure it  python scripts/score_python.py RUN --blocks 100
See       Python language reference, "Full grammar specification" · Wilson 1927 (the interval) ·
          Chen et al. 2021 (Codex), which asks for more: that the function passes tests
"""

import ast
import math
import warnings
from dataclasses import dataclass

import numpy as np

PROMPT = "\n\n\ndef"  # no space behind it: tokenizers keep a space with the word that follows
OPENINGS = ("def ", "async def ", "class ")


@dataclass(frozen=True)
class Block:
    """One sampled block: its text, and why it was rejected (empty where it was accepted)."""

    text: str
    reason: str

    @property
    def accepted(self):
        """Whether the block counts."""
        return not self.reason


@dataclass(frozen=True)
class Score:
    """Counts over blocks, which are kept to be shown."""

    blocks: list[Block]

    @property
    def accepted(self):
        """How many blocks are accepted."""
        return sum(block.accepted for block in self.blocks)

    @property
    def share(self):
        """The share of accepted blocks, in [0, 1]."""
        return self.accepted / len(self.blocks)

    def interval(self, z=1.96):
        """Lower and upper end of the 95 % interval of the share: equation (1)."""
        n = len(self.blocks)
        middle = self.share + z**2 / (2 * n)
        width = z * math.sqrt(self.share * (1 - self.share) / n + z**2 / (4 * n**2))
        return (middle - width) / (1 + z**2 / n), (middle + width) / (1 + z**2 / n)


def score_blocks(sample, blocks=100, seed=0, progress=iter):
    """Draw `blocks` texts from sample(generator) -> str and judge the block in each.

    Block i has a generator of its own, made from (seed, i), so that it does not change with how
    many are drawn. `progress` wraps the numbers of the blocks: tqdm, for example.
    """
    if blocks < 1:
        raise ValueError("a share needs at least one block")
    numbers = progress(range(blocks))
    return Score([judge(sample(np.random.default_rng([seed, i]))) for i in numbers])


def judge(text):
    """The block of a sampled text, with the verdict on it."""
    block = extract(text)
    if not block:
        return Block(text, "no def or class")
    return Block(block, reason_against(block))


def ends_block(line):
    """Whether a line, not the first of its block, begins something new at the top level."""
    return bool(line) and not line[0].isspace() and line[0] not in ")]}"


def is_opening(line):
    """Whether a line begins a function or a class at the top level."""
    return line.startswith(OPENINGS)


def first_block(text):
    """The lines of the first block, and the first line after it or None."""
    lines = text.replace("\r\n", "\n").split("\n")
    start = next((i for i, line in enumerate(lines) if is_opening(line)), len(lines))
    for end in range(start + 1, len(lines)):
        if ends_block(lines[end]):
            return lines[start:end], lines[end]
    return lines[start:-1], None  # the last line may be incomplete


def extract(text):
    """The first block of a text, as Shapes defines it; "" where there is none."""
    lines, _ = first_block(text)
    return "\n".join(lines).rstrip() + "\n" if lines else ""


def finished(text):
    """Whether what follows can no longer change the first block: the sampler may stop."""
    return first_block(text)[1] is not None


def reason_against(block):
    """Why a block does not count, in a few words; "" where it does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes, `is` with a literal: form is fine
            tree = ast.parse(block)
    except SyntaxError as error:
        return f"{type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return f"{type(error).__name__}: {error}"  # a NUL, or nested too deeply for the parser
    lines = [line.strip() for line in block.split("\n")]
    if sum(bool(line) and not line.startswith("#") for line in lines) < 3:
        return "trivial: fewer than 3 lines"
    if all(is_empty(statement) for statement in tree.body[0].body):
        return "trivial: nothing in the body"
    return ""


def is_empty(statement):
    """Whether a statement does nothing: pass, or a constant such as a docstring or `...`."""
    is_constant = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass) or is_constant
