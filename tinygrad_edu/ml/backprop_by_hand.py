"""Lesson 4.66 · Backpropagation by hand: a network with one hidden layer

Needs descent, logistic. Used by tests/ml/test_backprop_by_hand.py.

Idea      A straight border is not always enough. Put a layer in front that bends the features
          first, and let it learn how: tanh units, each a border of its own, soft; on top of them
          the softmax regression of lesson logistic. How should the first layer change, whose output
          nobody has labelled? The chain rule answers: each unit is blamed for the errors of what
          it feeds, in the measure of its weight there, times how much it was still able to move.
          Done once for every layer, from the last to the first, that is backpropagation. Here each
          line is derived on paper; lesson tensor makes the machine do it.
Math      a = X·W₁ + b₁    h = tanh(a)    z = h·W₂ + b₂    p = softmax(z)    L = −mean log p_y   (1)
          dz := ∂L/∂z.  log p_y = z_y − log Σⱼ exp(zⱼ), so  dz = (p − [k = y])/N                 (2)
          z is linear in h, W₂, b₂:  dW₂ = hᵀ·dz    db₂ = Σₙ dz    dh = dz·W₂ᵀ                  (3)
          tanh′ = 1 − tanh²:  da = dh ∘ (1 − h²)                                                (4)
          a is linear in W₁, b₁:  dW₁ = Xᵀ·da    db₁ = Σₙ da                                    (5)
Shapes    X (N, C) · W1 (C, F) · b1 (F,) · a, h (N, F) · W2 (F, K) · b2 (K,) · z, p, dz (N, K)
          a gradient has the shape of what it belongs to: that alone decides every transpose
Pitfalls  With all weights zero every unit is the same, is blamed the same, and stays the same.
          Weights of size 1 into many units: |a| is large, tanh is flat, (4) is 0, nothing learns.
          Hence 1/√(units that feed it).
          (4) wants h, not a: what the forward pass computed is kept, not computed again.
          The mean over N is in (2) once; who divides in (3) and (5) again does it three times.
Cost      Forward two products, backward four of the same size: a gradient costs about two forwards,
          however many weights there are. Differences would cost one forward for each weight.
Try       build it    relu instead of tanh: which single line changes?
          break it    leave (1 − h²) out of (4). Does the loss still fall? Which test notices?
          measure it  python -m tinygrad_edu.ml.backprop_by_hand: two spirals, with 1 to 32 units
See       Rumelhart, Hinton, Williams 1986 · Nielsen "Neural networks and deep learning", chapter 2
"""

from collections import defaultdict

import numpy as np

from .descent import adam
from .logistic import softmax

# The network is a dict of its four arrays: W1, b1, W2, b2.


def make_network(C, F, K, random):
    """C features, F hidden units, K classes: small random weights, biases of zero."""
    return {
        "W1": random.standard_normal((C, F)) / np.sqrt(C),
        "b1": np.zeros(F),
        "W2": random.standard_normal((F, K)) / np.sqrt(F),
        "b2": np.zeros(K),
    }


def forward(net, X):
    """(h, p): what the hidden units say (N, F), and the probabilities (N, K); (1)."""
    a = X @ net["W1"] + net["b1"]
    h = np.tanh(a)
    z = h @ net["W2"] + net["b2"]
    p = softmax(z)                                                                            # (1)
    return h, p


def loss_of(p, y):
    """L, the mean of −log p_y, for labels y (N,) in 0 … K − 1."""
    right = p[np.arange(len(y)), y]
    return -np.mean(np.log(right))


def backward(net, X, y, h, p):
    """The gradient of L as a dict like the network: (2) to (5)."""
    dz = p.copy()
    dz[np.arange(len(y)), y] -= 1
    dz /= len(y)                                                                              # (2)
    dh = dz @ net["W2"].T                                                                     # (3)
    da = dh * (1 - h**2)                                                                      # (4)
    return {
        "W1": X.T @ da,                                                                       # (5)
        "b1": da.sum(axis=0),
        "W2": h.T @ dz,                                                                       # (3)
        "b2": dz.sum(axis=0),
    }


def train(X, y, F, steps=500, rate=0.05, seed=0):
    """(network, losses) after `steps` of lesson descent's Adam on all rows; y in 0 … K − 1."""
    random = np.random.default_rng(seed)
    net = make_network(X.shape[1], F, y.max() + 1, random)
    memories = {name: defaultdict(float) for name in net}
    losses = []
    for _ in range(steps):
        h, p = forward(net, X)
        losses.append(loss_of(p, y))
        gradient = backward(net, X, y, h, p)
        for name in net:
            net[name] = net[name] + adam(memories[name], gradient[name], rate)
    return net, losses


def spirals(N=200, turns=1.2, seed=0):
    """Two spirals that wind around each other: X (N, 2), y (N,) of 0 and 1."""
    random = np.random.default_rng(seed)
    y = np.arange(N) % 2
    radius = random.uniform(0.1, 1, N)
    angle = 2 * np.pi * turns * radius + np.pi * y
    X = radius * np.stack([np.cos(angle), np.sin(angle)])
    noise = 0.02 * random.standard_normal((N, 2))
    return 2 * (X.T + noise), y


def _measure():
    X, y = spirals()
    told = []
    for F in (1, 2, 4, 8, 16, 32):
        net, _ = train(X, y, F, steps=1500)
        _, p = forward(net, X)
        told.append(f"units_{F}={np.mean(p.argmax(axis=1) == y):.3f}")
    print(" ".join(told))


if __name__ == "__main__":
    _measure()
