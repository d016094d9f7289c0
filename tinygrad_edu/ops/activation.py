"""Lesson 2.5 · GELU, alone and together with the bias before it

Needs foreign, kernel, launch, loops, memory, pointwise, reduce, tensor. Used by matmul, swiglu.

Idea      Between two linear maps stands a bend, or the two would be one linear map. ReLU has a
          corner and a dead half; GELU is smooth and lets a little of the negative side through: x
          times the probability that a normal random number is below x. The exact form needs the
          error function; the one with a tanh is cheaper, and is what GPT-2 was trained with. It is
          one pass over memory, and the bias that stands before it joins that pass.
Math      gelu(x) = x·Φ(x)     Φ(x) = ½·(1 + erf(x/√2))                                        (1)
          dx = dy·(Φ + x·φ)    φ(x) = e^(−x²/2)/√(2π)                                          (2)
          tanh form: Φ(x) ≈ ½·(1 + tanh(v/2)) = σ(v)    v = 2√(2/π)·(x + 0.044715·x³)          (3)
          dx = dy·(σ + x·σ·(1 − σ)·2√(2/π)·(1 + 3·0.044715·x²))                                (4)
          with a bias: y = gelu(z + b)    dz = dy·gelu′(z + b)    db = Σ dz over rows          (5)
          erf(x) = 2x/√π · e^(−x²) · Σₙ (2x²)ⁿ/(1·3·5·…·(2n+1)), its terms all positive        (6)
          1 − erf(x) = e^(−x²)/√π · 1/(x + ½/(x + 1/(x + (3/2)/(x + 2/(x + …)))))  for x > 0   (7)
Shapes    x, y of any shape, flat (N,) in the kernels · bias_gelu: z, y (N, F), b (F,)
Pitfalls  The two forms differ by up to 5·10⁻⁴: a model trained with one is not the same with the
          other.
          x³ overflows float32 beyond 7·10¹²: σ is 0 or 1 there, but σ·(1 − σ) times infinity is
          NaN. So slopes are taken at x cut off where they are 0 or 1 to the last digit.
          The Taylor series of erf alternates and loses all digits at x = 6; (6) does not.
          db is a sum over rows: threads need an array each (`sums`), added up at the end.
Cost      Reads x, writes y, about 20 operations an element: the exp of the loops lesson runs in
          vectors. The reference writes every intermediate to memory.
          In C bias_gelu takes 31 and 27 µs, in Numba 36 and 28 (half a MB on one core, by
          python scripts/bench_ops.py gelu --sizes medium): both are bound by the exp and by one
          division an element. The erf form takes 54 µs in C, where the GNU C library has an erf for
          a whole vector of numbers, and 450 in Numba, which calls it once an element: its forward
          and, with an exp beside the erf, its backward pass take longer than the memory does.
Try       build it    @gelu_forward.body("mine"), then
                      TG_BACKEND=mine pytest tests/ops/test_activation.py
          break it    leave the 3 out of (4). Which tests notice? Would they at x = 10⁻³?
          measure it  python scripts/trace_step.py:
                      the GB/s of bias_gelu_forward, beside those of a kernel without an exp
See       Hendrycks, Gimpel 2016 · Abramowitz, Stegun 1964, 7.1.6 for (6) and 7.1.14 for (7)
"""

import math

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import exp, sigmoid
from ..memory import contiguous, empty_like
from ..tensor import method, record
from .pointwise import each_element
from .reduce import floating, sum_forward_cuda

K = 2 * math.sqrt(2 / math.pi)                     # of (3)
A = 0.044715
FAR = 30.0                                         # beyond ±FAR the slope of GELU is 0 or 1


def logistic(v):
    """σ(v) of an array, without overflow."""
    small = np.exp(-np.abs(v))
    return np.where(v >= 0, 1, small) / (1 + small)


def _near(x):
    return np.clip(x, -FAR, FAR)


# ---- GELU, tanh form ----------------------------------------------------------------------------

@Kernel
def gelu_forward(y, x):
    near = _near(x)
    y[...] = x * logistic(K * (near + A * near * near * near))                                 # (3)


@gelu_forward.body("numba", rows="y x")
def gelu_forward_numba(y, x):
    real = x.dtype.type
    k, a, far = real(K), real(A), real(FAR)
    for i in range(x.size):
        near = max(x[i], -far)                     # so that the cubic stays finite
        y[i] = near * sigmoid(k * (near + a * near * near * near))                             # (3)


