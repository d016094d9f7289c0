"""Lesson 2.11 · Cross entropy, alone and fused with the head

Needs embedding, foreign, kernel, launch, loops, matmul, memory, reduce, softmax, tensor, watch.
Used by every model.

Idea      The loss of a language model is the surprise at the token that really came: minus the
          logarithm of its probability. Its gradient is as simple as a gradient can be: predicted
          probability minus what came. The head, the last linear layer of the model, makes a logit
          for each token of the vocabulary, and their softmax is the probabilities. The logits of
          all positions would be the largest array of the whole model, and they are needed for one
          number a row. So the product of the head and the loss are taken together, a chunk of rows
          at a time, and while the logits of a chunk are there, their gradients are turned into
          those of x and W at once.
Math      lse = ln Σᵥ eᶻᵛ     q = (1 − ε)·one-hot(t) + ε/V, ε the label smoothing
          ℓ = lse − Σᵥ qᵥ·zᵥ = lse − (1 − ε)·zₜ − ε·mean(z)                                    (1)
          dz = dℓ·(softmax(z) − q)                                                            (2)
          mean: L = Σ ℓₙ / K, K the number of targets that are not ignored; L = 0 if K = 0    (3)
          with the head, z = x·Wᵀ:   dx = dz·W     dW = Σ dzᵀ·x over chunks                   (4)
Shapes    logits (…, V), targets (…) integers · x (…, C), W (V, C) · N rows: the product of axes …
          saved: lse (N,) without the head; dx (N, C) and dW (V, C) with it
Pitfalls  A mean over all positions, ignored ones included, makes padding look like progress.
          The mean of the means of two batches is not the mean over both unless K is the same.
          lse − zₜ in float32 is good to 10⁻² only where z is around 10⁵: the loss of a row is put
          together in float64, from differences to the maximum.
          A row of nothing but −∞ has no probabilities: its loss is NaN, not 0.
          (2) is linear in dℓ, so the head can scale dx and dW by dℓ afterwards. That holds for one
          dℓ a batch, not for one a row: reduction="none" with a gradient keeps all logits.
Cost      The head: three products of N·V·C, as any linear layer, but memory for one chunk, whose
          gradients lie where its logits were. To make them along the way saves a fourth product;
          the price is that dx and dW wait in memory from the forward to the backward pass. A chunk
          is 16 MiB of logits, at least 512 rows. The loss alone is bound by exp, not by memory.
Try       build it    z-loss: add 10⁻⁴·lse² to ℓ. What does it add to (2)?
          break it    divide by N in place of K. Which tests notice?
          measure it  linear_cross_entropy against cross_entropy(linear(…)), with memory.Meter
See       Szegedy et al. 2016 (label smoothing) · Wijmans et al. 2024 (loss without the logits)
"""

import math
from functools import partial

import numpy as np

from ..foreign import C, fits, out, ptr
from ..gpu.launch import G, row_threads, serves
from ..kernel import Kernel
from ..loops import exp, helper
from ..memory import beside, contiguous, empty_like, zeros_like
from ..tensor import Tensor, method, record
from ..watch import looks, told
from .embedding import must_be_inside
from .matmul import linear, matmul_forward
from .reduce import floating
from .softmax import row_shift, shift

CHUNK_BYTES = 1 << 24                              # of logits that are there at a time
CHUNK_ROWS = 512                                   # but never fewer rows than these
LONG = 1024                                        # threads of a block on a GPU, for long rows
PART_ROWS = 2048                                   # of dW are added to at a time

# ---- kernels ------------------------------------------------------------------------------------
#
# forward and backward are the halves of cross_entropy, with lse saved in between; both does the two
# at once, for the head, where every row has the same dℓ, the number `scale`: 1/K for the mean, (3).

@Kernel(outputs=2)
def cross_entropy_forward(loss, lse, z, targets, ignore, smoothing):
    kept = targets != ignore
    near = z - shift(z)
    log = np.log(np.exp(near).sum(axis=1))
    lse[...] = log + shift(z)[:, 0]
    loss[...] = log - _at(near, targets, kept)                                                 # (1)
    if smoothing:
        loss += smoothing * (_at(near, targets, kept) - near.mean(axis=1))
    loss[~kept] = 0


