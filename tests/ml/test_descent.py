"""Steps that can be computed by hand, surfaces whose slopes are those of differences."""

from collections import defaultdict

import numpy as np
import pytest

from tinygrad_edu.ml import descent as lesson
from tinygrad_edu.ml.descent import RATES, RULES, SURFACES, batches, fit_line, line_data, walk
from tinygrad_edu.nn.optimizers import make_optimizer
from tinygrad_edu.tensor import Tensor


@pytest.mark.parametrize("name", SURFACES)
def test_slopes_are_those_of_differences(name):
    surface, start, _ = SURFACES[name]
    for at in (np.array(start), np.array([0.3, -0.7])):
        for i, step in enumerate(np.eye(2) * 1e-6):
            difference = (surface(at + step)[0] - surface(at - step)[0]) / 2e-6
            assert np.isclose(surface(at)[1][i], difference, rtol=1e-7, atol=1e-8)


def first_steps(rule, slopes, rate=0.1):
    memory = defaultdict(float)
    return [float(rule(memory, np.array(g), rate)) for g in slopes]


def test_first_steps_are_those_of_the_equations():
    assert np.allclose(first_steps(lesson.plain, [2.0, 3.0]), [-0.2, -0.3])
    assert np.allclose(first_steps(lesson.momentum, [2.0, 3.0]), [-0.2, -0.48])
    assert np.allclose(first_steps(lesson.nesterov, [2.0, 3.0]), [-0.38, -0.732])
    assert np.allclose(first_steps(lesson.adagrad, [3.0, 4.0]), [-0.1, -0.08])
    assert np.allclose(first_steps(lesson.rmsprop, [3.0]), [-0.1 / np.sqrt(0.05)])
    assert np.allclose(first_steps(lesson.adam, [3.0, 3.0]), [-0.1, -0.1])


def test_nesterov_is_momentum_with_the_slope_of_where_it_will_be():
    ahead, v, x = [], 0.0, np.array([-1.8, 1.0])
    for _ in range(10):                            # x here is the point without the look ahead
        v = 0.9 * v + lesson.bowl(x - 0.02 * 0.9 * v)[1]
        x = x - 0.02 * v
        ahead.append(x - 0.02 * 0.9 * v)
    path = walk(lesson.nesterov, lesson.bowl, (-1.8, 1.0), 0.02, 10)
    assert np.allclose(path[1:], ahead, atol=1e-13)


def test_on_a_constant_slope_momentum_becomes_ten_times_as_fast():
    assert np.isclose(first_steps(lesson.momentum, [1.0] * 200)[-1], -1.0)


def test_plain_descent_shrinks_each_direction_by_its_curvature_and_jumps_out_if_too_fast():
    path = walk(lesson.plain, lesson.bowl, (1.0, 1.0), 0.1, 5)
    assert np.allclose(path[-1], [0.9**5, (1 - 1.2) ** 5])
    fast = walk(lesson.plain, lesson.bowl, (1.0, 1.0), 2.1 / 12, 400)
    assert len(fast) < 401 and np.abs(fast[-1]).max() > 1e5


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
def test_a_rule_takes_the_steps_of_the_librarys_optimizer(name):
    w = Tensor(np.array([[1.0, -2.0]]), requires_grad=True)
    optimizer = make_optimizer(name, [("w", w)], decay=0.0)
    memory, x = defaultdict(float), w.data[0].copy()
    for _ in range(4):
        (w * w * w).sum().backward()
        optimizer.step(0.01)
        x = x + RULES[name](memory, 3 * x * x, 0.01)
        assert np.allclose(w.data[0], x, rtol=1e-6)


@pytest.mark.parametrize("name", SURFACES)
def test_every_rule_goes_down_on_every_surface(name):
    surface, start, _ = SURFACES[name]
    for rule, rate in zip(RULES, RATES[name], strict=True):
        path = walk(RULES[rule], surface, start, rate, 60)
        assert len(path) == 61
        assert surface(path[-1])[0] < 0.8 * surface(path[0])[0], rule


def test_every_row_is_in_one_batch_of_an_epoch():
    pieces = batches(10, 4, np.random.default_rng(0))
    assert [len(p) for p in pieces] == [4, 4, 2]
    assert sorted(np.concatenate(pieces)) == list(range(10))


def test_all_rows_arrive_and_few_rows_dance_around_in_a_circle_that_grows_with_the_rate():
    X, y = line_data()
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    assert np.abs(fit_line(X, y, 200, 300, 0.5)[-1] - best).max() < 1e-12
    def circle(size, rate):
        return np.abs(fit_line(X, y, size, 40, rate)[-500:] - best).mean()
    assert circle(1, 0.2) > 1.5 * circle(1, 0.05) > 1.5**2 * circle(8, 0.05) > 0


def test_the_slope_of_a_batch_is_right_on_average():
    X, y = line_data(N=8)
    steps = [fit_line(X, y, 2, 1, 1.0, seed=seed)[1] for seed in range(3000)]
    assert np.allclose(np.mean(steps, axis=0), fit_line(X, y, 8, 1, 1.0)[1], atol=0.05)


def test_the_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    lesson.draw_walks(tmp_path / "a.png", 3)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_without_matplotlib_one_sentence_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match="pip install"):
        lesson.draw_walks(tmp_path / "a.png")
