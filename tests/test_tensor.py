import gc
import json
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from tinygrad_edu import memory
from tinygrad_edu.kernel import settings
from tinygrad_edu.memory import Meter, empty_like
from tinygrad_edu.tensor import Tensor, as_tensor, method, no_grad, record, record_all

# A few operations of their own, so that nothing but the engine is judged here.


def times(x, y):
    """x·y of one shape."""
    z = empty_like(x.data)
    np.multiply(x.data, y.data, out=z)
    a, b = x.data, y.data

    def vjp(dz):
        return dz * b, dz * a
    return record(z, (x, y), vjp)


def plus(x, y):
    """x + y of one shape; hands the same gradient to both."""
    def vjp(dz):
        return dz, dz
    return record(x.data + y.data, (x, y), vjp)


def total(x):
    """The sum of all elements; its gradient is a view without memory of its own."""
    shape = x.shape                                # x itself in the closure would keep its array

    def vjp(dy):
        return (np.broadcast_to(dy, shape),)
    return record(np.asarray(x.data.sum()), (x,), vjp)


def turned(x):
    """The transpose, a view."""
    def vjp(dy):
        return (dy.T,)
    return record(x.data.T, (x,), vjp)


def halves(x):
    """Two results."""
    middle = len(x) // 2

    def vjp(da, db):
        dx = memory.zeros_like(x.data)
        for part, d in ((dx[:middle], da), (dx[middle:], db)):
            if d is not None:
                part[...] = d
        return (dx,)
    return record_all((x.data[:middle], x.data[middle:]), (x,), vjp)


def leaf(values, kind=np.float64):
    return Tensor(np.array(values, kind), requires_grad=True)


# ---- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_gradient_of_a_product_is_the_other_factor(kind):
    x, y = leaf([1, 2, 3], kind), leaf([4, 5, 6], kind)
    total(times(x, y)).backward()
    assert x.grad.tolist() == [4, 5, 6]
    assert y.grad.tolist() == [1, 2, 3]
    assert x.grad.dtype == y.grad.dtype == kind


def test_a_tensor_used_twice_gets_the_sum_of_both_gradients():
    x = leaf([3.0, 5.0])
    total(times(x, x)).backward()
    assert x.grad.tolist() == [6, 10]


def test_a_result_used_many_times_gets_the_sum_of_all_gradients():
    x = leaf([2.0])
    y = times(x, x)
    z = y
    for _ in range(5):
        z = plus(z, y)
    total(z).backward()
    assert x.grad.tolist() == [6 * 2 * 2.0]


def test_a_scalar_used_many_times_gets_the_sum_of_all_gradients():
    x = leaf(3.0)
    y = times(x, x)
    times(plus(y, y), y).backward()                # 2·x⁴
    assert x.grad == pytest.approx(8 * 27)
    assert x.grad.shape == ()


def test_uses_at_different_depths_are_all_waited_for():
    x = leaf([2.0])
    deep = times(times(times(x, x), x), x)         # x⁴
    total(plus(deep, x)).backward()
    assert x.grad.tolist() == [33]


def test_gradients_of_several_backward_passes_are_added_up_until_zero_grad():
    x = leaf([3.0])
    for expected in (6, 12):
        total(times(x, x)).backward()
        assert x.grad.tolist() == [expected]
    x.zero_grad()
    assert x.grad is None
    total(times(x, x)).backward()
    assert x.grad.tolist() == [6]


def test_a_borrowed_gradient_is_never_written_into():
    x, y = leaf([1.0, 2.0]), leaf([10.0, 20.0])
    s = plus(x, y)                                 # hands one array to both
    seen = np.array([1.0, 1.0])
    plus(plus(s, x), x).backward(seen)
    assert seen.tolist() == [1, 1]
    assert x.grad.tolist() == [3, 3]
    assert y.grad.tolist() == [1, 1]


def test_inner_sums_do_not_reach_others_that_borrowed_the_same_gradient():
    x = leaf([1.0])
    a, b = times(x, leaf([1.0])), times(x, leaf([1.0]))
    c = plus(a, b)                                 # a and b get one array ...
    total(plus(plus(c, a), a)).backward()          # ... and a two more
    assert x.grad.tolist() == [4]


