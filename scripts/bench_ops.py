"""How fast is every body of every kernel, and how near to what this machine can do?

    python scripts/bench_ops.py                            everything, in some minutes
    python scripts/bench_ops.py layernorm                  kernels with this word in their name
    python scripts/bench_ops.py gelu --body numba --dtype float64 --sizes small,large
    python scripts/bench_ops.py --csv bench.csv            the table as a file
    python scripts/bench_ops.py --sizes large --picture docs/roofline.png --markdown docs/speed.md

Three sizes: the arrays of a call fit the first cache of a core (small), its next one (medium), or
none at all (large: eight times the last-level cache together). Beside each call stands what it
moves (bytes read plus bytes written, every array once, one that is updated in place twice) in GB/s
or, of products, what it computes in GFLOP/s, and the share that this is of the machine's peak: of
a copy of arrays of that size, on one thread or on all, whichever is faster, or of a product of
2048 × 2048 matrices by BLAS on all threads. The bodies of a kernel and the peak take turns; of
bodies medians are shown, of the peak the best turn counts. A kernel that reads more than it writes
can be above the peak, and so can one that does not look at one of its arrays, as some backward
ones: a machine reads faster than it writes.

The picture is a roofline (Williams, Waterman, Patterson 2009): what a kernel computes a second,
over what it computes for each byte it moves. Operations are those of the NumPy body, an element of
an array each, exp and its kin counted as one.
"""

import csv
import json
import math
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

import tinygrad_edu.nn.optimizers  # noqa: F401 - their kernels are in the table, too
from tinygrad_edu import threads
from tinygrad_edu.files.plots import plots
from tinygrad_edu.kernel import backends, kernels
from tinygrad_edu.lessons import with_part
from tinygrad_edu.memory import contiguous
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

LONG_ENOUGH = 2e-4                                 # seconds that are timed at a time
ENOUGH, FEW = 2.0, 3                               # seconds of a body after which FEW turns will do
CACHE_UNKNOWN = 32 << 20                           # what a last-level cache is taken for, then
COPIED = 4                                         # times the cache: each of the two arrays
SHARE_OF_MEMORY = 16                               # but both together not more than 1/16 of it
BEGIN = "<!-- kernels: python scripts/bench_ops.py --sizes large --markdown docs/speed.md -->"
END = "<!-- end of kernels -->"


def last_level_cache():
    """Bytes of the largest cache of this machine, None where it is not told."""
    if platform.system() == "Darwin":
        names = "hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"
        told = subprocess.run(["sysctl", "-n", *names], capture_output=True, text=True, check=False)
        return max((int(word) for word in told.stdout.split() if word.isdigit()), default=None)
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = [path.read_text().strip() for path in found]
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return max((int(text[:-1]) * units[text[-1]] for text in sizes if text[-1:] in units),
               default=None)


def beyond_the_cache(cache):
    """Bytes of the two arrays of a copy that no cache can hold, as far as memory allows."""
    wanted = 2 * COPIED * (cache or CACHE_UNKNOWN)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min(wanted, memory // SHARE_OF_MEMORY)
    return wanted


CACHE = last_level_cache()
BYTES = {"small": 24 << 10, "medium": 512 << 10, "large": beyond_the_cache(CACHE)}  # of a call

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
    "add_rmsnorm_forward": "NC NC N NC NC C 1e-5", "add_rmsnorm_backward": "NC C NC NC NC C N",
    "softmax_forward": "NC NC", "softmax_backward": "NC NC NC",
    "log_softmax_forward": "NC NC", "log_softmax_backward": "NC NC NC",
    "cross_entropy_forward": "N N NC columns -1 0.0",
    "cross_entropy_backward": "NC N NC N columns -1 0.0",
    "cross_entropy_both": "N NC columns 0.5 -1 0.0",
    "embedding_forward": "NC tokens VC", "embedding_add_forward": "NTC texts VC TC",
    "embedding_backward": "VC NC order first last", "sum_batch": "TC NTC",
    "index_backward": "VC NC tokens", "transpose_forward": "NHTD NTHD",
    "where_forward": "N chosen N N", "where_backward": "N N N chosen",
    "dropout_forward": "NC NC counters word word threshold 2.0",
    "rope_rotate": "NHTD NHTD places SE SE 1 1",
    "attention_weights_forward": "NTT NT NTT causal none none none 0.2",
    "attention_weights_backward": "NTT NTT NTT NTT NT causal none none none 0.2",
    "attention_forward": "NHTD NHT NHTD NHTD NHTD seen none none none 0.2",
    "attention_backward": "NHTD NHTD NHTD NHTD NHTD NHTD NHTD NHTD NHT seen none none none 0.2",
    "gemv_int8_forward": "N C int8s N", "gemv_int4_forward": "N C int4s NH",
    "matmul_bf16": "NW NW WW", "matmul_fp16": "NW NW WW",
    "sum_of_squares": "I N", "squared_error_forward": "I N N",
}
NUMBERS = {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "decay": 0.1, "scale": 0.5, "beta": 0.9,
           "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "step": 10, "penalty": 0.1, "shift": 0.3,
           "low": 0.6, "high": 1.2, "exponent": 1.7}
