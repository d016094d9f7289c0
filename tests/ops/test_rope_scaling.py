import numpy as np
import pytest

from tinygrad_edu.ops.rope import rope_frequencies
from tinygrad_edu.ops.rope_scaling import stretched_frequencies

PLAIN = rope_frequencies(64, 10000.0)


def stretched(**settings):
    return stretched_frequencies(64, 10000.0, **settings)


def test_without_stretching_they_are_those_of_lesson_rope():
    frequencies, scale = stretched()
    assert np.array_equal(frequencies, PLAIN) and scale == 1


def test_linear_stretching_slows_all_hands_alike():
    assert np.allclose(stretched(kind="linear", factor=4.0)[0], PLAIN / 4)


def test_another_base_slows_the_slowest_hand_by_the_factor_and_the_fastest_not():
    found = stretched(kind="ntk", factor=4.0)[0]
    assert np.isclose(found[0], PLAIN[0]) and np.isclose(found[-1], PLAIN[-1] / 4)
    assert (np.diff(found / PLAIN) < 0).all()


@pytest.mark.parametrize("settings", [
    {"kind": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "context": 512},
    {"kind": "yarn", "factor": 8.0, "fast": 32.0, "slow": 1.0, "context": 2048}])
def test_hands_that_went_round_often_stay_and_those_that_never_did_are_slowed(settings):
    share = stretched(**settings)[0] / PLAIN
    turns = settings["context"] * PLAIN / (2 * np.pi)
    often, never = turns >= 2 * settings.get("high", 32), turns < 0.5
    assert often.any() and never.any()
    assert np.allclose(share[often], 1) and np.allclose(share[never], 1 / 8)
    assert (np.diff(share) <= 1e-12).all()


def test_a_hand_in_the_middle_is_slowed_by_half_of_the_way():
    # Of 2.5 turns, half way between 1 and 4, half of the frequency is kept.
    settings = {"factor": 8.0, "low": 1.0, "high": 4.0, "context": 2.5 * 2 * np.pi / PLAIN[5]}
    found = stretched(kind="llama3", **settings)[0]
    assert np.isclose(found[5], PLAIN[5] * (0.5 + 0.5 / 8))


def test_yarn_makes_scores_sharper_by_a_logarithm():
    assert np.isclose(stretched(kind="yarn", factor=np.e**2, context=2048)[1], 1.2)
    assert stretched(kind="yarn", factor=1.0, context=2048)[1] == 1
    assert stretched(kind="yarn", factor=4.0, context=2048, scale=1.5)[1] == 1.5


def test_numbers_that_come_with_the_weights_divide_one_hand_each():
    by = np.linspace(1, 8, 32)
    assert np.allclose(stretched(kind="divided", by=by.tolist())[0], PLAIN / by)


@pytest.mark.parametrize(("settings", "reason"), [
    ({"kind": "rubber"}, "default, linear, ntk, llama3, yarn, divided, not by 'rubber'"),
    ({"kind": ["linear"]}, "not by"),
    ({"kind": "linear"}, "does not take exactly these settings: none"),
    ({"kind": "linear", "factor": 2.0, "low": 1}, "exactly these settings: factor, low"),
    ({"kind": "divided", "by": [1.0, 2.0]}, "32 frequencies are divided by as many"),
    ({"kind": "divided", "by": [0.0] * 32}, "numbers above 0"),
    ({"kind": "llama3", "factor": 2.0, "low": 4.0, "high": 4.0, "context": 8}, "upwards only"),
])
def test_settings_that_make_no_sense_are_refused(settings, reason):
    with pytest.raises(ValueError, match=reason):
        stretched(**settings)


def test_a_base_of_one_is_refused():
    with pytest.raises(ValueError, match="a base of 1"):
        stretched_frequencies(64, 1.0)
