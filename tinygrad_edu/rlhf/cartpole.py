"""Lesson 7.12 · Cart-pole: a pole on a cart, many at once

Needs layers, module. Used by scripts/cartpole.py.

Idea      Whether an algorithm that learns from rewards is right is best seen where everything else
          is simple. A pole stands on a cart by a hinge. Ten times the strength of a finger pushes
          the cart to the left or to the right, fifty times a second, and nothing else can be done.
          As long as the pole stands, every step brings a reward of 1; nobody says which push was
          right. It is forty years old, its equations of motion fit on three lines, and who cannot
          learn it has a mistake in the program.
Math      θ̈ = [g·sin θ + cos θ·(−F − m·l·θ̇²·sin θ + μ_c·sgn ẋ)/(M + m) − μ_p·θ̇/(m·l)]
              / (l·[4/3 − m·cos²θ/(M + m)])                                                    (1)
          ẍ = [F + m·l·(θ̇²·sin θ − θ̈·cos θ) − μ_c·sgn ẋ] / (M + m)                           (2)
          x ← x + τ·ẋ, ẋ ← ẋ + τ·ẍ, and the same for θ: a step of Euler's                      (3)
          g 9.8 m/s² · cart M 1 kg · pole m 0.1 kg, half its length l 0.5 m · F ±10 N · τ 0.02 s
          friction of the cart μ_c 0.0005, of the hinge μ_p 0.000002
          fallen: |x| > 2.4 m or |θ| > 12°        begun: all four in ±0.05, at random            (4)
Shapes    states (B, 4): x, ẋ, θ, θ̇ of B carts · actions (B,): 0 left, 1 right · logits (B, 2) ·
          values (B,)
Pitfalls  The carts run side by side, and one that has fallen is set up again at once: the state
          that follows is of another episode. What came last of the old one is kept, since a time
          limit is no fall, and the value of that place is still wanted (lesson gae).
          In (3) all right-hand sides are of the old step. With the new velocities the same names
          make another system, a little easier to balance.
          At the start the policy must be nearly even: its last layer begins a hundred times
          smaller, or it leans to one side before it has seen anything.
Cost      A step of 32 carts costs as much as one of one cart: NumPy's calls, not the arithmetic.
Try       build it    a reward that falls with |x|. Does the cart now stay in the middle?
          break it    hide the two velocities from the network. How long does the pole stand?
          measure it  python scripts/cartpole.py --carts 1 and --carts 64: steps a second
See       Barto, Sutton, Anderson 1983, appendix (the equations, their constants) · Brockman et al.
          2016 (the start, the limit of 500 steps) · Engstrom et al. 2020 (the last layer)
"""

import numpy as np

from ..nn.layers import Linear
from ..nn.module import Module

GRAVITY, CART, POLE, HALF, FORCE, TICK = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
CART_FRICTION, HINGE_FRICTION = 0.0005, 0.000002
FARTHEST, STEEPEST = 2.4, np.radians(12)           # metres, and the angle of a fall
LIMIT = 500                                        # steps, after which an episode is cut off


def accelerations(states, force):
    """(ẍ, θ̈) of states (B, 4) under a force (B,) in newtons: (1) and (2)."""
    _, speed, angle, turn = states.T
    mass = CART + POLE
    moment = POLE * HALF
    sine = np.sin(angle)
    cosine = np.cos(angle)
    rubbing = CART_FRICTION * np.sign(speed)
    hinge = HINGE_FRICTION * turn / moment
    pushed = (-force - moment * turn**2 * sine + rubbing) / mass
    lever = HALF * (4 / 3 - POLE * cosine**2 / mass)
    fall = GRAVITY * sine + cosine * pushed
    turning = (fall - hinge) / lever                                                           # (1)
    swing = moment * (turn**2 * sine - turning * cosine)
    push = (force + swing - rubbing) / mass                                                    # (2)
    return push, turning


class CartPoles:
    """B carts side by side. random: a numpy generator, which sets the poles up."""

    def __init__(self, count, random):
        self.random = random
        self.states = self.fresh(count)
        self.ages = np.zeros(count, np.int64)      # steps that the pole has stood

    def fresh(self, count):
        """States of poles that have just been set up, (count, 4): (4)."""
        return self.random.uniform(-0.05, 0.05, (count, 4))

    def step(self, actions):
        """Push every cart once: (fell, cut, before), where fell and cut are (B,) booleans.

        cut: the time limit ended an episode whose pole still stands. before: the states that the
        pushes have led to; self.states are the same but for those whose episode is over, which
        have been set up again.
        """
        force = np.where(actions == 1, FORCE, -FORCE)
        push, turning = accelerations(self.states, force)
        _, speed, _, turn = self.states.T
        change = np.stack([speed, push, turn, turning], axis=1)
        before = self.states + TICK * change                                                   # (3)
        self.ages += 1
        gone = np.abs(before[:, 0]) > FARTHEST
        fallen = np.abs(before[:, 2]) > STEEPEST
        fell = gone | fallen                                                                   # (4)
        cut = ~fell & (self.ages >= LIMIT)
        over = fell | cut
        self.states = before.copy()
        self.states[over] = self.fresh(over.sum())
        self.ages[over] = 0
        return fell, cut, before


class Balancer(Module):
    """Two networks, or one with two ends: which way to push, and how long the pole will stand.

    shared: one trunk for both. dtype: float32, or float64 to check gradients.
    """

    def __init__(self, random, hidden=64, shared=False, dtype=np.float32):
        self.trunk = Trunk(random, hidden, dtype)
        self.other = None if shared else Trunk(random, hidden, dtype)
        self.policy = Linear(hidden, 2, random, std=0.01 / np.sqrt(hidden), dtype=dtype)
        self.value = Linear(hidden, 1, random, dtype=dtype)

    def forward(self, states):
        """states (B, 4) -> logits (B, 2) and values (B,)."""
        h = self.trunk(states)
        other = h
        if self.other is not None:
            other = self.other(states)
        values = self.value(other)
        return self.policy(h), values.reshape(-1)


class Trunk(Module):
    """Two layers of tanh units over a state."""

    def __init__(self, random, hidden, dtype):
        self.first = Linear(4, hidden, random, dtype=dtype)
        self.second = Linear(hidden, hidden, random, dtype=dtype)

    def forward(self, states):
        """states (B, 4) -> (B, F)."""
        return self.second(self.first(states).tanh()).tanh()
