import os
import subprocess
import sys

import numpy as np
import pytest

from tinygrad_edu import kernel, watch
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.nn.module import Module
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.watch import Listener, listening, mismatch, poison, settings


@pytest.fixture
def own_kernels(monkeypatch):
    """Kernels that a test defines leave with it."""
    monkeypatch.setattr(kernel, "kernels", dict(kernel.kernels))
    monkeypatch.setattr(kernel, "backends", dict(kernel.backends))


@pytest.fixture
def twice(own_kernels):
    @Kernel
    def twice_of(y, x):
        y[...] = 2 * x
    return twice_of


def call(some, x=None):
    x = np.arange(4.0) if x is None else x
    y = np.zeros_like(x)
    with settings(forced="mine", check=True):
        some(y, x)
    return y


def attach(some, body):
    some.body("mine")(body)
    return some


# ---- TG_CHECK -----------------------------------------------------------------------------------


def test_a_right_body_passes_the_check(twice):
    def body(y, x):
        np.add(x, x, out=y)
    assert call(attach(twice, body)).tolist() == [0, 2, 4, 6]


def test_a_wrong_body_is_caught_and_named(twice):
    def body(y, x):
        np.add(x, x, out=y)
        y[2] = 5
    with pytest.raises(AssertionError, match=r"'mine' of twice_of, output y: 1 of 4 elements "
                                             r"differ, first at \(2,\): 5.0 instead of 4.0"):
        call(attach(twice, body))


def test_a_body_that_reads_its_output_is_caught_though_the_output_was_zero(twice):
    def body(y, x):
        y += 2 * x
    with pytest.raises(AssertionError, match="first at .0,.: nan"):
        call(attach(twice, body))


def test_a_body_that_leaves_an_element_unwritten_is_caught(twice):
    def body(y, x):
        y[:-1] = 2 * x[:-1]
    with pytest.raises(AssertionError, match="nan instead of 6.0"):
        call(attach(twice, body))


def test_a_wrong_integer_output_is_caught(own_kernels):
    @Kernel
    def parity(y, x):
        y[...] = x % 2

    @parity.body("mine")
    def parity_mine(y, x):
        y[:2] = x[:2] % 2

    with pytest.raises(AssertionError, match="of parity"):
        call(parity, np.arange(4))


def test_what_is_updated_in_place_is_checked_against_the_state_before(own_kernels):
    @Kernel(inout="w")
    def descend(w, g):
        w -= g

    def descend_mine(w, g):
        w[...] = w - g
    descend.body("mine")(descend_mine)
    w = np.ones(3)
    with settings(forced="mine", check=True):
        descend(w, np.full(3, 0.25))
    assert w.tolist() == [0.75] * 3

    def descend_wrongly(w, g):
        w[...] = w + g
    descend.body("mine")(descend_wrongly)
    with settings(forced="mine", check=True), pytest.raises(AssertionError, match="output w"):
        descend(w, np.ones(3))


def test_every_output_is_checked_also_beside_one_that_is_updated(own_kernels):
    @Kernel(outputs=1, inout="m")
    def average(y, m, x):
        m += x
        y[...] = m / 2

    @average.body("mine")
    def average_mine(y, m, x):
        m += x

    with settings(forced="mine", check=True), pytest.raises(AssertionError, match="output y"):
        average(np.zeros(2), np.zeros(2), np.ones(2))


def test_an_output_on_the_memory_of_an_input_is_refused(twice):
    x = np.arange(4.0)
    with settings(check=False):
        twice(x, x)
    assert x.tolist() == [0, 2, 4, 6]              # it happens to work, until a body reads twice
    with settings(check=True):
        with pytest.raises(AssertionError, match="would overwrite its input x, on which y lies"):
            twice(x, x)
        with pytest.raises(AssertionError, match="would overwrite its input x"):
            twice(x[:3], x[1:])
        twice(x[::2], x[1::2])                     # side by side, not on each other


def test_without_the_check_nothing_is_compared(twice):
    def body(y, x):
        y[...] = 7
    attach(twice, body)
    y = np.zeros(4)
    with settings(forced="mine", check=False):
        twice(y, np.arange(4.0))
    assert y.tolist() == [7] * 4


