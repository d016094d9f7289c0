"""Lesson 4.16 · Byte characters: bytes that a text file can hold

Needs bpe, memory, words. Used by hf_json, merges_file.

Idea      Tokens of a byte-level tokenizer are bytes: half a character, a space, a control code. The
          files that tokenizers live in are text, often with a space between two tokens and a line
          for each. So GPT-2 lent every byte a character that can be seen, and its followers kept to
          it. What looks like a strange alphabet in their files ("Ġthe", "Ċ", "Ã©") is only that.
Math      u(b) = chr(b) for b in 33 … 126, 161 … 172, 174 … 255                               (1)
          u(b) = chr(256 + k) for the k-th of the other bytes, counted from 0                 (2)
          so that the space is Ġ (U+0120) and the line feed Ċ (U+010A).
          The mark of a word's end, which CLIP writes as </w>, as a byte that no UTF-8 holds: 0xFF.
          Then its tokens are bytes too, and its first merges are (b, 0xFF) for every byte b     (3)
Shapes    N bytes → N characters, of 256 different ones; back again, or an error.
Pitfalls  (1) is not Latin-1: U+0120 is byte 32, while U+0020 never occurs in a token. é is two
          bytes in UTF-8 and comes out as Ã©. An é in a file of tokens is the byte 0xE9.
Cost      One look-up a byte. It is needed where files are read and written, never for encoding.
Try       build it    the same thing in one call: str.translate on text decoded as Latin-1.
          break it    use Latin-1 alone. Which tests notice, and why could no file be read by lines?
          measure it  python -m tinygrad_edu.tokenizers.byte_characters
See       openai/gpt-2, src/encoder.py (bytes_to_unicode) · openai/CLIP, clip/simple_tokenizer.py
"""

import numpy as np

from tinygrad_edu.memory import empty
from tinygrad_edu.tokenizers.bpe import BPETokenizer
from tinygrad_edu.tokenizers.words import Model

VISIBLE = (*range(33, 127), *range(161, 173), *range(174, 256))
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in VISIBLE}  # (1)
CHARACTER_OF_BYTE |= {byte: chr(256 + k) for k, byte in enumerate(HIDDEN)}  # (2)
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}
CACHED = 1 << 16  # words that are remembered


def visible(token):
    """Bytes as the characters of (1) and (2)."""
    return "".join([CHARACTER_OF_BYTE[byte] for byte in token])


def hidden(text):
    """The bytes that `visible` made visible; ValueError for a character that stands for none."""
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in text])
    except KeyError:
        raise ValueError(f"token {text!r} holds a character that stands for no byte") from None


# ---- words that end ---------------------------------------------------------------------------

END = b"\xff"  # (3)
SUFFIX = "</w>"


class WordEnds(Model):
    """Byte-level BPE of words whose last byte says that it is the last, as CLIP has it.

    tokens: byte strings, END at the end of those that end a word. merges: pairs of ids, without
    those of (3).
    """

    def __init__(self, tokens, merges):
        super().__init__(tokens)
        self.merges, self.ignore_merges = list(merges), False
        end = self.ids.get(END)
        first = [(self.ids.get(bytes([byte])), end) for byte in range(256)]  # (3)
        if any(None in pair for pair in first):
            raise ValueError("a list of words that end needs all 256 bytes")
        self.bpe = BPETokenizer(self.tokens, first + self.merges, {})
        self.lengths = np.array([len(token.removesuffix(END)) for token in self.tokens], np.int64)
        self.known = {}  # piece -> ids

    def encode_piece(self, piece):
        """The ids of one word, as a list; an empty one has none."""
        if piece not in self.known:
            if len(self.known) > CACHED:
                self.known.clear()
            self.known[piece] = self.bpe.encode_piece(piece + END) if piece else []
        return self.known[piece]

    def encode_pieces(self, text, spans):
        """The ids, (M,) int32, of the pieces of `text` (bytes) that spans (P, 2) names."""
        rows = [self.encode_piece(text[low:high]) for low, high in spans.tolist()]
        return np.array([index for row in rows for index in row], np.int32)

    def locate(self, text, spans):
        """(ids (M,) int32, (M, 2) int64): the same, and which bytes of `text` each stands for."""
        rows = [np.zeros((0, 2), np.int64)]
        found = [empty(0, np.int32)]
        for low, high in spans.tolist():
            found.append(np.array(self.encode_piece(text[low:high]), np.int32))
            lengths = self.lengths[found[-1]]
            ends = low + np.cumsum(lengths)
            rows.append(np.stack([ends - lengths, ends], axis=1))
        return np.concatenate(found), np.concatenate(rows)


def ended(text):
    """The bytes of a token of such a list as files spell it, "hello</w>"."""
    if text.endswith(SUFFIX):
        return hidden(text.removesuffix(SUFFIX)) + END
    return hidden(text)


def spelt(token):
    """The inverse of `ended`. 0xFF by itself is the byte, not an end."""
    if token.endswith(END) and token != END:
        return visible(token[:-1]) + SUFFIX
    return visible(token)


def words_from_ends(tokens):
    """A decoder: the text of tokens that end words, a space between two words."""
    return [b"".join(tokens).replace(END, b" ").strip(b" ")]


if __name__ == "__main__":
    from timeit import timeit

    sample = "The quick brown fox, naïve and 狐. ".encode() * 1000
    seconds = timeit(lambda: hidden(visible(sample)), number=20) / 20
    example = visible(" the狐".encode())
    print(f"there_and_back_mb_per_s={len(sample) / seconds / 1e6:.1f} example={example}")
