"""How near do the CUDA kernels come to what a GPU can do?

    python scripts/bench_cuda.py                                a table, then a step of GPT-2
    python scripts/bench_cuda.py --torch-python PYTHON          the step beside PyTorch
    python scripts/bench_cuda.py --dtype fp32 --batch 8
    python scripts/bench_cuda.py --device emulator              what it takes on a CPU

Kernels that move numbers are compared with a copy of an array, products with cuBLAS through CuPy,
and all of it is measured side by side in this run. That needs an NVIDIA GPU. What the emulator
takes on a CPU says nothing about a GPU, and is measured for its own sake.
"""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from tinygrad_edu.gpu.device import move, peak_bytes, ready
from tinygrad_edu.gpu.emulate import nanoseconds_of_waits
from tinygrad_edu.gpu.product import ladder_product
from tinygrad_edu.memory import empty_like, zeros_like
from tinygrad_edu.models.gpt import GPT, SIZES, GPTConfig
from tinygrad_edu.nn.adam import AdamW, adam_update
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.nn.loss_scale import LossScale
from tinygrad_edu.ops.activation import bias_gelu_forward
from tinygrad_edu.ops.attention_kernels import attention_forward
from tinygrad_edu.ops.matmul import matmul_forward
from tinygrad_edu.ops.mixed import PRODUCTS, matmul_bf16, set_products
from tinygrad_edu.ops.norm import add_layernorm_forward, layernorm_forward
from tinygrad_edu.ops.softmax import softmax_forward
from tinygrad_edu.train.loop import train_step
from tinygrad_edu.train.program import program

PEER = Path(__file__).resolve().parent.parent / "tests" / "cross" / "gpu_step_in_torch.py"
VOCABULARY = 50304  # GPT-2's 50257, filled up to a multiple of 128
LR = 3e-4


@dataclass
class Settings:
    """What is measured."""

    device: str = option("cuda", "a GPU, or the emulator", choices=("cuda", "emulator"))
    size: int = option(4096, "rows and columns of the arrays and matrices", low=64)
    rounds: int = option(20, "times that a kernel is timed", low=1)
    batch: int = option(16, "sequences of a step of GPT-2", low=1)
    steps: int = option(20, "timed steps of GPT-2, after three that are not", low=1)
    dtype: str = option("bf16", "what the products of GPT-2 multiply", choices=tuple(PRODUCTS))
    torch_python: Path | None = option(None, "a Python that has PyTorch, to compare a step with")


def main():
    """The table of kernels, the step, and the line that sums both up."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        ready(settings.device)
        if settings.device == "emulator":
            print(" ".join(f"{name}={took:.1f}"
                           for name, took in emulated(settings.rounds).items()))
            return
        shares = kernels(settings.size, settings.rounds)
        speed = gpt2_step(settings, GPTConfig(VOCABULARY, **SIZES["gpt2"]))
        ratio = speed / torch_step(settings) if settings.torch_python else None
    worst = min(shares, key=shares.get)
    beside = f" of_torch={ratio:.2f}" if ratio else ""
    print(f"tokens_per_s={speed:.0f} dtype={settings.dtype} lowest_share={shares[worst]:.2f} "
          f"lowest={worst}{beside}")


def milliseconds(run, rounds, device="cuda"):
    """The median over `rounds` of one call; the GPU is waited for, the first call left out."""
    wait = int  # a call that does nothing: the emulator has finished when it returns
    if device == "cuda":
        import cupy

        wait = cupy.cuda.Device().synchronize
    times = []
    for _ in range(rounds + 1):
        wait()
        start = time.perf_counter()
        run()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[1:])


# ---- kernels -------------------------------------------------------------------------------------


def kernels(n, rounds):
    """Print a line for each kernel; name -> its share of a copy's bandwidth or of cuBLAS."""
    import cupy

    draw = np.random.default_rng(0)
    x, r, y, s = (cupy.asarray(draw.standard_normal((n, n), np.float32)) for _ in range(4))
    copied = 2 * x.nbytes / milliseconds(lambda: cupy.copyto(y, x), rounds) / 1e6
    print(f"{'copy':24} {copied:8.0f} GB/s")
    shares = {}
    for name, (arrays, run) in movers(x, r, y, s).items():
        speed = arrays * x.nbytes / milliseconds(run, rounds) / 1e6
        shares[name] = speed / copied
        print(f"{name:24} {speed:8.0f} GB/s     {shares[name]:5.0%} of a copy")
    h, g = x.astype(np.float16), r.astype(np.float16)
    products = {
        "matmul_forward": (lambda: matmul_forward(y, x, r), lambda: cupy.matmul(x, r)),
        "matmul_bf16": (lambda: matmul_bf16(y, x, r), lambda: cupy.matmul(h, g)),
    }
    for name, (ours, theirs) in products.items():
        took, best = milliseconds(ours, rounds), milliseconds(theirs, rounds)
        shares[name] = best / took
        print(f"{name:24} {2e-9 * n**3 / took:8.1f} TFLOP/s  {shares[name]:5.0%} of cuBLAS")
    print(f"{'attention_forward':24} {attention_speed(rounds):8.1f} TFLOP/s")
    return shares