def test_the_grad_a_user_sees_is_shared_with_no_other_tensor():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    given = np.ones(2)
    plus(x, y).backward(given)
    assert not np.shares_memory(x.grad, y.grad)
    assert not np.shares_memory(x.grad, given)
    x.grad += 7
    assert y.grad.tolist() == [1, 1]
    y.backward(x.grad)
    assert not np.shares_memory(x.grad, y.grad)


def test_a_gradient_that_arrives_as_a_view_becomes_an_array_of_its_own():
    x = leaf(np.ones((2, 3)))
    total(turned(x)).backward()
    assert x.grad.shape == (2, 3)
    assert x.grad.flags.c_contiguous
    assert x.grad.flags.writeable
    assert x.grad.strides == x.data.strides


def test_the_gradient_of_a_view_reaches_the_tensor_under_it():
    x, w = leaf(np.arange(6.0).reshape(2, 3)), leaf(np.arange(6.0).reshape(3, 2))
    total(times(turned(x), w)).backward()
    assert np.array_equal(x.grad, w.data.T)


def test_backward_starts_with_the_gradient_given():
    x = leaf([1.0, 2.0])
    times(x, x).backward([10, 1])
    assert x.grad.tolist() == [20, 4]
    y = leaf([1.0, 2.0])
    times(y, y).backward(Tensor(np.array([1.0, 1.0], np.float32)))
    assert y.grad.tolist() == [2, 4]


def test_backward_on_a_leaf_gives_it_the_gradient():
    x = leaf(2.0)
    x.backward()
    assert x.grad == 1


def test_a_scalar_in_brackets_is_a_scalar():
    x = leaf([[3.0]])
    times(x, x).backward()
    assert x.grad.tolist() == [[6]]


def test_parents_that_want_no_gradient_get_none():
    x, constant = leaf([1.0, 2.0]), Tensor(np.array([5.0, 6.0]))
    total(times(x, constant)).backward()
    assert x.grad.tolist() == [5, 6]
    assert constant.grad is None


def test_a_gradient_of_none_means_nothing_flows_there():
    def blocked(x):
        def vjp(dy):
            return (None,)
        return record(x.data + 1, (x,), vjp)

    x, y = leaf([1.0]), leaf([1.0])
    total(plus(blocked(times(x, x)), y)).backward()
    assert x.grad is None
    assert y.grad.tolist() == [1]


# ---- several results ----------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "expected"), [("both", [1, 1, 1, 1]), ("first", [1, 1, 0, 0]),
                                                ("second", [0, 0, 1, 1]), ("twice", [2, 2, 0, 0])])
def test_an_operation_with_two_results_waits_for_all_and_gets_none_for_unused_ones(used, expected):
    x = leaf([1.0, 2.0, 3.0, 4.0])
    a, b = halves(x)
    loss = {"both": lambda: plus(a, b), "first": lambda: a, "second": lambda: b,
            "twice": lambda: plus(a, a)}[used]()
    total(loss).backward()
    assert x.grad.tolist() == expected


def test_one_result_may_be_computed_from_the_other():
    x = leaf([1.0, 2.0, 3.0, 4.0])
    a, b = halves(x)
    total(times(times(a, b), b)).backward()        # Σ a·b²
    assert x.grad.tolist() == [9, 16, 6, 16]


def test_a_result_of_several_says_which_operation_made_it():
    a, _ = halves(leaf([1.0, 2.0]))
    assert "from halves at test_tensor.py:" in repr(a)


# ---- no_grad, detach, requires_grad -------------------------------------------------------------


def test_nothing_is_recorded_inside_no_grad_and_all_is_as_before_after_it():
    x = leaf([1.0])
    with no_grad():
        assert not times(x, x).requires_grad
        with no_grad():
            pass
        assert not times(x, x).requires_grad       # the inner block restores the outer one
        assert not any(part.requires_grad for part in halves(leaf([1.0, 2.0])))
    assert times(x, x).requires_grad
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert times(x, x).requires_grad


