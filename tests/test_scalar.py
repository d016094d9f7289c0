"""The prologue: every step against finite differences, every promise of its docstring."""

import math
import random
import sys

import pytest

from tinygrad_edu import scalar as engine
from tinygrad_edu.scalar import Scalar, cos, exp, grad, gradients, hessian_vector, sin, tanh

# name: (f, a place where f is smooth)
STEPS = {
    "add": (lambda x: x + 3.0 + x, 0.7),
    "add from the left": (lambda x: 3.0 + x, 0.7),
    "subtract": (lambda x: x - 2.0 * x, 0.7),
    "subtract from a float": (lambda x: 3.0 - x, 0.7),
    "negate": (lambda x: -x, 0.7),
    "multiply": (lambda x: x * x * 5.0, 0.7),
    "divide": (lambda x: x / (x + 1.0), 0.7),
    "divide a float": (lambda x: 3.0 / x, -0.7),
    "square": (lambda x: x**2, -0.7),
    "negative power": (lambda x: x**-3, -0.7),
    "square root": (lambda x: x**0.5, 0.7),
    "exp": (exp, 0.7),
    "tanh": (tanh, 0.7),
    "sin": (sin, 0.7),
    "cos": (cos, 0.7),
    "a mixture": (lambda x: exp(sin(x) * x) / (1.0 + tanh(x) ** 2), 0.7),
}


def central_difference(f, x, h=1e-6):
    return (f(x + h) - f(x - h)) / (2.0 * h)


def value(f):
    """f on plain floats."""
    return lambda x: f(Scalar(x)).value


@pytest.mark.parametrize("name", STEPS)
def test_first_derivatives_match_finite_differences(name):
    f, x = STEPS[name]
    assert grad(f)(x).value == pytest.approx(central_difference(value(f), x), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("name", STEPS)
def test_second_and_third_derivatives_match_finite_differences_of_the_one_before(name):
    f, x = STEPS[name]
    for derivative in (grad(f), grad(grad(f))):
        expected = central_difference(value(derivative), x)
        assert grad(derivative)(x).value == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_the_fourth_derivative_of_the_sine_is_the_sine():
    assert grad(grad(grad(grad(sin))))(0.3).value == pytest.approx(math.sin(0.3), rel=1e-15)


def test_a_scalar_used_twice_gets_the_sum_of_both_derivatives():
    x = Scalar(3.0)
    y = Scalar(5.0)
    dx, dy = gradients(x * y + x * x, [x, y])
    assert (dx.value, dy.value) == (11.0, 3.0)
    assert gradients(x * x, [x])[0].value == 6.0
    assert gradients(x + x, [x])[0].value == 2.0


def test_a_step_waits_for_everything_that_used_its_result():
    # Of a's two uses one is young and one is old. An order by distance from y gets this wrong.
    x = Scalar(2.0)
    a = x * x
    y = ((a + 1.0) * 3.0) * a
    assert gradients(y, [x])[0].value == pytest.approx(3.0 * (4.0 * 8.0 + 4.0))


def test_a_chain_of_100000_steps_needs_no_recursion():
    depth = 100_000
    assert depth > sys.getrecursionlimit()
    x = Scalar(1.0)
    y = x
    for _ in range(depth):
        y = y + x
    assert gradients(y, [x])[0].value == depth + 1.0


def test_the_second_derivative_of_a_chain_of_20000_steps_needs_no_recursion():
    x = Scalar(0.5)
    y = x
    for _ in range(20_000):
        y = -y
    (slope,) = gradients(y * y, [x])
    assert gradients(slope, [x])[0].value == 2.0


def test_an_input_that_the_result_does_not_depend_on_gets_zero():
    x = Scalar(1.0)
    assert gradients(x * 2.0, [x, Scalar(4.0)])[1].value == 0.0
    assert grad(lambda x: 3.0)(1.0).value == 0.0


def test_the_result_itself_has_derivative_one():
    y = Scalar(2.0) * 3.0
    assert gradients(y, [y])[0].value == 1.0


def test_derivatives_of_a_square_at_zero_end_at_zero_and_not_at_one_over_zero():
    second = grad(grad(lambda x: x**2))
    assert second(0.0).value == 2.0
    assert grad(second)(0.0).value == 0.0


def test_nested_derivatives_that_share_a_variable_are_not_mixed_up():
    # d/dx [x · d/dy (x + y)] at y = x: the inner derivative is 1, so the outer one is 1, not 2.
    f = grad(lambda x: x * grad(lambda y: x + y)(x))
    assert f(1.0).value == 1.0


def test_hessian_times_vector_of_the_banana_function_is_what_one_finds_by_hand():
    def banana(x, y):
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    first = [column.value for column in hessian_vector(banana, [1, 1], [1, 0])]
    second = [column.value for column in hessian_vector(banana, [1, 1], [0, 1])]
    assert (first, second) == ([802.0, -400.0], [-400.0, 200.0])


def test_newtons_method_doubles_the_correct_digits_at_every_step():
    path = engine.newton(lambda x: exp(x) - 2 * x, 0.0, steps=6)
    errors = [abs(x - math.log(2.0)) for x in path]
    assert errors[-1] < 1e-15
    for before, after in zip(errors[1:4], errors[2:5], strict=True):
        assert after < before**2


def test_descent_teaches_xor_to_seventeen_weights():
    weights, losses = engine.train_xor(steps=150, rate=0.5, seed=1)
    assert losses[-1] < 0.01 < 0.5 < losses[0]
    for x, y in engine.XOR.items():
        assert engine.network(weights, *x).value * y > 0.8


def test_the_gradient_of_the_network_matches_finite_differences_in_every_weight():
    generator = random.Random(0)
    weights = [generator.gauss(0.0, 1.0) for _ in range(17)]
    scalars = [Scalar(w) for w in weights]
    slopes = gradients(engine.network(scalars, 0.3, -1.2), scalars)
    for i, slope in enumerate(slopes):

        def along(w, i=i):
            moved = [Scalar(v) for v in weights]
            moved[i] = Scalar(w)
            return engine.network(moved, 0.3, -1.2).value

        assert slope.value == pytest.approx(central_difference(along, weights[i]), abs=1e-8)


def test_a_vjp_returns_derivatives_and_changes_nothing():
    x = Scalar(2.0)
    y = x * x
    before = dict(vars(x))
    assert [d.value for d in y.vjp(Scalar(1.0))] == [2.0, 2.0]
    assert vars(x) == before
    assert gradients(y, [x])[0].value == gradients(y, [x])[0].value == 4.0


def test_places_outside_the_real_numbers_are_refused():
    with pytest.raises(ValueError, match="math domain error"):
        Scalar(-1.0) ** 0.5
    with pytest.raises(ValueError, match="math domain error"):
        1.0 / Scalar(0.0)
    with pytest.raises(OverflowError):
        exp(Scalar(710.0))


def test_the_examples_run_and_print_what_they_promise(capsys):
    engine.main()
    printed = capsys.readouterr().out
    assert "step 6   x = 0.693147180559945" in printed
    assert "[Scalar(802.0), Scalar(-400.0)]" in printed
    assert printed.count(" xor ") == 4
