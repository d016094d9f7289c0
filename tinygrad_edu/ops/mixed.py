"""Lesson 2.21 · Mixed precision: products of numbers with 16 bits

Needs kernel, launch, matmul, memory, product. Used by scripts/train_gpt.py.

Idea      Tensor cores multiply numbers of 16 bits many times faster than a GPU's other units
          multiply those of 32, and add the products up in 32 bits. Nearly all arithmetic of a model
          is products, so only their operands are rounded, just before: weights, activations,
          gradients and the optimizer keep their 32 bits. A layer is told which kernel multiplies,
          and nothing else changes.
Math      bf16(x): 8 bits of mantissa, the exponents of float32     |bf16(x) − x| ≤ 2⁻⁸·|x|      (1)
          fp16(x): 11 bits of mantissa, from 6·10⁻⁸ to 65504        |fp16(x) − x| ≤ 2⁻¹¹·|x|     (2)
          as long as x is normal: below 6·10⁻⁵ fp16 loses digits
          y = Σₖ round(aᵢₖ)·round(bₖⱼ), the sum in float32                                      (3)
Shapes    as those of matmul_forward: a (N, K), b (K, M), y (N, M), all float32
Pitfalls  NumPy has no bfloat16: its bits travel as uint16, the upper half of a float32.
          What is below 3·10⁻⁸ becomes 0 in fp16, and gradients are small: the loss is multiplied by
          a large number first (lesson loss_scale). bf16 has the range of float32 and needs nothing.
          The fused loss makes the head's gradients before anything could multiply them: with fp16
          the head's products stay in float32.
          Tensor cores read 16 bytes at a time. Where a row in memory is no multiple of 8 numbers
          (a vocabulary of 50257, say) float32 serves: choose sizes that are.
Cost      Each operand is read once more, and written with 2 bytes a number: small beside a product
          of large matrices. Memory for activations is not saved, they stay float32. On a CPU
          rounding only costs time.
Try       build it    keep the rounded weights from one micro-batch of a step to the next.
          break it    cut the last 16 bits off instead of rounding. What becomes of a mean?
          measure it  python scripts/bench_cuda.py
See       Micikevicius et al. 2018, sections 3.1-3.3 · Kalamkar et al. 2019 (bfloat16)
"""

import numpy as np

from ..gpu.launch import G, blocks
from ..gpu.product import dense, launch_product, serves_product, tensor_core_product
from ..kernel import Kernel
from ..memory import empty_like
from .matmul import matmul_forward


def round_bf16(x):
    """The nearest bfloat16 of every float32, ties to even, as float32: (1)."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) & 0xFFFF0000
    return np.where(np.isfinite(x), rounded.astype(np.uint32).view(np.float32), x)


def round_fp16(x):
    """The nearest half-precision number of every float32, as float32: (2)."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


@Kernel
def matmul_bf16(y, a, b):
    np.matmul(round_bf16(a), round_bf16(b), out=y, casting="same_kind")                       # (3)


@matmul_bf16.body("cuda", when=serves_product)
def matmul_bf16_cuda(y, a, b):
    _on_tensor_cores(y, a, b, "round_to_bf16")


@Kernel
def matmul_fp16(y, a, b):
    np.matmul(round_fp16(a), round_fp16(b), out=y, casting="same_kind")                       # (3)


@matmul_fp16.body("cuda", when=serves_product)
def matmul_fp16_cuda(y, a, b):
    _on_tensor_cores(y, a, b, "round_to_fp16")


def _on_tensor_cores(y, a, b, rounding):
    """(3) of rounded copies, which lie in memory as the operands do.

    Nothing is rounded where tensor cores cannot serve: in float64, and where a row in memory is no
    multiple of 8 numbers.
    """
    if y.dtype != np.float32 or dense(a).shape[1] % 8 or dense(b).shape[1] % 8:
        launch_product("matmul_forward", y, a, b)
        return
    halves = []
    for x in (a, b):
        there = dense(x)
        h = empty_like(there, dtype=np.uint16)
        getattr(G(y), rounding)(blocks(h.size, 1024), 256, (h, there, h.size))
        halves.append(h if there is x else h.T)
    tensor_core_product(y, *halves, fp16=rounding == "round_to_fp16")


PRODUCTS = {"fp32": matmul_forward, "bf16": matmul_bf16, "fp16": matmul_fp16}


def set_products(model, name):
    """Let the layers of a model multiply numbers of a kind, "fp32", "bf16" or "fp16"; returns it.

    With fp16 the head stays fp32: see the Pitfalls.
    """
    for _, module in model.walk():
        if hasattr(module, "product"):
            module.product = PRODUCTS[name]
        if hasattr(module, "head_product"):
            module.head_product = PRODUCTS["fp32" if name == "fp16" else name]
    return model
