"""How fast is our byte-pair encoding, beside `tiktoken` and `tokenizers` where they are installed?

    python scripts/bench_tokenizer.py                          on the source of Python's library
    python scripts/bench_tokenizer.py --text book.txt --vocab 32768
    python scripts/bench_tokenizer.py --gigabytes 1            and the memory that training takes

All have the vocabulary that we train first, and take turns on the same documents; medians are
shown, the ratio is that of the rounds. One thread encodes. Cold: nobody has seen a word before;
warm: the same documents once more. Hard texts are a megabyte each, and a quarter of that: time in
proportion to the length gives the same MB/s. Ids and merges are compared while we are at it.
"""

import json
import multiprocessing
import random
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.data.corpus import Document, Documents
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.bpe import count_pieces, train_bpe
from tinygrad_edu.tokenizers.byte_characters import visible
from tinygrad_edu.tokenizers.patterns import PATTERNS
from tinygrad_edu.tokenizers.presplit import python_library
from tinygrad_edu.train.program import program

MEGABYTE = 10**6
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")


@dataclass
class Settings:
    """What is measured."""

    text: Path | None = option(None, "UTF-8 text (default: 10 MB of Python's library)")
    vocab: int = option(4096, "tokens of the vocabulary", low=300)
    rounds: int = option(5, "turns that each has", low=1)
    gigabytes: float = option(0.0, "train on a text of this size, too, and tell the memory", low=0)


def main():
    """Measure training, encoding, hard texts and decoding."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        texts = documents_of(settings.text)
        result = training(texts, settings)
        ours = train_bpe(texts, settings.vocab, ())
        result |= encoding(ours, texts, settings.rounds)
        result |= hard_texts(ours)
        if settings.gigabytes:
            result |= memory(settings)
    print(" ".join(f"{name}={value}" for name, value in result.items()))


def documents_of(path):
    """The documents (str) to measure on."""
    if path is not None:
        return [path.read_bytes().decode("utf-8", "replace")]
    texts, size = [], 0
    for text in python_library():
        if size < 10 * MEGABYTE:
            texts.append(text.decode("utf-8", "replace"))
            size += len(text)
    return texts


def package(name):
    """A package, or None where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        print(f"{name} is not installed: pip install {name}", file=sys.stderr)
        return None


def timed(runs, rounds, title):
    """name → seconds of each turn, for functions that take turns."""
    took = {name: [] for name in runs}
    for _ in tqdm(range(rounds), desc=title, leave=False):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return took


# ---- training --------------------------------------------------------------------------------


def training(texts, settings):
    """Seconds of training with all threads, and whether the merges are those of `tokenizers`."""
    size = sum(len(text.encode()) for text in texts)
    package_there = package("tokenizers")
    found = {}

    def train_ours():
        found["ours"] = train_bpe(texts, settings.vocab, (), ties="first")

    def train_theirs():
        theirs = package_there.Tokenizer(package_there.models.BPE())
        theirs.pre_tokenizer = package_there.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = package_there.pre_tokenizers.ByteLevel.alphabet()
        trainer = package_there.trainers.BpeTrainer(
            vocab_size=settings.vocab, initial_alphabet=alphabet, show_progress=False,
            min_frequency=2)
        theirs.train_from_iterator(texts, trainer)
        found["tokenizers"] = theirs

    train_bpe(texts[:1], 300, (), shrink=True)  # whoever compiles does it here
    runs = {"ours": train_ours} | ({"tokenizers": train_theirs} if package_there else {})
    took = timed(runs, min(settings.rounds, 3), "training")
    result = {"bytes": size, "threads": threads.count(),
              "train_s": f"{median(took['ours']):.2f}"}
    print(f"training on {size / MEGABYTE:.1f} MB, {settings.vocab} tokens, "
          f"{threads.count()} threads:", ", ".join(f"{name} {median(took[name]):.2f} s"
                                                   for name in took))
    if package_there:
        merges = json.loads(found["tokenizers"].to_str())["model"]["merges"]
        tokens = found["ours"].tokens
        mine = [[visible(tokens[part]) for part in pair] for pair in found["ours"].merges]
        result["tokenizers_train_s"] = f"{median(took['tokenizers']):.2f}"
        result["same_merges"] = mine == merges
    return result


# ---- encoding and decoding -------------------------------------------------------------------


def peers(ours):
    """name → (make, encode): a fresh tokenizer of another package, and ids of a text from it."""
    found = {}
    tiktoken = package("tiktoken")
    if tiktoken:
        ranks = {token: rank for rank, token in enumerate(ours.tokens)}
        found["tiktoken"] = (
            partial(tiktoken.Encoding, "ours", pat_str=PATTERNS[ours.pattern],
                    mergeable_ranks=ranks, special_tokens={}),
            lambda made, text: made.encode_to_numpy(text, disallowed_special=()))
    package_there = package("tokenizers")
    if package_there:
        names = [visible(token) for token in ours.tokens]
        vocab = {name: place for place, name in enumerate(names)}
        merges = [(names[left], names[right]) for left, right in ours.merges]

        def make():
            made = package_there.Tokenizer(package_there.models.BPE(vocab, merges))
            made.pre_tokenizer = package_there.pre_tokenizers.ByteLevel(add_prefix_space=False)
            return made

        found["tokenizers"] = make, lambda made, text: made.encode(text).ids
    return found


