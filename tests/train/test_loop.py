import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn import init
from tinygrad_edu.nn.layers import Dropout
from tinygrad_edu.nn.module import Module
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.nn.schedule import SCHEDULES
from tinygrad_edu.tensor import record
from tinygrad_edu.train.loop import (
    Diverged,
    evaluate,
    expected_first_loss,
    forward_and_backward,
    learning_rate,
    train,
    train_step,
)


@dataclass
class Config:
    steps: int = 10
    schedule: str = "cosine"
    lr: float = 0.1
    min_lr: float = 0.1
    warmup: int = 0
    clip: float = 1e9
    seed: int = 0


class Line(Module):
    """Predicts w·x for the targets y; its loss is the mean of (w·x − y)² over the batch."""

    def __init__(self):
        self.w = init.constant((1, 1), 0.0, np.float64)

    def loss(self, x, y, reduction="mean"):
        w = self.w
        count = y.size if reduction == "mean" else 1

        def vjp(dy):
            return np.sum(dy * 2 * (w.data * x - y) * x / count).reshape(1, 1),
        return record(np.sum((w.data * x - y) ** 2) / count + np.zeros(()), (w,), vjp)


class Rows(list):
    def add(self, **row):
        self.append(row)

    def last(self, name):
        return self[-1][name] if self else None


def batch(step):
    x = np.random.default_rng([7, step]).standard_normal((2, 4))
    return [(x, 3 * x)]


def fit(**changes):
    model, rows = Line(), Rows()
    done = train(model, SGD(model.named_parameters()), batch, Config(**changes), rows)
    return model, rows, done


def test_the_loop_finds_the_slope():
    model, rows, done = fit(steps=40)
    assert done == 40
    assert np.isclose(model.w.data[0, 0], 3, atol=1e-3)
    assert [row["step"] for row in rows] == list(range(40))
    assert rows[-1]["tokens"] == 40 * 8
    assert rows[-1]["loss"] < 1e-4 < rows[0]["loss"]


def test_a_batch_in_two_parts_takes_the_same_step_as_one():
    (x, y), = batch(0)
    weights = []
    for parts in ([(x, y)], [(x[:1], y[:1]), (x[1:], y[1:])]):
        model = Line()
        loss, norm = train_step(model, SGD(model.named_parameters()), parts, Config(), 0)
        weights.append((model.w.data[0, 0], loss, norm))
    assert np.allclose(*weights, rtol=1e-12)


def test_a_part_with_more_targets_counts_for_more():
    model = GPT(GPTConfig(7, 6, 1, 1, 4), np.random.default_rng(0), dtype=np.float64)
    x = np.random.default_rng(1).integers(0, 7, (2, 6))
    y = np.array([[-1, -1, -1, -1, -1, 3], [1, 2, 3, 4, 5, 6]])
    found = []
    for parts in ([(x, y)], [(x[:1], y[:1]), (x[1:], y[1:])]):
        model.zero_grad()
        loss = forward_and_backward(model, parts, 0, 0)
        found.append([loss, *(tensor.grad / len(parts) for tensor in model.parameters())])
    assert all(np.allclose(one, two, atol=1e-12) for one, two in zip(*found, strict=True))


def test_a_loss_that_is_not_finite_stops_before_the_step():
    model = Line()
    with pytest.raises(FloatingPointError, match="step 5 is not taken.*: the loss is inf"):
        train_step(model, SGD(model.named_parameters()), [(np.ones((1, 1)), np.array([[np.inf]]))],
                   Config(), 5)
    assert model.w.data[0, 0] == 0


@pytest.mark.parametrize(("x", "off", "limit", "reason"), [
    (1.0, np.nan, np.inf, "the loss is nan"),
    (1.0, 1e3, 9e5, r"the loss is 1e\+06, above 9e\+05: it explodes"),
    (1e155, 1e145, np.inf, "the gradient norm is inf at optimizer step 2")])
