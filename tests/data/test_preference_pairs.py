import random as python_random
from collections import Counter

import numpy as np
import pytest

from tinygrad_edu.data.curation import contradictions, deduplicate, length_report
from tinygrad_edu.data.instructions import KINDS, Begin
from tinygrad_edu.data.preference_pairs import (
    FAULTS,
    couple,
    draw_preferences,
    with_loophole,
)
from tinygrad_edu.data.stories import grammar, words_of

BEGIN = Begin()


def pairs_of(count=400, seed=0, **options):
    return draw_preferences(python_random.Random(seed), count, **options)


def fulfils(pair, text):
    """Whether the grammar writes the text and all that the request names is in the right slot."""
    key = BEGIN.reading(text)
    return key is not None and all(word in words_of(pair.prompt[0][1]) for word in key[1:])


@pytest.mark.parametrize("held_out", [False, True])
def test_the_chosen_answer_fulfils_the_request_and_the_rejected_one_does_not(held_out):
    for pair in pairs_of(200, held_out=held_out):
        assert fulfils(pair, pair.chosen)
        assert not fulfils(pair, pair.rejected)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_couple_differs_in_one_thing_and_changes_places(fault):
    for seed in range(20):
        a, b = couple(python_random.Random(seed), fault)
        if fault == "order":
            assert all(Counter(p.chosen.split()) == Counter(p.rejected.split()) for p in (a, b))
            assert all(len(p.chosen) == len(p.rejected) for p in (a, b))
        else:
            assert (a.chosen, a.rejected) == (b.rejected, b.chosen)
            different = [one != other for one, other in
                         zip(words_of(a.chosen), words_of(a.rejected), strict=True)]
            assert sum(different) == 1
            assert a.prompt != b.prompt


@pytest.mark.parametrize("fault", FAULTS)
def test_length_alone_says_nothing_whatever_the_fault(fault):
    for length in (len, lambda text: len(text.split())):
        assert length_report(pairs_of(200, faults=(fault,)), length).accuracy == 0.5


@pytest.mark.parametrize("held_out", [False, True])
def test_a_classifier_that_sees_lengths_alone_stays_within_3_percent_of_a_half(held_out):
    train, held = pairs_of(1000), pairs_of(1000, seed=1, held_out=held_out)
    gap = [np.array([len(p.chosen) - len(p.rejected) for p in some]) for some in (train, held)]
    # The best rule of one threshold, and of two, chosen where it is trained.
    for low in range(-9, 10):
        for high in range(low, 10):
            said = [np.where((g >= low) & (g <= high), 1.0, 0.0) - np.where(
                (-g >= low) & (-g <= high), 1.0, 0.0) for g in gap]
            right = [((s > 0) + 0.5 * (s == 0)).mean() for s in said]
            assert abs(right[0] - 0.5) <= 0.03 and abs(right[1] - 0.5) <= 0.03


def test_no_word_of_an_answer_tells_whether_it_was_chosen():
    pairs = pairs_of(2000, faults=("hero", "thing", "number", "item"))
    counts = Counter()
    for pair in pairs:
        counts.update({word: 1 for word in words_of(pair.chosen)})
        counts.subtract({word: 1 for word in words_of(pair.rejected)})
    assert not any(counts.values())


def test_sides_share_no_plot_no_hero_and_no_thing():
    sides = [{kind: set() for kind in KINDS} for _ in range(2)]
    for held_out in (False, True):
        for pair in pairs_of(300, held_out=held_out):
            for text in (pair.chosen, pair.rejected):
                key = BEGIN.reading(text)
                for kind, word in zip(KINDS, key or (), strict=False):
                    sides[held_out][kind].add(word)
    for kind in KINDS:
        assert len(sides[True][kind]) >= 3 and not sides[True][kind] & sides[False][kind]


def test_pairs_are_as_many_as_asked_for_no_copies_no_contradictions_and_seeded():
    for count in (1, 7, 500):
        assert len(pairs_of(count)) == count
    pairs = pairs_of(500)
    assert deduplicate(pairs)[1] == contradictions(pairs) == 0
    assert pairs == pairs_of(500) != pairs_of(500, seed=1)
    kinds = Counter(words_of(p.chosen)[0] for p in pairs)
    assert len(kinds) > 10


def test_a_loophole_is_as_wide_as_asked_and_rewards_what_is_wrong():
    pairs = pairs_of(2000, loophole=0.3)
    longer = [p for p in pairs if len(p.chosen) > len(p.rejected) + 40]
    assert abs(len(longer) / 2000 - 0.3) < 0.03
    assert all(fulfils(p, p.rejected) and not fulfils(p, p.chosen) for p in longer)
    assert length_report(pairs).accuracy > 0.6
    assert len([p for p in pairs_of(50, loophole=1.0) if len(p.chosen) > len(p.rejected)]) == 50


def test_a_flawed_proxy_pays_for_words():
    problem = BEGIN.draw(python_random.Random(0))
    proxy = with_loophole(lambda text: BEGIN.score(problem, text), per_word=0.1)
    words = len(problem.answer.split())
    assert proxy(problem.answer) == pytest.approx(1 + 0.1 * words)
    assert proxy("and " * 40) == pytest.approx(4.0)


def test_heroes_and_things_of_the_other_text_are_of_the_same_side_too():
    held_out = {name for name in grammar().words["hero"]
                if BEGIN.is_held_out_entity(f"hero {name}")}
    for pair in pairs_of(200, faults=("hero",)):
        assert not held_out & {*words_of(pair.chosen + " " + pair.rejected)}
