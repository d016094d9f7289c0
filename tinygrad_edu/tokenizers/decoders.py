"""Lesson 4.15 · Decoders: from tokens back to text

Needs normalize, pretokenize, wordpiece. Used by nothing.

Idea      For byte-level BPE decoding is a look-up: the tokens, one after another, are the text. The
          other models have changed the text on its way in, and a decoder undoes it as well as it
          can: ▁ becomes a space again, ## disappears, <0xE5> becomes a byte. A decoder is a row of
          small steps over the list of tokens. What has been thrown away stays away: BERT's decoder
          puts a space between all words and takes it away before a full stop, which is a guess.
Math      decode(encode(text)) = text where nothing was forgotten on the way in: no normalizer that
          rewrites, white space kept as ▁ or inside the tokens, and no unknown token            (1)
Shapes    step(tokens) → tokens: lists of byte strings; the text is all of them joined
Pitfalls  The first token is special: SentencePiece put ▁ in front of the text, so the decoder takes
          it away there, and only there. Decoding a text in parts loses the space between them.
          Bytes that form no UTF-8: the whole run becomes U+FFFD, one for each byte, as the package
          `tokenizers` does it, where Python's "replace" may write fewer.
          BERT's clean-up cannot tell "it 's" from "it's": (1) does not hold.
Cost      Python, a token at a time: decoding is rarely what one waits for.
Try       build it    a step that writes a capital letter after a full stop, for uncased models.
          break it    let Metaspace treat the first token like the others. Which tests notice?
          measure it  python -m tinygrad_edu.tokenizers.decoders
See       Kudo, Richardson 2018, section 3.2 (lossless) · huggingface/tokenizers, decoders
"""

import re

from tinygrad_edu.tokenizers import normalize
from tinygrad_edu.tokenizers.pretokenize import SPACE
from tinygrad_edu.tokenizers.wordpiece import PREFIX

BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece spells a byte
LOST = "\ufffd".encode()
# What BERT's clean-up rewrites, in this order, in each token by itself.
CLEAN_UP = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"))
CLEAN_UP += ((" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


class Decoders:
    """Several steps, one after the other."""

    def __init__(self, *steps):
        self.steps = steps

    def __call__(self, tokens):
        for step in self.steps:
            tokens = step(tokens)
        return tokens


class ByteLevel:
    """Nothing to do: the tokens of a byte-level tokenizer are the bytes of the text."""

    def __call__(self, tokens):
        return tokens


class Fuse:
    """All tokens become one, so that the steps behind see the whole text."""

    def __call__(self, tokens):
        return [b"".join(tokens)]


class WordPiece:
    """A space before each token but the first and those that begin with `prefix`."""

    def __init__(self, prefix=PREFIX, cleanup=True):
        self.prefix, self.cleanup = prefix, cleanup

    def __call__(self, tokens):
        prefix = self.prefix.encode()
        result = []
        for place, token in enumerate(tokens):
            inside = token.startswith(prefix)
            text = token if not place else token[len(prefix) :] if inside else b" " + token
            for old, new in CLEAN_UP if self.cleanup else ():
                text = text.replace(old.encode(), new.encode())
            result.append(text)
        return result


class Metaspace:
    """`sign` becomes a space; in the first token nothing, unless prepend is "never"."""

    def __init__(self, sign=SPACE, prepend="always", split=True):
        self.sign, self.prepend, self.split = sign, prepend, split

    def __call__(self, tokens):
        sign = self.sign.encode()
        first = b" " if self.prepend == "never" else b""
        return [t.replace(sign, b" " if place else first) for place, t in enumerate(tokens)]


class ByteFallback:
    """A run of tokens like <0xE5> becomes the characters that its bytes are."""

    def __call__(self, tokens):
        result, run = [], b""
        for token in [*tokens, None]:
            byte = token is not None and BYTE.fullmatch(token)
            if byte:
                run += bytes.fromhex(byte[1].decode())
                continue
            if run:
                result += as_characters(run)
                run = b""
            if token is not None:
                result.append(token)
        return result


def as_characters(run):
    """A run of bytes as a list of one string; where it is no UTF-8, U+FFFD for each byte."""
    try:
        run.decode("utf-8")
    except UnicodeDecodeError:
        return [LOST] * len(run)
    return [run]


class Strip:
    """At most `start` characters `content` less at the start of each token, `stop` at its end."""

    def __init__(self, content=" ", start=0, stop=0):
        self.content, self.start, self.stop = content, start, stop

    def __call__(self, tokens):
        content, result = self.content.encode(), list(tokens)
        for _ in range(self.start):
            result = [token.removeprefix(content) for token in result]
        for _ in range(self.stop):
            result = [token.removesuffix(content) for token in result]
        return result


class Replace:
    """Every match of a string, or with regex=True of a pattern, becomes `content`."""

    def __init__(self, pattern, content, regex=False):
        self.pattern, self.content, self.regex = pattern, content, regex
        self._step = normalize.Replace(pattern, content, regex)

    def __call__(self, tokens):
        texts = (token.decode("utf-8", "surrogateescape") for token in tokens)
        return [self._step(text).encode("utf-8", "surrogateescape") for text in texts]


class EndOfWord:
    """`suffix` at the end of a word becomes a space; the last token loses it. (BPEDecoder)"""

    def __init__(self, suffix="</w>"):
        self.suffix = suffix

    def __call__(self, tokens):
        suffix, last = self.suffix.encode(), len(tokens) - 1
        return [t.replace(suffix, b" " if place < last else b"") for place, t in enumerate(tokens)]


if __name__ == "__main__":
    from time import perf_counter

    steps = Decoders(Replace(SPACE, " "), ByteFallback(), Fuse(), Strip(" ", 1, 0))
    tokens = ["▁The", "▁naïve", "▁fox", "<0xE7>", "<0x8B>", "<0x90>", "."] * 30_000
    tokens = [token.encode() for token in tokens]
    start = perf_counter()
    text = b"".join(steps(tokens))
    took = perf_counter() - start
    print(f"tokens={len(tokens)} decode_mb_per_s={len(text) / took / 1e6:.0f}")
