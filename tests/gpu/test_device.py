from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest

from tinygrad_edu import watch
from tinygrad_edu.gpu import emulate
from tinygrad_edu.gpu.device import move, ready
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.train.loop import evaluate, train_step

pytestmark = pytest.mark.skipif(not emulate.available(), reason="no C++ compiler here")
PLAN = SimpleNamespace(schedule="cosine", lr=1e-2, min_lr=1e-3, warmup=2, steps=5, clip=0.5, seed=1)


class Bodies(watch.Listener):
    """Which bodies have served, and how many bytes went to the host meanwhile."""

    def __init__(self):
        self.served = set()

    def kernel_ran(self, body, args):
        self.served.add((body.kernel.name, body.backend))


def trained(device="cpu", steps=3):
    """(losses and gradient norms, held-out loss, model, optimizer) of a tiny GPT."""
    model = move(GPT(GPTConfig(40, 16, 2, 2, 16, dropout=0.1), np.random.default_rng(1)), device)
    optimizer = AdamW(model.named_parameters())
    draw = np.random.default_rng(0)
    rows = []
    for step in range(steps):
        ids = draw.integers(0, 40, (2, 2, 17))
        batches = [(part[:, :-1], part[:, 1:]) for part in ids]
        rows.append(train_step(model, optimizer, batches, PLAN, step))
    return rows, evaluate(model, batches)[0], model, optimizer


@pytest.fixture(scope="module")
def reference():
    with watch.settings(forced="numpy"):
        return trained()


def same(got, want):
    for one, other in zip(got[:2], want[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5)


def test_the_emulator_trains_as_the_reference_does_on_cuda_bodies_alone(reference):
    bodies = Bodies()
    with watch.settings(forced="emulator"), watch.listening(bodies):
        same(trained(), reference)
    assert len(bodies.served) > 15
    assert {backend for _, backend in bodies.served} == {"cuda"}


def test_arrays_of_a_gpu_train_as_the_reference_and_little_comes_to_the_host(
        monkeypatch, reference):
    fake_cupy.install(monkeypatch)
    bodies = Bodies()
    with watch.listening(bodies):
        result = trained("cuda")
    same(result, reference)
    assert {backend for _, backend in bodies.served} == {"cuda"}
    assert fake_cupy.copies and max(fake_cupy.copies) <= 1024