def test_no_grad_is_a_decorator_too():
    @no_grad()
    def evaluate(x):
        """Docs."""
        return times(x, x)

    x = leaf([2.0])
    assert not evaluate(x).requires_grad
    assert not evaluate(x).requires_grad           # a decorated function can be called again
    assert times(x, x).requires_grad
    assert evaluate.__doc__ == "Docs."


def test_no_grad_holds_for_the_thread_that_says_so():
    x = leaf([1.0])
    inside, recorded = threading.Event(), []

    def other():
        inside.wait(30)
        recorded.append(times(x, x).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        thread.join(30)
    assert recorded == [True]


def test_detach_cuts_the_tape_and_shares_memory():
    x = leaf([2.0])
    y = times(x, x)
    z = times(y.detach(), x)                       # x²·x with x² held fixed
    total(z).backward()
    assert x.grad.tolist() == [4]
    assert np.shares_memory(y.detach().data, y.data)
    assert not y.detach().requires_grad


def test_requires_grad_is_set_on_leaves_of_floats_only():
    x = leaf([1.0])
    with pytest.raises(RuntimeError, match="leaves only; use detach"):
        times(x, x).requires_grad = False
    with pytest.raises(TypeError, match="not int64"):
        Tensor([1, 2], requires_grad=True)
    y = Tensor([1.0])
    y.requires_grad = True
    y.requires_grad = True
    total(times(y, y)).backward()
    y.requires_grad = False
    assert not y.requires_grad
    assert y.grad.tolist() == [2]


# ---- long chains, memory ------------------------------------------------------------------------


def test_a_chain_of_a_hundred_thousand_nodes_needs_no_recursion():
    x, one = leaf([2.0]), Tensor(np.ones(1))
    y = x
    for _ in range(100_000):
        y = times(y, one)
    y.backward()
    assert x.grad.tolist() == [1]
    del y                                          # taking it apart needs no recursion either


def test_a_long_chain_that_is_never_walked_can_be_thrown_away():
    y = leaf([2.0])
    zero = Tensor(np.zeros(1))
    for _ in range(100_000):
        y = plus(y, zero)
    del y


def squared(x, seen=None):
    """x², with every array counted by a Meter; `seen` notes the live bytes during backward."""
    def product(a, b):
        y = empty_like(a)
        np.multiply(a, b, out=y)
        return y

    kept = x.data

    def vjp(dy):
        if seen is not None:
            seen.append(seen.meter.live)
        return (product(dy, kept),)
    return record(product(kept, kept), (x,), vjp)


class Seen(list):
    meter = None


def test_activations_and_gradients_are_freed_during_the_backward_pass():
    size, depth = 1000, 20
    seen = Seen()
    with Meter() as meter:
        seen.meter = meter
        x = Tensor(memory.zeros((size,), np.float64), requires_grad=True)
        y = x
        for _ in range(depth):
            y = squared(y, seen)
        y = total(y)
        assert meter.live == 8 * size * depth          # what each step keeps, but not the last sum
        y.backward()
    # Each step finds one activation fewer than the step before; one gradient is on its way.
    assert [live // (8 * size) for live in seen[1:]] == list(range(depth, 1, -1))
    assert meter.peak // (8 * size) == depth + 1
    del y
    assert meter.live // (8 * size) == 2               # x and its gradient


def test_a_closure_is_dropped_when_it_has_run():
    kept = np.ones(3)
    gone = weakref.ref(kept)

    def op(x, array):
        def vjp(dy):
            return (dy * array,)
        return record(x.data * array, (x,), vjp)

    x = leaf([1.0, 2.0, 3.0])
    y = total(op(x, kept))
    del kept
    assert gone() is not None
    y.backward()
    assert gone() is None
    assert y.requires_grad


def test_tensors_are_freed_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = leaf(np.ones(10))
        y = total(times(x, x))
        gone = [weakref.ref(t) for t in (x, x.data, y)]
        y.backward()
        del x, y
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_leaf_that_nobody_holds_any_more_is_passed_by():
    x = leaf([3.0])
    y = total(times(x, leaf([2.0])))
    y.backward()
    assert x.grad.tolist() == [2]


# ---- refusals -----------------------------------------------------------------------------------


def test_backward_on_more_than_one_element_needs_a_gradient():
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"shape \(2,\) needs the gradient to start with"):
        times(x, x).backward()


def test_backward_without_a_tape_is_refused():
    with pytest.raises(RuntimeError, match="does not depend on anything with requires_grad=True"):
        Tensor([1.0]).backward()
    with no_grad():
        y = total(leaf([1.0]))
    with pytest.raises(RuntimeError, match="does not depend"):
        y.backward()


def test_a_second_backward_is_refused_and_names_the_operation():
    x = leaf([1.0])
    y = total(times(x, x))
    y.backward()
    with pytest.raises(RuntimeError, match=r"total at test_tensor.py:\d+: .* already been here"):
        y.backward()
    assert x.grad.tolist() == [2]


def test_a_second_backward_through_a_shared_part_is_refused():
    x = leaf([1.0])
    shared = times(x, x)
    a, b = total(shared), total(shared)
    a.backward()
    with pytest.raises(RuntimeError, match=r"times at test_tensor.py:\d+: .* already been here"):
        b.backward()


def test_a_start_gradient_of_another_shape_is_refused():
    x = leaf([1.0, 2.0])
    with pytest.raises(ValueError, match=r"has shape \(3,\), the tensor \(2,\)"):
        times(x, x).backward(np.ones(3))


def returns(value):
    def op(x):
        def vjp(dy):
            return value
        return record(x.data * 1, (x,), vjp)
    return op


@pytest.mark.parametrize(("value", "said"), [
    ((np.ones(3),), r"op at .*:\d+: the gradient of a parent is float64\(3,\), the parent itself "
                    r"float64\(2,\)"),
    ((np.ones(2, np.float32),), r"is float32\(2,\), the parent itself float64\(2,\)"),
    ((np.ones(2), np.ones(2)), "must return a tuple of 1"),
    ((), "must return a tuple of 1"),
    (np.ones(2), "must return a tuple of 1"),
    (np.ones(1), "must return a tuple of 1"),
    (None, "must return a tuple of 1"),
])
def test_a_vjp_that_returns_something_wrong_is_named(value, said):
    with pytest.raises(RuntimeError, match=said):
        total(returns(value)(leaf([1.0, 2.0]))).backward()


# ---- arrays that are overwritten before backward ------------------------------------------------

REFUSED = (r"times at test_tensor.py:\d+: an array of shape \(2,\) that backward\(\) still needs "
           "was overwritten in the meantime")


@pytest.mark.parametrize("how", ["itself", "detached", "view", "owner", "numpy view"])
def test_a_library_write_into_a_kept_array_is_refused_naming_operation_file_and_line(how):
    storage = np.array([0.0, 1.0, 2.0, 0.0])
    x = Tensor(storage[1:3], requires_grad=True)
    y = total(times(x, x))
    written = {"itself": x, "detached": x.detach(), "view": Tensor(x.data[:1]),
               "owner": Tensor(storage), "numpy view": Tensor(np.asarray(x)[::-1])}[how]
    written.assign(written.data * 0)
    with pytest.raises(RuntimeError, match=REFUSED):
        y.backward()


def test_a_library_write_into_other_arrays_is_fine():
    x, other = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    y = total(times(x, x))
    other.assign([5.0, 6.0])
    y.backward()
    assert x.grad.tolist() == [2, 4]


def test_a_write_before_the_operation_and_after_backward_is_fine():
    x = leaf([1.0, 2.0])
    x.assign([3.0, 4.0])
    y = total(times(x, x))
    y.backward()
    x.assign([5.0, 6.0])
    total(times(x, x)).backward()
    assert x.grad.tolist() == [16, 20]


def test_a_write_into_a_result_that_its_operation_keeps_is_refused():
    def squared_root(x):
        y = np.sqrt(x.data)

        def vjp(dy):
            return (dy / (2 * y),)
        return record(y, (x,), vjp)

    x = leaf([4.0, 9.0])
    y = squared_root(x)
    loss = total(y)
    y.assign([1.0, 1.0])
    with pytest.raises(RuntimeError, match="squared_root at test_tensor.py"):
        loss.backward()


def keeps(how):
    """An operation whose closure reaches x in one way or another."""
    def op(x):
        array = x.data

        def inner():
            return array

        def vjp_of(dy, kept=array):
            return (dy * kept,)

        if how == "list":
            several = [0, (array,)]

            def vjp(dy):
                return (dy * several[1][0],)
        elif how == "tensor":
            def vjp(dy):
                return (dy * x.data,)
        elif how == "function":
            def vjp(dy):
                return (dy * inner(),)
        else:
            vjp = vjp_of
        return record(x.data ** 2 / 2, (x,), vjp)
    return op


@pytest.mark.parametrize("how", ["list", "tensor", "function", "default"])
def test_a_kept_array_is_found_wherever_the_closure_keeps_it(how):
    x = leaf([1.0, 2.0])
    total(keeps(how)(x)).backward()
    assert x.grad.tolist() == [1, 2]
    y = total(keeps(how)(x))
    x.assign([0.0, 0.0])
    with pytest.raises(RuntimeError, match="overwritten in the meantime"):
        y.backward()


def test_a_tensor_whose_array_was_replaced_is_noticed():
    x = leaf([1.0, 2.0])
    y = total(keeps("tensor")(x))
    x.data = np.array([5.0, 6.0])
    with pytest.raises(RuntimeError, match="overwritten in the meantime"):
        y.backward()


def test_a_closure_with_a_variable_that_is_set_later_is_recorded():
    def op(x):
        def vjp(dy):
            return (dy * later,)
        y = record(x.data * 2, (x,), vjp)
        later = 2
        return y

    x = leaf([1.0])
    total(op(x)).backward()
    assert x.grad.tolist() == [2]


def test_a_raw_write_is_caught_under_check_only():
    for check in (False, True):
        x = leaf([1.0, 2.0])
        with settings(check=check):
            y = total(times(x, x))
            x.data[0] = 50
            if check:
                with pytest.raises(RuntimeError, match=REFUSED):
                    y.backward()
            else:
                y.backward()                       # wrong and silent, as the docstring says
                assert x.grad.tolist() == [100, 4]


@pytest.mark.parametrize("check", [False, True])
def test_switching_the_check_between_forward_and_backward_is_no_error(check):
    x = leaf([1.0, 2.0])
    with settings(check=check):
        y = total(times(x, x))
    with settings(check=not check):
        y.backward()
    assert x.grad.tolist() == [2, 4]


def test_adding_up_a_gradient_counts_as_a_write():
    x = leaf([1.0, 2.0])
    total(times(x, x)).backward()
    penalty = total(times(Tensor(x.grad), leaf([1.0, 1.0])))
    total(times(x, x)).backward()
    with pytest.raises(RuntimeError, match="overwritten"):
        penalty.backward()


# ---- where gradients are laid, and who is told --------------------------------------------------


def test_a_gradient_is_laid_into_the_place_prepared_for_it():
    flat = np.full(4, np.nan)
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    x.storage, y.storage = flat[:2], flat[2:]
    total(times(x, y)).backward()
    assert flat.tolist() == [3, 4, 1, 2]
    assert x.grad is x.storage
    total(times(x, y)).backward()
    assert flat.tolist() == [6, 8, 2, 4]
    x.zero_grad()
    total(times(x, y)).backward()
    assert flat.tolist() == [3, 4, 3, 6]


def test_a_leaf_says_once_when_its_gradient_is_complete():
    x, y = leaf([3.0]), leaf([4.0])
    told = []
    for tensor in (x, y):
        tensor.on_grad = lambda tensor: told.append((tensor, tensor.grad.tolist()))
    z = times(times(x, y), x)                      # x²·y: y is used once, x twice
    total(plus(z, x)).backward()                   # and a third time
    assert [grad for _, grad in sorted(told, key=lambda pair: pair[0] is y)] == [[25], [9]]
    assert told[-1][0] is x or told[-1][0] is y
    total(x).backward()
    assert [tensor for tensor, _ in told].count(x) == 2


def test_a_leaf_is_told_even_if_its_last_gradient_is_none():
    def ignoring(x, y):
        def vjp(dz):
            return dz, None
        return record(x.data * 1, (x, y), vjp)

    x, y = leaf([1.0]), leaf([1.0])
    told = []
    y.on_grad = told.append
    total(plus(ignoring(x, y), y)).backward()
    assert told == [y]
    assert y.grad.tolist() == [1]


# ---- arrays in and out --------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "kind", "shape"), [
    (1.5, np.float32, ()), (2, np.int64, ()), (True, np.bool_, ()),
    ([1.0, 2], np.float32, (2,)), ([[1, 2], [3, 4]], np.int64, (2, 2)), ((0.5,), np.float32, (1,)),
    ([], np.float32, (0,)), (range(3), np.int64, (3,)),
    (np.float64(1), np.float64, ()), (np.float32(1), np.float32, ()),
    (np.zeros((2, 1)), np.float64, (2, 1)), (np.zeros(2, np.uint8), np.uint8, (2,)),
    ([np.zeros(2), np.ones(2)], np.float64, (2, 2)), ([np.float32(1)], np.float32, (1,)),
    (memoryview(np.zeros(3)), np.float64, (3,)), (np.ma.masked_array([1.0, 2.0]), np.float64, (2,)),
    (Tensor([1.0]), np.float32, (1,)), ([Tensor([1.0]), Tensor([2.0])], np.float32, (2, 1)),
    (np.arange(3, dtype=">f4"), np.float32, (3,)),
])
def test_a_tensor_is_made_of_any_array_like(given, kind, shape):
    tensor = Tensor(given)
    assert type(tensor.data) is np.ndarray
    assert (tensor.dtype, tensor.shape) == (kind, shape)
    assert tensor.dtype.isnative
    assert (tensor.ndim, tensor.size) == (len(shape), int(np.prod(shape)))


