import math

import numpy as np
import pytest

from tinygrad_edu.gradcheck import gradcheck
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.dpo import (
    LOSSES,
    Pairs,
    PreferenceTraining,
    must_begin_at_the_reference,
    preference_batch,
    with_other_prompts,
)
from tinygrad_edu.tensor import Tensor

CHOSEN, REJECTED = np.array([-3.0, -9.5, -1.25]), np.array([-4.0, -7.0, -6.5])
REF_CHOSEN, REF_REJECTED = np.array([-3.5, -9.0, -2.0]), np.array([-3.0, -8.0, -5.0])
LENGTHS, OTHERS = np.array([3.0, 7.0, 2.0]), np.array([4.0, 5.0, 6.0])


def pairs_of(chosen, rejected, drift=0.0):
    rest = [Tensor(a) for a in (REF_CHOSEN, REF_REJECTED, LENGTHS, OTHERS)]
    return Pairs(chosen, rejected, *rest, drift)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def published(kind, beta, drift=0.0):
    """The formulas as the papers print them, in NumPy."""
    w, r = CHOSEN - REF_CHOSEN, REJECTED - REF_REJECTED
    if kind == "dpo":                                          # Rafailov et al. 2023, eq. 7
        return -np.log(sigma(beta * w - beta * r))
    if kind == "ipo":                                          # Azar et al. 2023, eq. 17
        return (w - r - 1 / (2 * beta)) ** 2
    if kind == "kto":                                          # Ethayarajh et al. 2024, eq. 8
        z = max(0, drift)
        return (1 - sigma(beta * (w - z))) + (1 - sigma(beta * (z - r)))
    pw, pr = np.exp(CHOSEN / LENGTHS), np.exp(REJECTED / OTHERS)
    if kind == "orpo":                                         # Hong et al. 2024, eq. 6 and 7
        ratio = (pw / (1 - pw)) / (pr / (1 - pr))
        return -np.log(pw) - beta * np.log(sigma(np.log(ratio)))
    return -np.log(sigma(beta / LENGTHS * CHOSEN - beta / OTHERS * REJECTED - 0.5))  # Meng, eq. 6


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("beta", [0.1, 1.5])
@pytest.mark.parametrize("drift", [-1.0, 0.75])
def test_every_loss_is_the_published_formula(kind, beta, drift):
    pairs = pairs_of(Tensor(CHOSEN), Tensor(REJECTED), drift)
    got = LOSSES[kind].of(pairs, beta).numpy()
    assert np.abs(got - published(kind, beta, drift)).max() <= 1e-12


@pytest.mark.parametrize("kind", LOSSES)
def test_the_gradient_of_every_loss_is_that_of_finite_differences(kind):
    def loss(chosen, rejected):
        return LOSSES[kind].of(pairs_of(chosen, rejected, 0.3), 0.7)
    assert gradcheck(loss, CHOSEN, REJECTED) <= 1e-6


def test_a_loss_does_not_overflow_where_the_model_is_surely_wrong():
    pairs = pairs_of(Tensor(CHOSEN - 1e5), Tensor(REJECTED))
    assert np.isfinite(LOSSES["dpo"].of(pairs, 1.0).numpy()).all()


# ---- training -----------------------------------------------------------------------------------


def row(prompt, answer):
    return np.array(prompt + answer), np.array([0] * len(prompt) + [1] * len(answer))


ROWS = [(row([1, 5, 3], [9, 2]), row([1, 5, 3], [8, 8, 2])),
        (row([1, 7], [7, 2]), row([1, 7], [4, 2])),
        (row([1, 2, 2, 2], [6, 2]), row([1, 2, 2, 2], [3, 2]))]


def small_gpt(seed=0, vocabulary=11, dtype=np.float64):
    config = GPTConfig(vocabulary=vocabulary, context=10, layers=1, heads=2, width=8)
    return GPT(config, np.random.default_rng(seed), dtype=dtype)


def test_at_the_reference_the_loss_is_ln_2_and_nothing_is_preferred():
    model = PreferenceTraining(small_gpt(), "dpo", small_gpt())
    batch, mask = preference_batch(ROWS, "dpo", 10, 3, seed=0, step=0)
    assert model.loss(batch, mask).item() == pytest.approx(math.log(2), abs=1e-9)
    assert model.last["accuracy"] == 0.5
    must_begin_at_the_reference(math.log(2), "dpo")
    with pytest.raises(ValueError, match="the reference is not the model"):
        must_begin_at_the_reference(0.8, "dpo")


@pytest.mark.parametrize("kind", LOSSES)
def test_the_gradient_reaches_the_policy_as_finite_differences_say(kind):
    policy, h = small_gpt(1), 1e-5
    model = PreferenceTraining(policy, kind, small_gpt(2), beta=0.5)
    batch, mask = preference_batch(ROWS, kind, 10, 3, seed=0, step=0)
    drift = model.pairs(batch).drift               # KTO's z has no gradient: hold it still
    model.pairs = lambda batch, of=model.pairs: of(batch)._replace(drift=drift)
    model.loss(batch, mask).backward()
    weight, found = policy.h[0].mlp.c_fc.weight, []
    for step in (h, -h):
        weight.data[3, 2] += step
        found.append(model.loss(batch, mask).item())
        weight.data[3, 2] -= step
    assert weight.grad[3, 2] == pytest.approx((found[0] - found[1]) / (2 * h), rel=1e-6, abs=1e-9)


def test_the_reference_is_neither_trained_nor_saved():
    reference = small_gpt(2)
    model = PreferenceTraining(small_gpt(1), "dpo", reference)
    batch, mask = preference_batch(ROWS, "dpo", 10, 3, seed=0, step=0)
    model.loss(batch, mask).backward()
    assert all(tensor.grad is None for tensor in reference.parameters())
    assert set(model.state()) == {f"policy.{name}" for name in model.policy.state()}


def test_a_reference_with_another_tokenizer_is_refused():
    with pytest.raises(ValueError, match="vocabulary of 12 tokens, the policy one of 11"):
        PreferenceTraining(small_gpt(), "dpo", small_gpt(vocabulary=12))
    with pytest.raises(ValueError, match="ipo compares the policy with a reference"):
        PreferenceTraining(small_gpt(), "ipo")


def test_kto_reads_every_prompt_with_the_answer_of_the_next_pair():
    ids, mask = with_other_prompts(ROWS)[0]
    assert ids.tolist() == [1, 5, 3, 7, 2] and mask.tolist() == [0, 0, 0, 1, 1]
    batch, _ = preference_batch(ROWS, "kto", 10, 3, seed=0, step=0)
    assert len(batch.ids) == 9
