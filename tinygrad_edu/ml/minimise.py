"""Lesson 4.63 · Minimise: L-BFGS, Newton, and steps for costs with a kink

Needs inputs. Used by tests/ml/test_minimise.py.

Idea      To go down one wants a direction and a length. The gradient alone knows neither how far
          nor, in a long narrow valley, really where to. Newton asks the second derivative, which
          turns the valley into a bowl: a few steps, each as dear as solving C equations. L-BFGS
          remembers the last few steps and how the gradient changed along them, which is as much of
          the second derivative as matters, for the price of a few inner products. Where the cost
          has a kink, as |w| at zero, neither applies: there one takes a gradient step on the smooth
          part and then lets the kink pull: shrink towards zero, and stay there.
Math      g the gradient of f at x, H its second derivatives, t a length, x′ and g′ one step later
          Newton: x ← x − t·H⁻¹g                                                                (1)
          L-BFGS: s = x′ − x, q = g′ − g; H maps s to q, nearly, so H⁻¹ is to map q to s:
          H⁻¹ ← (1 − s·qᵀ/sᵀq)·H⁻¹·(1 − q·sᵀ/sᵀq) + s·sᵀ/sᵀq, from H⁻¹ = (sᵀq/qᵀq)·1            (2)
          length t: f(x + td) ≤ f + c₁t·gᵀd (low enough), g(x + td)ᵀd ≥ c₂·gᵀd (flat enough)    (3)
          proximal: x′ = argmin_u h(u) + L/2·‖u − (z − g(z)/L)‖²,  for f + h with h = l₁‖u‖₁:
          x′ = S(z − g(z)/L, l₁/L), S(a, b) = sign(a)·max(|a| − b, 0);   z = x′ + β(x′ − x),
          β = (m − 1)/m′, m′ = (1 + √(1 + 4m²))/2 from m = 1, begun anew when that leads uphill (4)
Shapes    x, gradients (C,) · cost(x) gives (value, gradient)
Pitfalls  Near the bottom the value changes by less than its last digit, while the gradient still
          points: (3) forgives a few roundings, or the search would end with half the digits.
          sᵀq > 0 keeps H⁻¹ positive; the second half of (3) is what guarantees it.
          The Newton step of a flat direction is 0/0: lstsq leaves such directions alone.
Cost      L-BFGS: one or two costs a step and 4·memory·C operations. Newton: C³/3 and the Hessian,
          N·C² for a table. Proximal: one cost a step, hundreds to thousands of steps.
Try       build it    the same for f + h with bounds: project instead of shrinking.
          break it    leave out the second half of (3). What does L-BFGS do on Rosenbrock's valley?
          measure it  python -m tinygrad_edu.ml.minimise: evaluations for each, the same valley
See       Nocedal, Wright "Numerical optimization" 3.1, 7.2 · Liu, Nocedal 1989 · Beck, Teboulle
          2009 (FISTA) · O'Donoghue, Candès 2015 (begin anew)
"""

import math

import numpy as np

from .inputs import ConvergenceWarning, warn

LOW_ENOUGH, FLAT_ENOUGH = 1e-4, 0.9  # c₁, c₂
ROUNDING = 8 * np.finfo(np.float64).eps


def lbfgs(cost, x, tolerance=1e-4, steps=100, memory=10):
    """(x, steps taken) with |gradient| ≤ tolerance everywhere, from x, by L-BFGS."""
    value, gradient = cost(x)
    pairs = []
    for step in range(steps):
        if np.abs(gradient).max() <= tolerance:
            return x, step
        direction = -inverse_times(pairs, gradient)
        if not pairs:  # nothing is known about lengths yet: at most 1
            direction /= max(1.0, math.sqrt(gradient @ gradient))
        found = search(cost, x, value, gradient, direction)
        if found is None:  # no lower point that the digits can tell
            return x, step + 1
        length, value, new = found
        move, change = length * direction, new - gradient
        if move @ change > 0:
            pairs = [*pairs[-memory + 1 :], (move, change)]
        x, gradient = x + move, new
    if np.abs(gradient).max() > tolerance:
        _not_converged("L-BFGS", steps)
    return x, steps


