"""The other side of scripts/bench_mlp.py: steps of a small network in PyTorch, when asked for.

    python tests/cross/mlp_in_torch.py FOLDER THREADS LR

FOLDER holds network.npz: the weights, x, and the target, integers for cross entropy and floats for
the squared error. Each line of standard input is a number of steps; the answer is a line of JSON
with the seconds and the loss of each. Eager mode, gradients set to None instead of zero.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional


def main():
    """Build the network, say hello, then answer."""
    folder, threads, lr = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    torch.set_num_threads(threads)
    with np.load(folder / "network.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays}
    x, target = tensors.pop("x"), tensors.pop("target")
    classes = not target.is_floating_point()
    loss_of = functional.cross_entropy if classes else functional.mse_loss
    model = network(tensors, torch.nn.ReLU if classes else torch.nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr)
    print(json.dumps({"version": torch.__version__.partition("+")[0]}), flush=True)
    for line in sys.stdin:
        seconds, losses = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(x), target)
            loss.backward()
            optimizer.step()
            seconds.append(time.perf_counter() - start)
            losses.append(loss.item())
        print(json.dumps({"seconds": seconds, "losses": losses}), flush=True)


def network(weights, bend):
    """Linear layers with these weights, a bend between each two."""
    parts = []
    for i in range(len(weights) // 2):
        weight, bias = weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"]
        layer = torch.nn.Linear(*reversed(weight.shape))
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        parts += [layer, bend()]
    return torch.nn.Sequential(*parts[:-1])


if __name__ == "__main__":
    main()