def test_an_array_is_kept_as_it_is_and_a_type_can_be_asked_for():
    array = np.arange(3.0)
    assert Tensor(array).data is array
    assert Tensor(array[1:]).data.base is array
    assert Tensor(array, dtype=np.float32).dtype == np.float32
    assert Tensor([1, 2], dtype=np.float64).data.tolist() == [1, 2]


@pytest.mark.parametrize("given", [[[1, 2], [3]], [1, [2]], [np.zeros(2), np.zeros(3)]])
def test_ragged_lists_are_refused_in_a_sentence(given):
    with pytest.raises(ValueError, match="a tensor needs rows of equal length"):
        Tensor(given)


@pytest.mark.parametrize("given", ["text", None, object(), ["a"], {"a": 1}, 1j,
                                   np.array([None, 1]), np.array(["2020"], "datetime64[D]")])
def test_what_are_no_real_numbers_is_refused_in_a_sentence(given):
    with pytest.raises(TypeError, match="a tensor needs real numbers, not "):
        Tensor(given)


def test_numpy_reads_a_tensor_as_an_array():
    x = leaf([1.0, 2.0])
    assert np.asarray(x) is x.data
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.asarray(x, np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(x), x.data)
    assert np.array(x, copy=None) is x.data
    with pytest.raises(ValueError, match="copy"):
        np.array(x, np.float32, copy=False)
    assert np.sum(np.stack([x, x])) == 6
    assert json.dumps(np.asarray(x).tolist()) == "[1.0, 2.0]"


