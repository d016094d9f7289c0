"""Lesson 4.2 · What a tokenizer is, and the simplest one: characters

Needs memory, unicode. Used by bpe, tokenizer_file, scripts/train_gpt.py, scripts/generate.py,
scripts/score_python.py.

Idea      A model reads and writes numbers below V. A tokenizer is a numbered list of V strings of
          bytes and a rule that cuts any text into strings of that list. A token is one string of a
          tokenizer's list, or its number. Decoding needs no rule: look the numbers up and join. A
          special token is a number that stands for no text but for an event: here a document ends.
          The simplest list is every character that occurs in the training text. It is short and
          easily made, but a model must then spend one step on each letter, and a character that was
          never seen cannot be written at all.
Math      decode(ids) = tokens[id₁] + tokens[id₂] + …      decode(encode(text)) = text          (1)
          bits per byte = nats per token · tokens / (bytes · ln 2): models with different lists can
          be compared in it; a nat is the unit of a loss made with natural logarithms           (2)
Shapes    text: str or UTF-8 bytes, N characters → ids (N,) int32 · tokens: V byte strings
Pitfalls  No text may produce a special token such as <|endoftext|> by accident: a user who writes
          those 13 characters must not end the document. So `encode` reads them as
          plain text unless `allowed_special` names them, and refuses those that are
          `disallowed_special`.
          One token may hold part of a character (lesson bpe), so tokens must not be turned into
          text one by one: `StreamDecoder` waits until a character is complete.
Cost      Encoding is one look-up a character, decoding one copy.
Try       build it    a byte tokenizer: 256 tokens, no training, never an unknown character.
          break it    let StreamDecoder decode each token by itself. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.characters
See       Graves 2013, section 3 (text as characters) · Unicode Standard 16.0, section 3.9 (U+FFFD)
"""

import codecs
import re

import numpy as np

from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.unicode import CODE_POINTS, as_bytes

END_OF_TEXT = "<|endoftext|>"  # stands between documents


class Tokenizer:
    """What all tokenizers share. A subclass adds `encode_ordinary(text: bytes) -> (N,) int32`.

    tokens   list of V byte strings, all different; a token's place in the list is its id
    special  dict from the name of a special token to its id
    """

    def __init__(self, tokens, special):
        self.tokens = tokens
        self.special = dict(special)
        seen = {}
        for index, token in enumerate(tokens):
            if seen.setdefault(token, index) != index:
                raise ValueError(
                    f"tokens {seen[token]} and {index} are both {token!r}; a special token needs "
                    "a name that is no ordinary token"
                )
        for name, index in self.special.items():
            if tokens[index] != name.encode():
                raise ValueError(f"special token {name!r} has the id of {tokens[index]!r}")

    @property
    def vocab_size(self):
        """V: how many ids there are, special tokens included."""
        return len(self.tokens)

    def token_bytes(self, index):
        """The bytes of one token; of a special token, its name."""
        return self.tokens[int(self._checked(index))]

    def encode(self, text, allowed_special=(), disallowed_special=()):
        """Ids, (N,) int32, of a str or bytes.

        allowed_special: names of special tokens to recognise in the text, or "all".
        disallowed_special: names that the text must not hold, or "all": those not allowed.
        What is in neither is read as plain text. ValueError for an unknown name, and for text that
        holds a disallowed one.
        """
        text = as_bytes(text)
        names = self._allowed(text, allowed_special, disallowed_special)
        ids = [empty(0, np.int32)]
        for part in self._cut(text, names):
            index = self.special.get(part) if isinstance(part, str) else None
            found = self.encode_ordinary(part) if index is None else np.array([index], np.int32)
            ids.append(found)
        return np.concatenate(ids) if len(ids) > 2 else ids[-1]

    def _allowed(self, text, allowed, disallowed):
        """The names to recognise; ValueError for unknown ones and a disallowed one in the text."""
        allowed = frozenset(self.special if allowed == "all" else allowed)
        refused = self.special.keys() - allowed if disallowed == "all" else set(disallowed)
        for name in sorted((allowed | refused) - self.special.keys()):
            known = ", ".join(self.special) or "none"
            raise ValueError(f"no special token is called {name!r}; there are: {known}")
        for name in sorted(refused):
            if as_bytes(name) in text:
                raise ValueError(
                    f"the text holds {name!r}, which is a special token; allow it (allowed_special)"
                    ", or have it read as plain text (disallowed_special=())"
                )
        return allowed

    def _cut(self, text, names):
        """Yield plain text as bytes and special tokens as str, in the order of the text."""
        # The longest name first: where one name begins another, the longer one is meant.
        longest = sorted((as_bytes(name) for name in names), key=len, reverse=True)
        pattern = b"(" + b"|".join(map(re.escape, longest)) + b")"
        for place, part in enumerate(re.split(pattern, text) if longest else [text]):
            if place % 2:
                yield part.decode()
            elif part:
                yield part

    def decode_bytes(self, ids):
        """The bytes of these ids, exactly: (1). ValueError for an id that is not in 0 … V − 1."""
        return b"".join(map(self.tokens.__getitem__, self._checked(ids).ravel().tolist()))

    def decode(self, ids):
        """The text of these ids; what is not UTF-8 becomes U+FFFD, as in every text viewer."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self):
        """A fresh StreamDecoder, for printing tokens as they are generated."""
        return StreamDecoder(self)

    def _checked(self, ids):
        ids = np.asarray(ids)
        if ids.size == 0:
            return ids.astype(np.int64)
        if ids.dtype.kind not in "iu":
            raise ValueError(f"token ids are integers, not {ids.dtype}")
        wrong = ids[(ids < 0) | (ids >= self.vocab_size)]
        if wrong.size:
            raise ValueError(f"token id {wrong.flat[0]} is not in 0 … {self.vocab_size - 1}")
        return ids


class StreamDecoder:
    """Turns ids into text one at a time and never shows half a character."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index):
        """The text that is complete once this token has come; often all of it, sometimes ""."""
        return self.decoder.decode(self.tokenizer.token_bytes(index))

    def finish(self):
        """What is left over: "" or U+FFFD for a character that was never completed."""
        return self.decoder.decode(b"", final=True)


