"""The GPT against PyTorch: logits, gradients, 50 steps of training, published weights.

The PyTorch side is written with PyTorch's own layers, attention, optimizer and clipping, unfused
and with all logits at once. Only numbers are shared: first weights and batches.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tinygrad_edu.data.loader import draw_batch, evaluation_batches
from tinygrad_edu.models.gpt import GPT, GPTConfig, from_published
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.train.loop import evaluate, train_step

torch = pytest.importorskip("torch")
nn = torch.nn
TorchGPT = pytest.importorskip("torch_gpt").TorchGPT  # beside this file; it needs PyTorch itself

CONFIG = GPTConfig(vocabulary=65, context=32, layers=3, heads=4, width=64)
RUN = SimpleNamespace(schedule="cosine", lr=2e-3, min_lr=2e-4, warmup=10, steps=50, clip=1.0,
                      seed=1)
BATCH = 4
BETAS, EPS, DECAY = (0.9, 0.95), 1e-8, 0.1


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait by spinning, which leaves ours no core; it gets one thread here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(real, seed=0):
    """Our model and PyTorch's with the same weights, biases and norms too away from 0 and 1."""
    random = np.random.default_rng(seed)
    ours = GPT(CONFIG, random, real)
    for _, tensor in ours.named_parameters():
        if tensor.ndim == 1:
            tensor.assign(tensor.data + 0.1 * random.standard_normal(tensor.shape).astype(real))
    theirs = TorchGPT(CONFIG, real)
    theirs.load_state_dict({name: torch.tensor(a) for name, a in ours.state().items()})
    return ours, theirs


