"""Lesson 2.19 · Attention

Needs attention_cuda, attention_kernels, attention_weights, foreign, memory, reduce, tensor,
threads.
Used by models/gpt.py.

Idea      Every position of a text asks a question (its query). Every position also shows a label
          (its key) and has something to say (its value). The better a label answers the question,
          the larger is the share of that value in what the asking position receives. Several heads
          do this side by side, each with questions and labels of its own. A language model is
          causal: nobody may look at what comes later, or it would read the answer off.
Math      y = softmax(scale·q·kᵀ + mask)·v     over the keys that a query may see               (1)
          query t stands at position start + t and sees the keys up to there, below length, of
          its own segment; the lesson on attention weights has this rule as a formula           (2)
Shapes    q, y (B, H, T, D) · k, v (B, G, S, D), H a multiple of G: neighbouring heads share keys
          packed: qkv (B, T, (H + 2G)·D) holds q, k and v of all heads side by side, y (B, T, H·D)
          saved: q, k, v, y and lse (B, H, T)
Pitfalls  A chunk of queries with a cache must give what the whole text at once gives. Code that
          counts positions from the chunk's beginning passes every test with one chunk.
          Scores of D random products have the size √D: without scale = 1/√D the softmax picks one
          key at random and passes no gradient.
          Packed, the heads lie side by side in a row, so a head is a view with gaps. Cutting the
          array in three and transposing would copy it four times, forward and backward.
Cost      As the kernels'. The tape keeps what the linear layers around it keep anyway, and lse.
Try       build it    rope's rotation inside `attention_qkv`: q and k are rotated where they lie.
          break it    let start be S − T whatever is asked for. Which tests notice?
          measure it  python -m tinygrad_edu.ops.attention: why is causal not twice as fast as full?
See       Vaswani et al. 2017, section 3.2 · Ainslie et al. 2023 (grouped heads)
"""

import numpy as np

from .. import threads
from ..foreign import lies_in_rows
from ..memory import beside, contiguous, empty_like
from ..tensor import Tensor, method, record
from . import attention_cuda  # noqa: F401  (its bodies register themselves)
from .attention_kernels import attention_backward, attention_forward
from .attention_weights import seen_keys
from .reduce import floating


def _array(a):
    return a.data if isinstance(a, Tensor) else a


def _prepare(q, k, causal, start=None, length=None, segments=None, mask=None, scale=None):
    """The last five arguments of both kernels."""
    (B, H, T, D), S = q.shape, k.shape[2]
    query, key = segments if isinstance(segments, (tuple, list)) else (segments, segments)
    query, key = (beside(_array(ids), q) for ids in (query, key))
    if segments is not None and (query.shape != (B, T) or key.shape != (B, S)):
        raise ValueError(
            f"segment ids have shapes {query.shape} and {key.shape}; {(B, T)} queries and {(B, S)} "
            "keys need segments=(ids of queries, ids of keys), or one array where T = S"
        )
    if isinstance(mask, Tensor) and mask.requires_grad:
        raise ValueError("the mask gets no gradient; pass mask.detach()")
    mask = _array(mask)
    if mask is not None and mask.dtype != q.dtype:
        raise TypeError(
            f"the mask is added to the scores: it must be {q.dtype} (0 where a key is visible, "
            f"-inf where it is not), not {mask.dtype}"
        )
    mask = None if mask is None else _broadcast(mask, (B, H, T, S))
    scale = D**-0.5 if scale is None else float(scale)
    return seen_keys(q, S, causal, start, length), query, key, mask, scale


def _broadcast(mask, shape):
    try:
        return np.broadcast_to(mask, shape)
    except ValueError as error:
        raise ValueError(f"a mask {mask.shape} does not broadcast to scores {shape}") from error


