import numpy as np
import pytest

from harness import body_cases, check_body
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn import muon
from tinygrad_edu.nn.muon import Muon, newton_schulz
from tinygrad_edu.tensor import Tensor

CASES = {
    muon.nesterov_average: [
        lambda d, n=n: (d.out(n), d.array(n), d.array(n), 0.95, 0.5)
        for n in (1, 7, 1013, 300_007)],
    muon.newton_schulz: [
        lambda d, shape=shape: (d.out(*shape), d.array(*shape))
        for shape in ((1, 1), (1, 5), (7, 3), (3, 7), (64, 192), (400, 150))],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (32, 32)])
def test_five_rounds_bring_all_singular_values_near_one_and_keep_the_directions(shape):
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    sizes = np.geomspace(1, 0.03, min(shape))
    x = np.empty(shape)
    newton_schulz(x, u * sizes @ vt)
    inside = u.T @ x @ vt.T                        # diagonal: the same singular vectors
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 1e-9
    assert 0.65 < np.diag(inside).min() <= np.diag(inside).max() < 1.15


def test_the_range_of_singular_values_that_the_lesson_states():
    a, b, c = muon.COEFFICIENTS
    s = np.linspace(0.01, 1, 100_001)
    for _ in range(muon.ROUNDS):
        s = a * s + b * s**3 + c * s**5
    assert (round(s.min(), 2), round(s.max(), 2)) == (0.68, 1.13)


@pytest.mark.parametrize(("real", "digits"), [(np.float32, 1e-4), (np.float64, 1e-12)])
@pytest.mark.parametrize("shape", [(128, 512), (384, 128), (64, 64)])
def test_tiny_singular_values_cost_the_products_no_digits(shape, real, digits):
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    u = u * np.geomspace(1, 1e-5, min(shape)) @ vt
    got, want = np.empty(shape, real), np.empty(shape)
    newton_schulz.bodies["blas"].run(got, u.astype(real))
    newton_schulz.bodies["numpy"].run(want, u.astype(real).astype(np.float64))
    assert np.abs(got - want).max() < digits * np.abs(want).max()


def test_a_gradient_of_zeros_gives_no_step_and_no_nan():
    x = np.empty((3, 4))
    newton_schulz(x, np.zeros((3, 4)))
    assert np.array_equal(x, np.zeros((3, 4)))


def test_muon_takes_the_matrices_of_the_blocks_of_a_gpt_and_adamw_the_rest():
    model = GPT(GPTConfig(50, context=8, layers=2, heads=2, width=8), np.random.default_rng(0))
    blocks, tables, vectors = Muon(model.named_parameters()).groups
    kinds = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert blocks.names == [f"h.{i}.{kind}.weight" for i in range(2) for kind in kinds]
    assert tables.names == ["wte.weight", "wpe.weight"]
    assert list(blocks.state) == ["m"] and list(tables.state) == ["m", "v"]
    assert (blocks.decay, tables.decay, vectors.decay) == (0.1, 0.1, 0.0)
    assert all(tensor.ndim == 1 for tensor in vectors.flat.tensors)
    names = blocks.names + tables.names + vectors.names
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (32, 32)])
def test_the_entries_of_a_step_are_as_large_as_those_of_adamw(shape):
    w = Tensor(np.zeros(shape), requires_grad=True)
    w._collect(np.random.default_rng(0).standard_normal(shape))
    Muon([("h.0.w", w)]).step(lr=1.0)
    assert 0.15 < np.sqrt((w.data**2).mean()) < 0.25


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_threads_share_the_matrices_so_that_each_is_updated_once(count):
    random, shapes = np.random.default_rng(0), [(3, 5), (8, 4), (6, 6), (1, 9), (12, 2)]
    weights = [random.standard_normal(shape) for shape in shapes]
    gradients = [random.standard_normal(shape) for shape in shapes]
    tensors = [Tensor(w.copy(), requires_grad=True) for w in weights]
    optimizer = Muon([(f"h.{k}.w", w) for k, w in enumerate(tensors)], decay=0.1)
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor._collect(gradient.copy())
    with muon.threads.limit(count):
        optimizer.step(lr=0.5)
    for tensor, w, g in zip(tensors, weights, gradients, strict=True):
        x = np.empty_like(g)
        newton_schulz.bodies["numpy"].run(x, g + 0.95 * g)                                     # (1)
        expected = w - 0.5 * 0.1 * w - 0.5 * 0.2 * max(g.shape) ** 0.5 * x                     # (3)
        np.testing.assert_allclose(tensor.data, expected, rtol=1e-9, atol=1e-12)


def test_a_model_without_hidden_matrices_and_one_with_none_that_is_a_matrix_are_refused():
    w = Tensor(np.zeros((3, 3, 3)), requires_grad=True)
    with pytest.raises(ValueError, match="use AdamW, or say with hidden="):
        Muon([("h.0.w", w)])
    with pytest.raises(ValueError, match=r"h.0.w has the shape \(3, 3, 3\)"):
        Muon([("h.0.w", w)], hidden=lambda name, tensor: True)
