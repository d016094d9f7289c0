"""Scores that a reader can verify by hand, limits, and refused inputs. Others: tests/cross."""

import numpy as np
import pytest

from tinygrad_edu.ml import scores

Y = ["ill", "ill", "ill", "well", "well", "well", "well", "well"]
GUESS = ["ill", "ill", "well", "ill", "well", "well", "well", "well"]


def test_every_score_of_one_table_by_hand():
    assert scores.confusion_matrix(Y, GUESS).tolist() == [[2, 1], [1, 4]]
    assert scores.accuracy_score(Y, GUESS) == 6 / 8
    assert scores.balanced_accuracy_score(Y, GUESS) == pytest.approx((2 / 3 + 4 / 5) / 2)
    precision, recall, f1 = scores.precision_recall_f1(Y, GUESS)
    assert precision.tolist() == recall.tolist() == pytest.approx([2 / 3, 4 / 5])
    assert scores.f1_score(Y, GUESS, pos_label="ill") == pytest.approx(2 / 3)
    assert scores.f1_score(Y, GUESS, average="micro") == 6 / 8


def test_precision_divides_by_what_was_called_and_recall_by_what_is():
    y, guess = [1, 0, 0, 0], [1, 1, 1, 0]
    assert scores.precision_score(y, guess) == pytest.approx(1 / 3)
    assert scores.recall_score(y, guess) == 1
    assert scores.confusion_matrix(y, guess, normalize="true").tolist() == [
        pytest.approx([1 / 3, 2 / 3]), [0, 1]]


def test_a_class_that_nobody_was_called_has_the_precision_that_one_wants():
    assert scores.precision_score([1, 0], [0, 0]) == 0
    assert scores.precision_score([1, 0], [0, 0], zero_division=1.0) == 1


def test_a_row_of_weight_three_is_a_row_three_times():
    weights, times = [3, 1, 0, 2, 1, 1, 1, 1], [0, 0, 0, 1, 3, 3, 4, 5, 6, 7]
    again = [Y[i] for i in times], [GUESS[i] for i in times]
    for score in (scores.accuracy_score, scores.balanced_accuracy_score):
        assert score(Y, GUESS, weights) == pytest.approx(score(*again))
    assert (scores.confusion_matrix(Y, GUESS, sample_weight=weights)
            == scores.confusion_matrix(*again)).all()


def test_surprise_and_distance_of_probabilities():
    assert scores.log_loss([0, 1], [0.5, 0.5]) == pytest.approx(np.log(2))
    assert scores.log_loss([0, 1], [0.0, 0.0]) == pytest.approx(-np.log(2.0**-52) / 2)
    assert scores.brier_score_loss([0, 1], [0.25, 0.5]) == pytest.approx((1 / 16 + 1 / 4) / 2)
    proba = [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]
    assert scores.brier_score_loss([0, 1, 2], proba) == pytest.approx(0.5 / 3)


def test_the_mean_explains_nothing_and_a_constant_is_met_or_not():
    assert scores.r2_score([1, 2, 6], [3, 3, 3]) == 0
    assert scores.r2_score([1, 2, 6], [1, 2, 6]) == 1
    assert scores.r2_score([2, 2], [2, 2]) == 1 and scores.r2_score([2, 2], [2, 3]) == 0
    assert scores.mean_absolute_error([0, 4], [1, 1]) == 2
    assert scores.mean_squared_error([0, 4], [1, 1]) == 5


@pytest.mark.parametrize(("call", "said"), [
    (lambda: scores.accuracy_score([1, 2], [1]), "inconsistent numbers of samples"),
    (lambda: scores.accuracy_score([], []), "nothing can be scored"),
    (lambda: scores.accuracy_score([[1, 2]], [1]), "should be a 1d array"),
    (lambda: scores.confusion_matrix(np.array([1], object), ["a"]), "cannot be sorted"),
    (lambda: scores.f1_score([0, 1, 2], [0, 1, 2]), "Target is multiclass but average='binary'"),
    (lambda: scores.f1_score(Y, GUESS), "pos_label=1 is not a valid label"),
    (lambda: scores.f1_score(Y, GUESS, average="mean"), "average takes"),
    (lambda: scores.log_loss([0, 0], [0.1, 0.2]), "pass labels="),
    (lambda: scores.log_loss([0, 1], [0.1, 1.2]), "no probabilities"),
    (lambda: scores.log_loss([0, 1], [0.1, np.nan]), "no probabilities")])
def test_what_cannot_be_scored_is_told_in_one_sentence(call, said):
    with pytest.raises(ValueError, match=said):
        call()
