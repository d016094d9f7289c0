"""Lesson 7.14 · Rollout: the model writes, and takes notes

Needs cache, decoding, gae, tensor. Used by scripts/train_grpo.py, scripts/train_ppo.py,
scripts/break_rlhf.py.

Idea      Learning from rewards begins with letting the model write: thousands of answers at every
          step. Half of the time of such a training goes there, so all answers are written at once,
          a token of each in every pass, with a cache of what was read (lesson cache). Where several
          answers to one prompt are wanted, the prompt is read once and its cache is copied. And of
          each token it is noted how likely it was when it was drawn: the update will compare.
Math      token = the first i with p₀ + … + pᵢ > u     p = softmax(z), u uniform on [0, 1)       (1)
          noted: ln p(token), and the entropy −Σᵢ pᵢ·ln pᵢ of the place                          (2)
Shapes    P prompts, G answers each, B = P·G rows in the order 0 … 0, 1 … 1, … · ids, mask (B, T):
          prompt, answer, zeros, the mask 1 on the answer and its end · logprobs, entropies
          (B, T − 1): place t is that of the token at t + 1, as in lesson logprobs
Pitfalls  Tokens are drawn at temperature 1 and from the whole distribution. Whoever sharpens it has
          drawn from another policy than the one that the update improves.
          The end of an answer is a token that was drawn: it belongs to the mask, or nothing ever
          teaches the model when to stop. An answer that was cut off has none.
          Rows that have ended go on in the batch, and what they write is thrown away; only when
          half of them have ended are they taken out, since that copies the cache.
          Cache and whole rows add up the same sums in another order: the two log-probabilities
          agree to about 10⁻⁵ in float32, and no closer.
Cost      A pass for each token of the longest answer. The draw itself is B·V numbers a token.
Try       build it    groups that stop when enough of their answers are right.
          break it    leave the end out of the mask. How long do the answers get?
          measure it  python scripts/train_grpo.py --measure-rollout: beside decoding without notes
See       Sheng et al. 2024 (where the time of RLHF goes) · Kwon et al. 2023 (shared prefixes)
"""

from typing import NamedTuple

import numpy as np

from ..inference.cache import KVCache
from ..inference.decoding import ragged
from ..tensor import no_grad
from .gae import refuse_not_finite


class Rollout(NamedTuple):
    """Answers, and what was noted while they were written: arrays as in Shapes."""

    ids: np.ndarray
    mask: np.ndarray
    logprobs: np.ndarray
    entropies: np.ndarray
    starts: np.ndarray                             # (B,): where each row's answer begins

    def answers(self):
        """The tokens of each answer, its end included: a list of lists."""
        lengths = self.mask.sum(axis=1).astype(int)
        rows = zip(self.ids, self.starts, lengths, strict=True)
        return [row[start : start + length].tolist() for row, start, length in rows]

    def rows(self):
        """Rows (ids, mask), each cut behind its answer, as the lessons sft and reward take them."""
        ends = self.starts + self.mask.sum(axis=1).astype(int)
        return [(ids[:end], mask[:end]) for ids, mask, end in
                zip(self.ids, self.mask, ends, strict=True)]


def rollout(model, prompts, max_new, ends, random, group=1, greedy=False):
    """`group` answers to each of the prompts (lists of ids), of at most max_new tokens: a Rollout.

    model: with next_logits, cache and config.context, as lesson gpt has them. ends: ids that end
    an answer. random: a numpy generator. greedy: take the likeliest token, as an examination does.
    ValueError for a prompt that leaves no room.
    """
    refuse_long(prompts, max_new, model.config.context)
    ids, lengths = ragged(prompts)
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            notes = _write(model, ids, lengths, max_new, ends, random, group, greedy)
    finally:
        model.train(was_training)
    return _assembled(np.repeat(ids, group, axis=0), np.repeat(lengths, group), *notes)