def _at(z, targets, kept):
    """The number at each row's target; any number where the target is ignored."""
    return z[np.arange(len(z)), np.where(kept, targets, 0)]


@helper
def row_target(row, t, top, smoothing):
    """Σ qᵥ·(zᵥ − m) of a row, in float64; with ln Σ eᶻ⁻ᵐ it makes (1), and m drops out."""
    at = float(row[t]) - float(top)
    if smoothing > 0:
        mean = 0.0
        for v in range(row.size):
            mean += float(row[v]) - float(top)
        at += smoothing * (mean / row.size - at)
    return at


@cross_entropy_forward.body("numba", rows="loss lse z targets")
def cross_entropy_forward_numba(loss, lse, z, targets, ignore, smoothing):
    real = z.dtype.type
    N, V = z.shape
    for n in range(N):
        top = row_shift(z[n])
        total = real(0)
        for v in range(V):
            total += exp(z[n, v] - top)
        lse[n] = real(math.log(float(total)) + float(top))
        loss[n] = real(0)
        if targets[n] != ignore:
            at = row_target(z[n], targets[n], top, smoothing)
            loss[n] = real(math.log(float(total)) - at)                                        # (1)


@cross_entropy_forward.body("native", rows="loss lse z targets", when=fits)
def cross_entropy_forward_native(loss, lse, z, targets, ignore, smoothing):
    C(z).cross_entropy_forward(out(loss), out(lse), ptr(z), ptr(targets), ignore, smoothing,
                               *z.shape)


@cross_entropy_forward.body("cuda", when=serves)
def cross_entropy_forward_cuda(loss, lse, z, targets, ignore, smoothing):
    N, V = z.shape
    arguments = loss, lse, z, targets, ignore, np.float64(smoothing), V
    G(z).cross_entropy_forward(N, row_threads(V, LONG), arguments)


@Kernel
def cross_entropy_backward(dz, dy, z, lse, targets, ignore, smoothing):
    kept = targets != ignore
    dz[...] = np.exp(z - lse[:, None]) - smoothing / z.shape[1]
    dz[np.arange(len(z)), np.where(kept, targets, 0)] -= 1 - smoothing
    dz *= (dy * kept)[:, None]                                                                 # (2)


@cross_entropy_backward.body("numba", rows="dz dy z lse targets")
def cross_entropy_backward_numba(dz, dy, z, lse, targets, ignore, smoothing):
    real = z.dtype.type
    N, V = z.shape
    share = real(smoothing / V)
    for n in range(N):
        scale = real(0) if targets[n] == ignore else dy[n]      # a row of zeros if ignored
        for v in range(V):
            dz[n, v] = scale * (exp(z[n, v] - lse[n]) - share)                                 # (2)
        if targets[n] != ignore:
            dz[n, targets[n]] -= scale * real(1 - smoothing)


@cross_entropy_backward.body("native", rows="dz dy z lse targets", when=fits)
def cross_entropy_backward_native(dz, dy, z, lse, targets, ignore, smoothing):
    C(dz).cross_entropy_backward(out(dz), ptr(dy), ptr(z), ptr(lse), ptr(targets), ignore,
                                 smoothing, *z.shape)


@cross_entropy_backward.body("cuda", when=serves)
def cross_entropy_backward_cuda(dz, dy, z, lse, targets, ignore, smoothing):
    N, V = z.shape
    arguments = dz, dy, z, lse, targets, ignore, np.float64(smoothing), V
    G(z).cross_entropy_backward(N, row_threads(V, LONG), arguments)


@Kernel(outputs=1, inout="z")
def cross_entropy_both(loss, z, targets, scale, ignore, smoothing):
    lse = loss.copy()                              # a place for it: nobody asks
    cross_entropy_forward.__wrapped__(loss, lse, z, targets, ignore, smoothing)
    cross_entropy_backward.__wrapped__(z, np.full_like(lse, scale), z, lse, targets, ignore,
                                       smoothing)