def encoding(ours, texts, rounds):
    """MB/s of one thread, cold and warm, and of decoding; with the ratios to the peers."""
    size = sum(len(text.encode()) for text in texts) / MEGABYTE
    others = peers(ours)
    states = {name: make() for name, (make, _) in others.items()}
    ids = {}

    def encode(name):
        if name == "ours":
            ids[name] = [ours.encode(text) for text in texts]
        else:
            ids[name] = [others[name][1](states[name], text) for text in texts]

    took = {}
    for _ in tqdm(range(rounds), desc="encoding", leave=False):
        ours.forget()
        states.update({name: make() for name, (make, _) in others.items()})
        with threads.limit(1):
            for temperature in ("cold", "warm"):
                for name in ("ours", *others):
                    start = time.perf_counter()
                    encode(name)
                    took.setdefault((name, temperature), []).append(time.perf_counter() - start)
    result = {}
    for (name, temperature), seconds in took.items():
        rate = size / median(seconds)
        ratio = median(b / a for a, b in zip(took["ours", temperature], seconds, strict=True))
        print(f"encoding, {temperature}: {name:<10} {rate:6.1f} MB/s"
              + (f", ours is {ratio:.2f} times as fast" if name != "ours" else ""))
        result[f"{name}_{temperature}_mb_per_s"] = f"{rate:.1f}"
        if name != "ours":
            result[f"{temperature}_over_{name}"] = f"{ratio:.2f}"
    result["same_ids"] = all(np.array_equal(a, b) for name in others
                             for a, b in zip(ids["ours"], ids[name], strict=True))
    return result | decoding(ours, states.get("tiktoken"), ids["ours"], rounds, size)


def decoding(ours, tiktoken, ids, rounds, size):
    """MB/s of turning ids back into bytes."""
    runs = {"ours": lambda: [ours.decode_bytes(part) for part in ids]}
    if tiktoken:
        lists = [part.tolist() for part in ids]
        runs["tiktoken"] = lambda: [tiktoken.decode_bytes(part) for part in lists]
    result = {}
    for name, seconds in timed(runs, rounds, "decoding").items():
        print(f"decoding: {name:<10} {size / median(seconds):6.1f} MB/s")
        result[f"{name}_decode_mb_per_s"] = f"{size / median(seconds):.0f}"
    return result


def hard_texts(ours):
    """MB/s on texts without borders, of two lengths."""
    source = random.Random(0)
    chinese = [chr(source.randrange(0x4E00, 0x9FA5)) for _ in range(3000)]
    names = ["".join(source.choices(SYLLABLES, k=2)) for _ in range(60)]
    script = ["function({}){{", "return {}}}", "var {}=", "{}.{}(", "),", "[{}],", "!0,", "\"{}\";"]
    texts = {
        "letter": "a" * MEGABYTE,
        "chinese": "".join(source.choices(chinese, k=MEGABYTE // 3)),
        "minified": "".join(part.format(*source.choices(names, k=2))
                            for part in source.choices(script, k=MEGABYTE // 7)),
    }
    result = {}
    for name, text in texts.items():
        rates = []
        for part in (text, text[: len(text) // 4]):
            start = time.perf_counter()
            ours.encode(part)
            rates.append(len(part.encode()) / MEGABYTE / (time.perf_counter() - start))
        print(f"hard text, {name}: {rates[0]:.1f} MB/s, a quarter of it {rates[1]:.1f} MB/s")
        result[f"{name}_mb_per_s"] = f"{rates[0]:.1f}"
    return result


# ---- memory ----------------------------------------------------------------------------------


def memory(settings):
    """Peak memory of a process of its own that trains on a file of so many gigabytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        size = write_varied(path, settings.gigabytes * 10**9)
        context = multiprocessing.get_context("spawn")
        answers = context.Queue()
        child = context.Process(target=train_on_file, args=(path, settings.vocab, answers))
        child.start()
        before, peak, took, different = answers.get()
        child.join()
    print(f"training on {size / 1e9:.2f} GB with {different:,} different pieces: {took:.1f} s, "
          f"{peak / 1e6:.0f} MB of memory at most, {before / 1e6:.0f} MB of them before it began")
    return {"large_bytes": size, "large_s": f"{took:.1f}", "large_peak_mb": f"{peak / 1e6:.0f}",
            "large_different": different}


def write_varied(path, size):
    """Write the library again and again, with names that are new each time; returns the bytes."""
    library = b"".join(python_library())
    source = random.Random(0)
    written = 0
    with open(path, "wb") as file, tqdm(total=int(size), unit="B", unit_scale=True, leave=False,
                                        desc="writing") as bar:
        while written < size:
            new = "".join(source.choices(SYLLABLES, k=4)).encode()
            text = library.replace(b"self", new) + b"\n"
            text += b" ".join("".join(source.choices(SYLLABLES, k=7)).encode() for _ in range(9999))
            bar.update(file.write(text + b"\n"))
            written += len(text) + 1
    return written


def train_on_file(path, vocab, answers):
    """What the child does: memory before, peak, seconds and different pieces, put on the queue."""
    train_bpe("whoever compiles does it here", 260, (), shrink=True)
    before = peak_memory()
    documents = Documents([Document(path.name, path, 0, path.stat().st_size)])
    start = time.perf_counter()
    train_bpe((text for _, text in documents), vocab, ())
    took, most = time.perf_counter() - start, peak_memory()
    different = len(count_pieces(text for _, text in documents))
    answers.put((before, most, took, different))


def peak_memory():
    """Bytes that this process has had in memory at most."""
    status = Path("/proc/self/status")  # of Linux, where the next way counts the parent, too
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


if __name__ == "__main__":
    with program():
        main()
