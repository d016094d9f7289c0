"""Lesson 4.33 · Batches of texts: rows of one length

Needs added, characters, memory. Used by tests/tokenizers/test_batch.py.

Idea      Texts differ in length, an array does not. So short rows are filled up with a token that
          means nothing, and a mask says which places count; long rows are cut. Training a language
          model on one long stream needs neither (lesson windows); whoever compares sentences,
          answers a dozen prompts at once or classifies texts needs both.
Math      T = max over rows of (tokens + room), or what is asked for; room as in lesson added  (1)
          share of useful places = Σ rows' lengths / (B · T), B rows: sorting texts raises it   (2)
Shapes    texts, a list of B → ids (B, T) int32 and mask (B, T) bool, True where a token is
Pitfalls  Cutting a row to a length must leave room for the template, or [SEP] is what is lost. The
          filler is a token like any other: without the mask a model attends to it, and a loss over
          it teaches to write it. Many GPTs have none and borrow <|endoftext|>: then only the mask
          can tell the end of a text from a place that was filled up.
          A model that writes on goes on at the right end, so its rows are filled at the left.
Cost      Encoding; then one copy.
Try       build it    cut long rows into several that overlap, instead of dropping text.
          break it    cut after the template was put around. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.batch
See       huggingface/tokenizers, documentation, "Padding" and "Truncation"
"""

import numpy as np

from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.added import BARE
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters


def encode_batch(tokenizer, texts, length=None, pad=None, truncate=False, side="right",
                 allowed_special=()):
    """(ids (B, T) int32, mask (B, T) bool): rows of one length, True where a token is.

    tokenizer: any of this folder; a Pipeline puts its template around each row.
    length: T; None takes the longest row. pad: the token (a special name, or an id) that fills up
    on that `side`, needed where rows differ. With `truncate`, rows that are too long lose tokens at
    their end, never those of the template. ValueError where a row is too long, or no pad is named.
    """
    if side not in ("left", "right"):
        raise ValueError(f"rows are filled up on the side 'left' or 'right', not {side!r}")
    template = getattr(tokenizer, "template", BARE)
    bare = {"wrap": False} if template is not BARE else {}
    rows = [tokenizer.encode(text, allowed_special, **bare) for text in texts]
    T = row_length(rows, length, template.room, truncate)
    rows = [template.around(row[: T - template.room])[0] for row in rows]
    sizes = np.array([row.size for row in rows], np.int64)
    ids = np.full((len(rows), T), filler(tokenizer, pad, np.any(sizes < T)), np.int32)
    mask = np.arange(T) < sizes[:, None]
    if side == "left":
        mask = mask[:, ::-1]
    ids[mask] = np.concatenate([empty(0, np.int32), *rows])
    return ids, mask


def row_length(rows, length, room, truncate):
    """T, (1); ValueError where a row does not fit and must not be cut."""
    longest = max((row.size + room for row in rows), default=0)
    if length is None:
        return longest
    if length < room:
        raise ValueError(f"a length of {length} has no room for the {room} tokens around each text")
    if longest > length and not truncate:
        raise ValueError(f"a row takes {longest} tokens, but length is {length}: raise it, or pass "
                         "truncate=True")
    return length


def filler(tokenizer, pad, needed):
    """The id of `pad`, a name or an id; ValueError where it is needed and not named, or unknown."""
    if pad is None:
        if needed:
            raise ValueError("the rows differ in length: name the token that fills them up, pad=…")
        return 0
    if isinstance(pad, str):
        if pad not in tokenizer.special:
            known = ", ".join(tokenizer.special) or "none"
            raise ValueError(f"no special token is called {pad!r}; there are: {known}")
        return tokenizer.special[pad]
    tokenizer.token_bytes(pad)  # refuses an id out of range
    return pad


if __name__ == "__main__":
    texts = ["a quick fox " * (1 + k * 37 % 29) for k in range(1000)]
    letters = train_characters("".join(texts))
    shares = []
    for order in (texts, sorted(texts, key=len)):
        useful = places = 0
        for first in range(0, len(order), 32):
            _, mask = encode_batch(letters, order[first : first + 32], pad=END_OF_TEXT)
            useful, places = useful + int(mask.sum()), places + mask.size
        shares.append(useful / places)
    print("useful={:.2f} useful_sorted={:.2f}".format(*shares))
