"""Lesson 2.7 · Matrix products, and the linear layer

Needs activation, broadcast, foreign, kernel, memory, product, tensor, threads. Used by layers.

Idea      Nearly all arithmetic of a language model is matrix products, and few write a product as
          fast as the BLAS library that comes with NumPy. So BLAS does them, one thread of it per
          block of rows, or native/matmul.c where that was measured to be faster, and this lesson is
          about what surrounds it: the two products of the backward pass, the bias, the activation
          after it, and axes that broadcast. The three loops that a product is stand here too.
Math      Y = A·B          Yᵢⱼ = Σₖ Aᵢₖ·Bₖⱼ                                                    (1)
          dA = dY·Bᵀ       dB = Aᵀ·dY                                                         (2)
          linear: Y = X·Wᵀ + b                                                                (3)
          dX = dY·W        dW = dYᵀ·X        db = Σ dY over rows                              (4)
          with GELU: Z = X·Wᵀ, Y = gelu(Z + b); then (4) with dZ in place of dY               (5)
          Why (2): a small change δA moves the loss by Σ dYᵢⱼ·δAᵢₖ·Bₖⱼ, and what multiplies δAᵢₖ
          there is Σⱼ dYᵢⱼ·Bₖⱼ = (dY·Bᵀ)ᵢₖ.
Shapes    matmul: A (…, n, k), B (…, k, m), Y (…, n, m), the axes … broadcast; vectors as in NumPy
          linear: X (…, C), W (F, C), b (F,), Y (…, F); N rows, the product of the axes …
          the batched kernels: (P, n, k), (P, k, m), (P, n, m), P the product of the axes …
Pitfalls  W is (out, in), a row for each output; GPT-2's are published (in, out).
          The shapes fit only one product of (2) unless they are square: test with three sizes.
          The gradient of a broadcast A is a sum over the copies. Where B has no axes … of its own,
          those of A are rows like any others: one flat product replaces a batch of small ones, and
          the sum over the batch happens inside it.
          Transposed views go to BLAS as they are, without a copy: the kernels here take them.
Cost      2·n·k·m operations forward and twice that backward, on n·k + k·m + n·m numbers: the larger
          the matrices, the less memory matters. dX is skipped where nobody wants it. The bias is
          added by the thread that made the rows; db and the slope of the GELU are one pass over dY.
          Which BLAS kernel is best is a matter of the CPU. On one core of a Zen 4, OpenBLAS reaches
          90-103 GFLOP/s for the shapes of a GPT with its AVX-512 kernels, 104-111 with those for
          AVX2 (OPENBLAS_CORETYPE=Haswell before NumPy is loaded). C reaches 95-115 in AVX-512,
          91-106 in AVX2: so it takes large products, and only on a CPU with AVX-512.
          The Numba loop is far behind BLAS: it is there to be read, and runs only when forced.
Try       build it    the loops of (1) in blocks of 64 × 64: how near to BLAS do they get?
          break it    give dW the product Xᵀ·dY. Which tests notice? Which does a square W fool?
          measure it  python -m tinygrad_edu.ops.matmul: what does each step to a fast one bring?
See       Goto, van de Geijn 2008 (how BLAS multiplies) · Giles 2008, 2.2.2 (their derivatives)
"""

import math

import numpy as np

from ..broadcast import unbroadcast
from ..foreign import REALS, C, address, out, ptr
from ..gpu.product import launch_product, serves_product
from ..kernel import Kernel
from ..memory import contiguous, empty_like, zeros_like
from ..tensor import as_tensor, method, record
from ..threads import one_blas_thread
from .activation import bias_gelu_backward, bias_gelu_forward, sum_rows

LARGE, THIN = 1 << 21, 32  # multiply-adds and columns from which a product in C is worth its copies

# ---- kernels ------------------------------------------------------------------------------------
#
# Under "blas" stands the reference again, but cut: each thread of ours hands a block of rows of
# the result to BLAS, limited to one thread. So no two threads add to the same number, nor in dYᵀ·X.

@Kernel
def matmul_forward(y, a, b):
    np.matmul(a, b, out=y)                                                                     # (1)


@matmul_forward.body("blas", rows="y a")
def matmul_forward_blas(y, a, b):
    np.matmul(a, b, out=y)


def _pays_in_c(y, a, b):
    """Whether C takes a product and is faster: see the Cost slot for where that was measured."""
    if y.size * a.shape[1] < LARGE or min(b.shape) < THIN or y.dtype not in REALS:
        return False
    dense = y.flags.c_contiguous and y.itemsize in a.strides and y.itemsize in b.strides
    return dense and a.flags.aligned and b.flags.aligned and C(y).vector_bytes() == 64


