import collections
import hashlib
import random
import re

import pytest

from tinygrad_edu.data import stories
from tinygrad_edu.data.grammar import Choice, Slot, Sum
from tinygrad_edu.data.stories import (
    draw,
    entropy,
    grammar,
    is_held_out,
    log_probability,
    opening,
    read_stories,
    story_corpus,
    vocabulary,
    words_of,
)


@pytest.fixture(scope="module")
def drawn():
    generator = random.Random(11)
    return [draw(generator) for _ in range(3000)]


@pytest.fixture(scope="module")
def corpus():
    return story_corpus(0, 4000)


def test_every_story_is_read_back_in_exactly_one_way(drawn):
    for plot, values, text in drawn:
        (found, same, log_p), = grammar().derivations(text)
        assert found is plot and same == values and log_p < 0


def test_the_mean_of_minus_ln_p_is_the_entropy(drawn):
    mean = -sum(log_probability(text) for _, _, text in drawn) / len(drawn)
    assert mean == pytest.approx(entropy(), rel=0.005)


def test_there_are_forty_plots_and_1500_words(drawn):
    assert len({plot.title for plot in grammar().plots}) >= 40
    assert len({word.lower() for word in vocabulary()}) >= 1500


def test_words_of_stories_are_known_and_nearly_all_known_words_occur(drawn):
    told = {word for *_, text in drawn for word in words_of(text)}
    assert told <= vocabulary()
    assert len(told) > 0.98 * len(vocabulary())


def test_the_text_is_the_same_on_every_machine():
    text = b"".join(text for _, text in story_corpus(7, 300).train)
    assert hashlib.sha256(text).hexdigest()[:16] == "7fdf594e25cc4f98"


def test_only_random_is_asked_of_the_generator():
    class Bare:
        random = random.Random(5).random

    assert draw(Bare())[2] == draw(random.Random(5))[2]


def test_every_plot_asks_three_questions():
    for plot in grammar().plots:
        parts = list(flat(plot.sequence))
        assert sum(isinstance(part, Sum) for part in parts) == 1, plot.title
        assert sum(part == Slot("holder") for part in parts) == 1, plot.title
        assert Slot("hero") in plot.steps[-1], plot.title
        assert sum(getattr(part, "takes", False) for part in parts) >= 2, plot.title
        assert any(isinstance(part, str) and '"' in part for part in parts), plot.title
        assert any((0.5, ()) in part.options for part in plot.sequence if isinstance(part, Choice))


def flat(sequence):
    for part in sequence:
        if isinstance(part, Choice):
            for _, option in part.options:
                yield from flat(option)
        else:
            yield part


def test_a_name_always_has_a_space_before_it(drawn):
    names = "|".join(grammar().words["hero"])
    for *_, text in drawn:
        assert not re.search(rf"(?:^|[^ ])\b(?:{names})\b", text), text


def test_stories_have_paragraphs_and_single_spaces(drawn):
    for *_, text in drawn:
        assert text.count("\n\n") == 2
        assert not re.search(r"  | \n|\n |\n\n\n|\s$|[{}<>|\[\]]", text), text


def test_a_stands_before_consonants_only(drawn):
    for *_, text in drawn:
        assert not re.search(r"\b[Aa] (?:[aeiou]|honest)|\b[Aa]n [^aeiouh]", text), text


def test_the_opening_introduces_hero_and_thing(drawn):
    for _, values, text in drawn:
        assert {values["hero"], values["thing"], values["item"]} <= set(words_of(opening(text)))


def test_held_out_pairs_never_occur_in_training_but_all_words_and_plots_do(corpus):
    readings = [[stories.reading(text.decode()) for _, text in part[:1500]]
                for part in (corpus.train, corpus.held_out)]
    assert not any(is_held_out(plot, values) for plot, values, _ in readings[0])
    assert all(is_held_out(plot, values) for plot, values, _ in readings[1])
    assert {plot.title for plot, *_ in readings[0]} == {plot.title for plot in grammar().plots}
    for name in ("hero", "thing"):
        assert {values[name] for _, values, _ in readings[0]} == set(grammar().words[name])


def test_about_a_tenth_is_held_out(corpus):
    assert 0.08 < len(corpus.held_out) / 4000 < 0.16
    assert len(corpus.train) + len(corpus.held_out) == 4000


def test_a_hero_is_named_again_50_words_later(drawn):
    gaps = collections.Counter()
    for _, values, text in drawn:
        words = words_of(text)
        places = [i for i, word in enumerate(words) if word == values["hero"]]
        gaps[places[-1] - places[0] >= 35] += 1
    assert gaps[True] > 0.9 * len(drawn)


def test_a_word_for_the_data_names_the_seed(monkeypatch):
    monkeypatch.setattr(stories, "story_corpus", lambda seed: seed)
    assert (read_stories("stories"), read_stories("stories:7")) == (0, 7)
    for wrong in ("stories:x", "stories:", "stories:-1", "stories:1.5"):
        with pytest.raises(ValueError, match="write stories or stories:7"):
            read_stories(wrong)


def test_text_that_is_no_story_has_no_probability():
    with pytest.raises(ValueError, match="does not write"):
        log_probability("Once upon a time")
