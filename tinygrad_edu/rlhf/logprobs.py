"""Lesson 7.0 · Log-probabilities: how likely the model finds an answer

Needs tensor. Used by sft, dpo.

Idea      Everything on this floor asks one question of a language model: how likely was this
          answer, after this prompt? Fine-tuning raises that number, preference learning compares
          two of them, policy gradients weight it by a reward. So it is computed in one place: a
          conversation is one row of tokens, a mask says which of them the model wrote, and only
          those count. Text that somebody else wrote (the prompt, a tool's output, padding) is read
          but not judged.
Math      ln p(answer | prompt) = Σₜ mₜ · ln p(xₜ | x₀ … xₜ₋₁)       m the mask, 0 or 1        (1)
          per token: (1) / Σₜ mₜ                                                              (2)
Shapes    ids (B, T) integers, rows left-aligned, any token behind a row's end · mask (B, T) ·
          log-probabilities (B, T − 1): place t is that of the token at t + 1, 0 where it is masked
Pitfalls  The shift. The model's output at place t speaks of the token at t + 1: a mask that is used
          unshifted trains the last token of the prompt and forgets the last one of the answer. The
          loss looks healthy.
          The mark that ends an answer is one of its tokens: without it the model never learns to
          stop.
          A rollout drew its tokens with a cache, one by one, and perhaps at a temperature; an
          update reads whole rows at temperature 1. The two agree to rounding only where both are
          the same softmax (a test shows it); a ratio of both is off from its first step otherwise.
          A sum of 100 terms has a rounding error of 100: compare answers in float32 by their
          differences, as lesson dpo does, not by their quotients.
Cost      One forward pass, and all logits of it where a gradient is wanted: B·T·V numbers.
Try       build it    the tokens whose log-probability is lowest: where did the model hesitate?
          break it    use mask[:, :-1] for mask[:, 1:]. Which tests of tests/rlhf notice?
          measure it  pytest tests/rlhf/test_logprobs.py --durations=5
See       Ouyang et al. 2022 (InstructGPT) · Rafailov et al. 2023, section 4
"""

import numpy as np

from ..tensor import Tensor, no_grad

IGNORE = -1  # the target that no loss counts: lesson cross_entropy


def answer_targets(ids, mask):
    """ids and mask (B, T) -> targets (B, T − 1): the token that follows, IGNORE outside the mask.

    ValueError where the shapes do not fit.
    """
    ids, mask = np.asarray(ids), np.asarray(mask)
    if ids.ndim != 2 or ids.shape != mask.shape or ids.shape[1] < 2:
        raise ValueError("log-probabilities need ids (B, T) of two tokens or more a row and a mask "
                         f"of the same shape, not {ids.shape} and {mask.shape}")
    return np.where(mask[:, 1:] != 0, ids[:, 1:], IGNORE)


def answer_logprobs(model, ids, mask):
    """ln p of every token given those before it, a Tensor (B, T − 1); 0 where the mask is 0.

    model: anything with loss(ids, targets, reduction="none") in nats, as lesson gpt has it.
    ids, mask: arrays (B, T); the mask is 1 for the tokens that count, which are the answer's.
    """
    targets = answer_targets(ids, mask)
    return -model.loss(np.asarray(ids)[:, :-1], targets, reduction="none")


def answer_logprob_sums(model, ids, mask):
    """ln p of every row's answer, a Tensor (B,): (1)."""
    return answer_logprobs(model, ids, mask).sum(axis=1)


def answer_lengths(mask):
    """How many tokens of each row count, (B,): the divisor of (2). The first token never does."""
    return (np.asarray(mask)[:, 1:] != 0).sum(axis=1)


def frozen_logprobs(model, ids, mask):
    """`answer_logprobs` of a model that is not trained: a reference, or the policy that drew.

    Without tape and without dropout, whatever mode the model is in.
    """
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            return Tensor(answer_logprobs(model, ids, mask).data)
    finally:
        model.train(was_training)