# ---- equal up to rounding -----------------------------------------------------------------------


@pytest.mark.parametrize(("real", "small", "large"), [(np.float32, 5e-5, 2e-4),
                                                      (np.float64, 5e-11, 2e-10),
                                                      (np.float16, 5e-3, 2e-2)])
def test_results_may_differ_by_rounding_measured_by_the_largest_element(real, small, large):
    want = np.array([1.0, -100.0, 0.0], real)
    for error, fine in ((small, True), (large, False)):
        got = want.astype(np.float64)
        got[0] += 100 * error
        assert (mismatch(got.astype(real), want) is None) == fine


def test_another_number_of_digits_can_be_asked_for():
    want = np.ones(3, np.float32)
    assert mismatch(want * np.float32(1.0001), want, digits=6)
    assert not mismatch(want * np.float32(1.01), want, digits=1)


def test_nan_and_infinity_must_stand_where_they_should():
    want = np.array([np.nan, np.inf, -np.inf, 1])
    assert mismatch(want.copy(), want) is None
    for i, wrong in ((0, 1.0), (1, -np.inf), (1, np.nan), (2, 5.0), (3, np.nan), (3, np.inf)):
        got = want.copy()
        got[i] = wrong
        assert f"first at ({i},)" in mismatch(got, want)


def test_zeros_must_be_zeros_and_integers_equal():
    assert mismatch(np.full(2, 1e-30), np.zeros(2))
    assert mismatch(np.array([1, 3]), np.array([1, 2]))
    assert mismatch(np.array([True]), np.array([False]))
    assert mismatch(np.array(2.0), np.array(1.0)) == ("1 of 1 elements differ, first at (): 2.0 "
                                                      "instead of 1.0")
    assert mismatch(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_poison_fills_any_type(kind):
    array = np.zeros(3, kind)
    poison(array)
    assert not np.array_equal(array, np.zeros(3, kind))


# ---- settings, TG_TRACE -------------------------------------------------------------------------


def test_settings_end_with_their_block_even_after_an_exception():
    before = vars(watch.state).copy(), watch.state.check
    with pytest.raises(KeyError), settings(check=not before[1], forced="numpy"):
        assert watch.checking() != before[1]
        raise KeyError
    assert watch.checking() == before[1]
    with pytest.raises(AttributeError), settings(speed=11):
        pass


# ---- listeners ----------------------------------------------------------------------------------


class Ear(Listener):
    def __init__(self):
        self.heard = []

    def kernel_ran(self, body, args):
        self.heard.append((body.kernel.name, body.backend, args[0].tolist()))


def test_a_listener_is_told_of_every_kernel_with_its_outputs_filled_in(twice):
    with listening(ear := Ear()):
        y = np.zeros(2)
        twice(y, np.ones(2))
    twice(y, np.ones(2))
    assert ear.heard == [("twice_of", "numpy", [2, 2])]


def test_several_listen_side_by_side_each_until_its_own_block_ends(twice):
    first, second = Ear(), Ear()
    y = np.zeros(1)
    with listening(first):
        twice(y, y)
        with pytest.raises(KeyError), listening(second):
            twice(y, y)
            raise KeyError
        twice(y, y)
    assert (len(first.heard), len(second.heard)) == (3, 1)
    assert watch.state.listeners == ()


def test_a_listener_hears_modules_and_nodes_in_the_order_of_the_computation():
    class Everything(Listener):
        def __init__(self):
            self.heard = []

        def module_called(self, module, inputs):
            self.heard.append("called")

        def module_returned(self, module, inputs, output):
            self.heard.append(("returned", output.item()))

        def node_recorded(self, node):
            self.heard.append(node.op)

        def gradient_arrived(self, node, grad):
            self.heard.append(("arrived", float(grad)))

        def gradient_sent(self, node, grads):
            self.heard.append(("sent", float(grads[0])))

    class Triple(Module):
        def forward(self, x):
            return x * 3.0
    with listening(everything := Everything()):
        Triple()(Tensor(2.0, requires_grad=True)).backward()
    assert everything.heard == ["called", "affine", ("returned", 6), ("arrived", 1), ("sent", 3)]


PROGRAM = """
import numpy as np
from tinygrad_edu.kernel import Kernel

@Kernel
def twice_of(y, x, factor):
    y[...] = factor * x

@Kernel
def never(y, x):
    y[...] = x

@twice_of.body("mine")
def twice_of_mine(y, x, factor):
    y[...] = 0

y = np.zeros((3, 2), np.float32)
twice_of(y, y + 1, 2)
twice_of(y, y + 1, 2)
print(y[0, 0])
"""


def run(tmp_path, **variables):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TG_")}
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True,
                          encoding="utf-8", check=False,
                          env={**clean, "PYTHONIOENCODING": "utf-8", **variables})