@cross_entropy_both.body("numba", rows="loss z targets")
def cross_entropy_both_numba(loss, z, targets, scale, ignore, smoothing):
    real = z.dtype.type
    N, V = z.shape
    share = real(scale * smoothing / V)
    for n in range(N):
        t = targets[n]
        if t == ignore:
            loss[n] = real(0)
            z[n, :] = real(0)
            continue
        top = row_shift(z[n])
        at = row_target(z[n], t, top, smoothing)   # before the logits are gone
        total = real(0)
        for v in range(V):
            z[n, v] = exp(z[n, v] - top)           # kept here until their sum is known
            total += z[n, v]
        loss[n] = real(math.log(float(total)) - at)                                            # (1)
        factor = real(scale) / total
        for v in range(V):
            z[n, v] = z[n, v] * factor - share                                                 # (2)
        z[n, t] -= real(scale * (1 - smoothing))


@cross_entropy_both.body("native", rows="loss z targets", when=fits)
def cross_entropy_both_native(loss, z, targets, scale, ignore, smoothing):
    C(z).cross_entropy_both(out(loss), out(z), ptr(targets), scale, ignore, smoothing, *z.shape)


@cross_entropy_both.body("cuda", when=serves)
def cross_entropy_both_cuda(loss, z, targets, scale, ignore, smoothing):
    N, V = z.shape
    arguments = loss, z, targets, np.float64(scale), ignore, np.float64(smoothing), V
    G(z).cross_entropy_both(N, row_threads(V, LONG), arguments)


# ---- ops ----------------------------------------------------------------------------------------

@method
def cross_entropy(logits, targets, ignore=-1, label_smoothing=0.0, reduction="mean"):
    """The surprise at the targets, in nats. logits (…, V), targets (…) integers, array or Tensor.

    ignore: a target that does not count, such as padding or a prompt.
    label_smoothing: the share ε of the probability that is spread evenly over the vocabulary.
    reduction: "mean" over those that count, (3), or "sum", both of shape (), or "none": the loss
    of each target, (…), 0 where it is ignored.
    IndexError for a target outside the vocabulary, ValueError where shapes or options do not fit.
    """
    shape, V = logits.shape, logits.shape[-1:]
    flat = _checked(shape[:-1], V, targets, ignore, label_smoothing, reduction)
    z = contiguous(floating(logits, "cross_entropy")).reshape(len(flat), *V)  # (N, V)
    loss, lse = (empty_like(z, shape=flat.shape) for _ in range(2))
    scale = told(_scale, flat, ignore, reduction, empty_like(z, (), np.float64), writes=3)
    flat = beside(flat, z)
    cross_entropy_forward(loss, lse, z, flat, ignore, label_smoothing)

    def vjp(dy):
        each, dz = empty_like(lse), empty_like(z)
        told(np.multiply, dy.reshape(-1), scale, each, writes=2)
        cross_entropy_backward(dz, each, z, lse, flat, ignore, label_smoothing)
        return dz.reshape(shape),
    return record(_reduced(loss, scale, reduction, targets), (logits,), vjp)


def linear_cross_entropy(x, w, targets, ignore=-1, label_smoothing=0.0, reduction="mean",
                         product=matmul_forward):
    """cross_entropy(linear(x, w), targets, …) that never holds all logits.

    x (…, C), w (V, C), targets (…). The kernel `product` multiplies; the rest is cross_entropy's.
    The gradients are computed along with the loss, where they are wanted; under no_grad only the
    losses are. One case holds all logits: reduction="none" with a gradient, see the Pitfalls.
    """
    flat = _checked(x.shape[:-1], w.shape[:1], targets, ignore, label_smoothing, reduction)
    if w.ndim != 2 or not x.ndim or x.shape[-1] != w.shape[1] or x.dtype != w.dtype:
        raise ValueError(f"the head needs x (…, in) and w (out, in) of one type, not {x.dtype} "
                         f"{x.shape} and {w.dtype} {w.shape}")
    rows = contiguous(floating(x, "linear_cross_entropy")).reshape(len(flat), x.shape[-1])
    loss, total = (empty_like(rows, shape=shape) for shape in (flat.shape, ()))
    looks("the count of targets in linear_cross_entropy")
    scale, flat = float(_scale(flat, ignore, reduction, np.empty(()))), beside(flat, rows)
    grads = [None, None]                           # of x and w, filled in below

    def vjp(dy):
        for grad in grads:
            if grad is not None and dy != 1:       # 1 where the loss is where the walk begins
                np.multiply(grad, dy, out=grad)    # in place: this closure runs once
        return tuple(grads)
    # Recorded before it is computed: the tape knows whether anybody is going to want gradients.
    result = record(total, (x, w), vjp)
    if result.requires_grad and reduction == "none":
        logits = linear(x, w, product=product)
        return cross_entropy(logits, targets, ignore, label_smoothing, reduction)
    if result.requires_grad:
        grads[0] = empty_like(rows) if x.requires_grad else None
        grads[1] = zeros_like(w.data) if w.requires_grad else None
    _chunks(loss, grads, rows, contiguous(w.data), flat, product, scale, ignore, label_smoothing)
    if grads[0] is not None:
        grads[0] = grads[0].reshape(x.shape)
    if reduction == "none":
        return Tensor(_reduced(loss, scale, reduction, targets))
    told(np.copyto, total, _reduced(loss, scale, reduction, targets))
    return result


