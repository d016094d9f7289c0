import subprocess
import sys

import numpy as np
import pytest

from tinygrad_edu import kernel, memory, threads
from tinygrad_edu.kernel import Backend, Kernel, settings
from tinygrad_edu.threads import limit


@pytest.fixture(autouse=True)
def own_kernels(monkeypatch):
    """Kernels that a test defines leave with it."""
    monkeypatch.setattr(kernel, "kernels", dict(kernel.kernels))
    monkeypatch.setattr(kernel, "backends", dict(kernel.backends))


@pytest.fixture
def plus():
    @Kernel
    def plus_of(y, x, step):
        """Adds."""
        y[...] = x + step
    return plus_of


def served_by(some, y, x, *rest, **changes):
    with settings(**{"forced": "", "check": False, "trace": False} | changes):
        return some.choose((y, x, *rest)).backend


def arrays(kind=np.float64, size=4):
    return np.zeros(size, kind), np.arange(size).astype(kind)


def test_the_decorated_function_is_the_reference_and_lends_its_name_and_docstring(plus):
    y, x = arrays()
    plus(y, x, 2)
    assert y.tolist() == [2, 3, 4, 5]
    assert (plus.name, plus.__name__, plus.__doc__) == ("plus_of", "plus_of", "Adds.")
    assert kernel.kernels["plus_of"] is plus
    assert list(plus.bodies) == ["numpy"]
    assert plus.outputs == (0,)
    assert plus.inout == ()
    plus.__wrapped__(y, x, 3)
    assert y.tolist() == [3, 4, 5, 6]
    assert repr(plus) == "<kernel plus_of(y, x, step): numpy>"


def test_outputs_come_first_and_updated_parameters_are_outputs_too():
    @Kernel(outputs=2)
    def two(y, z, x):
        pass

    @Kernel(inout=("w", "m"))
    def update(w, m, g):
        pass

    @Kernel(outputs=1, inout="cache")
    def append(y, cache, x):
        pass

    assert (two.outputs, two.inout) == ((0, 1), ())
    assert (update.outputs, update.inout) == ((0, 1), (0, 1))
    assert (append.outputs, append.inout) == ((0, 1), (1,))


def test_a_second_kernel_of_one_name_is_refused(plus):
    with pytest.raises(ValueError, match=r"kernel called plus_of already, in .*test_kernel"):
        @Kernel
        def plus_of(y, x, step):
            pass


@pytest.mark.parametrize("before", ["__main__", "tinygrad_edu.ops.some"])
def test_a_kernel_may_be_defined_once_more_in_main(before, plus):
    """By a learner who changes a cell, and by python -m, which runs an imported lesson again."""
    plus.__module__ = before

    def plus_of(y, x, step):
        pass
    plus_of.__module__ = "__main__"
    assert kernel.kernels["plus_of"] is plus
    assert Kernel(plus_of) is kernel.kernels["plus_of"] is not plus


def test_a_body_with_other_parameters_is_refused(plus):
    with pytest.raises(TypeError, match=r"wrong\(y, step, x\) must have the parameters of "
                                        r"plus_of\(y, x, step\)"):
        @plus.body("refused")
        def wrong(y, step, x):
            pass
    assert list(plus.bodies) == ["numpy"]
    assert "refused" not in kernel.backends


@pytest.mark.parametrize("options", [{"rows": "y z"}, {"sums": "z"}])
def test_rows_and_sums_name_parameters(plus, options):
    with pytest.raises(ValueError, match="plus_of has no parameter 'z'"):
        plus.body("numba", **options)(lambda y, x, step: None)


# ---- which body serves --------------------------------------------------------------------------


def test_the_first_available_body_in_the_order_serves(plus):
    y, x = arrays()
    assert served_by(plus, y, x, 1) == "numpy"
    for backend in ("blas", "native"):             # blas comes after native, and is attached before
        kernel.backends[backend] = Backend(backend)
        plus.body(backend)(lambda y, x, step: None)
    assert served_by(plus, y, x, 1) == "native"
    kernel.backends["native"] = Backend("native", available=lambda: False)
    plus._plans.clear()
    assert served_by(plus, y, x, 1) == "blas"


def test_a_body_serves_only_the_calls_that_its_predicate_takes(plus):
    plus.body("blas", when=lambda y, x, step: step > 0)(lambda y, x, step: None)
    y, x = arrays()
    assert served_by(plus, y, x, 1) == "blas"
    assert served_by(plus, y, x, -1) == "numpy"
    assert served_by(plus, y, x, 1) == "blas"      # the choice is not remembered for the type alone


def test_a_body_attached_later_serves_calls_of_types_seen_before(plus):
    y, x = arrays()
    assert served_by(plus, y, x, 1) == "numpy"
    plus.body("blas")(lambda y, x, step: None)
    assert served_by(plus, y, x, 1) == "blas"


def test_a_body_of_ones_own_serves_only_where_it_is_forced(plus):
    plus.body("mine")(lambda y, x, step: None)
    y, x = arrays()
    assert served_by(plus, y, x, 1) == "numpy"
    assert served_by(plus, y, x, 1, forced="mine") == "mine"


def test_a_forced_body_leaves_other_kernels_as_they_are(plus):
    @Kernel
    def minus_of(y, x, step):
        y[...] = x - step

    plus.body("mine")(lambda y, x, step: None)
    assert served_by(minus_of, *arrays(), 1, forced="mine") == "numpy"
    assert served_by(plus, *arrays(), 1, forced="numpy") == "numpy"


