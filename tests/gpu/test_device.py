from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest

from harness import Draw, check_on_gpu
from tinygrad_edu import watch
from tinygrad_edu.gpu import emulate
from tinygrad_edu.gpu.device import move, ready
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.memory import on_host
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.loss_scale import LossScale
from tinygrad_edu.nn.optimizers import OPTIMIZERS, make_optimizer
from tinygrad_edu.ops.mixed import matmul_bf16, set_products
from tinygrad_edu.ops.softmax import softmax_forward
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.train.loop import evaluate, train_step

pytestmark = pytest.mark.skipif(not emulate.available(), reason="no C++ compiler here")
PLAN = SimpleNamespace(schedule="cosine", lr=1e-2, min_lr=1e-3, warmup=2, steps=5, clip=0.5, seed=1)


class Bodies(watch.Listener):
    """Which bodies have served, and how many bytes went to the host meanwhile."""

    def __init__(self):
        self.served = set()

    def kernel_ran(self, body, args):
        self.served.add((body.kernel.name, body.backend))


def trained(device="cpu", dtype="fp32", steps=3, name="adamw"):
    """(losses and gradient norms, held-out loss, model, optimizer) of a tiny GPT."""
    model = move(GPT(GPTConfig(40, 16, 2, 2, 16, dropout=0.1), np.random.default_rng(1)), device)
    optimizer = make_optimizer(name, set_products(model, dtype).named_parameters())
    optimizer.loss_scale = LossScale() if dtype == "fp16" else None
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


def same(got, want, rtol=2e-5):
    for one, other in zip(got[:2], want[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol)


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


def test_a_step_of_llama_is_served_by_cuda_bodies_alone(monkeypatch):
    fake_cupy.install(monkeypatch)
    model = move(Llama(LlamaConfig(40, 16, 1, 4, 2, 16, 24), np.random.default_rng(1)), "cuda")
    optimizer = make_optimizer("adamw", model.named_parameters())
    ids, bodies = np.random.default_rng(0).integers(0, 40, (2, 2, 8)), Bodies()
    with watch.listening(bodies):
        train_step(model, optimizer, [ids], PLAN, 0)
    assert {backend for _, backend in bodies.served} == {"cuda"}
    assert ("transpose_forward", "cuda") in bodies.served
    assert max(fake_cupy.copies) <= 1024


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_products_of_sixteen_bits_train_on_a_gpu_as_their_references_do(monkeypatch, dtype):
    with watch.settings(forced="numpy"):
        want = trained("cpu", dtype)
    fake_cupy.install(monkeypatch)
    bodies = Bodies()
    with watch.listening(bodies):
        same(trained("cuda", dtype), want, 1e-3)
    assert {backend for _, backend in bodies.served} == {"cuda"}
    assert {name for name, _ in bodies.served} >= {f"matmul_{dtype}"}


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"adamw"}))
def test_every_other_optimizer_steps_on_a_gpu_by_cuda_bodies_alone(monkeypatch, name):
    with watch.settings(forced="numpy"):
        want = trained(steps=2, name=name)
    fake_cupy.install(monkeypatch)
    bodies = Bodies()
    with watch.listening(bodies):
        same(trained("cuda", steps=2, name=name), want, 1e-4)
    assert {backend for _, backend in bodies.served} == {"cuda"}
    assert max(fake_cupy.copies) <= 1024


def test_the_emulator_writes_what_the_reference_does_on_cuda_bodies_alone(reference):
    written, bodies = [], Bodies()
    for forced in ("numpy", "emulator"):
        with watch.settings(forced=forced), watch.listening(bodies):
            bodies.served.clear()
            random = np.random.default_rng(0)
            written.append(list(generate(reference[2], [1, 2, 3], 12, random)))
    assert written[0] == written[1]
    assert {backend for _, backend in bodies.served} == {"cuda"}


def test_weights_and_states_of_an_optimizer_come_from_the_host(monkeypatch):
    _, _, model, optimizer = trained()
    fake_cupy.install(monkeypatch)
    _, _, on_gpu, optimizer_on_gpu = trained("cuda", steps=1)
    on_gpu.load_state(model.state())
    optimizer_on_gpu.load_state(optimizer.state())
    for mine, other in ((on_gpu, model), (optimizer_on_gpu, optimizer)):
        theirs = other.state()
        for name, array in mine.state().items():
            assert np.array_equal(on_host(array), theirs[name]), name


def test_tracing_and_checking_work_on_a_gpu(monkeypatch, capsys):
    fake_cupy.install(monkeypatch)
    monkeypatch.setattr(watch, "_totals", {})
    with watch.settings(trace=True, check=True):
        trained("cuda", steps=1)
    assert "adam_update" in capsys.readouterr().err


def test_an_index_from_the_host_takes_rows_of_an_array_on_a_gpu(monkeypatch):
    fake_cupy.install(monkeypatch)
    x = Tensor(fake_cupy.asarray(np.arange(12.0).reshape(4, 3)), requires_grad=True)
    y = x[np.array([2, 0, 2])]
    y.backward(np.ones((3, 3)))
    assert y.numpy()[:, 0].tolist() == [6, 0, 6]
    assert on_host(x.grad)[:, 0].tolist() == [1, 0, 2, 0]


def test_a_device_that_is_not_there_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr("tinygrad_edu.gpu.device.on_device", lambda: False)
    for device, said in (("cuda", "needs an NVIDIA GPU"), ("tpu", "there is no device")):
        with pytest.raises(ValueError, match=said):
            ready(device)


def test_the_cases_of_a_kernel_run_on_a_gpu_too(monkeypatch):
    fake_cupy.install(monkeypatch)
    draw = Draw(np.float32)
    check_on_gpu(softmax_forward, (draw.out(5, 40), draw.array(5, 40)))
    turned = draw.out(24, 40), draw.array(16, 24).T, draw.array(40, 16).T
    check_on_gpu(matmul_bf16, turned)
    with pytest.raises(AssertionError, match="softmax_forward on a GPU, y: "):
        wrong = softmax_forward.bodies["cuda"].function
        monkeypatch.setitem(vars(softmax_forward.bodies["cuda"]), "run",
                            lambda y, x: (wrong(y, x), y.fill(0)))
        check_on_gpu(softmax_forward, (draw.out(5, 40), draw.array(5, 40)))