def test_one_element_is_a_python_number():
    x = Tensor([2.5])
    assert (x.item(), float(x), int(x), bool(x)) == (2.5, 2.5, 2, True)
    assert f"{x:.2f}" == "2.50"
    assert f"{Tensor([1.0, 2.0])}".startswith("Tensor(")
    assert not Tensor([0])
    for refused in (Tensor.item, float, bool):
        with pytest.raises(ValueError, match="size 1"):
            refused(Tensor([1.0, 2.0]))
    assert len(Tensor([1.0, 2.0])) == 2
    with pytest.raises(TypeError):
        len(Tensor(1.0))


def test_a_repr_is_short_and_says_type_shape_origin_and_values():
    assert repr(Tensor([[1.0, 2.5]])) == "Tensor(float32 (1, 2)\n  [[1.  2.5]])"
    x = leaf([1.0, 2.0])
    assert repr(x).splitlines()[0] == "Tensor(float64 (2,), requires_grad"
    first = repr(times(x, x)).splitlines()[0]
    assert first.startswith("Tensor(float64 (2,), from times at test_tensor.py:")
    assert len(repr(Tensor(np.zeros((100, 100, 100))))) < 1500
    assert repr(Tensor(3)) == "Tensor(int64 ()\n  3)"
    y = total(x)
    y.backward()
    assert "from total at" in repr(y)


