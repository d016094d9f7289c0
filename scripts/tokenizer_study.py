"""All kinds of tokenizers on the same text: bytes per token, and what a small GPT makes of them.

    python scripts/tokenizer_study.py                   Django's translations, Python's library
    python scripts/tokenizer_study.py --text FOLDER     a file or a folder for each language

Without --text it reads the same messages in ten languages, which the package django brings along
(pip install django), and Python source. Each tokenizer is trained on nine tenths of it and measured
on the rest. Then each gets a GPT of the same shape and the same number of multiplications: a longer
vocabulary makes each token dearer, so fewer are seen. Text that a tokenizer writes as unknown is
charged with 8 bits a byte.
"""

import ast
import importlib.util
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.loader import bits_per_byte, draw_batch, evaluation_batches
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.kinds import KINDS, train_tokenizer
from tinygrad_edu.tokenizers.pipeline import as_pipeline
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.train.loop import evaluate, train_step
from tinygrad_edu.train.program import program

LANGUAGES = ("en", "de", "fr", "pl", "ru", "el", "ar", "ja", "ko", "zh_Hans")
CODE = 60_000  # bytes of Python source, about as much as of a language


@dataclass
class Settings:
    """What to compare, and how much to spend on it."""

    text: Path | None = option(None, "folder with a file or a folder of texts for each language; "
                                     "none: Django's translations and Python's library")
    vocab: int = option(2048, "tokens of each tokenizer that has a choice", low=400)
    budget: float = option(1e12, "multiplications and additions of each GPT's training; 0 trains "
                                 "none", low=0.0)
    layers: int = option(2, "blocks of each GPT", low=1)
    width: int = option(128, "width of each GPT", low=16)
    context: int = option(64, "tokens that it sees at once", low=2)
    batch: int = option(16, "rows in a step", low=1)
    picture: Path | None = option(None, "file for the result as a picture (.png)")
    seed: int = option(0, "of first weights and batches", low=0, high=2**32 - 1)


@dataclass
class Recipe:
    """What the training loop wants to know."""

    steps: int
    seed: int
    lr: float = 2e-3
    min_lr: float = 2e-4
    clip: float = 1.0
    schedule: str = "cosine"

    @property
    def warmup(self):
        return self.steps // 20


# ---- the texts ----------------------------------------------------------------------------------


def read_texts(folder):
    """name of a language → list of documents (str)."""
    if folder is None:
        return {**translations(), "Python": code(CODE)}
    texts = {}
    for place in sorted(folder.iterdir()):
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        documents = [path.read_text("utf-8", "replace") for path in files if path.is_file()]
        parts = [part + "\n" for text in documents for part in re.split(r"\n\s*\n", text) if part]
        if len(parts) < 10:
            raise ValueError(f"{place} has {len(parts)} paragraphs; a language needs at least 10, "
                             "every tenth of which is held out")
        texts[place.stem] = parts
    if not texts:
        raise ValueError(f"{folder} is empty: put a file or a folder there for each language")
    return texts


def translations():
    """language → the messages of Django in it; the same ones in all, as far as translated."""
    found = importlib.util.find_spec("django")
    if found is None:
        raise ImportError("the texts are those of the package django: pip install django, or name "
                          "a folder of your own with --text")
    root = Path(found.submodule_search_locations[0])
    return {language: [message for path in sorted(root.glob(f"**/locale/{language}/**/*.po"))
                       for message in messages(path, "msgid" if language == "en" else "msgstr")]
            for language in LANGUAGES}


def messages(path, which):
    """The texts of one kind in a file of translations (gettext's .po), each with a line feed."""
    found = re.findall(rf'^{which}(?:\[0\])? ((?:".*"\n?)+)', path.read_text("utf-8"), re.MULTILINE)
    texts = ("".join(map(ast.literal_eval, block.splitlines())) for block in found[1:])
    return [text + "\n" for text in texts if text]


def code(size):
    """Functions and classes of Python's library, every one of some files, `size` bytes."""
    parts, done = [], 0
    for source in python_library()[7::41]:
        for part in source.decode("utf-8", "replace").split("\n\n\n"):
            if done < size:
                parts.append(part + "\n\n\n")
                done += len(part)
    return parts


def split(documents):
    """(nine tenths, one tenth) of the documents, each joined to one text."""
    held_out = documents[5::10]
    train = [part for place, part in enumerate(documents) if place % 10 != 5]
    return "".join(train), "".join(held_out)


# ---- measuring ----------------------------------------------------------------------------------


def measure(tokenizer, held_out):
    """{language: bytes per token}, tokens of all, share of bytes unknown, share of texts kept."""
    chain, rates, tokens, lost, kept = as_pipeline(tokenizer), {}, 0, 0, 0
    unknown = getattr(chain.model, "unknown", None)
    for name, text in held_out.items():
        ids, offsets = chain.encode_with_offsets(text)
        rates[name] = len(text.encode()) / max(ids.size, 1)
        tokens += ids.size
        for low, high in offsets[ids == unknown] if unknown is not None else ():
            lost += len(text[low:high].encode())
        lines = text.splitlines()
        kept += sum(chain.decode(chain.encode(line)) == line for line in lines) / max(len(lines), 1)
    size = sum(len(text.encode()) for text in held_out.values())
    return rates, tokens, lost / size, kept / len(held_out)