def _chunks(loss, grads, x, w, targets, product, *options):
    """Fill in the losses, and the gradients of x and w that are not None: (4)."""
    dx, dw = grads
    step = max(1, min(len(x), max(CHUNK_ROWS, CHUNK_BYTES // (len(w) * w.itemsize))))
    logits, lse = empty_like(x, shape=(step, len(w))), empty_like(x, shape=step)
    for low in range(0, len(x), step):
        some = slice(low, low + step)
        z = logits[:len(x[some])]                  # the last chunk may be shorter
        product(z, x[some], w.T)
        if dx is None and dw is None:
            cross_entropy_forward(loss[some], lse[:len(z)], z, targets[some], *options[1:])
            continue
        cross_entropy_both(loss[some], z, targets[some], *options)              # z is dz from here
        if dx is not None:
            product(dx[some], z, w)
        if dw is not None:
            (partial(_add_product, product) if low else product)(dw, z.T, x[some])


def _add_product(product, y, a, b):
    """y += a·b, some rows at a time: what is added is still in the cache when it is."""
    part = empty_like(y, shape=(min(len(y), PART_ROWS), y.shape[1]))
    for low in range(0, len(y), PART_ROWS):
        some = y[low:low + PART_ROWS]
        product(part[:len(some)], a[low:low + PART_ROWS], b)
        told(np.add, some, part[:len(some)], some)


def _scale(targets, ignore, reduction, out):
    """What every loss is multiplied by, an array (): 1/K for the mean, (3)."""
    out[...] = 1.0 if reduction != "mean" else 1 / max(1, int((targets != ignore).sum()))
    return out


def _reduced(loss, scale, reduction, targets):
    """The result that the user asked for: a sum is taken in float64 and rounded once."""
    if reduction == "none":
        return loss.reshape(np.shape(targets))
    whole, total = (empty_like(loss, (), dtype) for dtype in (np.float64, loss.dtype))
    told(np.sum, loss, None, np.float64, whole, writes=3)
    return told(np.multiply, whole, scale, total, writes=2)                                    # (3)


def _checked(shape, vocabulary, targets, ignore, smoothing, reduction):
    """The targets as a flat array of 64-bit integers, each ignored or in the vocabulary."""
    targets = targets.data if isinstance(targets, Tensor) else targets
    targets = np.asarray(targets) if isinstance(targets, (list, tuple, int)) else targets
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets are integers, not {targets.dtype}")
    if targets.shape != shape or not all(vocabulary) or not vocabulary:
        raise ValueError(f"logits {(*shape, *vocabulary)} need a vocabulary and targets {shape}, "
                         f"not {targets.shape}")
    if reduction not in ("mean", "sum", "none") or not 0 <= smoothing < 1:
        raise ValueError("cross entropy needs a reduction 'mean', 'sum' or 'none' and a label "
                         f"smoothing in [0, 1), not {reduction!r} and {smoothing}")
    flat = contiguous(targets).reshape(-1).astype(np.int64, copy=False)
    told(must_be_inside, vocabulary[0], flat, ignore, "target", writes=None)
    return flat