def test_a_step_that_is_not_taken_changes_nothing_and_leaves_no_gradient(x, off, limit, reason):
    model = Line()
    optimizer = SGD(model.named_parameters(), momentum=0.9)
    train_step(model, optimizer, batch(0), Config(), 0)
    before = {name: array.copy() for name, array in optimizer.state().items()}
    weight = model.w.data.copy()
    pair = np.full((1, 1), x), weight * x + off     # the loss is off²
    with pytest.raises(Diverged, match=f"step 4 is not taken, no .*: {reason}") as caught:
        train_step(model, optimizer, [pair], Config(), 4, limit)
    assert caught.value.step == 4
    assert np.array_equal(model.w.data, weight)
    assert model.w.grad is None
    assert all(np.array_equal(array, before[name]) for name, array in optimizer.state().items())


def jumping(step):
    """Batches whose loss at w = 0 is y²: 1 for three steps, then 100."""
    y = 1.0 if step < 3 else 10.0
    return [(np.zeros((1, 1)), np.full((1, 1), y))]


def test_a_loss_three_times_as_large_as_normal_ends_the_run_where_the_normal_is_known():
    for uniform, ends in ((0.5, True), (30.0, True), (40.0, False), (None, False)):
        model, rows = Line(), Rows()
        optimizer = SGD(model.named_parameters())
        if ends:
            with pytest.raises(Diverged, match="step 3 .*the loss is 100, above .*: it explodes"):
                train(model, optimizer, jumping, Config(), rows, uniform=uniform)
        else:
            train(model, optimizer, jumping, Config(), rows, uniform=uniform)
        assert len(rows) == (3 if ends else 10)


def test_a_first_loss_that_is_large_already_is_no_reason_to_stop():
    rows, model = Rows(), Line()
    train(model, SGD(model.named_parameters()), jumping, Config(steps=3), rows, uniform=0.01)
    assert [row["loss"] for row in rows] == [1, 1, 1]


def test_a_first_loss_far_from_that_of_an_even_guess_is_said_aloud_and_not_on_a_resumed_run():
    class Bar:
        def __init__(self):
            self.said = []

        def write(self, text):
            self.said.append(text)

        def set_postfix_str(self, text, refresh):
            pass

        def update(self):
            pass
    for start, uniform, said in ((0, 1.1, 0), (0, 0.9, 0), (0, 2.0, 1), (0, 0.5, 1), (1, 2.0, 0)):
        bar, model = Bar(), Line()
        train(model, SGD(model.named_parameters()), jumping, Config(steps=2), Rows(), start,
              bar=bar, uniform=uniform)
        assert len(bar.said) == said, (start, uniform)


def test_the_sentence_on_the_first_loss_tells_too_sure_from_too_good():
    assert expected_first_loss(7.62, np.log(2048)) is None
    assert "the first loss is 12; an untrained model should be near ln V = 7.62. It is sure" in (
        expected_first_loss(12.0, np.log(2048)))
    assert "targets that are not shifted" in expected_first_loss(5.0, np.log(2048))


def test_actions_come_at_their_interval_and_may_add_to_the_row():
    seen, rows = [], Rows()
    model = Line()

    def action(done, row):
        seen.append(done)
        row["val_loss"] = 1.0
    every = ((3, action), (None, action))
    train(model, SGD(model.named_parameters()), batch, Config(), rows, every=every)
    assert seen == [3, 6, 9]
    assert [row.get("val_loss") for row in rows] == [None, None, 1.0] * 3 + [None]


def test_a_checkpoint_never_knows_of_a_step_whose_row_is_not_written():
    rows, saved = Rows(), []

    def save(done):
        saved.append((done, len(rows)))
    model = Line()
    train(model, SGD(model.named_parameters()), batch, Config(), rows, save=(4, save))
    assert saved == [(4, 4), (8, 8)]


def spoil_after(step, model):
    """A batch function that ruins the weights when batch `step` is asked for: by step − 1, then."""
    def spoiling(now):
        if now == step:
            model.w.data[...] = np.nan
        return batch(now)
    return spoiling


