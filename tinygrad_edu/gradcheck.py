"""Lesson 1.9 · Gradcheck: finite differences judge every gradient

Needs tensor. Used by every test.

Idea      Finite differences are difference quotients over a small step: the derivative is their
          limit, so they must come close to it. That check knows nothing of the code it judges,
          which is why everything here is trusted: no gradient in this library is believed before it
          has passed.
Math      For a random direction v and a random weighting u of the outputs, with φ(x) = uᵀ·f(x):
          ∇φ(x)ᵀ·v ≈ D(h) = (φ(x + hv) − φ(x − hv)) / 2h         error: O(h²) + O(ε/h)         (1)
          ε is the rounding of one operation, about 10⁻¹⁶ in float64; O(h²) shrinks as fast as h²
          extrapolated:  (4·D(h/2) − D(h)) / 3                   error: O(h⁴) + O(ε/h)         (2)
          v = eᵢ for every i where there are few elements: each partial derivative by itself   (3)
          error = |exact − quotient| / max(|exact|, |quotient|, floor)                         (4)
Shapes    f takes tensors and returns one tensor of any shape; arrays are float64.
Pitfalls  float32 has no digits left for (1): at h = 10⁻³ the rounding error ε/h alone is 10⁻⁴.
          Checks run in float64, and so do the C and CUDA kernels, which are built for both types.
          At a kink (relu at 0, two equal maxima) the quotient is not the derivative: keep inputs
          away from it, by more than h.
          One random direction finds an error anywhere with probability 1 but does not say where;
          (3) does.
          A gradient that is 0 by nature has no relative error. The floor in (4) makes it an
          absolute one: at least 10⁻³, and so much that rounding, ε·Σ|u·f|/h, passes ten times
          over.
Cost      Two calls of f for each number of (1), four with (2); all elements of small inputs.
Try       build it    a report of the three worst elements instead of the first.
          break it    leave a factor or a sign out of any backward kernel, and run the tests of
                      that op.
          measure it  gradcheck(f, x, step=h, tolerance=1) over h = 10⁻¹ … 10⁻¹²: where is the
                      valley, and what are its two sides?
See       Press et al., Numerical Recipes, 5.7 (differences, extrapolation) · HIPS autograd,
          check_vjp (projection)
"""

import numpy as np

from .tensor import Tensor

EVERY_ELEMENT = 64                                 # check single elements of inputs up to this size


def gradcheck(f, *arrays, tolerance=1e-6, step=1e-3, seed=0):
    """Compare the gradients of f with finite differences; returns the largest relative error.

    f: takes one Tensor per array and returns a Tensor. arrays: float64, all are differentiated.
    tolerance: relative error allowed. step: h of (1), in units of the inputs.
    Raises AssertionError that names the input, the element and both values.
    """
    random = np.random.default_rng(seed)
    arrays = [np.array(array, np.float64) for array in arrays]
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    y = f(*tensors)
    weights = random.standard_normal(y.shape)
    y.backward(weights)
    # How far rounding alone moves (2), times ten at a tolerance of 1e-6.
    floor = max(1e-3, 1e-9 * float(np.sum(np.abs(y.data * weights))) / step)
    worst = 0.0
    for k, tensor in enumerate(tensors):
        grad = np.zeros_like(arrays[k]) if tensor.grad is None else tensor.grad
        for name, direction in _directions(arrays[k], random):
            exact = float(np.sum(grad * direction))
            quotient = _difference(f, arrays, k, direction, weights, step)
            error = abs(exact - quotient) / max(abs(exact), abs(quotient), floor)             # (4)
            if not error <= tolerance:  # so that NaN fails as well
                raise AssertionError(f"input {k}, {name}: the gradient says {exact:.9g}, finite "
                                     f"differences {quotient:.9g} (relative error {error:.1e}, "
                                     f"allowed {tolerance:.0e})")
            worst = max(worst, error)
    return worst


def _directions(array, random):
    """A random direction of unit length, and every axis of a small input: (3)."""
    if array.size == 0:
        return
    direction = random.standard_normal(array.shape)
    yield "a random direction", direction / np.linalg.norm(direction)
    for index in np.ndindex(array.shape) if array.size <= EVERY_ELEMENT else ():
        axis = np.zeros_like(array)
        axis[index] = 1
        yield f"element {index}", axis


def _difference(f, arrays, k, direction, weights, h):
    """The extrapolated difference quotient (2)."""
    def phi(offset):
        moved = [Tensor(a + offset * direction if i == k else a) for i, a in enumerate(arrays)]
        return float(np.sum(f(*moved).data * weights))

    def slope(h):
        return (phi(h) - phi(-h)) / (2 * h)                                                   # (1)

    return (4 * slope(h / 2) - slope(h)) / 3                                                  # (2)
