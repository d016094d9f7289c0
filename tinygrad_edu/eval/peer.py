"""Lesson 8.5 · Peer: another library beside ours, turn by turn

Needs loop, memory. Used by scripts/bench_gpt.py, scripts/bench_lora.py, scripts/bench_mlp.py.

Idea      A claim to be faster than somebody needs that somebody, in the same minutes on the same
          machine: what else runs there slows down whoever is at work just then. So the two sides
          take turns of a few steps, and the medians of all steps are compared. The other side is a
          process of its own: it may have another Python, its memory is its own, and neither side's
          threads stand in the other's way while it waits for its turn.
Math      ratio = median(seconds of the peer's steps) / median(seconds of ours)                  (1)
Shapes    A side has ask(steps) -> the seconds of each step, and losses: one of every step so far.
          What goes to a peer is a number of steps a line; what comes back is JSON, a line each: a
          greeting, then {"seconds": [...], "losses": [...]} and perhaps "peak", in bytes.
Pitfalls  Ratios of different runs cannot be compared, nor can seconds. Two sides that do not
          compute the same have no ratio: compare their losses first.
          The first steps of each side compile and touch memory: they are asked for and left out.
Cost      The peer's memory, and a line through a pipe each turn, outside of what is timed.
Try       build it    a peer that is this library at an earlier commit, in a checkout of its own.
          break it    let one side take all its steps before the other, with something heavy running
                      for half of the time. What does (1) say now?
          measure it  python scripts/bench_mlp.py --vs torch, three times: how far apart are ratios?
See       Georges, Buytaert, Eeckhout 2007 (what a fair measurement of a program needs)
"""

import json
import subprocess
import time
from types import SimpleNamespace

from ..memory import peak_resident_bytes
from ..train.loop import train_step


class Trainer:
    """Our side of a training: a step on each of `batches` (K, B, T + 1) of ids, over and over.

    clock tells the seconds; clip is the largest norm of the gradient, None for any.
    """

    name = "tinygrad_edu"

    def __init__(self, model, optimizer, batches, lr, seed, clip=None, clock=time.perf_counter):
        self.model, self.optimizer, self.clock = model, optimizer, clock
        self.plan = SimpleNamespace(schedule="constant", lr=lr, min_lr=lr, warmup=0, clip=clip,
                                    seed=seed, steps=1)
        self.batches, self.done, self.losses, self.peak = batches, 0, [], None

    def ask(self, steps):
        """Take these steps; the answer is the seconds of each."""
        seconds = []
        for _ in range(steps):
            ids = self.batches[self.done % len(self.batches)]
            start = self.clock()
            batch = [(ids[:, :-1], ids[:, 1:])]
            self.losses.append(train_step(self.model, self.optimizer, batch, self.plan, 0)[0])
            seconds.append(self.clock() - start)
            self.done += 1
        self.peak = peak_resident_bytes()
        return seconds


class Peer:
    """The other side: a process that takes steps when it is asked to.

    command: a Python, its script and arguments. library: what that Python needs to have, how to
    name another Python, and what to install. Raises OSError if it has no such library.
    """

    def __init__(self, *command, library=("PyTorch", "--torch-python", "torch")):
        self.library, self.option, self.package = library
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=pipe, text=True)
        self.losses, self.peak = [], None
        self.greeting = self.answer()
        self.name = f"{self.library} {self.greeting['version']}"

    def answer(self):
        """The next line from the other side. OSError where there is none."""
        line = self.process.stdout.readline()
        if not line:
            raise OSError(f"{self.process.args[0]} cannot run {self.library}: name a Python that "
                          f"has it with {self.option}, or get it with pip install {self.package}")
        return json.loads(line)

    def ask(self, steps):
        """Take these steps; the answer is the seconds of each."""
        print(steps, file=self.process.stdin, flush=True)
        answer = self.answer()
        self.losses += answer["losses"]
        self.peak = answer.get("peak")
        return answer["seconds"]

    def end(self):
        """End the process."""
        self.process.kill()
        self.process.wait()


def take_turns(sides, warmup, steps, turn, advance):
    """A list for each side: the seconds of its `steps` timed steps, `turn` of them at a time.

    advance is told how many steps were taken, as a progress bar's update.
    """
    for side in sides:
        side.ask(warmup)
        advance(warmup)
    times = [[] for _ in sides]
    for low in range(0, steps, turn):
        now = min(turn, steps - low)
        for side, seconds in zip(sides, times, strict=True):
            seconds.extend(side.ask(now))
            advance(now)
    return times
