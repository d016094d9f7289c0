"""Lesson 7.2 · LoRA: fine-tune a large matrix by two thin ones

Needs activation, blocks, kernel, layers, matmul, memory, module, packed, tensor. Used by adapter,
scripts/finetune.py.

Idea      Training a model needs several times the memory of using it: gradients and the optimizer's
          averages for every weight. But what fine-tuning changes in a weight matrix is of low rank,
          nearly: a few directions suffice. So the matrix is frozen and the change is trained, as
          the product of two thin matrices with a hundredth of the numbers. Afterwards the product
          is added to the matrix and nothing is left that would cost time; or it is kept apart, as
          an adapter of some megabytes beside a base that many adapters share. And as the base is
          only read, it may as well be stored in four bits a weight (QLoRA).
Math      y = x·(W + s·B·A)ᵀ + b = x·Wᵀ + h·Bᵀ + b,  h = s·x·Aᵀ    s = α/r, W and b stay        (1)
          u = s·dy·B     dx = dy·W + u·A     dA = uᵀ·x     dB = dyᵀ·h                           (2)
          at the start B = 0, so y is what it was, and A is uniform within ±1/√in               (3)
          in four bits: W is what the blocks of lesson blocks say, unpacked where it is needed  (4)
Shapes    x (…, in) · y (…, out) · W (out, in) · A (r, in) · B (out, r) · h, u (N, r), N rows of x
Pitfalls  With both at zero both gradients (2) are zero, for ever. With neither at zero the model
          begins spoiled. One of them, (3).
          s belongs to the adapter: the same A and B with another α are another adapter.
          An optimizer that was made before the layers were replaced trains what nobody uses.
          A base in four bits is another model than the one it was rounded from: compare adapters
          on the base that they were trained on, and merge into that one.
          An adapter wants a learning rate some times higher than all weights do, and three times
          that is too much: measure it, below.
Cost      dW, a third of the work of training, is never computed. The thin products of (1) and (2)
          have hardly any arithmetic; what they cost is to read x, y and dy once more. So what they
          add to is added to in pieces that fit a core's cache. To put W + s·B·A together first
          needs no second pass over y, but passes over W, for every call: slower, unless N is far
          above in and out. Memory: no gradient and no averages but for r·(in + out) numbers a
          layer; of activations x and h are kept, what the layers around keep weighs more. Beside
          transformers and peft (python scripts/bench_lora.py --vs peft, two cores, the shape of
          SmolLM2-135M): 1.3 to 1.6 times as many tokens a second, in 1.3 GB where they take 2.9.
Try       build it    rank-stabilised LoRA: s = α/√r. At which r does it matter?
          break it    start with A = 0 and B = 0. Which test notices?
          measure it  python scripts/bench_lora.py. Then two trainings on the same questions, for a
                      base of 0.4 million numbers, made by train_sft.py --slips 0 --base-steps 400:
                      python scripts/make_data.py sort --level 4 --count 4000 --out sort.jsonl
                      python scripts/finetune.py runs/base --data sort.jsonl --ask 300 --steps 150
                      --batch 16 --rank 2 --lr 1e-2, and --full --lr 2e-3 in place of the last two:
                      1.92 % of the numbers trained, or all; 100.0 % of the held-out answers exact
                      with both. Of brackets (without --level) 99.3 and 97.3 %
See       Hu et al. 2021, eq. 3 and section 4.1 · Dettmers et al. 2023 (QLoRA) · Biderman et al.
          2024 (where it falls behind)
"""

import math

import numpy as np

from ..files.blocks import to_blocks
from ..kernel import Kernel
from ..memory import contiguous, empty_like
from ..nn.layers import Linear
from ..nn.module import Module
from ..ops.activation import gelu
from ..ops.matmul import matmul_forward
from ..ops.packed import Packed
from ..tensor import Tensor, record

FOUR_BITS = "Q4_0"
PIECE = 128  # rows that a thin product is added to at a time


@Kernel(inout="y")
def add_product(y, a, b):
    y += a @ b


@add_product.body("blas", rows="y a")
def add_product_blas(y, a, b):
    for low in range(0, len(y), PIECE):
        y[low : low + PIECE] += a[low : low + PIECE] @ b


def adapted_linear(x, weight, bias, a, b, scale):
    """(1): x (…, in) -> (…, out), with gradients for x, a and b.

    weight: a function without arguments, the frozen W (out, in) as an array; it is called again for
    the gradient of x. bias: an array (out,) or None. a (r, in), b (out, r): Tensors.
    """
    rows, shape = contiguous(x.data).reshape(-1, x.shape[-1]), x.shape
    wanted, out = x.requires_grad, b.shape[0]
    h = scaled_product(rows, a.data.T, scale)                                     # (N, r)
    y = empty_like(rows, shape=(len(rows), out))
    matmul_forward(y, rows, weight().T)
    add_product(y, h, contiguous(b.data.T))                                                    # (1)
    if bias is not None:
        y += bias

    def vjp(dy):
        dy = contiguous(dy).reshape(-1, out)
        dx, da, db = None, empty_like(a.data), empty_like(b.data)
        u = scaled_product(dy, b.data, scale)                                     # (N, r)
        matmul_forward(da, u.T, rows)                                                          # (2)
        matmul_forward(db, dy.T, h)
        if wanted:
            dx = empty_like(rows)
            matmul_forward(dx, dy, weight())
            add_product(dx, u, a.data)
            dx = dx.reshape(shape)
        return dx, da, db
    return record(y.reshape(*shape[:-1], out), (x, a, b), vjp)


