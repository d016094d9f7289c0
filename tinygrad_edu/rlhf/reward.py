"""Lesson 7.4 · Reward model: what people like, learnt from what they chose

Needs conversations, curation, layers, module, sft, shape, tensor. Used by dpo,
scripts/train_reward.py.

Idea      Nobody can write down a formula for a good answer, but anybody can say which of two is
          better. A language model gets a second head, one number instead of a logit for every
          token, read where the answer ends. It is trained so that the chosen answer gets the larger
          number; the more often people would choose it, the larger the difference. That number can
          then judge answers that nobody has seen, for best-of-n and for policy gradients.
Math      p(chosen ≻ rejected) = σ(r_c − r_r)             Bradley and Terry                     (1)
          L = −ln σ(r_c − r_r − m)    m ≥ 0 a margin, where it is known by how much              (2)
          −ln σ(d) = ln(e⁰ + e⁻ᵈ), which overflows nowhere                                       (3)
          accuracy: the share of pairs with r_c > r_r, ties half; of n pairs ± z·√…, Wilson:
            (a + z²/2n ± z·√(a(1 − a)/n + z²/4n²)) / (1 + z²/n),   z = 1.96                      (4)
          calibration: among pairs with p by (1) near q, the share q was to be preferred         (5)
Shapes    a batch of B pairs: ids, mask (2B, T), the chosen ones first · rewards (2B,)
Pitfalls  (1) knows differences only: a constant added to all rewards changes nothing, so a reward
          of 3 says nothing. Whoever compares rewards subtracts their mean first.
          The easiest thing to learn is length: people choose longer answers, and a model that only
          counts tokens may be right two times in three. So accuracy stands beside that of a judge
          who takes the longer answer (`length_only`).
          The reward is read at the mark that ends the answer, not at the last place of the padded
          row: a causal model has not read anything behind it, and padding is not an answer.
          It is trained on answers of one model, and asked about those of another, which looks for
          its mistakes: lesson watch shows what comes of it.
Cost      A forward and a backward pass over both answers: as two rows of fine-tuning.
Try       build it    an ensemble of three heads; where do they disagree?
          break it    read the reward at place T − 1 of every row. Which test notices?
          measure it  python scripts/train_reward.py
See       Bradley, Terry 1952 · Stiennon et al. 2020 · Touvron et al. 2023 (Llama 2, eq. 2: margin)
          · Wilson 1927
"""

import math
from dataclasses import dataclass

import numpy as np

from tinygrad_edu.data.conversations import Conversation, read_preferences
from tinygrad_edu.data.curation import deduplicate, split_by_prompt

from ..nn.layers import Linear
from ..nn.module import Module
from ..ops.shape import stack
from ..tensor import Tensor, no_grad
from .sft import checked_rows, examples_of_step, must_leave_room, padded


@dataclass
class PairBatch:
    """B pairs of answers as rows of tokens: the B chosen ones, then the B rejected ones."""

    ids: np.ndarray                                # (2B, T)
    mask: np.ndarray                               # (2B, T), 1 where a token is an answer's
    margins: np.ndarray                            # (B,)

    @property
    def size(self):
        """How many tokens are read."""
        return self.ids.size


def pair_rows(turns, preference):
    """(chosen row, rejected row) of a Preference: of its tokens only the last answer's count.

    turns: a Turns or ChatTurns of lesson turns.
    """
    prompt = turns.prompt(preference.prompt)
    rows = []
    for answer in (preference.chosen, preference.rejected):
        talk = Conversation((*preference.prompt, ("assistant", answer)))
        ids, mask = turns.tokens_and_mask(talk)
        mask = mask.copy()
        mask[:len(prompt)] = 0
        rows.append((ids, mask))
    return tuple(rows)


def fitting_pairs(turns, preferences, context):
    """Preferences as a list of `pair_rows`, each row cut at the context: lesson sft, checked_rows.
    """
    rows = [row for preference in preferences for row in pair_rows(turns, preference)]
    rows = checked_rows(rows, context, "answer")
    return list(zip(rows[::2], rows[1::2], strict=True))


def must_fit(turns, preference, context):
    """ValueError for a Preference of which a model with this context would see too little."""
    (ids, mask), (other, counts) = pair_rows(turns, preference)
    must_leave_room(mask, context)
    must_leave_room(counts, context)
    if np.array_equal(ids[:context], other[:context]):
        raise ValueError(f"both answers are equal as far as the model's context of {context} "
                         "reaches: shorten the prompt")


def preferences_of_file(path, turns, context):
    """(Preferences to learn from, held-out ones) of a file; says how many there are.

    ValueError, with file and line, for one that is faulty or does not fit the model.
    """
    found = read_preferences(path, check=lambda one: must_fit(turns, one, context))
    kept, copies = deduplicate(found)
    train, held = split_by_prompt(kept)
    print(f"{len(train):,} pairs to learn from, {len(held):,} held out, {copies:,} copies left out")
    return train, held


def pair_batch(pairs, margins=None):
    """A PairBatch of pairs (chosen row, rejected row), each row (ids, mask)."""
    chosen, rejected = zip(*pairs, strict=True)
    ids, mask = padded([*chosen, *rejected])
    return PairBatch(ids, mask, np.zeros(len(pairs)) if margins is None else np.array(margins))


def pairs_of_step(pairs, margins, size, seed, step):
    """The batch of a step, as the loop takes it: (PairBatch, its mask)."""
    places = examples_of_step(len(pairs), size, seed, step)
    batch = pair_batch([pairs[k] for k in places], margins[places])
    return batch, batch.mask


