import numpy as np
import pytest

from tinygrad_edu.inference.cache import KVCache
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.logprobs import (
    answer_lengths,
    answer_logprob_sums,
    answer_logprobs,
    frozen_logprobs,
)
from tinygrad_edu.tensor import no_grad

IDS = np.array([[1, 5, 3, 9, 2, 0], [1, 7, 7, 2, 0, 0]])
MASK = np.array([[0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]])


def small_gpt(dtype=np.float64, dropout=0.0):
    config = GPTConfig(vocabulary=11, context=8, layers=2, heads=2, width=8, dropout=dropout)
    return GPT(config, np.random.default_rng(0), dtype=dtype)


def test_each_place_has_the_log_probability_of_the_token_that_follows():
    model = small_gpt()
    z = model(IDS).numpy()
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    got = answer_logprobs(model, IDS, MASK).numpy()
    assert got.shape == (2, 5)
    for row in range(2):
        for t in range(1, 6):
            expected = log_p[row, t - 1, IDS[row, t]] if MASK[row, t] else 0
            assert got[row, t - 1] == pytest.approx(expected, abs=1e-12)


def test_sums_and_lengths_count_the_answer_alone():
    model = small_gpt()
    each = answer_logprobs(model, IDS, MASK).numpy()
    assert np.allclose(answer_logprob_sums(model, IDS, MASK).numpy(), each.sum(axis=1))
    assert answer_lengths(MASK).tolist() == [3, 2]


def test_what_stands_behind_a_row_changes_nothing():
    model, other = small_gpt(), IDS.copy()
    other[1, 4:] = 6
    assert np.array_equal(answer_logprob_sums(model, IDS, MASK).numpy(),
                          answer_logprob_sums(model, other, MASK).numpy())


def test_a_rollout_on_the_cache_and_an_update_find_the_same_log_probabilities():
    model = small_gpt(np.float32)
    cache, found = KVCache(*model.cache(2, 8), dtype=np.float32), []
    with no_grad():
        for t in range(5):                          # token by token, as text is written
            z = model.next_logits(IDS[:, t:t + 1], cache=cache).numpy()
            log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
            found.append(log_p[np.arange(2), IDS[:, t + 1]])
    rollout = np.stack(found, axis=1) * MASK[:, 1:]
    assert np.abs(answer_logprobs(model, IDS, MASK).numpy() - rollout).max() < 1e-5


def test_the_gradient_reaches_the_parameters_through_answers_alone():
    model = small_gpt()
    answer_logprob_sums(model, IDS, MASK).sum().backward()
    h, weight = 1e-6, model.wte.weight
    exact = weight.grad[9, 0]
    values = []
    for step in (h, -h):
        weight.data[9, 0] += step
        values.append(answer_logprob_sums(model, IDS, MASK).numpy().sum())
        weight.data[9, 0] -= step
    assert exact == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)
    model.zero_grad()
    answer_logprob_sums(model, IDS, np.zeros_like(MASK)).sum().backward()
    assert not any(np.any(p.grad) for p in model.parameters() if p.grad is not None)


def test_a_frozen_model_has_no_tape_and_no_dropout_and_its_mode_back():
    model = small_gpt(np.float32, dropout=0.5)
    got = frozen_logprobs(model, IDS, MASK)
    assert not got.requires_grad and model.training
    assert np.array_equal(got.numpy(), frozen_logprobs(model.eval(), IDS, MASK).numpy())


@pytest.mark.parametrize("ids, mask", [(IDS, MASK[:, 1:]), (IDS[:, :1], MASK[:, :1])])
def test_shapes_that_do_not_fit_are_refused(ids, mask):
    with pytest.raises(ValueError, match="log-probabilities need ids"):
        answer_logprobs(small_gpt(), ids, mask)
