import numpy as np
import pytest

from tinygrad_edu.inference.sampling import draw, generate, generate_many, probabilities, ragged
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.tensor import Tensor

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def test_probabilities_are_the_softmax():
    assert np.allclose(probabilities(LOGITS), [0.1, 0.4, 0.2, 0.3])
    assert np.allclose(probabilities(LOGITS + 1000), [0.1, 0.4, 0.2, 0.3])


def test_temperature_is_a_power_of_the_probabilities():
    squares = np.array([0.1, 0.4, 0.2, 0.3]) ** 2
    assert np.allclose(probabilities(LOGITS, temperature=0.5), squares / squares.sum())


def test_top_k_keeps_the_k_largest():
    assert np.allclose(probabilities(LOGITS, top_k=2), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_k=100), [0.1, 0.4, 0.2, 0.3])


def test_top_p_keeps_the_token_that_crosses_p():
    assert np.allclose(probabilities(LOGITS, top_p=0.5), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_p=0.01), [0, 1, 0, 0])
    assert np.allclose(probabilities(LOGITS, top_p=1.0), [0.1, 0.4, 0.2, 0.3])


def test_of_top_k_and_top_p_the_stricter_decides():
    assert np.allclose(probabilities(LOGITS, top_k=2, top_p=0.95), [0, 4 / 7, 0, 3 / 7])
    assert np.allclose(probabilities(LOGITS, top_k=3, top_p=0.5), [0, 4 / 7, 0, 3 / 7])


def test_a_draw_beyond_the_sum_takes_the_last_token_that_was_kept():
    class Almost:
        def random(self):
            return 1.0                             # as if the sum ended a rounding below it
    assert draw(LOGITS, Almost()) == 3
    assert draw(LOGITS, Almost(), top_k=1) == 1


def test_draws_have_the_frequencies_of_the_distribution():
    random = np.random.default_rng(0)
    counts = np.bincount([draw(LOGITS, random) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - [0.1, 0.4, 0.2, 0.3]).max() < 0.015


def test_a_token_that_was_cut_off_is_never_drawn():
    random = np.random.default_rng(0)
    assert {draw(LOGITS, random, top_k=2) for _ in range(500)} == {1, 3}


class Counter:
    """A model that always expects the last token plus one, and tells how much text it was given."""

    class config:
        context = 4

    def __init__(self):
        self.lengths = []

    def next_logits(self, ids):
        self.lengths.append(ids.shape[1])
        logits = np.full((1, 10), -5.0)
        logits[0, (ids[0, -1] + 1) % 10] = 5.0
        return Tensor(logits)


def test_generation_continues_from_its_own_tokens_within_the_context():
    model = Counter()
    written = list(generate(model, [3], 6, np.random.default_rng(0), greedy=True))
    assert written == [4, 5, 6, 7, 8, 9]
    assert model.lengths == [1, 2, 3, 4, 4, 4]


def test_a_stop_token_ends_the_text_and_is_not_part_of_it():
    assert list(generate(Counter(), [3], 9, None, stop=(6,), greedy=True)) == [4, 5]


def test_the_same_seed_writes_the_same_text():
    one, other = (list(generate(Counter(), [0], 50, np.random.default_rng(4), temperature=3.0))
                  for _ in range(2))
    assert one == other


def test_nothing_to_continue_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        list(generate(Counter(), [], 3, None))


@pytest.fixture(scope="module")
def small_gpt():
    config = GPTConfig(vocabulary=50, context=12, layers=2, heads=2, width=16)
    return GPT(config, np.random.default_rng(0)).eval()


PROMPTS = [[3], [7, 8, 9, 1, 2], [4, 4], [5] * 11]


@pytest.mark.parametrize("stop", [(), tuple(range(20))])
def test_many_prompts_at_once_are_continued_like_each_alone(small_gpt, stop):
    many = generate_many(small_gpt, PROMPTS, 15, generators(), stop, temperature=0.7)
    alone = [list(generate(small_gpt, prompt, 15, random, stop, temperature=0.7))
             for prompt, random in zip(PROMPTS, generators(), strict=True)]
    assert many == alone
    assert stop == () or len({len(text) for text in many}) > 1  # rows have left the batch early


def generators():
    return [np.random.default_rng([5, row]) for row in range(len(PROMPTS))]


def test_what_stands_behind_the_end_of_a_row_does_not_count(small_gpt):
    ids, lengths = ragged(PROMPTS)
    assert ids.shape == (4, 11) and lengths.tolist() == [1, 5, 2, 11]
    clean = small_gpt.next_logits(ids, lengths).numpy()
    ids[np.arange(11) >= lengths[:, None]] = 33
    assert np.array_equal(small_gpt.next_logits(ids, lengths).numpy(), clean)


def test_an_empty_prompt_among_many_is_refused(small_gpt):
    with pytest.raises(ValueError, match="in each prompt"):
        generate_many(small_gpt, [[1], []], 3, generators())