def test_assign_overwrites_in_place_and_refuses_other_shapes_and_lost_fractions():
    array = np.zeros(2, np.float32)
    x = Tensor(array)
    x.assign(np.array([1.0, 2.0]))
    x.assign(Tensor([3.0, 4.0]))
    assert array.tolist() == [3, 4]
    assert x.data is array
    for wrong in ([1.0], 1.0, [[1.0, 2.0]]):
        with pytest.raises(ValueError, match=r"to a tensor of shape \(2,\)"):
            x.assign(wrong)
    with pytest.raises(TypeError, match="same_kind"):
        Tensor([1, 2]).assign([1.5, 2.5])
    with pytest.raises(ValueError, match="read-only"):
        Tensor(np.broadcast_to(np.float32(1), (2,))).assign([1, 2])


def test_a_function_becomes_a_method_under_its_name_or_others(monkeypatch):
    monkeypatch.setattr(Tensor, "__matmul__", None, raising=False)     # back to what it was, after
    try:
        @method
        def thrice_for_a_test(x):
            return plus(plus(x, x), x)

        @method("tripled_for_a_test", "__matmul__")
        def triple(x, _=None):
            return thrice_for_a_test(x)

        x = Tensor([1.0])
        assert x.thrice_for_a_test().data.tolist() == [3]
        assert x.tripled_for_a_test().data.tolist() == [3]
    finally:
        del Tensor.thrice_for_a_test, Tensor.tripled_for_a_test