@gelu_forward.body("native", rows="y x", when=fits)
def gelu_forward_native(y, x):
    C(y).gelu_forward(out(y), ptr(x), x.size)


def _gelu_slope(x):
    x = _near(x)
    s = logistic(K * (x + A * x * x * x))
    return s + x * s * (1 - s) * K * (1 + 3 * A * x * x)


@Kernel
def gelu_backward(dx, dy, x):
    dx[...] = dy * _gelu_slope(x)                                                              # (4)


@gelu_backward.body("numba", rows="dx dy x")
def gelu_backward_numba(dx, dy, x):
    real = x.dtype.type
    one, k, a, far = real(1), real(K), real(A), real(FAR)
    for i in range(x.size):
        near = min(max(x[i], -far), far)
        cubic = a * near * near
        s = sigmoid(k * near * (one + cubic))
        dx[i] = dy[i] * (s + near * s * (one - s) * k * (one + real(3) * cubic))               # (4)


@gelu_backward.body("native", rows="dx dy x", when=fits)
def gelu_backward_native(dx, dy, x):
    C(dx).gelu_backward(out(dx), ptr(dy), ptr(x), x.size)


# In C the exp is that of native/exponential.h: the same polynomial as in the loops, but it ends in
# a true 0 and a true infinity, so σ becomes 0 or 1 by itself.
#
# The product before a GELU leaves z without its bias; the sum z + b is never written to memory,
# neither here nor on the way back.

@Kernel
def bias_gelu_forward(y, z, b):
    gelu_forward.__wrapped__(y, z + b)                                                         # (5)


@bias_gelu_forward.body("numba", rows="y z")
def bias_gelu_forward_numba(y, z, b):
    real = z.dtype.type
    k, a, far = real(K), real(A), real(FAR)
    N, F = z.shape
    for n in range(N):
        for f in range(F):
            near = max(z[n, f] + b[f], -far)
            y[n, f] = near * sigmoid(k * (near + a * near * near * near))                      # (5)


@bias_gelu_forward.body("native", rows="y z", when=fits)
def bias_gelu_forward_native(y, z, b):
    C(y).bias_gelu_forward(out(y), ptr(z), ptr(b), *z.shape)


@bias_gelu_forward.body("cuda", when=serves)
def bias_gelu_forward_cuda(y, z, b):
    N, F = z.shape
    G(y).bias_gelu_forward(N, row_threads(F), (y, z, b, F))


@Kernel(outputs=2)
def bias_gelu_backward(dz, db, dy, z, b):
    gelu_backward.__wrapped__(dz, dy, z + b)                                                   # (5)
    db[...] = dz.sum(axis=0)


@bias_gelu_backward.body("numba", rows="dz dy z", sums="db")
def bias_gelu_backward_numba(dz, db, dy, z, b):
    real = z.dtype.type
    one, k, a, far = real(1), real(K), real(A), real(FAR)
    N, F = z.shape
    db[:] = real(0)                                # of the rows of this thread
    for n in range(N):
        for f in range(F):
            near = min(max(z[n, f] + b[f], -far), far)
            cubic = a * near * near
            s = sigmoid(k * near * (one + cubic))
            slope = s + near * s * (one - s) * k * (one + real(3) * cubic)
            dz[n, f] = dy[n, f] * slope                                                        # (5)
            db[f] += dz[n, f]


@bias_gelu_backward.body("native", rows="dz dy z", sums="db", when=fits)
def bias_gelu_backward_native(dz, db, dy, z, b):
    C(dz).bias_gelu_backward(out(dz), out(db), ptr(dy), ptr(z), ptr(b), *z.shape)


@bias_gelu_backward.body("cuda", when=serves)
def bias_gelu_backward_cuda(dz, db, dy, z, b):
    N, F = z.shape
    G(dz).bias_gelu_slopes(N, row_threads(F), (dz, dy, z, b, F))
    sum_forward_cuda(db[None], dz[None])


# The same sum for a layer without an activation, where dz is dy. Rows lie one behind the other, so
# the loop adds row after row to F running sums and reads memory in order; a loop that finished one
# column before the next would jump F numbers ahead for each it adds, and use one number of every
# cache line that it fetches.

@Kernel
def sum_rows(db, dy):
    db[...] = dy.sum(axis=0)                                                                   # (5)


