"""Lesson 7.6 · Best of n: let it answer n times, and keep the best

Needs reward, sft. Used by scripts/align_compare.py.

Idea      The simplest way to get more of what a reward model likes trains nothing: draw n answers
          and keep the one with the largest reward. Everything more complicated has to beat it. It
          costs n answers for one, every time, but how far it goes from the model is known: the
          larger n, the less the kept answers look like drawn ones. With n growing, the reward goes
          up for ever, and what was really wanted goes up, and then down: the best answer in the
          eyes of a judge who errs is the one about which it errs most.
Math      KL(best of n ‖ model) ≤ ln n − (n − 1)/n                                              (1)
          From m draws with rewards r₁ ≤ … ≤ r_m, the expected score of the best of k ≤ m of them:
              Σᵢ C(i − 1, k − 1)/C(m, k)·sᵢ       the i-th is the best of k if the others are
                                                  among the i − 1 below it                      (2)
Shapes    draws: for each of P prompts m answers · rewards, scores (P, m) · result (P,) or one a k
Pitfalls  To take every k-th group of draws as a trial throws most pairs of draws away: (2) uses all
          subsets, and the estimate has far less noise.
          Ties in the reward: (2) takes them in the order they came, which is the order of drawing.
          At temperature 0 all n answers are the same one.
Cost      n answers, and n rewards, for each prompt.
Try       build it    stop drawing as soon as a reward is above a threshold: how many draws does it
                      take on average?
          break it    rank by the negative reward. Which test notices?
          measure it  python scripts/align_compare.py: the best of 1, 2, 4, … beside training
See       Stiennon et al. 2020 · Nakano et al. 2021 (WebGPT, footnote: an estimate from all subsets)
          · Beirami et al. 2024 (that (1) is a bound) · Gao et al. 2023 (overoptimisation)
"""

import math

import numpy as np

from .reward import reward_rows
from .sft import draw_answers


def draw_each(model, prompts, count, stop, max_new, seed=0, **choice):
    """`count` answers to each of the prompts (lists of ids): a list of lists of token ids."""
    repeated = [prompt for prompt in prompts for _ in range(count)]
    drawn = draw_answers(model, repeated, stop, max_new, seed, **choice)
    return [drawn[low:low + count] for low in range(0, len(drawn), count)]


def rewards_of(reward_model, prompts, answers, end):
    """Rewards (P, m) of m answers to each prompt. end: the id that ends an answer."""
    rows = []
    for prompt, several in zip(prompts, answers, strict=True):
        for answer in several:
            ids = np.array([*prompt, *answer, end])
            mask = np.arange(len(ids)) >= len(prompt)
            rows.append((ids, mask.astype(np.int8)))
    return reward_rows(reward_model, rows).reshape(len(prompts), -1)


def best_of(answers, rewards):
    """The answer with the largest reward for each prompt, and that reward: a list, (P,)."""
    places = np.argmax(rewards, axis=1)
    chosen = [several[place] for several, place in zip(answers, places, strict=True)]
    return chosen, rewards.max(axis=1)


def expected_best(rewards, scores, k):
    """The expected score of the best of k draws, estimated from m ≥ k, for each prompt: (2).

    rewards: what is looked at, scores: what is wanted, (P, m) each. Returns (P,).
    """
    m = rewards.shape[1]
    if not 1 <= k <= m:
        raise ValueError(f"the best of {k} cannot be estimated from {m} draws")
    order = np.argsort(rewards, axis=1, kind="stable")
    ranked = np.take_along_axis(np.asarray(scores, float), order, axis=1)
    ways = [math.comb(i, k - 1) for i in range(m)]
    return ranked @ np.array(ways, float) / math.comb(m, k)                                    # (2)


def kl_bound(n):
    """How far the best of n is from the model, in nats, at most: (1)."""
    return math.log(n) - (n - 1) / n


def curve(rewards, scores, ks):
    """[(k, KL bound, mean reward, mean score)]: what reward and score do as k grows."""
    return [(k, kl_bound(k), float(expected_best(rewards, rewards, k).mean()),
             float(expected_best(rewards, scores, k).mean())) for k in ks]