def log_sigmoid(x):
    """ln σ(x) of every element: (3)."""
    zero = Tensor(np.zeros(x.shape, x.dtype))
    return -stack([zero, -x]).logsumexp(axis=0)


def bradley_terry(chosen, rejected, margins=0.0):
    """(2) of every pair; rewards (B,), margins (B,) or a number."""
    if not isinstance(margins, Tensor):
        margins = Tensor(np.broadcast_to(margins, chosen.shape).astype(chosen.dtype))
    return -log_sigmoid(chosen - rejected - margins)


class RewardModel(Module):
    """A language model with one number for an answer. trunk: anything with hidden(ids) (B, T, C).

    The head begins at zero: before training all answers are equally good.
    """

    def __init__(self, trunk):
        self.trunk = trunk
        first = next(iter(trunk.parameters()))
        width, dtype = trunk.config.width, first.dtype
        self.head = Linear(width, 1, np.random.default_rng(0), bias=False, dtype=dtype)
        self.head.weight.data[...] = 0

    @property
    def config(self):
        """That of the trunk."""
        return self.trunk.config

    def forward(self, ids, lengths):
        """Rewards, (B,), of rows ids (B, T) that end after lengths (B,) tokens."""
        x = self.trunk.hidden(np.asarray(ids))
        last = x[np.arange(len(ids)), np.asarray(lengths) - 1]                         # (B, C)
        return self.head(last).reshape(-1)

    def loss(self, batch, mask, reduction="mean"):
        """(2), the mean over the pairs of a batch; the loop of lesson loop calls it."""
        rewards = self(batch.ids, ends(mask))
        B = len(rewards) // 2
        chosen, rejected = rewards[:B], rewards[B:]
        self.last = preference_numbers(chosen.data - rejected.data)
        return bradley_terry(chosen, rejected, batch.margins).mean()


HEAD = "reward.head"  # of a run's checkpoint: the rest is the trunk, as in any run


def load_reward(folder, runs):
    """(RewardModel in evaluation mode, its tokenizer) of a run folder of train_reward.py.

    runs: lesson run. OSError or ValueError in one sentence.
    """
    arrays, state = runs.read_run(folder)
    if HEAD not in arrays:
        raise ValueError(f"{folder} holds a language model and no reward model: make one with "
                         "scripts/train_reward.py")
    model = RewardModel(runs.load_model(arrays, state))
    model.head.weight.assign(arrays[HEAD])
    return model.eval(), runs.run_tokenizer(folder, state)


def ends(mask):
    """How many tokens each row has up to the end of its answer, (B,)."""
    T = mask.shape[1]
    return T - np.argmax(mask[:, ::-1] != 0, axis=1)


def preference_numbers(differences):
    """What one watches while a preference is learnt: differences (B,) of two rewards."""
    d = np.asarray(differences, float)
    return {"accuracy": float(((d > 0) + 0.5 * (d == 0)).mean()), "margin": float(d.mean())}


def reward_rows(model, rows, size=64):
    """Rewards (n,) of rows (ids, mask), without tape and dropout. ValueError for one that is NaN.
    """
    was_training = model.training
    model.eval()
    found = []
    try:
        with no_grad():
            for low in range(0, len(rows), size):
                ids, mask = padded(rows[low:low + size])
                found.append(model(ids, ends(mask)).numpy())
    finally:
        model.train(was_training)
    rewards = np.concatenate(found).astype(float)
    if not np.isfinite(rewards).all():
        place = int(np.argmin(np.isfinite(rewards)))
        raise ValueError(f"the reward of answer {place + 1} is {rewards[place]}: this reward model "
                         "is spoiled, train it again with a smaller --lr")
    return rewards


def reward_pairs(model, pairs):
    """The differences r_c − r_r, (n,), of pairs of rows."""
    chosen, rejected = zip(*pairs, strict=True)
    return reward_rows(model, chosen) - reward_rows(model, rejected)


# ---- is it right, and does it know how sure it may be? ------------------------------------------


def accuracy(differences):
    """(share of pairs judged right, low, high): ties count half, and the interval is (4)."""
    d = np.asarray(differences, float)
    share, n = float(((d > 0) + 0.5 * (d == 0)).mean()), len(d)
    return share, *interval(share, n)


def interval(share, n, z=1.96):
    """(low, high) of (4): where the true share lies, 19 times in 20."""
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    whole = 1 + z * z / n
    return (middle - half) / whole, (middle + half) / whole


def length_only(pairs):
    """The differences of a judge who prefers the longer answer, (n,)."""
    lengths = [[int(np.sum(mask)) for _, mask in pair] for pair in pairs]
    return np.array([chosen - rejected for chosen, rejected in lengths], float)


def calibration(differences, bins=5):
    """[(mean predicted p, share that was right, how many)]: (5).

    Of each pair the answer that the model prefers is asked about, so that p ≥ 1/2.
    """
    d = np.asarray(differences, float)
    p = 1 / (1 + np.exp(-np.abs(d)))                                                           # (1)
    right = (d > 0) + 0.5 * (d == 0)
    places = np.minimum(((p - 0.5) * 2 * bins).astype(int), bins - 1)
    return [(float(p[places == k].mean()), float(right[places == k].mean()),
             int((places == k).sum())) for k in range(bins) if (places == k).any()]