def inverse_times(pairs, vector):
    """H⁻¹·vector by (2), from the newest pair to the oldest and back."""
    v, shares = vector.copy(), []
    for move, change in reversed(pairs):
        shares.append((move @ v) / (move @ change))
        v -= shares[-1] * change
    if pairs:
        move, change = pairs[-1]
        v *= (move @ change) / (change @ change)
    for move, change in pairs:
        v += (shares.pop() - (change @ v) / (move @ change)) * move                           # (2)
    return v


def search(cost, x, value, gradient, direction, tries=40):
    """(t, value, gradient) at x + t·direction with (3), by doubling and halving; None if no t."""
    slope = gradient @ direction
    low, high, t = 0.0, math.inf, 1.0
    for _ in range(tries):
        new, new_gradient = cost(x + t * direction)
        if not new <= value + LOW_ENOUGH * t * slope + ROUNDING * abs(value):                 # (3)
            high = t
        elif new_gradient @ direction < FLAT_ENOUGH * slope:
            low = t
        else:
            return t, new, new_gradient
        t = (low + high) / 2 if high < math.inf else 2 * t
    return None


def newton(cost, hessian, x, tolerance=1e-4, steps=100):
    """(x, steps taken) with |gradient| ≤ tolerance everywhere, from x: (1) with t from `search`."""
    value, gradient = cost(x)
    for step in range(steps):
        if np.abs(gradient).max() <= tolerance:
            return x, step
        direction = -np.linalg.lstsq(hessian(x), gradient, rcond=None)[0]                     # (1)
        found = search(cost, x, value, gradient, direction)
        if found is None:
            return x, step + 1
        length, value, gradient = found
        x = x + length * direction
    if np.abs(gradient).max() > tolerance:
        _not_converged("Newton", steps)
    return x, steps


def soft(z, threshold):
    """S(z, t) = sign(z)·max(|z| − t, 0)."""
    return np.sign(z) * np.maximum(np.abs(z) - threshold, 0)


def proximal(cost, x, largest, l1, tolerance=1e-4, steps=1000):
    """(x, steps taken) for cost(x) + Σ l1·|x|, l1 (C,) ≥ 0: (4).

    largest: L, at least the largest second derivative. It ends when no entry of x moved by more
    than tolerance/L, which is a gradient of that size.
    """
    z, momentum = x, 1.0
    for step in range(1, steps + 1):
        _, gradient = cost(z)
        new = soft(z - gradient / largest, l1 / largest)                                      # (4)
        moved = new - x
        uphill = (z - new) @ moved > 0
        if np.abs(new - z).max() * largest <= tolerance:
            return new, step
        grown = 1.0 if uphill else (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        z = new + (0 if uphill else (momentum - 1) / grown) * moved                           # (4)
        x, momentum = new, grown
    _not_converged("proximal gradient descent", steps)
    return x, steps


def _not_converged(what, steps):
    warn(ConvergenceWarning, f"{what} has not converged after {steps} steps: scale the features, "
         "or raise max_iter")


def valley(x):
    """Rosenbrock's valley, 100·(x₁ − x₀²)² + (1 − x₀)², least at (1, 1): (value, gradient)."""
    across, along = x[1] - x[0] ** 2, 1 - x[0]
    gradient = np.array([-400 * x[0] * across - 2 * along, 200 * across])
    return 100 * across**2 + along**2, gradient


def valley_hessian(x):
    """Its second derivatives (2, 2)."""
    return np.array([[1200 * x[0] ** 2 - 400 * x[1] + 2, -400 * x[0]], [-400 * x[0], 200.0]])


def _measure():
    calls = []

    def counted(x):
        calls.append(x)
        return valley(x)

    start, told = np.array([-1.2, 1.0]), {}
    for name, method in [
        ("lbfgs", lambda: lbfgs(counted, start, 1e-8)),
        ("newton", lambda: newton(counted, valley_hessian, start, 1e-8)),
        ("proximal", lambda: proximal(counted, start, 2000, 0.0, 1e-8, 100000)),
    ]:
        calls.clear()
        x, _ = method()
        told[name] = len(calls), np.abs(x - 1).max()
    print(" ".join(f"{name}_costs={n} {name}_error={e:.0e}" for name, (n, e) in told.items()))


if __name__ == "__main__":
    _measure()
