"""What is in a model's file, and can it run here?

    python scripts/inspect_model.py FILE

FILE is a .gguf file, a .safetensors file, or a folder with config.json. Weights are not read: the
table comes from the file's head. The expected speed is that of reading every weight once for a
token, by the kernel that multiplies a row with a matrix here.
"""

import math
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.data.open_models import located
from tinygrad_edu.files.gguf import load_gguf
from tinygrad_edu.files.safetensors import load
from tinygrad_edu.models.published import file_names, read_json
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.ops.matmul import linear
from tinygrad_edu.tensor import Tensor, no_grad
from tinygrad_edu.train.program import program

MIB = 1 << 20
OUTSIDE = "token_embd", "embed_tokens", "wte", "position_embd", "wpe"  # a row of them a token


@dataclass
class Settings:
    """What to look at."""

    file: Path = option(help=".gguf or .safetensors file, folder, or name", positional=True)
    all: bool = option(False, "list every tensor, not only the first ones")


def main():
    """Print the settings, the tensors and what they ask of this machine."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        words, tensors = read(located(settings.file))
    for name, value in words.items():
        print(f"{name:40} {shown(value)}")
    print()
    shown_tensors = list(tensors.items())[: None if settings.all else 12]
    for name, (kind, shape, size) in shown_tensors:
        print(f"{name:40} {kind:6} {' × '.join(map(str, shape)):>16} {size / MIB:10.2f} MiB")
    if len(shown_tensors) < len(tensors):
        print(f"… and {len(tensors) - len(shown_tensors)} more, with --all")
    kinds = Counter()
    for kind, _, size in tensors.values():
        kinds[kind] += size
    print("\n" + ", ".join(f"{kind} {size / MIB:.1f} MiB" for kind, size in kinds.most_common()))
    demands(tensors)


def read(path):
    """(settings, name -> (type, shape, bytes)). ValueError or OSError in one sentence."""
    if path.is_dir():
        words, files = read_json(path / "config.json"), [path / n for n in file_names(path)]
    elif path.open("rb").read(4) == b"GGUF":
        file = load_gguf(path)
        return file.settings, {name: (entry.kind, entry.shape, entry.end - entry.begin)
                               for name, entry in file.entries.items()}
    else:
        words, files = {}, [path]
    tensors = {}
    for file in map(load, files):
        words = words | {f"metadata.{name}": value for name, value in file.metadata.items()}
        for name, entry in file.entries.items():
            tensors[name] = entry.dtype, tuple(entry.shape), entry.end - entry.begin
    return words, tensors


def shown(value):
    """A setting on one line."""
    if isinstance(value, list):
        begin = ", ".join(repr(item) for item in value[:3])
        return f"[{begin}{', …' if len(value) > 3 else ''}] ({len(value)})"
    text = repr(value)
    return text if len(text) <= 80 else text[:76] + " ..."


def demands(tensors):
    """Print whether memory suffices for the weights as float32, and how fast tokens can come."""
    numbers = sum(math.prod(shape) for _, shape, _ in tensors.values())
    names = [name.split(".") for name in tensors]
    tied = not any("output" in parts[:1] or "lm_head" in parts for parts in names)
    tables = [shape for parts, (_, shape, _) in zip(names, tensors.values(), strict=True)
              if set(OUTSIDE) & set(parts)]
    looked_up = 0 if tied else sum(map(math.prod, tables))
    need, there = 4 * numbers, free_memory()
    speed = bytes_per_second()
    rate = speed / (4 * max(1, numbers - looked_up))
    fits = "unknown" if there is None else "yes" if need < there else "no"
    if fits == "no":
        print(f"its weights need {need / MIB:,.0f} MiB here, and {there / MIB:,.0f} MiB are free")
    print(f"parameters={numbers} file_mib={sum(size for *_, size in tensors.values()) / MIB:.1f} "
          f"memory_mib={need / MIB:.0f} fits={fits} gb_per_s={speed / 1e9:.1f} "
          f"expected_tokens_per_s={rate:.1f}")


def free_memory():
    """Bytes that a program can still have, None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def bytes_per_second(rows=8192, columns=4096, rounds=4):
    """How fast a matrix beyond all caches is read by the product with one row."""
    w = Tensor(np.zeros((rows, columns), np.float32))
    x, best = Tensor(np.zeros((1, columns), np.float32)), float("inf")
    with no_grad():
        for _ in range(rounds):
            began = time.perf_counter()
            linear(x, w)
            best = min(best, time.perf_counter() - began)
    return w.data.nbytes / best


if __name__ == "__main__":
    with program():
        main()