# Multiplications and additions, from the lengths of the axes.
OPERATIONS = {
    "matmul_forward": lambda N, W, **_: 2 * N * W * W,
    "linear_forward": lambda N, W, **_: 2 * N * W * W,
    "matmul_bf16": lambda N, W, **_: 2 * N * W * W,
    "matmul_fp16": lambda N, W, **_: 2 * N * W * W,
    "batched_matmul_forward": lambda N, T, **_: 2 * N * T * T * T,
    "attention_forward": lambda **axes: 2 * 2 * visible(**axes),
    "attention_backward": lambda **axes: 5 * 2 * visible(**axes),
    "newton_schulz": lambda W, **_: 5 * 3 * 2 * W**3,
}
EACH = {"gelu_erf_forward": 5, "gelu_erf_backward": 11}  # an element; NumPy's body has no erf
GEMM = 2048                                        # side of the product that is the peak

FAMILIES = {                                       # for the colours of the picture
    "products": ("matmul", "linear_forward", "newton"), "attention": ("attention", "rope"),
    "norms, softmax, loss": ("norm", "softmax", "logsumexp", "cross_entropy"),
    "sums and moves": ("sum", "var", "max_", "min_", "embedding", "index", "where"),
    "optimizers": ("update", "nesterov"), "element by element": ("",)}
# Those that get their name in the roofline itself; the others are points, named beside it.
NAMED = ("matmul_forward", "attention_forward", "attention_backward", "batched_matmul_forward",
         "layernorm_forward", "bias_gelu_forward", "bias_gelu_backward", "adam_update",
         "softmax_forward", "cross_entropy_both", "sum_of_squares", "embedding_forward",
         "sigmoid_forward", "attention_weights_backward")


@dataclass
class Settings:
    """What is timed, and how."""

    name: str = option("", "a word that the kernels have in their names", positional=True)
    body: str = option("", "this body alone")
    dtype: Literal["float32", "float64"] = option("float32", "type of the floats")
    sizes: str = option("small,medium,large", "which of the three")
    rounds: int = option(9, "times that each body has its turn", low=1)
    csv: Path | None = option(None, "write the table to this file, too")
    picture: Path | None = option(None, "draw the roofline of the large size into this file")
    markdown: Path | None = option(None, "put a table of the large size between this file's marks")


