"""How fast is every body of every kernel, and how near to what this machine can do?

    python scripts/bench_ops.py                            everything, in a few minutes
    python scripts/bench_ops.py layernorm                  kernels with this word in their name
    python scripts/bench_ops.py gelu --body numba --dtype float64 --sizes small,large
    python scripts/bench_ops.py --csv bench.csv            the table as a file

Three sizes: the arrays of a call fit the cache of a core (small), the next one (medium), or neither
(large). Beside each call stands what it moves (all its arrays, once) in GB/s or, of products, what
it computes in GFLOP/s, and the share that this is of the machine's peak: of the fastest copy or sum
of arrays of that size, on one thread or on all, or of a large product by BLAS. The bodies of a
kernel and the peak take turns; of bodies medians are shown, of the peak the best turn counts. A
kernel that does not look at one of its arrays, as some backward ones, can be above the peak.
"""

import csv
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

import tinygrad_edu.nn.optimizers  # noqa: F401 - their kernels are in the table, too
from tinygrad_edu import threads
from tinygrad_edu.kernel import backends, kernels
from tinygrad_edu.memory import contiguous
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

BYTES = {"small": 24 << 10, "medium": 512 << 10, "large": 64 << 20}  # of all arrays of a call
LONG_ENOUGH = 2e-4                                 # seconds that are timed at a time

# Lengths of axes. N, the number of rows, is what makes a call as large as it is to be; W is the
# side of the matrices of a product.
AXES = {"C": 256, "V": 64, "H": 2, "T": 32, "D": 32, "E": 16, "S": 64, "I": 1}
SIDE = {"small": 32, "medium": 192, "large": 1024}

# The arguments of a call, in order: NC is an array (N, C) of floats, a word is in MAKERS below, all
# else is a number. A kernel that is not here takes rows (N,), and NUMBERS where it has such names.
CALLS = {
    "sum_forward": "NI NCI", "var_forward": "N N NC 0", "var_backward": "NC N NC N 0",
    "max_forward": "N columns NC", "min_forward": "N columns NC", "max_backward": "NC N columns",
    "logsumexp_forward": "N NC", "logsumexp_backward": "NC N NC N",
    "bias_gelu_forward": "NC NC C", "bias_gelu_backward": "NC C NC NC C",
    "matmul_forward": "NW NW WW", "batched_matmul_forward": "NTT NTT NTT",
    "linear_forward": "NW NW WW W", "sum_rows": "C NC", "newton_schulz": "WW WW",
    "layernorm_forward": "NC N N NC C C 1e-5", "layernorm_backward": "NC C C NC NC C N N",
    "add_layernorm_forward": "NC NC N N NC NC C C 1e-5",
    "add_layernorm_backward": "NC C C NC NC NC C N N",
    "rmsnorm_forward": "NC N NC C 1e-5", "rmsnorm_backward": "NC C NC NC C N",
    "softmax_forward": "NC NC", "softmax_backward": "NC NC NC",
    "log_softmax_forward": "NC NC", "log_softmax_backward": "NC NC NC",
    "cross_entropy_forward": "N N NC columns -1 0.0",
    "cross_entropy_backward": "NC N NC N columns -1 0.0",
    "cross_entropy_both": "N NC columns 0.5 -1 0.0",
    "embedding_forward": "NC tokens VC", "embedding_add_forward": "NTC texts VC TC",
    "embedding_backward": "VC NC order first last", "sum_batch": "TC NTC",
    "index_backward": "VC NC tokens",
    "where_forward": "N chosen N N", "where_backward": "N N N chosen",
    "dropout_forward": "NC NC counters word word threshold 2.0",
    "rope_rotate": "NHTD NHTD places SE SE 1 1",
    "attention_weights_forward": "NTT NT NTT causal none none none 0.2",
    "attention_weights_backward": "NTT NTT NTT NTT NT causal none none none 0.2",
    "attention_forward": "NHTD NHT NHTD NHTD NHTD seen none none none 0.2",
    "attention_backward": "NHTD NHTD NHTD NHTD NHTD NHTD NHTD NHTD NHT seen none none none 0.2",
    "sum_of_squares": "I N",
}
NUMBERS = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "decay": 0.1, "scale": 0.5, "beta": 0.9,
           "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "step": 10, "penalty": 0.1, "shift": 0.3,
           "low": 0.6, "high": 1.2, "exponent": 1.7}
