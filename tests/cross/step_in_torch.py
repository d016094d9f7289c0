"""The other side of scripts/bench_gpt.py: training steps in PyTorch, taken when they are asked for.

    python tests/cross/step_in_torch.py FOLDER THREADS {eager,compile}

FOLDER holds model.json (the numbers of the model and of the optimizer), weights.npz, batches.npz.
Each line of standard input is a number of steps; the answer is a line of JSON with the seconds and
the loss of each, and the peak of memory. A process of its own, so that memory and threads are
PyTorch's alone. PyTorch at its best in eager mode: the AdamW that is the fastest here, fused or
foreach, scaled_dot_product_attention, gradients set to None instead of zero. The first line of
output says which AdamW that is, and which instructions PyTorch uses.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from torch_gpt import TorchGPT


def main():
    """Build the model, say hello, then answer."""
    folder, threads, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    numbers = SimpleNamespace(**json.loads((folder / "model.json").read_text()))
    model = TorchGPT(numbers, np.float32)
    with np.load(folder / "weights.npz") as weights, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name]))
    adamw = fastest_adamw(model, numbers)
    step = training(model, numbers, mode, adamw)
    with np.load(folder / "batches.npz") as arrays:
        batches = [torch.from_numpy(batch) for batch in arrays["ids"]]
    print(json.dumps({"version": torch.__version__.partition("+")[0], "adamw": adamw,
                      "cpu": torch.backends.cpu.get_cpu_capability()}), flush=True)
    done, clock = 0, time.process_time if threads == 1 else time.perf_counter
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            ids = batches[done % len(batches)]
            done += 1
            start = clock()
            losses.append(step(ids[:, :-1], ids[:, 1:]))
            seconds.append(clock() - start)
        print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak()}), flush=True)


def adamw_of(model, numbers, kind, lr):
    """AdamW that decays matrices alone; kind: "fused" or "foreach"."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": numbers.decay},
              {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=tuple(numbers.betas), eps=1e-8, **{kind: True})


def fastest_adamw(model, numbers, rounds=4):
    """The kind whose step takes least time; a rate and gradients of 0 leave the model as it is."""
    took = {}
    for kind in ("fused", "foreach"):
        optimizer = adamw_of(model, numbers, kind, lr=0.0)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
        took[kind] = min(seconds)                  # the first step also makes the averages
    return min(took, key=took.get)


def training(model, numbers, mode, adamw):
    """A function that takes a step and returns the loss."""
    loss_of = torch.compile(model.loss) if mode == "compile" else model.loss
    optimizer = adamw_of(model, numbers, adamw, numbers.lr)

    def step(x, y):
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), numbers.clip)
        optimizer.step()
        return loss.item()

    return step


def peak():
    """The most physical memory this process has held, in bytes; None where no one tells."""
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main()