def measured_elsewhere(kernel):
    """Whether a kernel reads text, tables of data or small integers: its lesson, bench_ml.py or
    bench_decode.py has the time."""
    return kernel.__module__.startswith((
        "tinygrad_edu.tokenizers.", "tinygrad_edu.ml.", "tinygrad_edu.models.",
        "tinygrad_edu.ops.packed", "tinygrad_edu.ops.int8"))


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
    "int8s": lambda N, C, **_: integers(255, N, C).astype(np.int8),
    "int4s": lambda N, C, **_: integers(256, N, C // 2).astype(np.uint8),  # two a byte
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
            some = random.random(1 << 16, np.float32) + np.float32(0.5)
            made.append(np.resize(some.astype(real), shape))   # again and again: it is faster
        else:
            made.append(json.loads(word.lower()))
    if kernel.name not in CALLS and kernel.parameters == ["dx", "dy", "x", "y"]:
        made[3] = made[2]                          # ops keep one of the two and pass it twice
    return made


def size_of(args):
    """Bytes of all arrays, each counted once."""
    return sum({id(a): a.nbytes for a in args if isinstance(a, np.ndarray)}.values())


def moved(kernel, args):
    """Bytes that a call reads and writes: what is updated in place counts twice."""
    return size_of(args) + size_of([args[i] for i in kernel.inout])


def call_of_size(kernel, size, real):
    """(arguments, axes) of a call whose arrays have about the bytes of this size."""
    axes = AXES | {"N": 1, "W": SIDE[size]}
    one, two = (size_of(arguments(kernel, axes | {"N": n}, real)) for n in (1, 2))
    axes["N"] = max(1, (BYTES[size] - one) // max(1, two - one))
    return arguments(kernel, axes, real), axes


# ---- operations ---------------------------------------------------------------------------------


class Counted(np.ndarray):
    """An array that counts the operations on floats that are made with it and what comes of it."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        plain = [a.view(np.ndarray) if isinstance(a, Counted) else a for a in inputs]
        if out:
            options["out"] = tuple(a.view(np.ndarray) if isinstance(a, Counted) else a for a in out)
        result = getattr(ufunc, method)(*plain, **options)
        each = 2 * plain[0].shape[-1] if ufunc is np.matmul else 1
        work = plain[0] if method == "reduce" else result
        if getattr(work, "dtype", np.dtype(int)).kind == "f":
            Counted.operations += each * np.size(work)
        if out:
            return out[0] if len(out) == 1 else out
        return result.view(Counted) if isinstance(result, np.ndarray) else result

    def __array_function__(self, function, types, args, options):
        if function is np.dot:                     # of two vectors; no ufunc
            Counted.operations += 2 * args[0].size
        return super().__array_function__(function, types, args, options)


def intensity(kernel, args, axes):
    """Operations for each byte that a call moves, as the NumPy body computes."""
    if kernel.name in OPERATIONS:
        return OPERATIONS[kernel.name](**axes) / moved(kernel, args)
    if kernel.name in EACH:
        return EACH[kernel.name] * args[0].size / moved(kernel, args)
    small, _ = call_of_size(kernel, "small", np.float64)
    double = moved(kernel, small) / sum(a.size for a in small if isinstance(a, np.ndarray))
    real = moved(kernel, args) / sum(a.size for a in args if isinstance(a, np.ndarray))
    Counted.operations = 0
    kernel.bodies["numpy"].function(*(
        a.view(Counted) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in small))
    return Counted.operations / moved(kernel, small) * double / real


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
    for turn in range(rounds):
        for name, (run, args) in runs.items():
            if turn < FEW or sum(took[name]) < ENOUGH:
                took[name].append(seconds_of(run, args, repeats[name]))
    return took


def copy(y, x):
    """A copy, cut over the threads like every kernel. NumPy's is the C library's memcpy."""
    threads.split(np.copyto, (y, x), (0, 1))


def product(y, a, b):
    """A product, cut over the threads."""
    threads.split_product(lambda y, a, b: np.matmul(a, b, out=y), (y, a, b), (0, 1))


def references(kernel, size, real):
    """What the machine can do at most: runs to be timed beside the kernel, and their amounts."""
    if kernel.name in OPERATIONS:
        return {"product": (product, tuple(np.ones((3, GEMM, GEMM), real)))}, 2 * GEMM**3
    length = BYTES[size] // np.dtype(real).itemsize
    two = tuple(np.ones((2, length // 2), real))
    on_threads = {"copy on threads": (copy, two)}
    # Beyond the caches all threads are faster than one, or as fast.
    return on_threads if size == "large" else {"copy": (np.copyto, two)} | on_threads, BYTES[size]


def measure(kernel, size, settings):
    """A row (dict) for every body that serves the call."""
    real = np.dtype(settings.dtype).type
    args, axes = call_of_size(kernel, size, real)
    # The emulator of a GPU is there to be right; only who names it waits for it.
    bodies = {name: (body.run, args) for name, body in kernel.bodies.items()
              if (name == settings.body if settings.body else name != "cuda")
              and backends[name].available() and (body.when is None or body.when(*args))}
    if not bodies:
        return []
    peaks, amount_of_peak = references(kernel, size, real)
    rounds = times(peaks | bodies, settings.rounds)
    peak = amount_of_peak / min(min(rounds[name]) for name in peaks) / 1e9
    counted = kernel.name in OPERATIONS
    bytes_moved = moved(kernel, args)
    work = intensity(kernel, args, axes)
    amount, unit = (bytes_moved * work, "GFLOP/s") if counted else (bytes_moved, "GB/s")
    rows = []
    for name in bodies:
        took = median(rounds[name])
        rate = amount / took / 1e9
        rows.append({"kernel": kernel.name, "body": name, "size": size, "bytes": bytes_moved,
                     "us": took * 1e6, "rate": rate, "unit": unit, "share": rate / peak,
                     "peak": peak, "operations_per_byte": work})
    return rows


def peaks_of(rows):
    """(size, unit) -> the best peak that was met on the way."""
    best = {}
    for row in rows:
        key = ("any" if row["unit"] == "GFLOP/s" else row["size"]), row["unit"]
        best[key] = max(best.get(key, 0.0), row["peak"])
    return best


def best_of(rows):
    """The rows of the fastest bodies at the large size, one a kernel."""
    best = {}
    for row in rows:
        if row["size"] == "large":
            best[row["kernel"]] = min(best.get(row["kernel"], row), row, key=lambda r: r["us"])
    return list(best.values())


def show(row):
    """A row of the table as a line."""
    return (f"{row['kernel']:<27} {row['body']:<7} {row['size']:<7} {row['bytes'] / 1024:>9,.0f} "
            f"{row['us']:>11,.1f} {row['rate']:>8.1f} {row['unit']:<7} {row['share']:>6.0%}")


# ---- the picture and the table ------------------------------------------------------------------


def family(name):
    """The index and the name of a kernel's family."""
    return next((i, title) for i, (title, words) in enumerate(FAMILIES.items())
                if any(word in name for word in words))


def draw(pyplot, rows, settings):
    """The roofline on the left, the share of the peak of every kernel by name on the right."""
    rows, peaks = best_of(rows), peaks_of(rows)
    figure, (roof, shares) = pyplot.subplots(
        1, 2, figsize=(15, 9.6), width_ratios=(1.55, 1), layout="constrained")
    for row in rows:
        index, title = family(row["kernel"])
        gflops = row["operations_per_byte"] * row["bytes"] / row["us"] / 1e3
        if gflops:                                 # what only moves numbers has no place here
            roof.plot(row["operations_per_byte"], gflops, "o", color=f"C{index}", ms=6.5,
                      alpha=0.85, mec="white", mew=0.6)
        row["gflops"] = gflops
    draw_roofs(roof, peaks)
    named = [row for row in rows if row["kernel"] in NAMED and row["gflops"]]
    name_points(roof, named, peaks.get(("large", "GB/s"), 1.0))
    for index, title in enumerate(FAMILIES):
        roof.plot([], [], "o", color=f"C{index}", label=title)
    roof.legend(loc="lower right", fontsize=9)
    roof.set(xlabel="operations a byte moved", ylabel="GFLOP/s",
             title=f"{processor()}, {threads.count()} threads, {settings.dtype}, "
                   f"arrays of a call {BYTES['large'] >> 20} MiB")
    draw_shares(shares, sorted(rows, key=lambda row: row["share"]))
    figure.savefig(settings.picture, dpi=100)


def draw_roofs(axes, peaks):
    """The slope of memory and the ceiling of products, as far as each was measured."""
    bandwidth, ceiling = peaks.get(("large", "GB/s")), peaks.get(("any", "GFLOP/s"))
    low, high = 0.05, 1000.0
    knee = ceiling / bandwidth if bandwidth and ceiling else None
    if bandwidth:
        end = knee or high
        axes.plot([low, end], [low * bandwidth, end * bandwidth], color="black", lw=1.6)
        axes.annotate(f"copy {bandwidth:.0f} GB/s", (0.2, 0.2 * bandwidth), (0, 8),
                      textcoords="offset points", ha="right")
    if ceiling:
        axes.plot([knee or low, high], [ceiling, ceiling], color="black", lw=1.6)
        axes.annotate(f"product of {GEMM} × {GEMM}: {ceiling:.0f} GFLOP/s", (high, ceiling),
                      (0, 6), textcoords="offset points", ha="right")
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.grid(alpha=0.25, which="both", lw=0.5)


def name_points(axes, rows, bandwidth):
    """Names in a column, at the ends of lines that do not cross: it has the order of the points.

    Products that compute much with each byte stand further right, and have theirs below.
    """
    near = sorted((r for r in rows if r["operations_per_byte"] < 20), key=lambda r: -r["gflops"])
    top = max([1.2 * bandwidth, *(row["gflops"] / 2 for row in near)])
    heights = np.geomspace(top, 0.08 * bandwidth, len(near))
    places = [(row, (25, height)) for row, height in zip(near, heights, strict=True)]
    places += [(row, (row["operations_per_byte"], row["gflops"] / 2))
               for row in rows if row not in near]
    for row, place in places:
        axes.annotate(row["kernel"], (row["operations_per_byte"], row["gflops"]), place,
                      fontsize=8, va="center", ha="left" if row in near else "center",
                      arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "grey"})


def draw_shares(axes, rows):
    """A line for each kernel: its share of the copy or of the product."""
    heights = range(len(rows))
    for height, row in zip(heights, rows, strict=True):
        color = f"C{family(row['kernel'])[0]}"
        axes.plot([0, row["share"]], [height, height], color=color, lw=1, alpha=0.5)
        axes.plot(row["share"], height, "o", color=color, ms=4.5)
    axes.axvline(1, color="black", lw=1)
    axes.set(title="share of the copy, or of the product",
             ylim=(-1, len(rows)), xlim=(0, max([1.1, *(row["share"] + 0.05 for row in rows)])))
    axes.set_yticks(heights, [f"{row['kernel']} · {row['body']}" for row in rows],
                    fontsize=6.5 if len(rows) > 40 else 9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(axis="x", alpha=0.25)


def processor():
    """What the processor calls itself."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows, settings):
    """The large size as Markdown: the fastest body of each kernel, and NumPy's time over its."""
    reference = {row["kernel"]: row["us"] for row in rows
                 if row["size"] == "large" and row["body"] == "numpy"}
    told = ", ".join(f"{'a product' if unit == 'GFLOP/s' else 'a copy'} {peak:.0f} {unit}"
                     for (size, unit), peak in peaks_of(rows).items() if size in ("large", "any"))
    cache = f"{CACHE >> 20} MiB" if CACHE else "of unknown size"
    lines = [f"{processor()}, {threads.count()} threads, {settings.dtype}, last-level cache "
             f"{cache}, arrays of a call {BYTES['large'] >> 20} MiB together, {date.today()}. "
             f"The machine at its best: {told}.",
             "", "| kernel | fastest body | µs | rate | share of peak | times NumPy |",
             "|---|---|---:|---:|---:|---:|"]
    for row in best_of(rows):
        slow = reference.get(row["kernel"])
        times_numpy = f"{slow / row['us']:.1f}" if slow else ""
        lines.append(f"| {row['kernel']} | {row['body']} | {row['us']:,.0f} | {row['rate']:.1f} "
                     f"{row['unit']} | {row['share']:.0%} | {times_numpy} |")
    return "\n".join(lines)


def between_marks(path, text):
    """The document at `path` with `text` between BEGIN and END; ValueError without these two."""
    return with_part(path.read_text(encoding="utf-8"), BEGIN, END, text, f"{path} needs")


# ---- the run ------------------------------------------------------------------------------------


def chosen(settings):
    """The kernels and the sizes that the user asked for; ValueError where there are none."""
    sizes = settings.sizes.split(",")
    for size in sizes:
        if size not in BYTES:
            raise ValueError(f"--sizes takes some of {','.join(BYTES)}, not {size!r}")
    found = [kernel for name, kernel in kernels.items() if settings.name in name
             and not measured_elsewhere(kernel)
             and (not settings.body or settings.body in kernel.bodies)]
    if not found:
        raise ValueError(f"no kernel has {settings.name!r} in its name and the body "
                         f"{settings.body or 'numpy'!r}; python scripts/show.py lists them")
    return found, sizes


def ready(settings):
    """Refuse now, and not after minutes, what cannot be written at the end; pyplot or None."""
    if (settings.picture or settings.markdown) and "large" not in settings.sizes.split(","):
        raise ValueError("--picture and --markdown show the large size: add it to --sizes")
    if settings.markdown:
        between_marks(settings.markdown, "")
    for path in (settings.csv, settings.picture):
        if path:
            open(path, "a").close()
    return plots() if settings.picture else None


def write(rows, settings, pyplot):
    """The files that were asked for."""
    if settings.csv:
        with open(settings.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    if settings.markdown:
        new = between_marks(settings.markdown, table(rows, settings))
        settings.markdown.write_text(new, encoding="utf-8", newline="\n")
    if settings.picture:
        draw(pyplot, rows, settings)


def main():
    """Time what was asked for; a line for each body as soon as it is known."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        found, sizes = chosen(settings)
        pyplot = ready(settings)
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
    for (size, unit), peak in peaks_of(rows).items():
        what = f"product of {GEMM} × {GEMM}" if unit == "GFLOP/s" else f"copy, {size}"
        print(f"{what:<54} {'':>11} {peak:>8.1f} {unit}")
    if rows:
        write(rows, settings, pyplot)
    print(f"kernels={len(found)} rows={len(rows)} threads={threads.count()} "
          f"cache_mib={(CACHE or 0) >> 20} seconds={time.perf_counter() - began:.0f}")


if __name__ == "__main__":
    with program():
        main()
