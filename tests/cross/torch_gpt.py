"""The GPT of models/gpt.py in plain PyTorch, its peer in tests and comparisons.

PyTorch's own layers and attention, unfused, with all logits at once.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TorchAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x):
        parts = self.c_attn(x).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class TorchMLP(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class TorchBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = TorchAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = TorchMLP(width)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class TorchGPT(nn.Module):
    """Parameters have the names of ours. First weights: normal, as GPT-2 has them."""

    def __init__(self, config, real):
        super().__init__()
        self.wte = nn.Embedding(config.vocabulary, config.width)
        self.wpe = nn.Embedding(config.context, config.width)
        blocks = [TorchBlock(config.width, config.heads) for _ in range(config.layers)]
        self.h = nn.ModuleList(blocks)
        self.ln_f = nn.LayerNorm(config.width)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                inner = name.endswith("c_proj.weight")
                std = 0.02 / math.sqrt(2 * config.layers) if inner else 0.02
                nn.init.normal_(parameter, std=std)
        self.to(torch.float64 if real == np.float64 else torch.float32)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T

    def loss(self, ids, targets, reduction="mean"):
        logits = self(ids).flatten(0, 1)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction=reduction)
