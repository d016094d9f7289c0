"""Lesson 4.16 · Byte characters: bytes that a text file can hold

Needs nothing. Used by tokenizer_file.

Idea      Tokens of a byte-level tokenizer are bytes: half a character, a space, a control code. The
          files that tokenizers live in are text, often with a space between two tokens and a line
          for each. So GPT-2 lent every byte a character that can be seen, and its followers kept to
          it. What looks like a strange alphabet in their files ("Ġthe", "Ċ", "Ã©") is only that.
Math      u(b) = chr(b) for b in 33 … 126, 161 … 172, 174 … 255                               (1)
          u(b) = chr(256 + k) for the k-th of the other bytes, counted from 0                 (2)
          so that the space is Ġ (U+0120) and the line feed Ċ (U+010A).
Shapes    N bytes → N characters, of 256 different ones; back again, or an error.
Pitfalls  (1) is not Latin-1: U+0120 is byte 32, while U+0020 never occurs in a token.
          é is two bytes in UTF-8 and comes out as Ã©. An é in a file of tokens is the byte 0xE9.
Cost      One look-up a byte. It is needed where files are read and written, never for encoding.
Try       build it    the same thing in one call: str.translate on text decoded as Latin-1.
          break it    use Latin-1 alone. Which tests notice, and why could no file be read by lines?
          measure it  python -m tinygrad_edu.tokenizers.byte_characters
See       openai/gpt-2, src/encoder.py (bytes_to_unicode)
"""

VISIBLE = (*range(33, 127), *range(161, 173), *range(174, 256))
HIDDEN = [byte for byte in range(256) if byte not in VISIBLE]
CHARACTER_OF_BYTE = {byte: chr(byte) for byte in VISIBLE}  # (1)
CHARACTER_OF_BYTE |= {byte: chr(256 + k) for k, byte in enumerate(HIDDEN)}  # (2)
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}


def visible(token):
    """Bytes as the characters of (1) and (2)."""
    return "".join([CHARACTER_OF_BYTE[byte] for byte in token])


def hidden(text):
    """The bytes that `visible` made visible; ValueError for a character that stands for none."""
    try:
        return bytes([BYTE_OF_CHARACTER[character] for character in text])
    except KeyError:
        raise ValueError(f"token {text!r} holds a character that stands for no byte") from None


if __name__ == "__main__":
    from timeit import timeit

    sample = "The quick brown fox, naïve and 狐. ".encode() * 1000
    seconds = timeit(lambda: hidden(visible(sample)), number=20) / 20
    print(f"there_and_back_mb_per_s={len(sample) / seconds / 1e6:.1f} example={visible(' the狐'.encode())}")