def test_trace_prints_a_line_for_each_call_and_a_table_at_the_end(tmp_path):
    result = run(tmp_path, TG_TRACE="1")
    assert result.stdout == "6.0\n"
    first, second, empty, head, row = result.stderr.splitlines()
    assert first.split()[:2] == ["twice_of", "numpy"]
    assert "program.py:18 " in first
    assert "program.py:19 " in second
    assert "float32[3, 2] float32[3, 2] 2 " in first
    assert "µs" in first
    assert "GB/s" in first
    assert empty == ""
    assert head.split() == ["kernel", "body", "calls", "ms", "share", "GB/s"]
    assert row.split()[:3] == ["twice_of", "numpy", "2"]
    assert row.split()[4] == "100.0%"


def test_without_variables_nothing_is_printed(tmp_path):
    for off in ({}, {"TG_TRACE": "0", "TG_CHECK": "0"}, {"TG_TRACE": "", "TG_BACKEND": ""}):
        result = run(tmp_path, **off)
        assert (result.stdout, result.stderr) == ("6.0\n", "")


def test_the_environment_can_force_a_body_and_check_it(tmp_path):
    assert run(tmp_path, TG_BACKEND="mine").stdout == "0.0\n"
    result = run(tmp_path, TG_BACKEND="mine", TG_CHECK="1")
    assert result.returncode != 0
    assert "TG_CHECK: body 'mine' of twice_of" in result.stderr


def test_an_unknown_body_is_refused_with_the_list_of_those_there_are(tmp_path):
    result = run(tmp_path, TG_BACKEND="warp")
    assert result.returncode != 0
    assert "TG_BACKEND=warp: no kernel has such a body; there are " in result.stderr
    assert "mine, " in result.stderr.splitlines()[-1]


def test_the_caller_is_a_line_of_the_model_even_where_models_lie_inside_the_package():
    place = os.path.join(os.path.dirname(watch.__file__), "models", "gpt.py")
    code = {}
    exec(compile("def forward(ask):\n    return ask()", place, "exec"), code)
    assert code["forward"](watch.caller) == (place, 2)


def test_a_sum_that_cancels_is_not_accused_of_rounding():
    @Kernel
    def total_of(y, x):
        y[...] = x.sum(axis=0)

    @total_of.body("numba", rows="x", sums="y", jit=False)
    def total_of_numba(y, x):
        y[...] = 0
        for row in x[::-1]:
            y += row

    x = np.random.default_rng(3).standard_normal((256, 1)).astype(np.float32)
    x[-1] -= x.sum() - np.float32(1e-6)
    y = np.empty(1, np.float32)
    with settings(check=True, forced="numba"):
        total_of(y, x)
        total_of.body("numba", rows="x", sums="y", jit=False)(lambda y, x: y.fill(0.01))
        with pytest.raises(AssertionError, match="total_of"):
            total_of(y, x)


def test_numpy_is_not_taken_for_the_code_that_called_the_library():
    seen = []

    class There(Listener):
        def kernel_ran(self, body, args):
            seen.append(watch.caller()[0])

    x = Tensor(np.ones(3), requires_grad=True)
    with listening(There()):
        x.exp().sum().backward()
    assert set(seen) == {__file__}