OF_TEXT = {"classify", "split_gpt2"}               # kernels that read bytes, timed by their lessons
# Multiplications and additions, from the lengths of the axes.
OPERATIONS = {
    "matmul_forward": lambda N, W, **_: 2 * N * W * W,
    "linear_forward": lambda N, W, **_: 2 * N * W * W,
    "batched_matmul_forward": lambda N, T, **_: 2 * N * T * T * T,
    "attention_forward": lambda **axes: 2 * 2 * visible(**axes),
    "attention_backward": lambda **axes: 5 * 2 * visible(**axes),
}


@dataclass
class Settings:
    """What is timed, and how."""

    name: str = option("", "a word that the kernels have in their names", positional=True)
    body: str = option("", "this body alone")
    dtype: Literal["float32", "float64"] = option("float32", "type of the floats")
    sizes: str = option("small,medium,large", "which of the three")
    rounds: int = option(9, "times that each body has its turn", low=1)
    csv: Path | None = option(None, "write the table to this file, too")


def visible(N, H, T, D, **_):
    """Products of pairs: of a query and the keys up to it, in all heads and their width."""
    return N * H * D * T * (T + 1) // 2


# ---- a call of a kernel -------------------------------------------------------------------------


def integers(below, *shape):
    """Random integers."""
    return np.random.default_rng(0).integers(0, below, shape)