@matmul_forward.body("native", rows="y a", when=_pays_in_c)
def matmul_forward_native(y, a, b):
    steps = [stride // x.itemsize for x in (a, b) for stride in x.strides]
    C(y).matmul_forward(out(y), address(a), address(b), *a.shape, b.shape[1], *steps)


@matmul_forward.body("numba", rows="y a")
def matmul_forward_numba(y, a, b):
    N, K = a.shape
    y[:, :] = y.dtype.type(0)
    for i in range(N):
        for k in range(K):
            for j in range(b.shape[1]):
                y[i, j] += a[i, k] * b[k, j]                                                   # (1)


@matmul_forward.body("cuda", when=serves_product)
def matmul_forward_cuda(y, a, b):
    launch_product("matmul_forward", y, a, b)


@Kernel
def batched_matmul_forward(y, a, b):
    np.matmul(a, b, out=y)                                                                     # (1)


@batched_matmul_forward.body("blas", rows="y a b")
def batched_matmul_forward_blas(y, a, b):
    np.matmul(a, b, out=y)


@batched_matmul_forward.body("cuda", when=serves_product)
def batched_matmul_forward_cuda(y, a, b):
    launch_product("batched_matmul_forward", y, a, b)


@Kernel
def linear_forward(y, x, w, b):
    np.matmul(x, w.T, out=y)                                                                   # (3)
    y += b


@linear_forward.body("blas", rows="y x")
def linear_forward_blas(y, x, w, b):
    np.matmul(x, w.T, out=y)
    y += b                                         # of the block that this thread has just made


@linear_forward.body("native", rows="y x", when=lambda y, x, w, b: _pays_in_c(y, x, w.T))
def linear_forward_native(y, x, w, b):
    C(y).linear_forward(out(y), ptr(x), ptr(w), ptr(b), *x.shape, len(w))


@linear_forward.body("cuda", when=lambda y, x, w, b: serves_product(y, x, w.T, b))
def linear_forward_cuda(y, x, w, b):
    launch_product("linear_forward", y, x, w.T, b)


# ---- matmul -------------------------------------------------------------------------------------

@method("matmul", "__matmul__")
def matmul(a, b):
    """The product of matrices, with the shapes of NumPy's: (…, n, k) and (…, k, m) -> (…, n, m).

    The axes … broadcast. A vector is a row on the left, a column on the right, and that axis is
    left out of the result.
    ValueError where the shapes do not fit, TypeError where the types differ.
    """
    b = as_tensor(b, like=a)
    left, right, batch = _matrices(a, b)
    n, m = left.shape[-2], right.shape[-1]
    shape = batch + ((n,) if a.ndim > 1 else ()) + ((m,) if b.ndim > 1 else ())
    if right.ndim == 2:                            # one flat product, whatever the axes … of a
        kernel = matmul_forward
        left = left if left.ndim == 2 else _as_rows(left)
    else:
        kernel = batched_matmul_forward
        left, right = _stack(left, batch), _stack(right, batch)
    y = empty_like(left, shape=left.shape[:-1] + (m,))
    kernel(y, left, right)
    return record(y.reshape(shape), (a, b), _pull(kernel, left, right, batch, a, b))


def _matrices(a, b):
    """Both operands as arrays with two axes or more, and the axes … of the result."""
    if not a.ndim or not b.ndim:
        raise ValueError("matmul needs vectors or matrices; multiply by a number with *")
    left = a.data if a.ndim > 1 else a.data[None, :]
    right = b.data if b.ndim > 1 else b.data[:, None]
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        batch = None
    if batch is None or left.shape[-1] != right.shape[-2]:
        raise ValueError(f"matmul cannot multiply the shapes {a.shape} and {b.shape}")
    return left, right, batch


def _stack(x, batch):
    """(…, n, k) -> (P, n, k), P the product of the axes `batch`; a copy only where they repeat."""
    matrix = x.shape[-2:]
    return contiguous(np.broadcast_to(x, batch + matrix)).reshape((math.prod(batch),) + matrix)


def _as_rows(x):  # (…, k) -> (N, k). Where an axis is 0, reshape could not tell N
    return contiguous(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _pull(kernel, left, right, batch, a, b):
    """The closure with the two products of (2).

    It keeps the arrays that went into the product, not the tensors, and skips what nobody wants.
    """
    wanted = a.requires_grad, b.requires_grad
    shapes = a.shape, b.shape
    flat = right.ndim == 2

    def vjp(dy):
        da = db = None
        dy = contiguous(dy).reshape(left.shape[:-1] + right.shape[-1:])
        if wanted[0]:
            da = empty_like(left)
            kernel(da, dy, right.swapaxes(-1, -2))                                             # (2)
            da = da.reshape(shapes[0]) if flat else _unstack(da, batch, shapes[0])
        if wanted[1]:
            db = empty_like(right)
            kernel(db, left.swapaxes(-1, -2), dy)                                              # (2)
            db = db.reshape(shapes[1]) if flat else _unstack(db, batch, shapes[1])
        return da, db
    vjp.__qualname__ = "matmul"                    # what messages call the operation
    return vjp


def _unstack(grad, batch, shape):
    """(P, n, k) -> the shape of an operand: the sum over the axes along which it was repeated."""
    matrix = grad.shape[1:]
    return unbroadcast(grad.reshape(batch + matrix), shape[:-2] + matrix).reshape(shape)


method("__rmatmul__")(lambda b, a: matmul(as_tensor(a, like=b), b))  # a NumPy array @ a tensor


# ---- linear -------------------------------------------------------------------------------------

def linear(x, w, b=None, activation=None, product=matmul_forward):
    """x·wᵀ + b, and then gelu if activation="gelu": one node of the tape.

    product: the kernel that multiplies, forward and backward, such as one of lesson mixed.

    x (…, C), w (F, C), b (F,) or None -> (…, F).
    ValueError for shapes that do not fit, TypeError where the types differ.
    """
    _check_linear(x, w, b, activation)
    rows, weight = _as_rows(x.data), contiguous(w.data)
    y = empty_like(rows, shape=(len(rows), len(weight)))
    z = bias = None
    if activation:
        bias = zeros_like(weight, shape=len(weight)) if b is None else b.data
        z = empty_like(y)
        product(z, rows, weight.T)
        bias_gelu_forward(y, z, bias)                                                          # (5)
    elif b is None:
        product(y, rows, weight.T)
    elif product is not matmul_forward:
        product(y, rows, weight.T)
        y += b.data
    else:
        linear_forward(y, rows, weight, b.data)
    parents = (x, w) if b is None else (x, w, b)
    shape, wanted = x.shape, [t.requires_grad for t in parents] + [False]

    def vjp(dy):
        dy = contiguous(dy).reshape(len(rows), len(weight))
        db = empty_like(weight, shape=len(weight)) if wanted[2] or activation else None
        if activation:
            dz = empty_like(z)
            bias_gelu_backward(dz, db, dy, z, bias)                                            # (5)
            dy = dz
        elif wanted[2]:
            sum_rows(db, dy)                                                                   # (4)
        dx, dw = linear_backward(dy, rows, weight, *wanted[:2], product=product)
        return (None if dx is None else dx.reshape(shape), dw, db)[:len(wanted) - 1]
    return record(y.reshape(*shape[:-1], len(weight)), parents, vjp)


def linear_backward(dy, x, w, wants_dx=True, wants_dw=True, product=matmul_forward):
    """dx (N, C) and dw (F, C) of y = x·wᵀ from dy (N, F): (4).

    Plain arrays. None takes the place of a gradient that is not wanted: each costs a product.
    """
    dx = dw = None
    if wants_dx:
        dx = empty_like(x)
        product(dx, dy, w)
    if wants_dw:
        dw = empty_like(w)
        product(dw, dy.T, x)
    return dx, dw


def _check_linear(x, w, b, activation):
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1]:
        raise ValueError(f"linear needs x (…, in) and w (out, in), not {x.shape} and {w.shape}")
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"linear needs one bias an output, {w.shape[:1]}, not {b.shape}")
    if activation not in (None, "gelu"):
        raise ValueError(f"linear can be fused with 'gelu', not with {activation!r}")
    for other in (w,) if b is None else (w, b):
        as_tensor(other, like=x)


def _measure(N=1024, K=384, M=1536, rounds=5):
    """Print GFLOP/s of one thread for each step towards a fast product, in float32."""
    from time import thread_time
    random = np.random.default_rng(0)
    y, a, b = (random.standard_normal(shape, np.float32) for shape in ((N, M), (N, K), (K, M)))
    steps = {"naive": lambda: C(y).matmul_naive(out(y), ptr(a), ptr(b), N, K, M),
             "tiled": lambda: C(y).matmul_tiled(out(y), ptr(a), ptr(b), N, K, M),
             "packed": lambda: matmul_forward_native(y, a, b), "blas": lambda: np.matmul(a, b, y)}
    for name, step in steps.items():
        with one_blas_thread():
            times = [(step(), thread_time())[1] for _ in range(rounds)]
        print(f"{name}_gflops={2e-9 * N * K * M / np.diff(times).min():.1f}", end=" ")


if __name__ == "__main__":
    _measure()
