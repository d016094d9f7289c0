"""What train_gpt.py decides before it trains, function by function."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from house import ROOT, load
from tinygrad_edu.nn.optimizers import OPTIMIZERS

TRAIN = load(ROOT / "scripts" / "train_gpt.py")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_learning_rate_that_is_not_given_suits_the_optimizer(name):
    chosen = TRAIN.Settings(data="text.txt", optimizer=name, lr=0.01)
    TRAIN.check(chosen, frozenset())
    assert chosen.lr == 0.01 * OPTIMIZERS[name].rate
    assert chosen.min_lr == chosen.lr / 10
    given = TRAIN.Settings(data="text.txt", optimizer=name, lr=0.01, min_lr=0.0)
    TRAIN.check(given, {"lr"})
    assert (given.lr, given.min_lr) == (0.01, 0.0)


@pytest.mark.parametrize(("data", "preset"), [
    ("stories", True), ("stories:7", True), ("./stories", False), ("pystdlib:7", False)])
def test_what_suits_stories_is_chosen_for_stories_alone(data, preset, monkeypatch):
    class Stop(Exception):
        """Instead of a run."""

    def begin(settings, given):
        found.append(settings)
        raise Stop

    found = []
    monkeypatch.setattr(TRAIN, "begin", begin)
    monkeypatch.setattr(sys, "argv", ["train_gpt.py", "--data", data])
    with pytest.raises(Stop):
        TRAIN.main()
    assert (found[0].vocab == TRAIN.STORIES["vocab"]) == found[0].of_stories == preset


def test_samples_come_evenly_and_of_stories_at_equal_ratios():
    def steps(**given):
        return list(TRAIN.sample_steps(TRAIN.Settings(steps=1000, **given)))

    assert steps(data="text.txt") == [250, 500, 750, 1000]
    assert steps(data="text.txt", sample_every=400) == [400, 800]
    assert steps(data="stories", sample_every=400) == [400, 800]
    found = steps(data="stories:3")
    assert found[0] == 0 and found[-1] == 1000 and found[1] < 100


@pytest.mark.parametrize("windows, tokens", [(10, 80), (50, 400), (10**9, 1_000_000)])
def test_a_short_time_looks_at_less_held_out_text(windows, tokens):
    """A window has 8 tokens; a million is always enough."""
    stream = np.arange(3_000_001)
    run = SimpleNamespace(text=SimpleNamespace(held_out=stream),
                          windows=TRAIN.Windows(stream, stream, batch=4, context=8))
    assert TRAIN.tokens_to_look_at(run, windows) == pytest.approx(tokens, abs=1)


@pytest.mark.parametrize("flags, sentence", [
    ({"min_lr": 0.1, "lr": 0.01}, "--min-lr 0.1 is larger than --lr 0.01"),
    ({"resume": True, "overwrite": True}, "--resume and --overwrite exclude each other"),
])
def test_flags_that_contradict_each_other_are_refused(flags, sentence):
    with pytest.raises(ValueError, match=sentence):
        TRAIN.check(TRAIN.Settings(data="text.txt", **flags), {"lr"})


def test_an_optimizer_without_the_beta_that_is_given_is_refused_before_the_text_is_read():
    with pytest.raises(ValueError, match="sgd has no beta1"):
        TRAIN.refuse_early(TRAIN.Settings(optimizer="sgd", beta1=0.5, layers=1, heads=1, width=8,
                                          context=8))
