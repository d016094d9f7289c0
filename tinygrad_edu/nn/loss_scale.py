"""Lesson 3.15 · Loss scale: small gradients through a narrow type

Needs nothing. Used by scripts/train_gpt.py.

Idea      Half precision ends at 6·10⁻⁸, and many gradients are smaller: they would become 0. But a
          gradient is linear in the loss. So the loss is multiplied by a large power of two, all
          gradients come out as much larger, and the optimizer divides by it again, in float32. How
          large may it be? Until something overflows: then the gradient's norm is not finite, that
          step is left out, and the factor is halved. After many good steps it is tried doubled.
Math      s·∂ℓ/∂θ = ∂(s·ℓ)/∂θ       exact for s a power of two, as long as nothing overflows     (1)
          s ← s/2 after a step that is left out, s ← 2·s after PATIENCE good ones in a row, from
          FIRST on and up to LARGEST                                                             (2)
Shapes    one factor for the whole model
Pitfalls  The norm that clips is that of the gradients divided by s, or clipping means nothing.
          A loss that is not finite is no question of scale: that run has diverged.
          A run that goes on needs the factor and the count: they are saved with the optimizer.
Cost      Nothing, but for a step that is left out now and then.
Try       build it    a factor for each layer.
          break it    forget to divide. What does the clipped step look like?
          measure it  the column gradient_norm of metrics.csv: inf marks steps left out
See       Micikevicius et al. 2018, section 3.2
"""

import numpy as np

FIRST = 2.0 ** 16
LARGEST = 2.0 ** 24
PATIENCE = 1000  # good steps after which twice the factor is tried


class LossScale:
    """The factor s, and how many good steps in a row it has seen: (2)."""

    def __init__(self):
        self.factor, self.good = FIRST, 0

    def grow(self):
        """Count a good step; the PATIENCE-th in a row doubles the factor."""
        self.good += 1
        if self.good >= PATIENCE:
            self.factor, self.good = min(2 * self.factor, LARGEST), 0

    def shrink(self):
        """Halve the factor, after a step that is left out; False where it cannot be the reason."""
        if self.factor <= 1:
            return False
        self.factor, self.good = self.factor / 2, 0
        return True

    def state(self):
        """Both as an array, for a checkpoint."""
        return np.array([self.factor, self.good])

    def load_state(self, array):
        """Take those of an earlier run."""
        self.factor, self.good = float(array[0]), int(array[1])
