"""How fast a model reads and writes here, beside others, and how fast memory would let it write.

    python scripts/bench_decode.py MODEL --prompt-tokens 512 --new 128 --threads 2
    python scripts/bench_decode.py MODEL --vs llama.cpp --peer-python ../peers/bin/python
    python scripts/bench_decode.py MODEL --vs transformers
    python scripts/bench_decode.py MODEL --ladder              what each idea gains: lesson ladder

A text of random tokens is read (prefill); then a text is written behind such a one, the likeliest
token each time, by the same `generate` that scripts/generate.py calls. The sides take turns of a
few steps, the peer in a process of its own (tests/cross/decode_in_*.py), and medians are compared.
Reading and writing are timed in turns of their own.

The floor: every weight is read once for a token, and so are the keys and values before it. Those
bytes over the speed at which this machine reads so many bytes, with the same threads, is the least
time a token can take; the share of the floor is that time over the one that was measured.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
from tqdm import tqdm

from tinygrad_edu import threads
from tinygrad_edu.eval.peer import Peer, take_turns
from tinygrad_edu.inference.cache import CACHES
from tinygrad_edu.inference.decoding import Reading, generate
from tinygrad_edu.inference.ladder import RUNGS, climb
from tinygrad_edu.memory import peak_resident_bytes
from tinygrad_edu.models import fused
from tinygrad_edu.models.llama import Llama
from tinygrad_edu.models.opened import open_model
from tinygrad_edu.models.packed_llama import packed
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program

CROSS = Path(__file__).resolve().parent.parent / "tests" / "cross"
PEERS = {"llama.cpp": ("decode_in_llama_cpp.py", "llama-cpp-python"),
         "transformers": ("decode_in_transformers.py", "transformers")}
WIDEN = """import sys
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import load_gguf_model
save_published(sys.argv[2], load_gguf_model(sys.argv[1])[0])"""
WARMUP, TURN = 8, 8  # tokens
READINGS = 5  # of the prompt


@dataclass
class Settings:
    """What is read and written, by whom."""

    model: Path = option(help="run folder, folder of safetensors, .gguf file, or name",
                         positional=True)
    prompt_tokens: int = option(512, "tokens that are read before", low=1)
    new: int = option(128, "tokens that are written", low=8)
    threads: int = option(threads.count(), "threads of each side", low=1, high=1024)
    vs: Literal["none", "llama.cpp", "transformers"] = option("none", "who takes turns with us")
    peer_python: Path = option(Path(sys.executable), "the Python that has it")
    float32: bool = option(False, "widen the weights of a .gguf file")
    cache: str = option("float", "what keys and values are kept as", choices=tuple(CACHES))
    ladder: bool = option(False, "climb the rungs of lesson ladder, of a Llama, instead")


class Ours:
    """The side of this library; a step reads the prompt, or writes a token."""

    name = "tinygrad_edu"

    def __init__(self, model, mode, prompt, new, cache):
        self.model, self.mode, self.cache = model, mode, cache
        ids = np.random.default_rng(1).integers(1000, 20000, prompt) % model.config.vocabulary
        self.ids = ids.tolist()
        self.tokens = generate(model, self.ids, new, None, cached=cache, greedy=True)
        if mode == "decode":
            next(self.tokens)

    def ask(self, steps):
        """The seconds of each of these steps."""
        return [self.step() for _ in range(steps)]

    def step(self):
        """The seconds of one."""
        reading = Reading(self.model, [self.ids], 0, self.cache)
        start = time.perf_counter()
        if self.mode == "decode":
            next(self.tokens)
        else:
            reading.logits()
        return time.perf_counter() - start


def main():
    """Open, take turns, compare."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with threads.limit(settings.threads), tempfile.TemporaryDirectory() as folder:
        if settings.ladder:
            climb_ladder(settings)
            return
        began = time.perf_counter()
        with errors_in_one_sentence():
            model = open_model(settings.model, settings.float32).model
            longest = settings.prompt_tokens + settings.new + WARMUP + 1
            if longest > model.config.context:
                raise ValueError(f"{longest} tokens do not fit this model's context of "
                                 f"{model.config.context}: lower --prompt-tokens or --new")
        load = time.perf_counter() - began
        prefill, _ = timed(settings, model, folder, "prefill", 1, READINGS, 1)
        decode, inside = timed(settings, model, folder, "decode", WARMUP, settings.new, TURN)
        rss = peak_resident_bytes() or 0
        report(settings, model, prefill, decode, inside, load, rss)


def climb_ladder(settings):
    """Each rung of lesson ladder and what it gains, then one line for programs."""
    with errors_in_one_sentence():
        model = open_model(settings.model, widen=True).model
        if not isinstance(model, Llama):
            raise ValueError("the ladder needs a Llama: only these have a fused kernel")
    before, pairs = None, []
    with tqdm(RUNGS, unit="rung", leave=False) as bar:
        for name, speed in climb(model, packed, fused.buffers.clear, progress=lambda _: bar):
            gain = f"x {speed / before:5.2f}" if before else ""
            bar.write(f"{name:16} {speed:8.1f} tokens/s {gain:8}  {RUNGS[name]}", file=sys.stdout)
            pairs.append(f"{name.replace(' ', '_')}={speed:.1f}")
            before = speed
    print(" ".join(pairs))