def movers(x, r, y, s):
    """name -> (arrays of this size read and written, a function that runs the kernel)."""
    w, b = x[0].copy(), x[1].copy()
    mean, rstd = empty_like(x, shape=len(x)), empty_like(x, shape=len(x))
    moments = zeros_like(x.reshape(-1)), zeros_like(x.reshape(-1))
    flat = y.reshape(-1), *moments, r.reshape(-1)
    return {
        "layernorm_forward": (2, lambda: layernorm_forward(y, mean, rstd, x, w, b, 1e-5)),
        "add_layernorm_forward": (4, lambda: add_layernorm_forward(s, y, mean, rstd, x, r, w, b,
                                                                   1e-5)),
        "softmax_forward": (2, lambda: softmax_forward(y, x)),
        "bias_gelu_forward": (2, lambda: bias_gelu_forward(y, x, b)),
        "adam_update": (7, lambda: adam_update(*flat, LR, 0.9, 0.95, 1e-8, 0.0, 0.1, 1.0, 1)),
    }


def attention_speed(rounds, B=8, H=12, T=1024, D=64):
    """TFLOP/s of causal attention, which looks at half of all pairs."""
    import cupy

    return 2e-9 * B * H * T * T * D / milliseconds(causal(cupy, B, H, T, D), rounds)


def causal(xp, B, H, T, D):
    """A function that runs causal attention on arrays of xp, NumPy or CuPy."""
    draw = np.random.default_rng(0)
    q, k, v = (xp.asarray(draw.standard_normal((B, H, T, D), np.float32)) for _ in range(3))
    y, lse = empty_like(q), empty_like(q, shape=(B, H, T))
    seen = xp.asarray(np.arange(1, T + 1)[None].repeat(B, 0))
    return lambda: attention_forward(y, lse, q, k, v, seen, None, None, None, D**-0.5)


def emulated(rounds):
    """name_unit -> what a few kernels, and one wait of a thread, take in the emulator."""
    draw = np.random.default_rng(0)
    x, (w, b) = draw.standard_normal((512, 768), np.float32), np.ones((2, 768), np.float32)
    y, (mean, rstd) = empty_like(x), np.empty((2, 512), np.float32)
    product = draw.standard_normal((3, 256, 256), np.float32)
    runs = {
        "layernorm_512x768": lambda: layernorm_forward(y, mean, rstd, x, w, b, 1e-5),
        "register_tile_256": lambda: ladder_product("registers", *product),
        "attention_4x256": causal(np, 1, 4, 256, 64),
    }
    found = {f"{name}_ms": milliseconds(run, rounds, "emulator") for name, run in runs.items()}
    return found | {f"{name}_ns": took for name, took in nanoseconds_of_waits().items()}


# ---- a step of GPT-2 -----------------------------------------------------------------------------


def gpt2_step(settings, config):
    """Print what a training step takes; returns tokens a second."""
    model = set_products(move(GPT(config, np.random.default_rng(1)), "cuda"), settings.dtype)
    optimizer = AdamW(model.named_parameters())
    optimizer.loss_scale = LossScale() if settings.dtype == "fp16" else None
    plan = SimpleNamespace(schedule="constant", lr=LR, min_lr=LR, warmup=0, clip=1.0, seed=1,
                           steps=1)
    draw = np.random.default_rng(2)
    seconds = []
    for step in tqdm(range(settings.steps + 3), desc="GPT-2", unit="step", leave=False):
        ids = draw.integers(0, config.vocabulary, (settings.batch, config.context + 1))
        start = time.perf_counter()
        train_step(model, optimizer, [(ids[:, :-1], ids[:, 1:])], plan, step)  # ends with the norm
        seconds.append(time.perf_counter() - start)
    took = median(seconds[3:])
    speed = settings.batch * config.context / took
    print(f"{'GPT-2 step':24} {1e3 * took:8.1f} ms, {speed:,.0f} tokens/s, "
          f"{peak_bytes('cuda') / 1e9:.1f} GB of the GPU")
    return speed


def torch_step(settings):
    """Tokens a second of the same step in PyTorch. OSError where its Python cannot run it."""
    numbers = {**SIZES["gpt2"], "vocabulary": VOCABULARY, "dropout": 0.0, "lr": LR,
               "batch": settings.batch, "steps": settings.steps, "dtype": settings.dtype}
    command = [str(settings.torch_python), str(PEER), "cuda", json.dumps(numbers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise OSError(f"{settings.torch_python} cannot run the step in PyTorch: {last}")
    answer = json.loads(done.stdout.splitlines()[-1])
    print(f"{'PyTorch ' + answer['version']:24} {answer['ms']:8.1f} ms, "
          f"{answer['tokens_per_s']:,.0f} tokens/s, {answer['peak'] / 1e9:.1f} GB of the GPU, "
          f"attention by {answer['attention']}")
    return answer["tokens_per_s"]


if __name__ == "__main__":
    with program():
        main()
