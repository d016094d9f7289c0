"""Vectors of sentences, and a search by meaning through a folder of notes.

    python scripts/embed.py MODEL --text "The weather is lovely today." --text-2 "So sunny outside!"
    python scripts/embed.py MODEL --text "how do I make bread?" --notes FOLDER

MODEL is a published folder of a BERT for sentences. Notes are the .md and .txt files below FOLDER,
cut at empty lines.
"""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from tinygrad_edu.models.embedder import load_embedder
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to compare with what."""

    model: Path = option(help="folder of safetensors, or name", positional=True)
    text: str = option(help="a sentence, or what to search for")
    text_2: str | None = option(None, "another sentence: how alike are the two?")
    notes: Path | None = option(None, "folder of .md and .txt files to search")
    top: int = option(5, "paragraphs to show", low=1)


def main():
    """Print how alike two sentences are, the best paragraphs, or the vector itself."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if not settings.text.strip():
            raise ValueError("--text is empty")
        embedder = load_embedder(settings.model)
        notes = list(paragraphs(settings.notes)) if settings.notes else []
    (vector,) = embedder.embed([settings.text])
    if settings.text_2 is not None:
        (other,) = embedder.embed([settings.text_2])
        print(f"cosine={vector @ other:.4f}")
    elif settings.notes:
        vectors = embedder.embed([text for _, text in notes],
                                 lambda batches: tqdm(batches, unit="batch", leave=False))
        likeness = vectors @ vector
        best = (-likeness).argsort(kind="stable")[: settings.top]
        for place in best:
            where, text = notes[place]
            print(f"{likeness[place]:.4f}  {where}\n        {' '.join(text.split())[:160]}")
        print(f"paragraphs={len(notes)} best={likeness[best[0]]:.4f} file={notes[best[0]][0]}")
    else:
        print(" ".join(f"{number:.6f}" for number in vector))
        print(f"width={len(vector)} tokens={len(embedder.ids(settings.text))}")


def paragraphs(folder):
    """Yield (file:line, text) of every paragraph. ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder of notes")
    found = False
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".md", ".txt") or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        begin, part = 1, []
        for number, line in enumerate([*lines, ""], start=1):
            if line.strip():
                begin = begin if part else number
                part.append(line)
            elif part:
                found = True
                yield f"{path}:{begin}", "\n".join(part)
                part = []
    if not found:
        raise ValueError(f"there is no text in the .md and .txt files of {folder}")


if __name__ == "__main__":
    with program():
        main()
