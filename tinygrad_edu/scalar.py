"""Lesson 1.0 · Automatic differentiation on plain floats

Needs nothing. Used by nothing.

Idea      A program computes a number from other numbers: which way should each of them move to make
          the result smaller? Every program is a chain of tiny steps, and for each tiny step the
          answer is known from school. So let every number remember the step that made it (be a
          node of a graph), and afterwards walk the steps backward, passing the answer on. One walk
          serves all inputs, be they two or a billion: this is what makes it possible to train a
          network. The rest of the library repeats this page with arrays in place of floats.

Math      Write dx for the derivative of the final result with respect to x. A step z = f(x, y) that
          is told dz passes on (∂f/∂x is the derivative of f with all but x held fixed; the name of
          this product, "vjp", is explained in lesson tape)
              dx = dz · ∂f/∂x        dy = dz · ∂f/∂y                                        (1)
          and a number that several steps used is owed the answers of all of them:
              dx = sum of (1) over the steps that used x                                    (2)
          A step must wait for everything that used its result. A number is younger than the
          numbers it is made of, so going from the youngest to the oldest is always right.  (3)
          The steps, each with its derivatives:
              x + y   1, 1           x·y     y, x             xⁿ      n·xⁿ⁻¹                (4)
              exp x   exp x          tanh x  1 − tanh² x                                    (5)
              sin x   cos x          cos x   −sin x                                         (6)
          The walk back is made of the same steps, so its results can be differentiated again:
              f″ = (f′)′             H·v = ∇(∇f · v)                                        (7)
          where ∇f lists the ∂f/∂xᵢ, and the Hessian H is the table of all ∂²f/∂xᵢ∂xⱼ.

Shapes    Everything is one float. What (1) becomes for arrays is the subject of `tensor`.

Pitfalls  Keeping the last answer instead of the sum (2): x·x gets the derivative x, not 2x.
          Walking by recursion: Python stops at 1,000 levels; a sum of 100,000 terms is deeper.
          Nested derivatives that share a variable: see `grad`, where x becomes a fresh node.
          `==` asks whether two Scalars are the same node. Compare their `.value`.

Cost      The walk back does a small constant times the work of the program, whatever the number of
          inputs; finite differences run the program once more for each input. The price is
          memory: every intermediate number stays alive until its result is dropped.

Try       build it    add `log` with its vjp, 1/x. Is grad(log) at 2 what it should be?
          break it    in `gradients`, keep the last answer instead of the sum. Which tests notice?
          measure it  python -m tinygrad_edu.scalar: knowing f″, Newton's method doubles the correct
                      digits with each step; H·v is exact; a network of 17 weights learns XOR.

See       Linnainmaa 1970 (reverse accumulation) · Griewank, Walther 2008, ch. 3 · Pearlmutter 1994
          (H·v) · Siskind, Pearlmutter 2005 (nested derivatives)
"""

import itertools
import math
import random


class Scalar:
    """A float that remembers how it was made.

    value    the number itself
    parents  the Scalars it was computed from
    vjp      takes the derivative of the result with respect to this node, a Scalar,
             and RETURNS one derivative for each parent, eq. (1)
    index    its age: how many Scalars were made before it, eq. (3)
    """

    made = itertools.count()

    def __init__(self, value, parents=(), vjp=None):
        self.value = float(value)
        self.parents = parents
        self.vjp = vjp
        self.index = next(Scalar.made)

    def __repr__(self):
        return f"Scalar({self.value})"

    def __add__(self, other):
        return add(self, other)

    def __mul__(self, other):
        return mul(self, other)

    def __pow__(self, n):
        return power(self, n)

    # Both sides of a sum or a product have equal rights ...
    __radd__ = __add__
    __rmul__ = __mul__

    # ... and the rest of arithmetic needs no calculus of its own.
    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -scalar(other)

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        return self * scalar(other) ** -1

    def __rtruediv__(self, other):
        return self**-1 * other


def scalar(x):
    """x itself if it is a Scalar, else a new one without parents: a constant or an input."""
    return x if isinstance(x, Scalar) else Scalar(x)


# The steps. The last line of each goes forward, the vjp above it goes back. A vjp computes with
# Scalars, not with floats: nothing else is needed for second derivatives, eq. (7).


def add(x, y):
    """x + y, eq. (4)."""
    x, y = scalar(x), scalar(y)
    def vjp(dz):
        return dz, dz
    return Scalar(x.value + y.value, (x, y), vjp)


def mul(x, y):
    """x·y, eq. (4)."""
    x, y = scalar(x), scalar(y)
    def vjp(dz):
        return dz * y, dz * x
    return Scalar(x.value * y.value, (x, y), vjp)


def power(x, n):
    """xⁿ for a constant number n, eq. (4). ValueError where it is not a real number."""
    if n == 0:
        return Scalar(1.0)  # constant: x² has the derivatives 2x, 2, 0 at x = 0 too, never 1/0
    x = scalar(x)
    def vjp(dy):
        return (dy * n * x ** (n - 1),)
    return Scalar(math.pow(x.value, n), (x,), vjp)