def scaled_product(x, w, scale):
    """scale·x·w, the thin side of (1) and (2)."""
    y = empty_like(x, shape=(len(x), w.shape[1]))
    matmul_forward(y, x, w)
    y *= scale
    return y


class FourBits(Module):
    """A linear layer that is only read, its weight in blocks of four bits: (4)."""

    def __init__(self, layer):
        self.raw = to_blocks(layer.weight.data, FOUR_BITS)         # (out, bytes), a buffer
        self.bias = layer.bias

    def dense(self):
        """W as an array, unpacked now."""
        return Packed(self.raw, FOUR_BITS).rows(slice(None))


class LoRA(Module):
    """(1) in the place of a linear layer. rank: r; alpha: α; random draws A."""

    def __init__(self, layer, rank, alpha, random, four_bit=False):
        out, inputs = layer.weight.shape
        dtype = layer.weight.dtype
        self.base = FourBits(layer) if four_bit else layer
        bound = 1 / math.sqrt(inputs)
        first = random.uniform(-bound, bound, (rank, inputs)).astype(dtype)
        self.lora_A = Tensor(first, requires_grad=True)                                        # (3)
        self.lora_B = Tensor(np.zeros((out, rank), dtype), requires_grad=True)
        self.rank, self.alpha = rank, alpha

    @property
    def scale(self):
        """s of (1)."""
        return self.alpha / self.rank

    def weight(self):
        """The frozen W, an array."""
        if isinstance(self.base, FourBits):
            return self.base.dense().astype(self.lora_A.dtype, copy=False)
        return self.base.weight.data

    def merged(self):
        """W + s·B·A, an array."""
        change = self.scale * self.lora_B.data @ self.lora_A.data
        return self.weight() + change

    def forward(self, x, activation=None):
        """x (…, in) -> (…, out); activation as in lesson layers."""
        bias = None if self.base.bias is None else self.base.bias.data
        y = adapted_linear(x, self.weight, bias, self.lora_A, self.lora_B, self.scale)
        return gelu(y) if activation == "gelu" else y


def freeze(model):
    """No parameter of the model wants a gradient any more; returns it."""
    for tensor in model.parameters():
        tensor.requires_grad = False
    return model


def linear_names(model, targets=()):
    """The names of the linear layers that end in one of `targets`; all but the head without any.

    ValueError, with the endings that there are, where none does.
    """
    names = [name for name, module in model.walk() if isinstance(module, Linear)]
    ends = {name.rpartition(".")[2] for name in names} - {"lm_head"}
    unknown = set(targets) - ends
    if unknown or not ends:
        raise ValueError(f"this model has no linear layer {', '.join(sorted(unknown)) or 'at all'}"
                         f"; it has {', '.join(sorted(ends)) or 'none'}")
    wanted = set(targets) or ends
    return [name for name in names if name.rpartition(".")[2] in wanted]


def add_lora(model, rank=8, alpha=16.0, targets=(), seed=0, four_bit=False):
    """Freeze a model and put LoRA in the place of its linear layers; returns it.

    targets: last parts of their names, such as q_proj; all but the head by default. four_bit: keep
    the frozen matrices in blocks of four bits. Make the optimizer afterwards.
    """
    names = linear_names(model, targets)
    thin = min(min(model.find(name).weight.shape) for name in names)
    if rank > thin:
        raise ValueError(f"a rank of {rank} is no saving: the smallest matrix has {thin} rows or "
                         "columns")
    freeze(model)
    for place, name in enumerate(names):
        random = np.random.default_rng((seed, place))
        layer = LoRA(model.find(name), rank, alpha, random, four_bit)
        model.replace(name, layer)
    return model


def lora_layers(model):
    """(name, LoRA) of every adapted layer."""
    return [(name, module) for name, module in model.walk() if isinstance(module, LoRA)]


def merge_lora(model):
    """Put plain linear layers with W + s·B·A in the places of all adapted ones; returns the model.

    Nothing is lost but the thin matrices: the result computes what the adapted model did.
    """
    for name, layer in lora_layers(model):
        out, inputs = layer.lora_B.shape[0], layer.lora_A.shape[1]
        plain = layer.base
        if isinstance(plain, FourBits):
            plain = Linear(inputs, out, None, bias=False, dtype=layer.lora_A.dtype)
            plain.bias = layer.base.bias
        plain.weight.assign(layer.merged())
        model.replace(name, plain)
    return model


def trained_share(model):
    """The share of a model's numbers that training changes; frozen ones of four bits count too."""
    trained = sum(tensor.size for tensor in model.parameters() if tensor.requires_grad)
    packed = sum(layer.weight().size for _, layer in lora_layers(model)
                 if isinstance(layer.base, FourBits))
    return trained / (sum(tensor.size for tensor in model.parameters()) + packed)


class TrainedPart:
    """Of a model only what is trained: what a checkpoint of an adapter holds.

    config: the model's, as a checkpoint notes it.
    """

    def __init__(self, model):
        self.config = model.config
        self.tensors = {name: t for name, t in model.named_parameters() if t.requires_grad}

    def named_parameters(self):
        """(name, tensor) pairs, for an optimizer."""
        return self.tensors.items()

    def state(self):
        """Name -> array, not copied."""
        return {name: tensor.data for name, tensor in self.tensors.items()}

    def load_state(self, arrays):
        """Copy arrays into the tensors; ValueError where they are others."""
        if arrays.keys() != self.tensors.keys():
            raise ValueError("this checkpoint is of another adapter, or of a whole model")
        for name, tensor in self.tensors.items():
            tensor.assign(arrays[name])