@pytest.mark.parametrize(("spoiled", "saved_then"), [(8, [4]), (9, [4, 8]), (10, [4, 8])])
def test_spoiled_weights_never_replace_a_good_checkpoint(spoiled, saved_then):
    model, saved, rows = Line(), [], Rows()
    with pytest.raises(Diverged, match=f"step {spoiled} is not taken, .*: the loss is nan"):
        train(model, SGD(model.named_parameters()), spoil_after(spoiled, model), Config(), rows,
              save=(4, saved.append))
    assert saved == saved_then
    assert len(rows) == spoiled
    assert model.training


def test_a_run_that_has_all_its_steps_takes_none():
    model, rows = Line(), Rows()
    assert train(model, SGD(model.named_parameters()), batch, Config(), rows, start=10) == 10
    assert not rows


def test_an_interrupt_ends_the_run_after_the_step_in_progress():
    model, rows = Line(), Rows()
    before = signal.getsignal(signal.SIGINT)       # a job in the background may ignore it

    def press(done, row):
        os.kill(os.getpid(), signal.SIGINT)
    done = train(model, SGD(model.named_parameters()), batch, Config(), rows, every=((4, press),))
    assert done == 4
    assert len(rows) == 4
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_is_obeyed_at_once():
    before = signal.getsignal(signal.SIGINT)
    model, rows = Line(), Rows()

    def press_twice(done, row):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(model, SGD(model.named_parameters()), batch, Config(), rows,
              every=((4, press_twice),))
    assert len(rows) == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_every_part_of_every_step_drops_out_by_a_key_of_its_own():
    class Dropping(Line):
        def __init__(self):
            super().__init__()
            self.drop, self.keys = Dropout(0.5), []

        def loss(self, x, y, reduction="mean"):
            self.keys.append(self.drop.key)
            return super().loss(x, y, reduction)
    model = Dropping()
    for step in (3, 4):
        train_step(model, SGD(model.named_parameters()), 2 * batch(step), Config(seed=9), step)
    assert model.keys == [(9, 6), (9, 7), (9, 8), (9, 9)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_is_the_one_that_is_named(name):
    config = Config(steps=50, warmup=5, min_lr=0.01, schedule=name)
    rates = [learning_rate(config, step) for step in range(50)]
    assert rates == [SCHEDULES[name](step, 50, 0.1, 0.01, 5) for step in range(50)]


def test_the_rows_and_the_steps_have_the_rate_of_the_schedule():
    model, rows, _ = fit(warmup=3, min_lr=0.01)
    rates = [row["learning_rate"] for row in rows]
    assert rates == [learning_rate(Config(warmup=3, min_lr=0.01), step) for step in range(10)]
    assert rates[:4] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])
    assert rates[-1] < 0.02
    (x, y), = batch(0)
    first = fit(warmup=3, steps=1)[0].w.data[0, 0]  # w = 0: its gradient is −mean(2·x·y)
    assert first == pytest.approx(rates[0] * np.mean(2 * x * y))


def test_a_run_in_two_parts_is_the_run_in_one():
    whole, rows, _ = fit(steps=10)
    model, parts = Line(), Rows()
    optimizer = SGD(model.named_parameters())
    config = Config(steps=10)
    first = Config(steps=6)
    assert learning_rate(first, 3) == learning_rate(config, 3)  # the schedule here is constant
    train(model, optimizer, batch, first, parts)
    train(model, optimizer, batch, config, parts, start=6)
    assert model.w.data[0, 0] == whole.w.data[0, 0]
    assert [row["loss"] for row in parts] == [row["loss"] for row in rows]


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_is_without_dropout_and_leaves_the_mode_as_it_was(mode):
    class Watched(Line):
        def loss(self, x, y, reduction="mean"):
            assert not self.training
            return super().loss(x, y, reduction)
    model = Watched().train(mode)
    evaluate(model, batch(0))
    assert model.training is mode


def test_evaluation_weighs_every_target_alike_and_leaves_no_tape():
    model = Line().train()
    batches = [(np.ones((2, 1)), np.full((2, 1), 2.0)), (np.ones((1, 1)), np.full((1, 1), 5.0))]
    mean, count = evaluate(model, batches)
    assert count == 3
    assert np.isclose(mean, (4 + 4 + 25) / 3)
    assert model.training
    assert model.w.grad is None