def test_a_forced_body_that_cannot_serve_a_call_leaves_it_to_the_others(plus):
    plus.body("mine", when=lambda y, x, step: step > 0)(lambda y, x, step: None)
    assert served_by(plus, *arrays(), -1, forced="mine") == "numpy"


def test_forcing_what_no_kernel_has_names_what_there_is(plus):
    with pytest.raises(ValueError, match="TG_BACKEND=warp: no kernel has such a body; there are "):
        served_by(plus, *arrays(), 1, forced="warp")


def test_forcing_what_is_not_available_is_an_error_and_not_a_slow_success(plus):
    kernel.backends["elsewhere"] = Backend("elsewhere", available=lambda: False)
    plus.body("elsewhere")(lambda y, x, step: None)
    with pytest.raises(ValueError, match="TG_BACKEND=elsewhere: this backend is not available"):
        served_by(plus, *arrays(), 1, forced="elsewhere")


def test_no_body_for_a_call_names_the_types(plus):
    plus.bodies["numpy"].when = lambda y, x, step: False
    with pytest.raises(TypeError, match=r"no body of plus_of serves float32\[4\] float32\[4\] 1"):
        served_by(plus, *arrays(np.float32), 1)


def test_a_backend_is_not_asked_before_the_ones_in_front_of_it_have_refused_a_call(plus):
    asked = []
    kernel.backends["blas"] = Backend("blas", available=lambda: not asked.append(1))
    plus.body("native", when=lambda y, x, step: step > 0)(lambda y, x, step: None)
    plus.body("blas")(lambda y, x, step: None)
    kernel.backends["native"] = Backend("native")
    y, x = arrays()
    assert served_by(plus, y, x, 1) == "native" and not asked
    assert served_by(plus, y, x, -1) == "blas" and asked == [1]


def test_a_backend_is_asked_once_whether_it_is_there(plus):
    asked = []
    kernel.backends["native"] = Backend("native", available=lambda: not asked.append(1))
    plus.body("native")(lambda y, x, step: None)
    for kind in (np.float32, np.float64, np.int64):
        assert served_by(plus, *arrays(kind), 1) == "native"
    assert asked == [1]


# ---- what a body gets ---------------------------------------------------------------------------


def test_rows_are_cut_and_sums_are_added_up():
    backend = "mine"

    @Kernel(outputs=2)
    def shifted(y, total, x, step):
        y[...] = x + step
        total[...] = x.sum(axis=0)

    sizes = []

    @shifted.body(backend, rows="y x", sums="total", grain=0)
    def shifted_mine(y, total, x, step):
        sizes.append(len(x))
        shifted.__wrapped__(y, total, x, step)

    x = np.arange(14.0).reshape(7, 2)
    y, total = np.full((7, 2), np.nan), np.full(2, np.nan)
    with limit(2), settings(forced=backend):
        shifted(y, total, x, 1)
    assert sorted(sizes) == [3, 4]
    assert np.array_equal(y, x + 1)
    assert np.array_equal(total, x.sum(0))


def test_a_blas_body_is_cut_and_leaves_blas_one_thread():
    seen = []

    @Kernel
    def product(y, x, w):
        np.matmul(x, w, out=y)

    @product.body("blas", rows="y x", grain=0)
    def product_blas(y, x, w):
        seen.append((len(x), threads._blas_setters() and threads._blas_setters()[0]()))
        np.matmul(x, w, out=y)

    x, w = np.arange(15.0).reshape(5, 3), np.ones((3, 2))
    y = np.zeros((5, 2))
    with limit(2), settings(forced="", check=False):
        product(y, x, w)
    assert np.array_equal(y, x @ w)
    assert sorted(seen) == [(2, 1), (3, 1)] or threads._blas_setters() is None


def test_a_numba_body_is_compiled_and_agrees(plus):
    pytest.importorskip("numba")

    @plus.body("numba", rows="y x", grain=0)
    def plus_numba(y, x, step):
        for i in range(x.size):
            y[i] = x[i] + step

    y, x = arrays(size=7)
    with limit(3), settings(forced="", check=True):
        assert served_by(plus, y, x, 2) == "numba"
        plus(y, x, 2)
    assert np.array_equal(y, x + 2)


def test_a_numba_body_may_be_plain_python_that_calls_loops_itself(plus):
    pytest.importorskip("numba")
    seen = []

    @plus.body("numba", jit=False)
    def plus_numba(y, x, step):
        seen.append({"any": "object"})
        y[...] = x + step

    y, x = arrays()
    with settings(forced=""):
        plus(y, x, 1)
    assert seen


def test_a_call_raises_the_version_of_what_it_updates_and_of_nothing_else():
    @Kernel(inout="w")
    def descend(w, g):
        w -= g

    w, g = np.ones(3), np.ones(3)
    before = memory.version(w), memory.version(g)
    descend(w, g)
    assert (memory.version(w), memory.version(g)) == (before[0] + 1, before[1])


def test_the_measurement_of_the_lesson_runs():
    command = [sys.executable, "-m", "tinygrad_edu.kernel"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    took = dict(pair.split("=") for pair in result.stdout.split())
    assert set(took) == {"direct_us", "kernel_us"}
    assert float(took["kernel_us"]) > 0
