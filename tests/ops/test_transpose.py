import numpy as np
import pytest

from harness import body_cases, check_body, need
from tinygrad_edu import memory, watch
from tinygrad_edu.gpu import emulate
from tinygrad_edu.gpu.launch import G
from tinygrad_edu.memory import contiguous
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.ops.transpose import exchanged, transpose_forward
from tinygrad_edu.tensor import Tensor

CASES = {
    transpose_forward: [
        lambda d, P=P, A=A, B=B, D=D: (d.out(P, B, A, D), d.array(P, A, B, D))
        for P, A, B, D in [(1, 1, 1, 1), (1, 32, 32, 1), (3, 33, 65, 1), (2, 70, 5, 1),
                           (1, 7, 3, 2), (2, 33, 5, 33), (2, 9, 4, 64)]],
}


@pytest.mark.parametrize("kernel, case, body, real", body_cases(CASES))
def test_bodies_agree_with_the_reference(kernel, case, body, real):
    check_body(kernel, case, body, real)


class Shapes(watch.Listener):
    """Shapes of the transposes that the kernel has copied, and the bodies of all kernels."""

    def __init__(self):
        self.copied, self.served = [], set()

    def kernel_ran(self, body, args):
        self.served.add((body.kernel.name, body.backend))
        if body.kernel is transpose_forward:
            self.copied.append(args[1].shape)


@pytest.mark.parametrize("shape, order, found", [
    ((5, 7), (1, 0), (1, 5, 7, 1)),
    ((2, 5, 7, 3), (0, 2, 1, 3), (2, 5, 7, 3)),
    ((2, 5, 7, 3), (0, 2, 3, 1), (2, 5, 21, 1)),
    ((2, 5, 7, 3), (3, 0, 1, 2), (1, 70, 3, 1)),
    ((5, 1, 7, 1), (3, 2, 1, 0), (1, 5, 7, 1)),
])
def test_a_copy_of_two_groups_of_axes_that_change_places_is_one_call(shape, order, found):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).transpose(order)
    shapes = Shapes()
    with watch.listening(shapes):
        y = contiguous(x)
    assert y.flags.c_contiguous and np.array_equal(x, y)
    assert shapes.copied == [found]


def test_all_else_that_has_no_rows_is_copied_as_before():
    x = np.arange(24.0).reshape(2, 3, 4)
    others = (x[:, :, ::2], x[::-1], x.transpose(2, 1, 0), x[:, :0].T, x[:, 1:].transpose(0, 2, 1),
              np.broadcast_to(x[0].T, (2, 4, 3)), np.arange(6).reshape(2, 3).T)
    shapes = Shapes()
    with watch.listening(shapes):
        for other in others:
            y = contiguous(other)
            assert y.flags.c_contiguous and np.array_equal(other, y)
    assert not shapes.copied
    assert exchanged(x.transpose(2, 1, 0)) is None


def test_a_step_of_llama_copies_its_heads_with_the_kernel_and_runs_on_cuda_bodies_alone(
        monkeypatch):
    need("cuda")
    model = Llama(LlamaConfig(40, 16, 1, 4, 2, 16, 24), np.random.default_rng(1))
    ids = np.random.default_rng(0).integers(0, 40, (2, 2, 8))

    def gradients(forced):
        shapes = Shapes()
        with watch.settings(forced=forced), watch.listening(shapes):
            model.loss(*ids).backward()
        found = {name: tensor.grad.copy() for name, tensor in model.named_parameters()}
        model.zero_grad()
        return found, shapes

    want, _ = gradients("numpy")
    got, shapes = gradients("emulator")
    assert {body for _, body in shapes.served} == {"cuda"}, shapes.served
    assert {(2, 8, 4, 4), (2, 8, 2, 4), (2, 4, 8, 4)} <= set(shapes.copied)
    for name, gradient in want.items():
        np.testing.assert_allclose(got[name], gradient, rtol=2e-4, atol=1e-7, err_msg=name)
    monkeypatch.setattr(memory, "routes", [])
    assert not gradients("emulator")[1].copied


def counts(launch, *arrays, **defines):
    """What a launch asked of memory: writes -> (sectors a request), and turns of the banks."""
    library = G(arrays[0], **defines)
    with emulate.emulating(mode="count"):
        launch(library)
    kernel = library.transpose_forward_tiled
    return emulate.emulated_file(kernel.source, kernel.defines, "count").counted()


def sectors_and_turns(found):
    """(most sectors a request took, what it takes at best), most turns of the banks a request."""
    memory_lines = [c for c in found if c.requests]
    banks = [c.turns / c.shared_requests for c in found if c.shared_requests]
    worst = max(memory_lines, key=lambda c: c.sectors / c.requests)
    return worst.sectors / worst.requests, worst.ideal / worst.requests, max(banks, default=0)


@pytest.mark.parametrize("defines, turns", [({"PADDING": 0}, 32), ({}, 1)])
def test_the_tile_touches_whole_sectors_and_the_column_more_keeps_its_banks_apart(defines, turns):
    need("cuda")
    x, y = np.ones((2, 64, 32), np.float32)
    found = counts(lambda library: library.transpose_forward_tiled(2, (32, 8), (y, x, 64, 32)), y,
                   **defines)
    assert sectors_and_turns(found) == (4, 4, turns)


def test_the_naive_kernel_reads_a_sector_for_each_number():
    need("cuda")
    x, y = np.ones((2, 64, 32), np.float32)
    found = counts(lambda library: library.transpose_forward_naive(8, 256, (y, x, 64, 32, 1, 2048)),
                   y)
    assert sectors_and_turns(found) == (32, 4, 0)


def test_a_gradient_goes_through_a_copied_transpose():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    (x.T.reshape(-1) * np.arange(6.0)).backward(np.ones(6))
    assert np.array_equal(x.grad, np.arange(6.0).reshape(3, 2).T)