def flops(config):
    """Multiplications and additions that training spends on a token: 6 for each weight that is
    multiplied with, and what attention adds.
    """
    C, L = config.width, config.layers
    return 6 * (12 * L * C * C + config.vocabulary * C) + 6 * L * C * config.context


def train_gpt(tokenizer, train, settings, title):
    """A GPT trained on the texts for the budget, and its steps."""
    ids = np.concatenate([tokenizer.encode(text) for text in train.values()])
    config = GPTConfig(tokenizer.vocab_size, context=settings.context, layers=settings.layers,
                       heads=max(settings.width // 32, 1), width=settings.width)
    steps = max(int(settings.budget / flops(config) / (settings.batch * settings.context)), 1)
    model = GPT(config, np.random.default_rng(settings.seed))
    optimizer, recipe = AdamW(model.named_parameters(), decay=0.1), Recipe(steps, settings.seed)
    for step in tqdm(range(steps), desc=title, unit="step", leave=False):
        batch = draw_batch(ids, settings.batch, settings.context, settings.seed, step)
        train_step(model, optimizer, [batch], recipe, step)
    return model, steps


def bits(model, tokenizer, held_out, lost, settings):
    """Bits per byte of held-out text; unknown text is charged with 8 bits a byte."""
    end = tokenizer.special[END_OF_TEXT]
    rows = [tokenizer.encode(text) for text in held_out.values()]
    ids = np.concatenate([part for row in rows for part in ([end], row)]).astype(np.int32)
    size = sum(len(text.encode()) for text in held_out.values())
    batches = evaluation_batches(ids, settings.batch, settings.context)
    loss, count = evaluate(model, batches)
    return bits_per_byte(loss, count, size) + 8 * lost


# ---- showing ------------------------------------------------------------------------------------


def table(rows, names):
    """The result as text: a line for each kind."""
    head = f"{'kind':<14}{'V':>6}" + "".join(f"{name:>8}" for name in names)
    lines = ["bytes per token of held-out text", head + f"{'all':>8}{'unknown':>9}{'exact':>7}"
             f"{'steps':>8}{'bits/byte':>11}"]
    for row in rows:
        cells = "".join(f"{row['rates'][name]:>8.2f}" for name in names)
        score = f"{row['bits']:>11.3f}" if row["bits"] is not None else f"{'–':>11}"
        lines.append(f"{row['kind']:<14}{row['V']:>6}{cells}{row['rate']:>8.2f}{row['lost']:>9.1%}"
                     f"{row['kept']:>7.0%}{row['steps']:>8}{score}")
    return "\n".join(lines)


def draw(rows, names, path):
    """Bytes per token of each kind and language, and bits per byte beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    wide = 0.8 / len(rows)
    for place, row in enumerate(rows):
        at = np.arange(len(names)) + (place - len(rows) / 2 + 0.5) * wide
        left.bar(at, [row["rates"][name] for name in names], wide, label=row["kind"])
        if row["bits"] is not None:
            right.barh(row["kind"], row["bits"], color=f"C{place}")
    left.set(title="bytes per token, held-out text", xticks=range(len(names)), xticklabels=names)
    left.legend(fontsize=8)
    right.set(title="bits per byte, equal compute", xlabel="less is better")
    right.invert_yaxis()
    figure.savefig(path, dpi=110)


def main():
    """Train, measure, show."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        if settings.picture is not None and importlib.util.find_spec("matplotlib") is None:
            raise ImportError("a picture needs the package matplotlib: pip install matplotlib")
        texts = {name: split(documents) for name, documents in read_texts(settings.text).items()}
        train = {name: first for name, (first, _) in texts.items()}
        held_out = {name: second for name, (_, second) in texts.items()}
        sizes = [sum(len(text.encode()) for text in part.values()) for part in (train, held_out)]
        print(f"{sizes[0]:,} bytes to learn from, {sizes[1]:,} held out: {', '.join(texts)}")
        rows = []
        for kind in KINDS:
            bar = partial(tqdm, desc=kind, leave=False)
            began = time.perf_counter()
            # All characters of all texts, so that "characters" knows those of the held-out text.
            seen = [*train.values(), *held_out.values()] if kind == "characters" else train.values()
            tokenizer = train_tokenizer(kind, list(seen), settings.vocab, progress=bar)
            rates, tokens, lost, kept = measure(tokenizer, held_out)
            row = {"kind": kind, "V": tokenizer.vocab_size, "rates": rates, "lost": lost,
                   "kept": kept, "rate": sizes[1] / tokens, "bits": None, "steps": 0,
                   "seconds": time.perf_counter() - began}
            if settings.budget:
                model, row["steps"] = train_gpt(tokenizer, train, settings, kind)
                row["bits"] = bits(model, tokenizer, held_out, lost, settings)
            rows.append(row)
        print(table(rows, list(texts)))
        if settings.picture is not None:
            draw(rows, list(texts), settings.picture)
    print(" ".join(f"{row['kind']}={row['bits'] or row['rate']:.3f}" for row in rows),
          f"of={'bits_per_byte' if settings.budget else 'bytes_per_token'} vocab={settings.vocab} "
          f"budget={settings.budget:g} seed={settings.seed}")


if __name__ == "__main__":
    with program():
        main()