# ---- constants beside a tensor ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [2, 0.5, True, [1, 2.5], [[1], [2]]])
def test_numbers_and_lists_take_the_type_of_the_tensor_beside_them(value, kind):
    constant = as_tensor(value, Tensor(np.zeros(2, kind)))
    assert constant.dtype == kind
    assert np.array_equal(constant.data, np.array(value, kind))
    assert not constant.requires_grad


def test_a_constant_beside_a_double_keeps_its_digits():
    assert as_tensor(0.1, Tensor(np.zeros(1))).item() == 0.1
    assert as_tensor([0.1], Tensor(np.zeros(1))).item() == 0.1


def test_a_fraction_beside_integers_is_refused_and_a_whole_number_is_not():
    integers = Tensor([1, 2])
    assert as_tensor(2.0, integers).dtype == np.int64
    for value in (0.5, [1, 0.5]):
        with pytest.raises(TypeError, match="convert the tensor to a floating type first"):
            as_tensor(value, integers)
    with pytest.raises((TypeError, OverflowError)):
        as_tensor(300, Tensor(np.zeros(1, np.uint8)))


def test_two_floating_types_do_not_meet_silently():
    like = Tensor(np.zeros(2, np.float32))
    for value in (np.float64(1), np.zeros(2), Tensor(np.zeros(2))):
        with pytest.raises(TypeError, match="float64 meets float32: convert one of them first"):
            as_tensor(value, like)
    assert as_tensor(np.array([1, 0]), like).dtype == np.int64     # an index, a mask
    same = Tensor([1.0])
    assert as_tensor(same, like) is same


def test_the_measurement_of_the_lesson_runs():
    command = [sys.executable, "-m", "tinygrad_edu.tensor"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout.partition("=")[2]) > 0
