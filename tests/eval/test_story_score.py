import random

import numpy as np
import pytest

from tinygrad_edu.data.stories import draw, grammar, opening, story_corpus, vocabulary
from tinygrad_edu.eval.story_score import (
    QUESTIONS,
    Row,
    answers,
    draw_growth,
    scoreboard,
    shares,
    snapshot_steps,
    table,
    wrapped,
)
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT

STORY = """On a sunny market day the seller Ada set out a new kite and three figs.

A kind customer called Max stopped beside the stall. "What a fine kite! May I have it?" said Max. \
"Yes," said the seller, and Max paid and carried the kite away. \
But Zoe bid double for the kite and got it. \
A farmer unloaded four more figs from a cart.

The stall displayed seven figs. Now Zoe had the kite. Bells rang, the market closed, and home went \
Ada."""


def continued(*changes):
    """What a model would have written that tells STORY with (old, new) changes."""
    text = STORY.removeprefix(opening(STORY))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def wrong(*changes):
    """The questions that are not answered right."""
    return [one for one, right in answers(STORY, continued(*changes)).items() if not right]


def test_stories_of_the_grammar_are_right():
    generator = random.Random(2)
    for _ in range(400):
        *_, text = draw(generator)
        assert all(answers(text, text.removeprefix(opening(text))).values()), text


@pytest.mark.parametrize("changes, expected", [
    ((), []),
    ([("went Ada", "went Zoe")], ["hero"]),
    ([("four more figs", "more more figs")], ["sums"]),
    ([("Now Zoe", "Now Max")], ["holder"]),
    ([("Now Zoe", "Now Ada")], ["holder"]),
    ([("had the kite", "had the drum")], ["holder"]),
    ([("carried the kite", "carried the drum")], ["holder"]),
    ([("and Max paid", "and Leo paid")], ["holder"]),
    ([("seven", "eight")], ["sums"]),
    ([("seven figs", "seven eggs")], ["sums"]),
    ([("more figs", "more eggs")], ["sums"]),
])
def test_each_kind_of_mistake_is_seen_and_spoils_its_own_question_only(changes, expected):
    assert wrong(*changes) == expected


def test_the_truth_is_what_this_telling_says():
    assert wrong(("Zoe", "Leo")) == []
    assert wrong(("four more", "two more"), ("seven", "five")) == []
    assert wrong(("But Zoe bid double for the kite and got it. ", ""), ("Now Zoe", "Now Max")) == []
    assert wrong(("But Zoe bid double for the kite and got it. ", "")) == ["holder"]


def test_a_customer_cannot_be_the_seller():
    assert "holder" in wrong(("Max", "Ada"))


@pytest.mark.parametrize("kept, expected", [
    ("", list(QUESTIONS)),
    ("seven figs", list(QUESTIONS)),
    ("seven figs.", ["hero", "holder"]),
    ("Zoe had the kite.", ["hero"]),
    ("home went ", ["hero"]),
])
def test_a_story_that_stops_early_gets_no_credit_for_what_is_missing(kept, expected):
    text = continued()
    end = text.index(kept) + len(kept) if kept else 0
    assert [one for one, right in answers(STORY, text[:end]).items() if not right] == expected


def test_a_garbled_step_counts_as_not_told():
    assert wrong(("The stall displayed", "The stall stall displayed")) == ["sums"]
    assert wrong(("Now Zoe had", "Now Zoex had")) == ["holder"]


def test_shares_count_stories_and_known_words():
    found = shares([STORY] * 4, [continued(), continued(("went Ada", "went Max")), "", "Blorp."])
    assert found["hero"] == 0.25 and found["holder"] == 0.5 and found["all"] == 0.25
    words = len(continued().replace('"', "").split())
    assert found["known"] == pytest.approx(2 * words / (2 * words + 1), abs=1e-9)


def test_the_scoreboard_of_an_untrained_model_has_three_rows_in_order():
    corpus = story_corpus(3, 150)
    tokenizer = train_bpe([text for _, text in corpus.train], 600)
    end = tokenizer.special[END_OF_TEXT]
    model = GPT(GPTConfig(600, 64, 1, 1, 8), np.random.default_rng(0)).eval()
    rows = scoreboard(model, tokenizer, corpus, end, count=4)
    assert [row.name for row in rows] == ["6-gram", "GPT", "the grammar"]
    assert rows[2].loss < rows[0].loss < rows[1].loss == pytest.approx(np.log(600), abs=0.2)
    assert rows[1].shares["all"] == 0
    assert len({len(line) for line in table(rows).splitlines()[:3]}) == 1


def test_snapshots_are_spaced_by_equal_ratios_from_the_first_step_to_the_last():
    steps = snapshot_steps(4000)
    assert steps[0] == 0 and steps[-1] == 4000 and len(steps) == 5
    assert np.ptp(np.diff(np.log(steps[1:]))) < 0.01
    assert snapshot_steps(1) == [0, 1]


def test_the_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [Row("6-gram", 1.2, {}), Row("GPT", 0.5, {}), Row("the grammar", 0.36, {})]
    losses = list(zip(range(1, 10), np.geomspace(7, 1, 9), strict=True))
    draw_growth([(0, "$ \ufffd\x00 {"), (9, STORY)], losses, rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_the_picture_bears_hundreds_of_snapshots_and_records_that_are_gone(tmp_path):
    pytest.importorskip("matplotlib")
    rows, path = [Row("6-gram", 1.2, {}), Row("the grammar", 0.36, {})], tmp_path / "growth.png"
    draw_growth([(step, "a") for step in range(300)], [(250, 2.0), (251, 1.5)], rows, path)
    width = int.from_bytes(path.read_bytes()[16:20], "big")
    assert width < 5000
    for snapshots, losses in (([], [(1, 2.0)]), ([(0, "a")], [])):
        with pytest.raises(ValueError, match="are gone"):
            draw_growth(snapshots, losses, rows, path)


def test_text_is_wrapped_and_cut_and_noise_can_be_shown():
    assert wrapped("one two\n\nthree", 5) == "one\ntwo\n\nthree"
    assert wrapped("a\x00b") == "a□b"
    assert wrapped("a b c", 1, lines=2) == "a\nb\n…"


def test_all_names_and_sums_are_known_words():
    assert set(grammar().words["hero"]) <= vocabulary() and {"one", "eleven"} <= vocabulary()