def timed(settings, model, folder, mode, *counts):
    """(name -> (tokens/s, peak in bytes), share of our time outside of the kernel of a token)."""
    numbers = settings.prompt_tokens, settings.new + WARMUP + 1
    ours = Ours(model, mode, *numbers, settings.cache)
    clock = Clock(model)
    sides = [ours]
    try:
        with errors_in_one_sentence():
            if settings.vs != "none":
                sides.append(peer(settings, folder, mode, numbers))
            total = len(sides) * sum(counts[:2])
            with tqdm(total=total, unit="step", leave=False, desc=mode) as bar:
                times = take_turns(sides, *counts, bar.update)
    finally:
        clock.end()
        for side in sides[1:]:
            side.end()
    tokens = settings.prompt_tokens if mode == "prefill" else 1
    speeds = {side.name: (tokens / median(seconds), getattr(side, "peak", None))
              for side, seconds in zip(sides, times, strict=True)}
    outside = None
    if clock.seconds:
        outside = 1 - median(clock.seconds[-len(times[0]) :]) / median(times[0])
    return speeds, outside


class Clock:
    """Notes the seconds of every call of a model's kernel of a token, where it has one."""

    def __init__(self, model):
        self.model, self.seconds, kernel = model, [], getattr(model, "kernel", None)

        def kernel_and_clock(*args):
            start = time.perf_counter()
            kernel(*args)
            self.seconds.append(time.perf_counter() - start)
        if kernel is not None:
            model.kernel = kernel_and_clock

    def end(self):
        """Take it away."""
        vars(self.model).pop("kernel", None)


def peer(settings, folder, mode, numbers):
    """The other side, in a process of its own."""
    script, package = PEERS[settings.vs]
    path = settings.model
    if settings.vs == "transformers" and path.is_file():
        path = Path(folder)
        if not (path / "config.json").exists():    # in a process whose memory is not ours
            subprocess.run([sys.executable, "-c", WIDEN, settings.model, path], check=True)
    library = settings.vs, "--peer-python", package
    return Peer(settings.peer_python, CROSS / script, path, settings.threads, mode, *numbers,
                library=library)


def bandwidth(size, rounds=7):
    """Bytes a second at which so many bytes are read, over and over, by all threads."""
    x, best = np.ones(size // 8, np.uint64), float("inf")
    y = np.empty(threads.count(), np.uint64)

    def read(y, x):
        y[0] = np.bitwise_xor.reduce(x)
    for _ in range(rounds):
        start = time.perf_counter()
        pieces = np.array_split(x, threads.count())
        threads.pool.run(read, [(y[i:], part) for i, part in enumerate(pieces)])
        best = min(best, time.perf_counter() - start)
    return x.nbytes / best


def bytes_a_token(model, position, cache):
    """Bytes of the weights, and of the keys and values in the cache, that a token reads."""
    if hasattr(model, "places"):
        weights = int((model.places[:, 1] * model.places[:, 2]).sum()) + model.vectors.nbytes
    else:
        weights = sum(tensor.data.nbytes for tensor in model.parameters())
    return weights, CACHES[cache](*model.cache(1, 1)).nbytes * position


def report(settings, model, prefill, decode, inside, load, rss):
    """A table, then one line for programs."""
    mine = decode[Ours.name][0]
    weights, cached = bytes_a_token(model, settings.prompt_tokens + settings.new // 2,
                                    settings.cache)
    speed = bandwidth(weights)
    floor = speed / (weights + cached)
    print(f"a token reads {weights / 1e6:.1f} MB of weights and {cached / 1e6:.1f} MB of keys and "
          f"values; {settings.threads} threads read {speed / 1e9:.1f} GB/s: at most "
          f"{floor:.0f} tokens/s")
    for (name, (reads, _)), (writes, peak) in zip(prefill.items(), decode.values(), strict=True):
        memory = rss if name == Ours.name else peak
        print(f"{name:24} reads {reads:8.1f} tokens/s   writes {writes:7.1f} tokens/s   "
              f"{memory / 1e6:6.0f} MB")
    pairs = {"prefill_tokens_per_s": f"{prefill[Ours.name][0]:.1f}",
             "decode_tokens_per_s": f"{mine:.1f}", "rss_mb": f"{rss / 1e6:.0f}",
             "load_s": f"{load:.2f}", "floor_tokens_per_s": f"{floor:.1f}",
             "share_of_floor": f"{mine / floor:.2f}"}
    if inside is not None:
        pairs["python_share"] = f"{inside:.3f}"
    for name, (other, _) in [*decode.items()][1:]:
        pairs |= {"prefill_ratio": f"{prefill[Ours.name][0] / prefill[name][0]:.3f}",
                  "decode_ratio": f"{mine / other:.3f}"}
    print(" ".join(f"{name}={value}" for name, value in pairs.items()))


if __name__ == "__main__":
    with program():
        main()
