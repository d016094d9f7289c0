"""How long a training step of a small network takes, where Python and not arithmetic is the cost.

    python scripts/bench_mlp.py                                     plain and replayed
    python scripts/bench_mlp.py --vs torch                          and PyTorch, eager
    python scripts/bench_mlp.py --vs torch --torch-python ../torch/bin/python

A step is forward, backward and plain gradient descent, with Module and optimizer on both sides:
tiny, a 2-16-16-1 network with tanh and squared error on one example; batch, a 64-64-10 network with
relu and cross entropy on 32. This library takes the step plainly, and as a list of kernel calls
that is written down once (lesson replay). PyTorch runs in a process of its own
(tests/cross/mlp_in_torch.py) on the same weights and examples. The sides take turns, so that what
else happens on the machine meets all of them; the medians of the timed steps are compared.
"""

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
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.layers import Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.ops.pointwise import relu, tanh
from tinygrad_edu.ops.squared_error import squared_error
from tinygrad_edu.replay import Replay
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.train.program import program

PEER = Path(__file__).resolve().parent.parent / "tests" / "cross" / "mlp_in_torch.py"
NETWORKS = {"tiny": ((2, 16, 16, 1), 1), "batch": ((64, 64, 10), 32)}  # widths, examples a step
FORMS = {"tiny": (tanh, squared_error), "batch": (relu, cross_entropy)}
LR = 0.01
TURN = 100  # steps that a side takes before it is another's turn
WARMUP = 100
FIRST = 50  # steps over which the losses of two sides have to agree
APART = 1e-4


@dataclass
class Settings:
    """How many steps, and beside whom."""

    steps: int = option(2000, "timed steps of each side and network", low=1)
    threads: int = option(threads.count(), "threads of each side", low=1, high=1024)
    vs: Literal["none", "torch"] = option("none", "PyTorch beside it")
    torch_python: Path = option(Path(sys.executable), "the Python that has PyTorch")
    seed: int = option(1, "of weights and examples", low=0, high=2**32 - 1)


class Network(Module):
    """Linear layers with a bend between each two, and a loss."""

    def __init__(self, widths, bend, loss, random):
        self.layers = [Linear(*pair, random) for pair in zip(widths, widths[1:], strict=False)]
        self.bend, self.loss_of = bend, loss

    def forward(self, x):
        """x (N, in) -> (N, out)."""
        for layer in self.layers[:-1]:
            x = self.bend(layer(x))
        return self.layers[-1](x)

    def loss(self, x, target):
        """What training makes smaller."""
        return self.loss_of(self(x), target)


class Ours:
    """The side of this library, plain or replayed."""

    def __init__(self, name, seed, replayed=False):
        self.name = "ours, replayed" if replayed else "ours"
        widths, examples = NETWORKS[name]
        random = np.random.default_rng(seed)
        self.model = Network(widths, *FORMS[name], random)
        self.optimizer = SGD(self.model.named_parameters())
        self.x = random.standard_normal((examples, widths[0]), np.float32)
        if name == "tiny":
            self.target = random.standard_normal((examples, widths[-1]), np.float32)
        else:
            self.target = random.integers(0, widths[-1], examples)
        self.losses = []
        self.step = Replay(self.plain_step) if replayed else self.plain_step

    def plain_step(self, x, target):
        """One step of training; returns the loss before it."""
        loss = self.model.loss(x, target)
        loss.backward()
        self.optimizer.step(LR)
        return loss

    def leave(self, folder):
        """Write what the other side has to have in common with this one."""
        arrays = {"x": self.x, "target": self.target} | self.model.state()
        np.savez(Path(folder, "network.npz"), **arrays)

    def ask(self, steps):
        """Take these steps; the answer is the seconds of each."""
        seconds = []
        x = Tensor(self.x)
        target = Tensor(self.target)
        for _ in range(steps):
            start = time.perf_counter()
            loss = self.step(x, target)
            seconds.append(time.perf_counter() - start)
            self.losses.append(loss.item())
        return seconds


def main():
    """Each network in turn: warm up, take turns, compare."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    pairs = {}
    sides = 3 if settings.vs == "torch" else 2
    total = len(NETWORKS) * sides * (WARMUP + settings.steps)
    bar = tqdm(total=total, unit="step", leave=False)
    with threads.limit(settings.threads), errors_in_one_sentence(), bar:
        for name in NETWORKS:
            sides, times = measure(name, settings, bar)
            pairs |= report(name, sides, times)
    print(" ".join(f"{name}={value}" for name, value in pairs.items()))


def measure(name, settings, bar):
    """(sides, the seconds of every timed step of each) for one network."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [Ours(name, settings.seed), Ours(name, settings.seed, replayed=True)]
        sides[0].leave(folder)
        try:
            if settings.vs == "torch":
                sides.append(Peer(settings.torch_python, PEER, folder, settings.threads, LR))
            times = take_turns(sides, WARMUP, settings.steps, TURN, bar.update)
        finally:
            for side in sides[2:]:
                side.end()
    return sides, times


def report(name, sides, times):
    """A line for each side; what the last line says of this network.

    Raises ValueError where the losses are not the same.
    """
    medians = [1e6 * median(seconds) for seconds in times]
    for side, microseconds in zip(sides, medians, strict=True):
        tqdm.write(f"{name:6} {side.name:16} {microseconds:7.1f} µs a step")
    for side, limit in zip(sides[1:], (0, APART), strict=False):
        apart = np.abs(np.subtract(side.losses[:FIRST], sides[0].losses[:FIRST])).max()
        if not apart <= limit:
            raise ValueError(f"the losses of the first steps are {apart:.1e} apart: the sides do "
                             "not train the same network, and their times mean nothing")
    pairs = {f"{name}_us": f"{medians[0]:.1f}", f"{name}_replay_us": f"{medians[1]:.1f}"}
    if sides[2:]:
        pairs |= {f"{name}_torch_us": f"{medians[2]:.1f}",
                  f"{name}_ratio": f"{medians[2] / medians[0]:.2f}",
                  f"{name}_replay_ratio": f"{medians[2] / medians[1]:.2f}"}
    return pairs


if __name__ == "__main__":
    with program():
        main()
