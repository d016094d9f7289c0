"""The training of train_gpt.py in plain PyTorch: the same text, tokens and flags, its own draws.

    python tests/cross/train_in_torch.py PLAYS.txt --seed 1

Prints the loss on the whole held-out text, to be held against ours of the same flags. PyTorch has
to be installed beside the library. The defaults are those of the character GPT in README.md.
"""

import argparse

import numpy as np
import torch

from tinygrad_edu.data.loader import evaluation_batches, token_stream
from tinygrad_edu.data.sources import read_corpus
from tinygrad_edu.models.gpt import GPTConfig
from tinygrad_edu.nn.schedule import warmup_cosine
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters
from torch_gpt import TorchGPT


def main():
    """Read, train, evaluate."""
    flags = read_flags()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(flags.seed)
    corpus = read_corpus(flags.data)
    tokenizer = train_characters([text for _, text in corpus.train + corpus.held_out])
    train, held_out = (token_stream(part, tokenizer.encode, tokenizer.special[END_OF_TEXT])
                       for part in (corpus.train, corpus.held_out))
    config = GPTConfig(tokenizer.vocab_size, flags.context, flags.layers, flags.heads, flags.width)
    model = TorchGPT(config, np.float32)
    fit(model, torch.tensor(train, dtype=torch.int64), flags)
    total, count = 0.0, 0
    with torch.no_grad():
        for x, y in evaluation_batches(held_out, flags.batch, flags.context):
            ids, targets = (torch.tensor(part, dtype=torch.int64) for part in (x, y))
            total += model.loss(ids, targets, "sum").item()
            count += int((y >= 0).sum())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"val_loss={total / count:.4f} params={parameters} steps={flags.steps} seed={flags.seed}")


def read_flags():
    """Those of train_gpt.py that matter here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    defaults = {"seed": 1, "threads": 2, "layers": 4, "heads": 4, "width": 128, "context": 64,
                "batch": 12, "steps": 2000, "warmup": 100, "lr": 1e-3, "min-lr": 1e-4,
                "beta1": 0.9, "beta2": 0.99, "decay": 0.1, "clip": 1.0}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def fit(model, stream, flags):
    """AdamW with decay on the matrices, warm-up and cosine, clipping by the global norm."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": flags.decay},
              {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=flags.lr, betas=(flags.beta1, flags.beta2), eps=1e-8)
    for step in range(flags.steps):
        starts = torch.randint(len(stream) - flags.context, (flags.batch,))
        window = stream[starts[:, None] + torch.arange(flags.context + 1)]
        model.loss(window[:, :-1], window[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), flags.clip)
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, flags.steps, flags.lr, flags.min_lr, flags.warmup)
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
