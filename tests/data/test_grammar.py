import math
import random

import pytest

from tinygrad_edu.data.notation import read_grammar

SMALL = """
list name
    Ada Ben Cleo
numbers a 2 3
slots hero friend from name
phrase mood
    3*glad|sad

plot gift
    So <mood> was {>hero} with {a}.
    ? It went to {>friend}.
    Now {holder} has it, {a+a}.
"""


def test_the_entropy_of_a_small_grammar_is_what_one_works_out_by_hand():
    mood = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    by_hand = mood + math.log(3) + math.log(2) + math.log(2) + 0.5 * math.log(2)
    assert read_grammar(SMALL).entropy() == pytest.approx(by_hand, abs=1e-12)


def test_a_slot_drawn_on_one_way_only_leaves_more_words_to_the_next_on_the_other():
    grammar = read_grammar(SMALL.replace("Now {holder} has it", "Now {friend} has it"))
    mood = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    by_hand = mood + math.log(3) + math.log(2) + math.log(2) + math.log(2)
    assert grammar.entropy() == pytest.approx(by_hand, abs=1e-12)


def test_the_probability_of_a_story_is_the_product_of_its_choices():
    (plot, values, log_p), = read_grammar(SMALL).derivations(
        "So glad was Ben with three. It went to Ada. Now Ada has it, six.")
    assert math.exp(log_p) == pytest.approx(0.75 / 3 / 2 * 0.5 / 2)
    assert values == {"hero": "Ben", "a": "three", "friend": "Ada", "holder": "Ada"}


@pytest.mark.parametrize("text", [
    "So glad was Ben with three. It went to Ada. Now Ben has it, six.",
    "So glad was Ben with three. It went to Ben. Now Ben has it, six.",
    "So glad was Ben with three. Now Ben has it, five.",
    "So glad was Ben with three. Now Ben has it, six. ",
    "So glad was Ben with three.",
])
def test_what_the_grammar_cannot_write_has_no_derivation(text):
    assert not list(read_grammar(SMALL).derivations(text))


def test_the_mean_of_minus_ln_p_approaches_the_entropy():
    grammar, generator = read_grammar(SMALL), random.Random(0)
    sums = [next(grammar.derivations(grammar.draw(generator)[2]))[2] for _ in range(4000)]
    assert -sum(sums) / 4000 == pytest.approx(grammar.entropy(), abs=0.03)


def test_an_option_given_twice_is_two_ways_to_one_text():
    twice = read_grammar(SMALL.replace("3*glad|sad", "glad|glad"))
    assert len(list(twice.derivations("So glad was Ben with two. Now Ben has it, four."))) == 2


@pytest.mark.parametrize("old, new, message", [
    ("{a}", "{b}", "no list for the slot 'b'"),
    ("<mood>", "<mode>", "no phrase 'mode'"),
    ("<mood>", "[x|y", "bracket is not closed"),
    ("<mood>", "x]", "outside of brackets"),
    ("So <mood>", "? So <mood>", "cannot begin with an optional step"),
    ("phrase", "phase", "begins with none of"),
])
def test_a_fault_in_a_grammar_is_named(old, new, message):
    with pytest.raises(ValueError, match=message):
        read_grammar(SMALL.replace(old, new))