class ChainStream:
    """Turns ids into text one at a time where a token's text depends on the ones before it.

    The tokens of the last output are decoded anew with what has come since; what that adds to
    their own text is new.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.ids, self.shown = [], ""  # the text of the first `old` ids
        self.old = 0

    def push(self, index):
        """The text that is complete once this token has come; "" where a character is not."""
        self.ids.append(int(index))
        text = self.tokenizer.decode(self.ids)
        if text.endswith("\ufffd"):
            return ""
        return self._show(text)

    def finish(self):
        """What is left over: "" or U+FFFD for a character that was never completed."""
        return self._show(self.tokenizer.decode(self.ids))

    def _show(self, text):
        new = text[len(self.shown) :]
        if new:
            self.ids = self.ids[self.old :]
            self.old = len(self.ids)
            self.shown = self.tokenizer.decode(self.ids)
        return new


class CharacterTokenizer(Tokenizer):
    """One token for each character, in the order of the code points; special tokens come last."""

    def __init__(self, characters, special=(END_OF_TEXT,)):
        characters = sorted(set(characters))
        names = list(special)
        tokens = [as_bytes(character) for character in characters]
        first = len(tokens)
        ids = {name: first + k for k, name in enumerate(names)}
        super().__init__(tokens + [as_bytes(name) for name in names], ids)
        self.characters = characters
        self._id_of_point = np.full(CODE_POINTS, -1, np.int32)
        self._id_of_point[[ord(character) for character in characters]] = np.arange(first)

    def encode_ordinary(self, text):
        """(N,) int32 ids of UTF-8 bytes. ValueError for other bytes and for unknown characters."""
        string = decode_utf8(text)
        points = np.frombuffer(string.encode("utf-32-le"), np.uint32)
        ids = self._id_of_point[points]
        if ids.size and ids.min() < 0:
            unknown = string[int(np.argmin(ids))]
            raise ValueError(
                f"the character {unknown!r} (U+{ord(unknown):04X}) is not among the "
                f"{len(self.characters)} of this tokenizer; train it on text that has it, "
                "or use the bpe tokenizer"
            )
        return ids


def decode_utf8(text):
    """Bytes as str. ValueError with the byte offset for what is not UTF-8."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text is not UTF-8: byte 0x{text[error.start]:02X} at offset {error.start}; the "
            "character tokenizer needs UTF-8, the bpe tokenizer takes any bytes"
        ) from None


def train_characters(documents, special=(END_OF_TEXT,)):
    """A CharacterTokenizer of all characters in the documents (an iterable of str or bytes)."""
    if isinstance(documents, str | bytes):
        documents = [documents]
    characters = set()
    for document in documents:
        characters.update(decode_utf8(as_bytes(document)))
    if not characters:
        raise ValueError("the text is empty; a tokenizer needs text to train on")
    return CharacterTokenizer(characters, special)


if __name__ == "__main__":
    from time import perf_counter

    sample = "The quick brown fox, naïve and 狐. " * 30_000
    tokenizer = train_characters(sample)
    start = perf_counter()
    ids = tokenizer.encode(sample)
    middle = perf_counter()
    same = tokenizer.decode(ids) == sample
    size = len(sample.encode()) / 1e6
    print(
        f"vocab={tokenizer.vocab_size} encode_mb_per_s={size / (middle - start):.0f} "
        f"decode_mb_per_s={size / (perf_counter() - middle):.0f} same={same}"
    )