def exp(x):
    """The exponential, eq. (5). OverflowError above 709.78."""
    x = scalar(x)
    def vjp(dy):
        return (dy * exp(x),)
    return Scalar(math.exp(x.value), (x,), vjp)


def tanh(x):
    """The hyperbolic tangent, eq. (5)."""
    x = scalar(x)
    def vjp(dy):
        return (dy * (1.0 - tanh(x) ** 2),)
    return Scalar(math.tanh(x.value), (x,), vjp)


def sin(x):
    """The sine of x in radians, eq. (6)."""
    x = scalar(x)
    def vjp(dy):
        return (dy * cos(x),)
    return Scalar(math.sin(x.value), (x,), vjp)


def cos(x):
    """The cosine of x in radians, eq. (6)."""
    x = scalar(x)
    def vjp(dy):
        return (dy * -sin(x),)
    return Scalar(math.cos(x.value), (x,), vjp)


# The engine: two short functions, and nothing in them knows any of the steps above.


def history(y):
    """Every Scalar that y was computed from, y included, youngest first, eq. (3). No recursion."""
    found = {y}
    todo = [y]
    while todo:
        for parent in todo.pop().parents:
            if parent not in found:
                found.add(parent)
                todo.append(parent)
    return sorted(found, key=lambda node: node.index, reverse=True)


def gradients(y, inputs):
    """The derivatives ∂y/∂x for each x of the list `inputs`, as Scalars: differentiable themselves.

    An input that y was not computed from gets 0.
    """
    y = scalar(y)
    total = {y: Scalar(1.0)}
    for node in history(y):
        if node.parents:
            for parent, d in zip(node.parents, node.vjp(total[node]), strict=True):
                total[parent] = total[parent] + d if parent in total else d  # (2)
    return [total[x] if x in total else Scalar(0.0) for x in inputs]


# What it buys. From here on, no line knows how derivatives are found.


def grad(f):
    """The function f′, for a function f of one number. grad(grad(f)) is f″, eq. (7)."""

    def derivative(x):
        # A fresh node, so that only what f does with it is counted: if x came in as it is, a nested
        # grad would also collect what an outer function does with the same x.
        x = scalar(x) * 1.0
        return gradients(f(x), [x])[0]

    return derivative


def hessian_vector(f, xs, vs):
    """H·v for a function f of the numbers xs, without ever making the matrix H, eq. (7)."""
    xs = [scalar(x) * 1.0 for x in xs]
    slope = sum(dx * v for dx, v in zip(gradients(f(*xs), xs), vs, strict=True))
    return gradients(slope, xs)


def newton(f, x, steps):
    """Walks to where f′ = 0 by x ← x − f′(x)/f″(x). Returns the places on the way, as floats."""
    path = [x]
    for _ in range(steps):
        x -= (grad(f)(x) / grad(grad(f))(x)).value
        path.append(x)
    return path


XOR = {(-1, -1): -1, (-1, 1): 1, (1, -1): 1, (1, 1): -1}


def network(weights, x1, x2):
    """Two layers, 17 weights: four tanh units look at x1 and x2, and one looks at those four."""
    y = weights[16]
    for unit in range(0, 16, 4):
        a, b, c, d = weights[unit : unit + 4]
        y = y + d * tanh(a * x1 + b * x2 + c)
    return tanh(y)


def train_xor(steps, rate, seed):
    """Gradient descent from random weights. Returns the weights and the loss before each step."""
    generator = random.Random(seed)
    weights = [Scalar(generator.gauss(0.0, 1.0)) for _ in range(17)]
    losses = []
    for _ in range(steps):
        loss = sum((network(weights, *x) - y) ** 2 for x, y in XOR.items()) / 4
        losses.append(loss.value)
        moves = zip(weights, gradients(loss, weights), strict=True)
        # New Scalars from plain floats: the next step is not to remember this one.
        weights = [Scalar(w.value - rate * dw.value) for w, dw in moves]
    return weights, losses


def main():
    """Prints the three examples: f″ at work, H·v at work, and a network that learns."""
    print("The minimum of exp(x) − 2x by Newton's method. It lies at x = log 2.")
    for step, x in enumerate(newton(lambda x: exp(x) - 2 * x, 0.0, steps=6)):
        print(f"  step {step}   x = {x:.16f}   error {abs(x - math.log(2)):.0e}")

    print("\nThe Hessian of (1 − x)² + 100·(y − x²)² at (1, 1) times (1, 0). By hand: 802, −400.")
    print(" ", hessian_vector(lambda x, y: (1 - x) ** 2 + 100 * (y - x**2) ** 2, [1, 1], [1, 0]))

    print("\nXOR, learned by gradient descent.")
    weights, losses = train_xor(steps=200, rate=0.5, seed=1)
    print("  loss", "  ".join(f"{loss:.4f}" for loss in losses[::40]))
    for x, y in XOR.items():
        print(f"  {x[0]:2d} xor {x[1]:2d} = {y:2d}   network {network(weights, *x).value:6.3f}")


if __name__ == "__main__":
    main()
