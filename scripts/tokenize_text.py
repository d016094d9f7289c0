"""See how a tokenizer cuts a text: ids, pieces with their places, colours in a terminal or a page.

    python scripts/tokenize_text.py runs/pystdlib/tokenizer.json --text README.md
    python scripts/tokenize_text.py FOLDER --text notes.txt --html pieces.html

TOKENIZER is a file or a folder of any kind that lesson tokenizer_file reads. Every second piece has
another colour; a piece that is part of a character is shown as bytes.
"""

import html
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from tinygrad_edu.files.atomic import write_text
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.patterns import PATTERNS
from tinygrad_edu.tokenizers.pipeline import as_pipeline
from tinygrad_edu.tokenizers.tiktoken_file import read_ranks
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer
from tinygrad_edu.train.program import program

COLOURS = (("\x1b[48;5;153m\x1b[30m", "#bde0fe"), ("\x1b[48;5;223m\x1b[30m", "#ffd6a5"))
CLEAR = "\x1b[0m"
SPECIAL = {"refuse": {"disallowed_special": "all"}, "plain": {},
           "allow": {"allowed_special": "all"}}
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 16px/1.7 monospace; margin: 2em auto; max-width: 60em; white-space: pre-wrap }}
span {{ border-radius: 3px }} span:hover {{ outline: 1px solid }}
.a {{ background: {0} }} .b {{ background: {1} }}
</style>
<p>{summary}</p>
<div>{body}</div>
"""


@dataclass
class Settings:
    """What to cut, by what, and how to show it."""

    tokenizer: Path = option(help="file or folder of a tokenizer", positional=True)
    text: Path = option(help="file with the text, UTF-8")
    show: int = option(40, "pieces and ids to print; 0 prints all", low=0)
    html: Path | None = option(None, "page to write, with all pieces coloured")
    colours: Literal["auto", "always", "never"] = option("auto", "colour the text in the terminal")
    special: Literal["refuse", "plain", "allow"] = option(
        "refuse", "names of special tokens in the text: refuse them, read them as plain text, or "
                  "allow them to be what they say")
    template: bool = option(True, "put what the tokenizer's template says around the text")
    pattern: str | None = option(None, "how text is cut, for a rank file of an unknown name",
                                 choices=(*PATTERNS, "none"))


def main():
    """Cut the text and show the pieces."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        tokenizer = as_pipeline(read_tokenizer(settings))
        text = read_text(settings.text)
        how = SPECIAL[settings.special] | {"wrap": settings.template}
        ids, offsets = tokenizer.encode_with_offsets(text, **how)
        count = ids.size if settings.show == 0 else min(settings.show, ids.size)
        print("ids:", *ids[:count].tolist(), "…" if count < ids.size else "")
        print(table(tokenizer, text, ids[:count], offsets[:count]))
        if settings.colours == "always" or settings.colours == "auto" and sys.stdout.isatty():
            print("".join(in_terminal(*part) for part in parts_of(text, tokenizer, ids[:count],
                                                                  offsets[:count])))
        size = len(text.encode("utf-8"))
        summary = (f"bytes={size} characters={len(text)} tokens={ids.size} "
                   f"bytes_per_token={size / max(ids.size, 1):.3f} vocab={tokenizer.vocab_size} "
                   f"kind={type(tokenizer.model).__name__}")
        if settings.html is not None:
            write_text(settings.html, page(settings.text.name, summary, text, tokenizer, ids,
                                           offsets))
    print(summary)


def read_tokenizer(settings):
    """The tokenizer that the command line names."""
    if settings.pattern is not None:
        return read_ranks(settings.tokenizer, settings.pattern)
    return load_tokenizer(settings.tokenizer)


def read_text(path):
    """The text of a file; ValueError where it is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: byte {error.start} is not part of a character"
                         ) from None


def table(tokenizer, text, ids, offsets):
    """A line for each piece: its id, its place, the token, and the text where it differs."""
    lines = [f"{'id':>8} {'from':>7} {'to':>7}  token"]
    for index, (low, high) in zip(ids.tolist(), offsets.tolist(), strict=True):
        token = tokenizer.token_bytes(index)
        spelt = token.decode("utf-8", "backslashreplace")
        found = f"   {text[low:high]!r}" if text[low:high] != spelt else ""
        lines.append(f"{index:>8} {low:>7} {high:>7}  {spelt!r}{found}")
    return "\n".join(lines)


def parts_of(text, tokenizer, ids, offsets):
    """Yield (shown, number of the piece or None, its title) for pieces and what lies between."""
    done = 0
    for number, (index, (low, high)) in enumerate(zip(ids.tolist(), offsets.tolist(), strict=True)):
        title = f"{index} [{low}, {high})"
        if done < low:
            yield text[done:low], None, ""
        shown = text[max(low, done):high]
        if shown:
            yield shown, number, title
        elif high:  # nothing of its own: a byte of a character that has been shown
            yield "".join(f"‹{byte:02x}›" for byte in tokenizer.token_bytes(index)), number, title
        else:  # of the template
            yield tokenizer.token_bytes(index).decode("utf-8", "replace"), number, title
        done = max(done, high)
    if ids.size and done < len(text) and offsets[-1, 1] == 0:
        yield text[done:], None, ""


def in_terminal(shown, number, title):
    """A piece with its colour, which ends before a line feed."""
    if number is None:
        return shown
    colour = COLOURS[number % 2][0]
    return "\n".join(f"{colour}{line}{CLEAR}" for line in shown.split("\n"))


def page(name, summary, text, tokenizer, ids, offsets):
    """The whole text as a page."""
    parts = tqdm(parts_of(text, tokenizer, ids, offsets), "page", unit="piece", leave=False)
    body = "".join(
        html.escape(shown) if number is None else
        f'<span class="{"ab"[number % 2]}" title="{title}">'
        f'{html.escape(shown).replace(chr(10), "↵" + chr(10))}</span>'
        for shown, number, title in parts)
    colours = [colour for _, colour in COLOURS]
    return PAGE.format(*colours, title=html.escape(name), summary=html.escape(summary), body=body)


if __name__ == "__main__":
    with program():
        main()