def _refuse(q, k, v):
    fit = q.ndim == k.ndim == 4 and k.shape == v.shape
    if not fit or q.shape[::3] != k.shape[::3] or q.shape[1] % k.shape[1]:
        raise ValueError(
            "attention takes q (B, H, T, D) and k, v (B, G, S, D) with H a multiple of G, "
            f"not {q.shape}, {k.shape}, {v.shape}"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise TypeError(f"q, k and v must have one type, not {q.dtype}, {k.dtype}, {v.dtype}")
    if not q.size or not k.size:
        raise ValueError(f"attention over nothing: q {q.shape} and k {k.shape} have an empty axis")
    floating(q, "attention")


@method
def attention(
    q, k, v, causal=True, start=None, length=None, segments=None, mask=None, scale=None
):
    """Weighted means of values, (1). Vaswani et al. 2017, eq. 1.

    q (B, H, T, D), k and v (B, G, S, D) -> (B, H, T, D). causal, start (B,), length (B,): see
    `seen_keys`. segments: integers (B, S), or a pair (B, T), (B, S); only equal ids see each other.
    mask: added to the scaled scores, broadcast to (B, H, T, S); it gets no gradient. scale: 1/√D by
    default. A query that sees nothing receives zeros. Raises ValueError and TypeError where shapes
    or types do not fit.
    """
    _refuse(q, k, v)
    rest = _prepare(q.data, k.data, causal, start, length, segments, mask, scale)
    # Gaps between rows are welcome: the keys of a cache are a piece of a larger array.
    Q, K, V = (t.data if lies_in_rows(t.data) else contiguous(t.data) for t in (q, k, v))
    y, lse = empty_like(Q), empty_like(Q, Q.shape[:3])
    attention_forward(y, lse, Q, K, V, *rest)

    def vjp(dy):
        dq, dk, dv = empty_like(Q), empty_like(K), empty_like(V)
        attention_backward(dq, dk, dv, contiguous(dy), y, Q, K, V, lse, *rest)
        return dq, dk, dv

    return record(y, (q, k, v), vjp)


def split_heads(a, *counts):
    """Views (B, count, T, D) of (B, T, …·D), one for each of the counts of heads side by side."""
    B, T, W = a.shape
    a = a.reshape(B, T, sum(counts), W // sum(counts)).swapaxes(1, 2)
    ends = np.cumsum(counts).tolist()
    return [a[:, end - count : end] for end, count in zip(ends, counts, strict=True)]


@method
def attention_qkv(qkv, heads, causal=True, groups=None, **options):
    """Self-attention on queries, keys and values that one linear layer has put side by side.

    qkv (B, T, 3C), C = heads·D -> (B, T, C). groups: the number of key/value heads, where they are
    fewer; then qkv is (B, T, (heads + 2·groups)·D). options: length, segments, mask, scale as in
    `attention`. One node on the tape, and no array is transposed.
    """
    H, G = heads, heads if groups is None else groups
    if qkv.ndim != 3 or qkv.shape[2] % (H + 2 * G) or H % G:
        raise ValueError(
            f"attention_qkv takes (B, T, ({H} + 2·{G})·D), {H} a multiple of {G}, not {qkv.shape}"
        )
    if not qkv.size:
        raise ValueError(f"attention over nothing: qkv {qkv.shape} has an empty axis")
    packed = contiguous(floating(qkv, "attention_qkv"))
    q, k, v = split_heads(packed, H, G, G)
    rest = _prepare(q, k, causal, **options)
    y, lse = empty_like(packed, (*packed.shape[:2], H * q.shape[3])), empty_like(q, q.shape[:3])
    attention_forward(*split_heads(y, H), lse, q, k, v, *rest)

    def vjp(dy):
        dqkv = empty_like(packed)
        parts = *split_heads(dqkv, H, G, G), *split_heads(contiguous(dy), H), *split_heads(y, H)
        attention_backward(*parts, q, k, v, lse, *rest)
        return (dqkv,)

    return record(y, (qkv,), vjp)


def _measure(rounds=20):
    from statistics import median
    from time import perf_counter

    for B, H, T, D in ((16, 6, 128, 32), (8, 6, 256, 64)):
        random = np.random.default_rng(0)
        qkv = Tensor(random.standard_normal((B, T, 3 * H * D), np.float32), requires_grad=True)
        dy = np.ones((B, T, H * D), np.float32)
        times = {"causal": [], "full": []}
        for name in [*times] * (rounds + 1):
            start = perf_counter()
            attention_qkv(qkv, H, causal=name == "causal").backward(dy)
            times[name].append(perf_counter() - start)
        ms = " ".join(f"{name}_ms={median(took[1:]) * 1e3:.2f}" for name, took in times.items())
        print(f"B={B} H={H} T={T} D={D} threads={threads.count()} {ms}")


if __name__ == "__main__":
    _measure()
