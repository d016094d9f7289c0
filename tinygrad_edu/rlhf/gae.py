"""Lesson 7.10 · GAE: how much better than expected was that?

Needs nothing. Used by ppo, scripts/cartpole.py, scripts/train_ppo.py.

Idea      Rewards come late: a game is lost many moves after the bad one, a text is judged when it
          has ended. To learn from them one needs to know of each single step whether it went better
          or worse than expected. What is expected is the guess of a value model, made before the
          step. After the step there is the reward and the guess from the next place: their sum
          minus the first guess is a surprise. The advantage of a step is the sum of all surprises
          from there on, fading: a surprise long afterwards is less likely to be this step's doing.
Math      δₜ = rₜ + γ·Vₜ₊₁ − Vₜ          Vₜ₊₁ = 0 where the episode ends with step t           (1)
          Aₜ = δₜ + γ·λ·Aₜ₊₁             Aₜ₊₁ = 0 there, too                                   (2)
          Rₜ = Aₜ + Vₜ                   the return that the value model should have guessed   (3)
          λ = 1: Rₜ is the sum of discounted rewards that really came, exact and noisy;
          λ = 0: rₜ + γ·Vₜ₊₁, without noise and as wrong as the guesses are
          whitened: (A − mean A) / (std A + 10⁻⁸)                                              (4)
          explained variance: 1 − Var(R − V) / Var(R)                                          (5)
Shapes    rewards, values, ends, mask (B, T): B episodes, or B places that play one after the other
          · last (B,): the guess after step T − 1 -> advantages, returns (B, T)
Pitfalls  An episode that is cut off by a time limit has not ended: what would have come is guessed,
          r + γ·V(next place). Taken for an end, the value of a good place depends on a clock that
          nobody sees.
          Texts of different length: behind the end of a row stands padding, which has neither
          reward nor value. Means and deviations go over the mask, or short texts pull them to 0.
          The returns are targets, made of the old guesses: no gradient flows through them.
          (5) is about 0 for a value model that knows only the mean, and negative for one that is
          worse than that: then every advantage is more noise than with no value model at all.
Cost      One pass from the back to the front, of B numbers each: nothing beside a model.
Try       build it    returns of n steps. Which λ do they resemble for n = 1, n = 10?
          break it    leave out the ends. What does a pole that has just been set up inherit from
                      the one that fell?
          measure it  python scripts/cartpole.py --gae-lambda 0, then 1: steps until the pole stands
See       Schulman et al. 2016, eq. 11-16 · Sutton, Barto 2018, chapter 12 (eligibility traces)
"""

import numpy as np


def advantages_and_returns(rewards, values, last, ends, discount, fading, mask=None):
    """(advantages, returns), (B, T) each in float64: (1) to (3).

    ends: true where an episode ends with that step. discount: γ. fading: λ. mask: 1 for steps that
    count; behind a row's end nothing does, and both are 0 there.
    """
    refuse_not_finite(rewards, "reward")
    rewards, values = (np.asarray(a, np.float64) for a in (rewards, values))
    goes_on = 1.0 - np.asarray(ends)
    counts = np.ones_like(rewards) if mask is None else np.asarray(mask)
    advantages = np.zeros_like(rewards)
    behind, value = np.zeros(len(rewards)), np.asarray(last, np.float64)  # Aₜ₊₁ and Vₜ₊₁
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + discount * goes_on[:, t] * value - values[:, t]             # (1)
        behind = surprise + discount * fading * goes_on[:, t] * behind                         # (2)
        behind = behind * counts[:, t]
        value = values[:, t] * counts[:, t]
        advantages[:, t] = behind
    return advantages, (advantages + values) * counts                                          # (3)


def whitened(advantages, mask=None):
    """Advantages with mean 0 and deviation 1 over the steps that count: (4)."""
    chosen = advantages if mask is None else advantages[mask > 0]
    white = (advantages - chosen.mean()) / (chosen.std() + 1e-8)                               # (4)
    return white if mask is None else white * (mask > 0)


def explained_variance(values, returns, mask=None):
    """The share of the returns' variance that the guesses account for: (5), at most 1."""
    if mask is not None:
        values, returns = values[mask > 0], returns[mask > 0]
    variance = np.var(returns)
    return float(1 - np.var(returns - values) / variance) if variance else 0.0                 # (5)


def refuse_not_finite(rewards, what):
    """ValueError in one sentence that names the first row whose reward is no number."""
    rewards = np.asarray(rewards)
    wrong = np.argwhere(~np.isfinite(rewards))
    if len(wrong):
        row = wrong[0][0]
        raise ValueError(f"the {what} of row {row} is {rewards[tuple(wrong[0])]}: nothing can be "
                         "learned from that, mend the function that gives it")
