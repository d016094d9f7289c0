"""Lesson 2.6 · SiLU and SwiGLU: a layer whose one half opens and closes the other

Needs activation, foreign, kernel, loops, memory, pointwise, reduce, tensor.
Used by tests/ops/test_swiglu.py.

Idea      SiLU is x times the logistic probability of x: like GELU, but with one exp and no cubic.
          In a gated layer two linear maps read the same input, and the SiLU of one multiplies the
          other: the gate decides, number by number, how much passes. The Llama family of models
          uses this in place of linear, GELU, linear. Both steps together are one pass.
Math      silu(x) = x·σ(x)       σ(x) = 1/(1 + e⁻ˣ)       dx = dy·σ·(1 + x·(1 − σ))              (1)
          swiglu(g, u) = silu(g)·u        dg = dy·u·silu′(g)        du = dy·silu(g)             (2)
Shapes    x, y, gate, up of any shape, flat (N,) in the kernels
Pitfalls  σ(x) = 1/(1 + e⁻ˣ) overflows for x ≪ 0: compute with e^(−|x|), or with an exp that stays
          finite, as the loops do.
          In the loops σ never gets smaller than 4·10⁻³⁹ in float32; times x = −10³⁸ that would be
          −0.4, so x is cut off at −88.
          swiglu keeps gate and up for the backward pass, not silu(gate): that is cheaper to
          compute again than to write and read.
Cost      Reads and writes each array once. The forward pass fused reads two arrays and writes one;
          silu, then a product, would read three and write two. One exp and one division an element
          decide in the cache: SwiGLU in C 18 and 17 µs, in Numba 18 and 15 (half a MB on one core:
          python scripts/bench_ops.py swiglu --sizes medium).
Try       build it    geglu: the same with GELU as the gate.
          break it    give du the slope of the gate as well. Which test notices?
          measure it  swiglu(g, u) against silu(g) * u on 10⁶ numbers, in time and with memory.Meter
See       Elfwing, Uchibe, Doya 2017 (SiLU) · Dauphin et al. 2016 (gating) · Shazeer 2020 (SwiGLU)
"""

from ..foreign import C, fits, out, ptr
from ..kernel import Kernel
from ..loops import sigmoid
from ..memory import contiguous, empty_like
from ..tensor import as_tensor, method, record
from .activation import elementwise, logistic
from .pointwise import each_element
from .reduce import floating

LOW = -88.0                                        # x·σ(x) there: −5·10⁻³⁷, and closer to 0 below


@Kernel
def silu_forward(y, x):
    y[...] = x * logistic(x)                                                                   # (1)


@silu_forward.body("numba", rows="y x")
def silu_forward_numba(y, x):
    low = x.dtype.type(LOW)
    for i in range(x.size):
        near = max(x[i], low)                      # see the Pitfalls
        y[i] = near * sigmoid(near)                                                            # (1)


@silu_forward.body("native", rows="y x", when=fits)
def silu_forward_native(y, x):
    C(y).silu_forward(out(y), ptr(x), x.size)


def _silu_slope(x):
    s = logistic(x)
    return s * (1 + x * (1 - s))


@Kernel
def silu_backward(dx, dy, x):
    dx[...] = dy * _silu_slope(x)                                                              # (1)


@silu_backward.body("numba", rows="dx dy x")
def silu_backward_numba(dx, dy, x):
    one, low = x.dtype.type(1), x.dtype.type(LOW)
    for i in range(x.size):
        near = max(x[i], low)
        s = sigmoid(near)
        dx[i] = dy[i] * s * (one + near * (one - s))                                           # (1)


@silu_backward.body("native", rows="dx dy x", when=fits)
def silu_backward_native(dx, dy, x):
    C(dx).silu_backward(out(dx), ptr(dy), ptr(x), x.size)


@method
def silu(x):
    """x·σ(x), of any shape. Elfwing et al. 2017."""
    return elementwise(silu_forward, silu_backward, x)


@Kernel
def swiglu_forward(y, gate, up):
    y[...] = gate * logistic(gate) * up                                                        # (2)


@swiglu_forward.body("numba", rows="y gate up")
def swiglu_forward_numba(y, gate, up):
    low = y.dtype.type(LOW)
    for i in range(y.size):
        near = max(gate[i], low)
        y[i] = near * sigmoid(near) * up[i]                                                    # (2)


@swiglu_forward.body("native", rows="y gate up", when=fits)
def swiglu_forward_native(y, gate, up):
    C(y).swiglu_forward(out(y), ptr(gate), ptr(up), y.size)


@Kernel(outputs=2)
def swiglu_backward(dgate, dup, dy, gate, up):
    dgate[...] = dy * up * _silu_slope(gate)                                                   # (2)
    dup[...] = dy * gate * logistic(gate)


@swiglu_backward.body("numba", rows="dgate dup dy gate up")
def swiglu_backward_numba(dgate, dup, dy, gate, up):
    one, low = dy.dtype.type(1), dy.dtype.type(LOW)
    for i in range(dy.size):
        near = max(gate[i], low)
        s = sigmoid(near)
        dgate[i] = dy[i] * up[i] * s * (one + near * (one - s))                                # (2)
        dup[i] = dy[i] * near * s


@swiglu_backward.body("native", rows="dgate dup dy gate up", when=fits)
def swiglu_backward_native(dgate, dup, dy, gate, up):
    C(dgate).swiglu_backward(out(dgate), out(dup), ptr(dy), ptr(gate), ptr(up), dy.size)


for _kernel in (silu_forward, silu_backward, swiglu_forward, swiglu_backward):
    each_element(_kernel)                          # their bodies in CUDA: cuda/swiglu.cu


def swiglu(gate, up):
    """silu(gate)·up, both of one shape. Shazeer 2020, without the products before and after."""
    up = as_tensor(up, like=gate)
    if gate.shape != up.shape:
        raise ValueError(f"swiglu needs gate and up of one shape, not {gate.shape} and {up.shape}")
    g, u = (contiguous(floating(t, "swiglu")).reshape(-1) for t in (gate, up))
    y = empty_like(g)
    swiglu_forward(y, g, u)

    def vjp(dy):
        dgate, dup = empty_like(g), empty_like(g)
        swiglu_backward(dgate, dup, contiguous(dy).reshape(-1), g, u)
        return dgate.reshape(dy.shape), dup.reshape(dy.shape)
    return record(y.reshape(gate.shape), (gate, up), vjp)
