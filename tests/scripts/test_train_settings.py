"""What train_gpt.py decides before it trains, function by function."""

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


def test_a_word_stands_for_a_text_although_a_folder_of_tokens_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("stories", "pystdlib", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokens.json").write_text("{}")
    assert not any(map(TRAIN.is_encoded, ("stories", "stories:7", "pystdlib", "nothing")))
    assert TRAIN.is_encoded("mine") and TRAIN.is_encoded("./stories")
    monkeypatch.chdir(tmp_path / "mine")
    assert not TRAIN.is_encoded("")                # Path("") is the folder that one is in


def test_samples_come_evenly_and_of_stories_at_equal_ratios():
    def steps(**given):
        return list(TRAIN.sample_steps(TRAIN.Settings(steps=1000, **given)))

    assert steps(data="text.txt") == [250, 500, 750, 1000]
    assert steps(data="text.txt", sample_every=400) == [400, 800]
    assert steps(data="stories", sample_every=400) == [400, 800]
    found = steps(data="stories:3")
    assert found[0] == 0 and found[-1] == 1000 and found[1] < 100


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