def text(length=5000):
    """Tokens in which the next one can be guessed from the last two, mostly: something to learn."""
    random = np.random.default_rng(7)
    tokens = list(random.integers(0, CONFIG.vocabulary, length))
    for t in range(2, length):
        if random.random() < 0.8:
            tokens[t] = (3 * tokens[t - 1] + tokens[t - 2] // 8 + 1) % CONFIG.vocabulary
    return np.array(tokens, np.int32)


def as_torch(batch):
    return [torch.tensor(ids, dtype=torch.int64) for ids in batch]


def apart(ours, theirs):
    """The largest difference of two arrays."""
    return float(np.abs(np.asarray(ours) - theirs.detach().numpy()).max())


def torch_training(model):
    """A function that takes a step on a batch and returns (loss, gradient norm)."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RUN.lr, betas=BETAS, eps=EPS)

    def share(step):
        if step < RUN.warmup:
            return (step + 1) / RUN.warmup
        wave = (1 + math.cos(math.pi * (step - RUN.warmup) / (RUN.steps - RUN.warmup))) / 2
        return (RUN.min_lr + (RUN.lr - RUN.min_lr) * wave) / RUN.lr

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)

    def step(x, y):
        optimizer.zero_grad()
        loss = model.loss(x, y)
        loss.backward()
        # clip_grad_norm_ with a limit divides by norm + 1e-6, which is no longer the same to 1e-8.
        norm = nn.utils.clip_grad_norm_(model.parameters(), math.inf)
        for p in model.parameters():
            p.grad *= min(1.0, RUN.clip / norm.item())
        optimizer.step()
        schedule.step()
        return loss.item(), norm.item()

    return step


def train_both(real, parts=1):
    """Both models and (our loss, our norm, their loss, their norm) of every step, (steps, 4).

    parts: into how many micro-batches our side cuts each batch; PyTorch's takes it whole.
    """
    ours, theirs = pair(real)
    optimizer = AdamW(ours.named_parameters(), *BETAS, eps=EPS, decay=DECAY)
    torch_step, tokens, rows = torch_training(theirs), text(), []
    for step in range(RUN.steps):
        x, y = draw_batch(tokens, BATCH, CONFIG.context, RUN.seed, step)
        micro = list(zip(np.split(x, parts), np.split(y, parts), strict=True))
        row = train_step(ours, optimizer, micro, RUN, step)
        rows.append((*row, *torch_step(*as_torch((x, y)))))
    return ours, theirs, np.array(rows)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("real, limit", [(np.float64, 1e-8), (np.float32, 1e-4)])
def test_fifty_steps_of_training_have_the_losses_of_pytorch(real, limit, parts):
    ours, theirs, rows = train_both(real, parts)
    loss, norm, torch_loss, torch_norm = rows.T
    assert np.abs(loss - torch_loss).max() <= limit
    assert np.abs(norm - torch_norm).max() <= 10 * limit * torch_norm.max()
    # What was compared is training: the loss falls, and clipping had something to do, not always.
    assert loss[-5:].mean() < loss[:5].mean() - 0.3
    assert norm.max() > RUN.clip > norm.min()
    if real == np.float64:
        state = ours.state()
        assert all(apart(state[name], p) <= limit for name, p in theirs.named_parameters())


@pytest.mark.parametrize("real, limit", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_logits_and_the_gradient_of_every_parameter_are_those_of_pytorch(real, limit):
    ours, theirs = pair(real)
    x, y = draw_batch(text(), BATCH, CONFIG.context, seed=3, step=0)
    y[0, 5:20] = -1
    y[2] = -1
    torch_x, torch_y = as_torch((x, y))
    with no_grad():
        assert apart(ours(x), theirs(torch_x)) <= limit
        assert apart(ours.next_logits(x), theirs(torch_x)[:, -1]) <= limit
    ours.loss(x, y).backward()
    theirs.loss(torch_x, torch_y).backward()
    gradients = {name: tensor.grad for name, tensor in ours.named_parameters()}
    torch_gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == torch_gradients.keys()
    for name, gradient in torch_gradients.items():
        assert apart(gradients[name], gradient) <= limit, name


def test_a_model_reads_sequences_shorter_than_its_context_like_pytorch():
    ours, theirs = pair(np.float64)
    for length in (1, 2, 31):
        ids = text()[: 2 * length].reshape(2, length)
        with no_grad():
            assert apart(ours(ids), theirs(*as_torch([ids]))) <= 1e-12


def test_the_held_out_loss_is_the_mean_that_pytorch_has_over_every_target():
    ours, theirs = pair(np.float64)
    tokens = text(1000)  # 31 whole windows of 32, and one of 7 targets
    loss, count = evaluate(ours, evaluation_batches(tokens, 3, CONFIG.context))
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, CONFIG.context):
            (window,) = as_torch([tokens[start : start + CONFIG.context + 1]])
            total += theirs.loss(window[None, :-1], window[None, 1:], "sum").item()
    assert count == 999
    assert abs(loss - total / 999) <= 1e-12


def published(model):
    """Weights as those of GPT-2 were published: inner matrices (in, out), with masks and head."""
    arrays = {}
    for name, p in model.state_dict().items():
        inner = ".attn.c_" in name or ".mlp.c_" in name
        array = p.numpy().T if inner and name.endswith("weight") else p.numpy()
        arrays["transformer." + name] = array.copy()
    for layer in range(CONFIG.layers):
        mask = np.tril(np.ones((CONFIG.context, CONFIG.context), bool))[None, None]
        arrays[f"transformer.h.{layer}.attn.bias"] = mask
        arrays[f"transformer.h.{layer}.attn.masked_bias"] = np.array(-1e4, np.float32)
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"].copy()
    return arrays


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_weights_published_by_gpt2_give_the_logits_of_pytorch(prefix):
    _, theirs = pair(np.float64, seed=5)
    arrays = {name.replace("transformer.", prefix): a for name, a in published(theirs).items()}
    assert arrays[f"{prefix}h.0.mlp.c_fc.weight"].shape == (CONFIG.width, 4 * CONFIG.width)
    ours = GPT(CONFIG, np.random.default_rng(0), np.float64)
    ours.load_state(from_published(arrays))
    ids = text()[:64].reshape(2, 32)
    with no_grad():
        assert apart(ours(ids), theirs(*as_torch([ids]))) <= 1e-12
    back = {name: torch.tensor(a) for name, a in ours.state().items()}
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[name], p) for name, p in theirs.state_dict().items())