def refuse_long(prompts, max_new, context):
    """ValueError for no prompt, an empty one, or one that leaves less room than an answer needs."""
    if not len(prompts) or not all(map(len, prompts)):
        raise ValueError("nothing to answer: every prompt needs at least one token")
    longest = max(map(len, prompts))
    if longest + max_new > context:
        raise ValueError(f"a prompt of {longest} tokens and an answer of {max_new} do not fit this "
                         f"model's context of {context}: ask for shorter ones")


def _write(model, ids, lengths, max_new, ends, random, group, greedy):
    """Tokens, log-probabilities and entropies, (B, max_new) each, and how many count, (B,)."""
    P, T = ids.shape
    like = next(iter(model.parameters())).data
    cache = KVCache(*model.cache(P, T + max_new), dtype=like.dtype, like=like)
    even = (lengths == T).all()
    z = model.next_logits(ids, None if even else lengths, cache=cache).numpy()
    rows = np.repeat(np.arange(P), group)
    cache.keep(rows)                               # the prompt was read once for all its answers
    z, B = z[rows], len(rows)
    tokens = np.zeros((B, max_new), np.int64)
    logprobs, entropies = np.zeros((2, B, max_new))
    counts, places = np.zeros(B, np.int64), np.arange(B)        # places: rows in the batch
    going = np.ones(B, bool)                       # of those, which have not ended
    for t in range(max_new):
        drawn, logprob, entropy = draw(z, random.random(len(z)), greedy)
        now = places[going]
        for notes, new in zip((tokens, logprobs, entropies), (drawn, logprob, entropy),
                              strict=True):
            notes[now, t] = new[going]
        counts[now] += 1
        going = going & ~np.isin(drawn, ends)
        if t + 1 == max_new or not going.any():
            break
        if 2 * going.sum() <= len(going):
            cache.keep(going)
            drawn, places, going = drawn[going], places[going], going[going]
        z = model.next_logits(drawn[:, None], cache=cache).numpy()
    return tokens, logprobs, entropies, counts


def draw(logits, u, greedy=False):
    """A token for every row of logits (B, V), by numbers u (B,): (1), and the notes (2)."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    sums = e.cumsum(axis=1)
    total = sums[:, -1:]
    drawn = (sums <= u[:, None] * total).sum(axis=1)                                           # (1)
    drawn = z.argmax(axis=1) if greedy else np.minimum(drawn, z.shape[1] - 1)
    log_total = np.log(total[:, 0])
    logprobs = z[np.arange(len(z)), drawn] - log_total                                         # (2)
    return drawn, logprobs, log_total - (e * z).sum(axis=1) / total[:, 0]


def _assembled(ids, starts, tokens, logprobs, entropies, counts):
    """A Rollout: each row's answer right behind its prompt."""
    B, T = len(ids), int((starts + counts).max())
    whole = np.zeros((B, max(T, ids.shape[1])), np.int32)
    whole[:, : ids.shape[1]] = ids
    mask, drawn_at, spread = np.zeros(whole.shape), np.zeros(whole.shape), np.zeros(whole.shape)
    rows, t = np.nonzero(np.arange(tokens.shape[1]) < counts[:, None])
    places = starts[rows] + t
    whole[rows, places] = tokens[rows, t]
    mask[rows, places] = 1
    drawn_at[rows, places] = logprobs[rows, t]
    spread[rows, places] = entropies[rows, t]
    return Rollout(whole[:, :T], mask[:, :T], drawn_at[:, 1:T], spread[:, 1:T], starts)


def scored(rewards, rows):
    """Rewards of answers as an array (B,). ValueError where one is no finite number, or missing."""
    rewards = np.asarray(rewards, np.float64)
    if rewards.shape != (rows,):
        raise ValueError(f"{rows} answers need as many rewards, not {rewards.shape}")
    refuse_not_finite(rewards, "reward")
    return rewards


def refuse_other_tokenizer(mine, other, whose):
    """ValueError where two tokenizers are not the same: then ids mean other texts to the two."""
    if mine.tokens != other.tokens:
        raise ValueError(f"{whose} reads another tokenizer ({other.vocab_size} tokens, not these "
                         f"{mine.vocab_size}): give one that was trained from the same run")