@sum_rows.body("numba", rows="dy", sums="db")
def sum_rows_numba(db, dy):
    N, F = dy.shape
    db[:] = dy.dtype.type(0)
    for n in range(N):
        for f in range(F):
            db[f] += dy[n, f]


@sum_rows.body("native", rows="dy", sums="db", when=fits)
def sum_rows_native(db, dy):
    C(db).sum_rows(out(db), ptr(dy), *dy.shape)


@sum_rows.body("cuda", when=serves)
def sum_rows_cuda(db, dy):
    sum_forward_cuda(db[None], dy[None])


# ---- GELU, exact --------------------------------------------------------------------------------

def erf(x):
    """The error function of an array, to 10⁻¹⁵: series (6) below 2.5, fraction (7) above."""
    size = np.abs(x)
    low = np.minimum(size, 2.5)
    term = total = np.ones_like(x)
    for n in range(1, 60):
        term = term * (2 * low ** 2 / (2 * n + 1))
        total = total + term
    series = 2 / math.sqrt(math.pi) * low * np.exp(-low ** 2) * total                          # (6)
    high = np.clip(size, 2.5, 10)                  # 1 − erf(10) is 2·10⁻⁴⁵
    fraction = high
    for n in range(40, 0, -1):
        fraction = high + n / 2 / fraction
    tail = np.exp(-high ** 2) / (math.sqrt(math.pi) * fraction)                                # (7)
    return np.sign(x) * np.where(size < 2.5, series, 1 - tail)


@Kernel
def gelu_erf_forward(y, x):
    y[...] = 0.5 * x * (1 + erf(x / math.sqrt(2)))                                             # (1)


@gelu_erf_forward.body("numba", rows="y x")
def gelu_erf_forward_numba(y, x):
    real = x.dtype.type
    half, root = real(0.5), real(math.sqrt(0.5))
    for i in range(x.size):
        y[i] = half * x[i] * (real(1) + math.erf(x[i] * root))                                 # (1)


@gelu_erf_forward.body("native", rows="y x", when=fits)
def gelu_erf_forward_native(y, x):
    C(y).gelu_erf_forward(out(y), ptr(x), x.size)


@Kernel
def gelu_erf_backward(dx, dy, x):
    density = np.exp(-0.5 * _near(x) ** 2) / math.sqrt(2 * math.pi)
    dx[...] = dy * (0.5 * (1 + erf(x / math.sqrt(2))) + x * density)                           # (2)


@gelu_erf_backward.body("numba", rows="dx dy x")
def gelu_erf_backward_numba(dx, dy, x):
    real = x.dtype.type
    half, root = real(0.5), real(math.sqrt(0.5))
    unit = real(1 / math.sqrt(2 * math.pi))
    for i in range(x.size):
        below = half * (real(1) + math.erf(x[i] * root))
        dx[i] = dy[i] * (below + x[i] * unit * exp(-half * x[i] * x[i]))                       # (2)


@gelu_erf_backward.body("native", rows="dx dy x", when=fits)
def gelu_erf_backward_native(dx, dy, x):
    C(dx).gelu_erf_backward(out(dx), ptr(dy), ptr(x), x.size)


for _kernel in (gelu_forward, gelu_backward, gelu_erf_forward, gelu_erf_backward):
    each_element(_kernel)                          # their bodies in CUDA: cuda/activation.cu


@method
def gelu(x, form="tanh"):
    """x·Φ(x), element by element, for x of any shape. Hendrycks, Gimpel 2016.

    form: "tanh" (3), as in GPT-2, or "erf" (1), as in BERT. ValueError for any other.
    """
    if form not in ("tanh", "erf"):
        raise ValueError(f"gelu has the forms 'tanh' and 'erf', not {form!r}")
    forward, backward = FORMS[form]
    return elementwise(forward, backward, x)


FORMS = {"tanh": (gelu_forward, gelu_backward), "erf": (gelu_erf_forward, gelu_erf_backward)}


def elementwise(forward, backward, x):
    """y = f(x) for any shape, by two kernels on flat arrays: forward(y, x), backward(dx, dy, x)."""
    name = forward.name.removesuffix("_forward")
    flat = contiguous(floating(x, name)).reshape(-1)
    y = empty_like(flat)
    forward(y, flat)

    def vjp(dy):
        dx = empty_like(flat)
        backward(dx, contiguous(dy).reshape(-1), flat)
        return dx.reshape(dy.shape),
    vjp.__qualname__ = name                                     # what messages call the operation
    return record(y.reshape(x.shape), (x,), vjp)
