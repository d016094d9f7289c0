import math

import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.train.overfit import GOAL, checklist, lowest_loss, overfit


def batch(rows=4, length=12, seed=0):
    stream = np.random.default_rng(seed).permuted(np.tile(np.arange(20), (rows, 1)), axis=1)
    return stream[:, :length].copy(), stream[:, 1:length + 1].copy()


def gpt(dropout=0.0):
    return GPT(GPTConfig(20, 12, 2, 2, 32, dropout), np.random.default_rng(0))


def findings(model, pair, losses):
    return [check.text for check in checklist(model, pair, losses) if not check.fine]


def trained(model, pair, lr=1e-2, steps=3):
    return overfit(model, AdamW(model.named_parameters(), decay=0.1), pair, lr, steps)


def test_a_gpt_learns_a_batch_by_heart_and_nothing_is_found():
    model = gpt()
    losses = trained(model, batch(), steps=300)
    assert losses[0] == pytest.approx(math.log(20), rel=0.05)
    assert losses[-1] < GOAL <= min(losses[:-1])
    checks = checklist(model, batch(), losses)
    assert all(check.fine for check in checks)
    assert str(checks[0]) == f"ok    the loss is {losses[-1]:.4f} after {len(losses)} steps"
    assert model.training
    assert all(tensor.grad is None for tensor in model.parameters())


def test_the_bar_moves_once_a_step():
    class Bar:
        moved = 0

        def set_postfix_str(self, text, refresh):
            assert text.startswith("loss ")

        def update(self):
            self.moved += 1
    model, bar = gpt(), Bar()
    overfit(model, AdamW(model.named_parameters()), batch(), 1e-3, steps=5, bar=bar)
    assert bar.moved == 5


# ---- the lowest loss ----------------------------------------------------------------------------


def test_rows_that_begin_alike_and_go_on_differently_leave_a_loss():
    x, y = np.array([[5, 1], [5, 2], [5, 1], [7, 1]]), np.array([[1, 3], [2, 3], [1, 4], [1, 9]])
    # after 5: 1 twice, 2 once. After 5 1: 3 or 4. All others are certain.
    by_hand = 2 * math.log(3 / 2) + math.log(3) + 2 * math.log(2)
    assert lowest_loss(x, y) == pytest.approx(by_hand / 8)
    y[0, 1] = -1                                    # ignored: now 4 is certain, and K is 7
    assert lowest_loss(x, y) == pytest.approx((2 * math.log(3 / 2) + math.log(3)) / 7)


def test_the_same_token_after_different_beginnings_is_no_ambiguity():
    assert lowest_loss(np.array([[1, 5], [2, 5]]), np.array([[5, 8], [5, 9]])) == 0
    assert lowest_loss(np.zeros((1, 1), int), np.full((1, 1), -1)) == 0


def test_no_model_gets_below_the_lowest_loss_and_a_long_training_comes_near_it():
    x, y = np.array([[5, 1], [5, 2]]), np.array([[1, 3], [2, 3]])
    model = gpt()
    with pytest.raises(ValueError, match=r"no model gets below 0.3466 on this batch"):
        trained(model, (x, y))
    optimizer = AdamW(model.named_parameters(), decay=0.0)
    for _ in range(150):
        loss = model.loss(x, y)
        loss.backward()
        optimizer.step(3e-3)
    assert lowest_loss(x, y) == pytest.approx(math.log(2) / 2)
    assert math.log(2) / 2 <= loss.item() < math.log(2) / 2 + 0.01


def test_the_rate_grows_over_the_first_steps_and_then_stays(monkeypatch):
    rates = []

    def take_step(model, optimizer, batches, step, rate, clip, seed):
        rates.append(rate)
        return 1.0, 1.0
    monkeypatch.setattr("tinygrad_edu.train.overfit.take_step", take_step)
    overfit(None, None, batch(), 0.5, steps=30)
    assert rates == [0.5 * min(1, n / 20) for n in range(1, 31)]


# ---- the checklist finds what was planted -------------------------------------------------------


def test_dropout_that_is_on_is_named_and_in_evaluation_mode_is_not():
    model = gpt(dropout=0.3)
    losses = trained(model, batch())
    assert any("drops 30%" in text for text in findings(model, batch(), losses))
    assert not any("drops" in text for text in findings(model.eval(), batch(), losses))


def test_a_frozen_parameter_and_one_that_no_optimizer_holds_are_named():
    model = gpt()
    model.h[0].mlp.c_fc.bias.requires_grad = False
    held = [pair for pair in model.named_parameters() if pair[0] != "h.1.ln_1.bias"]
    losses = overfit(model, AdamW(held), batch(), 1e-3, steps=2)
    found = findings(model, batch(), losses)
    assert "frozen, without requires_grad: h.0.mlp.c_fc.bias" in found
    assert "not stepped by this optimizer: h.1.ln_1.bias" in found
    assert len(found) == 3                          # and that the goal was not reached


def test_a_parameter_that_no_gradient_reaches_is_named():
    model = gpt()
    model.spare = Tensor(np.ones(3, np.float32), requires_grad=True)
    model.wpe.weight.data[...] = 0
    forward = model.hidden
    model.hidden = lambda ids, cache=None, segments=None: forward(ids).detach()
    found = findings(model, batch(), [1.0, 0.5])
    assert any(text.startswith("reached by no gradient: spare, wpe.weight, h.0.ln_1.weight and ")
               for text in found)


def test_targets_in_the_wrong_place_are_told_apart():
    x, y = batch()
    for wrong, sentence in ((x, "the targets are the inputs"), (np.full_like(y, -1), "all are -1"),
                            (np.roll(y, 1, axis=0), "of the targets are the input one place")):
        assert any(sentence in text for text in findings(gpt(), (x, wrong), [1.0, 0.5]))
    y[0, 3] = -1                                    # does not count, so it is not wrong either
    assert len(findings(gpt(), (x, y), [1.0, 0.5])) == 1


def test_a_text_of_one_letter_has_its_targets_in_the_right_place():
    x = np.ones((2, 6), int)
    assert not any("targets" in text for text in findings(gpt(), (x, x), [1.0, 0.0]))


def test_a_mask_that_leaks_is_noticed_though_the_loss_is_low():
    model = gpt()
    honest = model.hidden

    def leaking(ids, cache=None, segments=None):
        x = honest(ids)
        return x + x.mean(axis=1, keepdims=True)
    model.hidden = leaking
    found, = findings(model, batch(), [1.0, 0.0])
    assert found == "a position sees the token after it: the mask is missing or wrong"


def test_a_context_that_is_not_used_is_noticed():
    model = gpt()
    def blind(ids, cache=None, segments=None):
        return model.wte(ids, positions=model.wpe.weight[:ids.shape[1]])
    model.hidden = blind
    assert ("the last position does not see the first: the context is not used"
            in findings(model, batch(), [1.0, 0.0]))


@pytest.mark.parametrize(("losses", "sentence"), [
    ([3.0, 2.0, 4.0], "too large"), (list(np.geomspace(3, 0.1, 100)), "still falls"),
    ([3.0] + [1.0] * 50, "is stuck there"), ([3.0], "too large")])
def test_the_course_of_the_loss_is_read(losses, sentence):
    assert sentence in findings(gpt(), batch(), losses)[0]