MAKERS = {                                         # word -> its argument, from the lengths
    "columns": lambda N, C, **_: integers(C, N),
    "tokens": lambda N, V, **_: integers(V, N),
    "texts": lambda N, T, V, **_: integers(V, N, T),
    "order": lambda N, **_: np.random.default_rng(0).permutation(N),
    "first": lambda N, V, **_: np.arange(V) * N // V,
    "last": lambda N, V, **_: np.arange(1, V + 1) * N // V,
    "chosen": lambda N, **_: integers(2, N).astype(bool),
    "counters": lambda N, C, **_: np.arange(N, dtype=np.uint64) * np.uint64(C // 2),
    "word": lambda **_: np.uint64(12345),
    "threshold": lambda **_: np.uint64(1 << 31),
    "places": lambda N, T, S, **_: integers(S, N, T),
    "causal": lambda T, **_: np.arange(1, T + 1),
    "seen": lambda N, T, **_: contiguous(np.broadcast_to(np.arange(1, T + 1), (N, T))),
    "none": lambda **_: None,
}


def arguments(kernel, axes, real):
    """The arguments of one call, numbers from 0.5 to 1.5: no kernel meets a kink or a zero."""
    words = CALLS.get(kernel.name, " ".join(str(NUMBERS.get(p, "N")) for p in kernel.parameters))
    random = np.random.default_rng(0)
    made = []
    for word in words.split():
        if word in MAKERS:
            made.append(MAKERS[word](**axes))
        elif set(word) <= axes.keys():
            shape = [axes[letter] for letter in word]
            made.append((random.random(shape, np.float32) + np.float32(0.5)).astype(real))
        else:
            made.append(json.loads(word.lower()))
    if kernel.name not in CALLS and kernel.parameters == ["dx", "dy", "x", "y"]:
        made[3] = made[2]                          # ops keep one of the two and pass it twice
    return made


def size_of(args):
    """Bytes of all arrays, each counted once."""
    return sum({id(a): a.nbytes for a in args if isinstance(a, np.ndarray)}.values())


def call_of_size(kernel, size, real):
    """(arguments, axes) of a call whose arrays have about the bytes of this size."""
    axes = AXES | {"N": 1, "W": SIDE[size]}
    one, two = (size_of(arguments(kernel, axes | {"N": n}, real)) for n in (1, 2))
    axes["N"] = max(1, (BYTES[size] - one) // max(1, two - one))
    return arguments(kernel, axes, real), axes


# ---- time ---------------------------------------------------------------------------------------


def seconds_of(run, args, repeats):
    """Seconds of a call, from as many in a row as are long enough to be timed."""
    start = time.perf_counter()
    for _ in range(repeats):
        run(*args)
    return (time.perf_counter() - start) / repeats


def times(runs, rounds):
    """name -> seconds of (run, args) in each round; they take turns."""
    repeats = {}
    for name, (run, args) in runs.items():
        run(*args)                                 # compiles, and touches memory
        once = seconds_of(run, args, 1)
        repeats[name] = max(1, math.ceil(LONG_ENOUGH / max(once, 1e-7)))
    took = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (run, args) in runs.items():
            took[name].append(seconds_of(run, args, repeats[name]))
    return took


def copy(y, x):
    """A copy, cut over the threads like every kernel."""
    threads.split(np.copyto, (y, x), (0, 1))


def add(y, a, b):
    """A sum of two arrays, cut over the threads."""
    threads.split(lambda y, a, b: np.add(a, b, out=y), (y, a, b), (0, 1, 2))


def product(y, a, b):
    """A product, cut over the threads."""
    threads.split_product(lambda y, a, b: np.matmul(a, b, out=y), (y, a, b), (0, 1))


def references(kernel, size, real):
    """What the machine can do at most: runs to be timed beside the kernel, and their amounts."""
    if kernel.name in OPERATIONS:
        three = tuple(np.ones((3, 384, 384), real))
        direct = (lambda y, a, b: np.matmul(a, b, out=y)), three
        return {"product": direct, "product on threads": (product, three)}, 2 * 384**3
    length = BYTES[size] // np.dtype(real).itemsize
    two, three = (tuple(np.ones((n, length // n), real)) for n in (2, 3))
    return {"copy": (np.copyto, two), "sum": (lambda y, a, b: np.add(a, b, out=y), three),
            "copy on threads": (copy, two), "sum on threads": (add, three)}, BYTES[size]


def measure(kernel, size, settings):
    """A row (dict) for every body that serves the call."""
    real = np.dtype(settings.dtype).type
    args, axes = call_of_size(kernel, size, real)
    bodies = {name: (body.run, args) for name, body in kernel.bodies.items()
              if backends[name].available() and settings.body in ("", name)
              and (body.when is None or body.when(*args))}
    if not bodies:
        return []
    peaks, amount_of_peak = references(kernel, size, real)
    rounds = times(peaks | bodies, settings.rounds)
    peak = amount_of_peak / min(min(rounds[name]) for name in peaks) / 1e9
    took = {name: median(rounds[name]) for name in bodies}
    count = OPERATIONS.get(kernel.name)
    amount, unit = (count(**axes), "GFLOP/s") if count else (size_of(args), "GB/s")
    return [{"kernel": kernel.name, "body": name, "size": size, "bytes": size_of(args),
             "us": took[name] * 1e6, "rate": amount / took[name] / 1e9, "unit": unit,
             "share": amount / took[name] / 1e9 / peak, "peak": peak} for name in bodies]


def show(row):
    """A row of the table as a line."""
    return (f"{row['kernel']:<27} {row['body']:<7} {row['size']:<7} {row['bytes'] / 1024:>9,.0f} "
            f"{row['us']:>11,.1f} {row['rate']:>8.1f} {row['unit']:<7} {row['share']:>6.0%}")


def chosen(settings):
    """The kernels and the sizes that the user asked for; ValueError where there are none."""
    sizes = settings.sizes.split(",")
    for size in sizes:
        if size not in BYTES:
            raise ValueError(f"--sizes takes some of {','.join(BYTES)}, not {size!r}")
    found = [kernel for name, kernel in kernels.items() if settings.name in name
             and name not in OF_TEXT and (not settings.body or settings.body in kernel.bodies)]
    if not found:
        raise ValueError(f"no kernel has {settings.name!r} in its name and the body "
                         f"{settings.body or 'numpy'!r}; python scripts/show.py lists them")
    return found, sizes


def main():
    """Time what was asked for; a line for each body as soon as it is known."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        found, sizes = chosen(settings)
        if settings.csv:
            open(settings.csv, "a").close()            # said now, and not after minutes
    began, rows = time.perf_counter(), []
    print(f"{'kernel':<27} {'body':<7} {'size':<7} {'KiB':>9} {'µs':>11} {'rate':>16} "
          f"{'of peak':>7}   {settings.dtype}, {threads.count()} threads")
    with tqdm(total=len(found) * len(sizes), unit="call", leave=False) as bar:
        for kernel in found:
            for size in sizes:
                bar.set_postfix_str(f"{kernel.name} {size}")
                for row in measure(kernel, size, settings):
                    rows.append(row)
                    bar.write(show(row))
                bar.update()
    if settings.csv and rows:
        with open(settings.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(f"kernels={len(found)} rows={len(rows)} threads={threads.count()} "
          f"seconds={time.perf_counter() - began:.0f}")


if __name__ == "__main__":
    with program():
        main()
