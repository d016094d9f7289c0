import random as python_random

import pytest

from tinygrad_edu.data.conversations import Conversation, Preference
from tinygrad_edu.data.curation import (
    contradictions,
    deduplicate,
    length_report,
    opening_of,
    split_by_prompt,
)


def talk(*texts):
    roles = ("user", "assistant") * len(texts)
    return Conversation(tuple(zip(roles, texts, strict=False)))


def pair(asked, chosen, rejected):
    return Preference((("user", asked),), chosen, rejected)


def test_copies_go_and_the_first_of_each_stays_in_order():
    talks = [talk("Hi", "Ho"), talk("a", "b"), talk("hi ", "  HO\n"), talk("Hi", "Hu")]
    assert deduplicate(talks) == ([talks[0], talks[1], talks[3]], 1)
    pairs = [pair("a", "b", "c"), pair("a", "c", "b"), pair("A", "b", "c")]
    assert deduplicate(pairs) == (pairs[:2], 1)
    assert contradictions(pairs) == 1 and contradictions(pairs[:1]) == 0


def test_who_speaks_is_part_of_what_is_a_copy():
    assert deduplicate([Conversation((("user", "a"), ("assistant", "b"))),
                        Conversation((("system", "a"), ("assistant", "b")))])[1] == 0


def test_no_prompt_is_on_both_sides_and_the_split_hangs_on_no_order():
    random = python_random.Random(0)
    talks = [talk(f"q{random.randrange(300)}", f"a{k}", "more?", "yes") for k in range(1000)]
    train, held_out = split_by_prompt(talks)
    assert len(train) + len(held_out) == 1000 and 50 < len(held_out) < 160
    openings = [{*map(opening_of, side)} for side in (train, held_out)]
    assert not openings[0] & openings[1]
    random.shuffle(talks)
    again = split_by_prompt(talks)
    assert {*train} == {*again[0]} and {*held_out} == {*again[1]}


def test_the_opening_ends_before_the_first_answer_and_is_levelled():
    assert opening_of(talk("Hi  There", "b", "c", "d")) == "user: hi there"
    assert opening_of(pair("hi\nthere", "a", "b")) == "user: hi there"


def test_both_sides_get_a_prompt_where_there_are_two():
    for number in range(20):
        pairs = [pair(f"{number} a", "b", "c"), pair(f"{number} b", "b", "c")]
        assert [len(side) for side in split_by_prompt(pairs)] == [1, 1]


def test_one_prompt_cannot_be_split():
    with pytest.raises(ValueError, match="2 examples with 1 prompt cannot be split"):
        split_by_prompt([talk("Hi", "a"), talk("hi", "b")])
    with pytest.raises(ValueError, match="0 prompts"):
        split_by_prompt([])


def test_the_report_counts_who_is_longer_and_ties_as_half():
    pairs = [pair("q", "long answer", "short"), pair("q", "abc", "abd"), pair("q", "a", "bb"),
             pair("q", "aaaa", "bb")]
    report = length_report(pairs)
    assert (report.pairs, report.accuracy) == (4, 2.5 / 4)
    assert (report.chosen, report.rejected) == (19 / 4, 12 / 4)
    assert '"longer wins" is right in 62.5 %' in str(report)
    turned = length_report([pair("q", p.rejected, p.chosen) for p in pairs])
    assert '"shorter wins" is right in 62.5 %' in str(turned)
    words = length_report(pairs, length=lambda text: len(text.split()))
    assert words.accuracy == 2.5 / 4 and words.chosen == 5 / 4
    with pytest.raises(ValueError, match="no preferences"):
        length_report([])
