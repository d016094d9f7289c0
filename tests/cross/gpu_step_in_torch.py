"""The other side of scripts/bench_cuda.py: a training step of GPT-2 in PyTorch.

    python tests/cross/gpu_step_in_torch.py {cuda,cpu} NUMBERS

NUMBERS is JSON: the model's, lr, batch, steps, dtype. The last line of output is JSON. PyTorch as
one uses it for speed without compiling: autocast, fused AdamW, scaled_dot_product_attention.
"""

import json
import sys
import time
from statistics import median
from types import SimpleNamespace

import numpy as np
import torch

from torch_gpt import TorchGPT


def main():
    """Take the steps, and say what they took."""
    device, numbers = sys.argv[1], SimpleNamespace(**json.loads(sys.argv[2]))
    model = TorchGPT(numbers, np.float32).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=numbers.lr, betas=(0.9, 0.95), fused=True)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[numbers.dtype]
    scaler = torch.amp.GradScaler(device, enabled=numbers.dtype == "fp16" and device == "cuda")
    draw = np.random.default_rng(2)
    seconds = []
    for _ in range(numbers.steps + 3):
        shape = numbers.batch, numbers.context + 1
        ids = torch.from_numpy(draw.integers(0, numbers.vocabulary, shape)).to(device)
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, kind, enabled=kind != torch.float32):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    took = median(seconds[3:])
    peak = torch.cuda.max_memory_reserved() if device == "cuda" else 0
    print(json.dumps({"version": torch.__version__.partition("+")[0], "ms": 1e3 * took,
                      "tokens_per_s": numbers.batch * numbers.context / took, "peak": peak,
                      "attention": attention(device, kind)}))


def attention(device, kind):
    """The backends that PyTorch may take for its attention here."""
    if device != "cuda":
        return "the CPU's"
    flash = torch.backends.cuda.flash_sdp_enabled() and kind != torch.float32
    return "flash (or cuDNN's, if it prefers that)" if flash else "memory-efficient kernels"


if __name__ == "__main__":
    main()
