"""What is drawn says what the numbers say."""

import numpy as np
import pytest

from tinygrad_edu.ml import pictures
from tinygrad_edu.ml.datasets import make_blobs
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.tree import DecisionTreeClassifier, DecisionTreeRegressor
from tinygrad_edu.ml.tree_pictures import color_of, draw_tree, places_of

pytest.importorskip("matplotlib", reason="pip install -e '.[pictures]'")

X, Y = make_blobs(60)
NAMES = ["one", "two", "three"]


@pytest.fixture
def axes():
    from tinygrad_edu.files.plots import plots

    pyplot = plots()
    figure, panels = pyplot.subplots(1, 3)
    yield panels
    figure.canvas.draw()  # what cannot be drawn fails here
    pyplot.close(figure)


def test_a_region_has_the_colour_of_the_class_that_is_predicted_there(axes):
    model = LogisticRegression().fit(X, Y)
    pictures.regions(axes[0], model, X, Y, NAMES, steps=20)
    shade = axes[0].images[0].get_array()
    (x0, y0), (x1, y1) = pictures.frame(X)
    for point in X[:10]:
        i = round((point[1] - y0) / (y1 - y0) * 19)
        j = round((point[0] - x0) / (x1 - x0) * 19)
        corner = [[x0 + j / 19 * (x1 - x0), y0 + i / 19 * (y1 - y0)]]
        wanted = pictures.rgb(pictures.COLORS[model.predict(corner)[0]])
        np.testing.assert_allclose(shade[i, j, :3], wanted, atol=0.01)
    assert [text.get_label() for text in axes[0].collections] == NAMES


def test_the_numbers_of_a_confusion_matrix_stand_in_its_cells(axes):
    pictures.confusion(axes[0], np.array([[3, 0], [1, 12]]), ["no", "yes"])
    texts = {text.get_position(): text.get_text() for text in axes[0].texts}
    assert texts == {(0, 0): "3", (1, 0): "", (0, 1): "1", (1, 1): "12"}


def test_precision_and_recall_are_steps_that_enclose_the_average_precision(axes):
    y, proba = np.array([0, 1, 1, 0, 1]), np.array([0.2, 0.3, 0.7, 0.8, 0.9])
    pictures.operating_curves(axes, y, {"model": proba})
    path = axes[1].lines[0]
    assert path.get_drawstyle() == "steps-post"
    recall, precision = path.get_data()
    area = -np.sum(np.diff(recall) * precision[:-1])
    assert area == pytest.approx(1 / 3 * (1 + 2 / 3 + 3 / 4))


def test_a_curve_and_a_diagonal_are_drawn(axes):
    scores = np.array([[0.5, 0.7], [0.8, 0.9]])
    pictures.learning(axes[0], [10, 20], scores + 0.1, scores, "tree", "accuracy")
    assert axes[0].lines[1].get_ydata().tolist() == pytest.approx([0.6, 0.85])
    pictures.against_truth(axes[1], np.array([1.0, 2.0]), np.array([0.0, 3.0]), "line")
    assert axes[1].lines[0].get_xdata().tolist() == [0, 3]


def test_a_parent_stands_above_the_middle_of_its_children_and_no_two_leaves_at_one_place():
    nodes = DecisionTreeClassifier(random_state=0).fit(*make_blobs(80, spread=3)).tree_
    places = places_of(nodes, 3)
    leaves = [x for node, (x, _) in places.items() if nodes.left[node] not in places]
    assert sorted(leaves) == list(range(len(leaves)))
    for node, (x, level) in places.items():
        children = [places[int(c[node])] for c in (nodes.left, nodes.right) if c[node] in places]
        assert not children or x == np.mean([place for place, _ in children])
        assert all(below == level + 1 for _, below in children)


def test_a_drawn_tree_asks_answers_and_says_where_it_was_cut_off(axes):
    nodes = DecisionTreeClassifier(random_state=0).fit(*make_blobs(80, spread=3)).tree_
    draw_tree(axes[0], nodes, ["width", "height"], NAMES, depth=2)
    texts = [text.get_text() for text in axes[0].texts]
    assert sum("≤" in text for text in texts) == 3 and any(text.endswith("…") for text in texts)
    numbers = DecisionTreeRegressor(max_depth=1).fit(X, X[:, 0]).tree_
    assert draw_tree(axes[1], numbers, ["a", "b"], []) == (2, 2)
    assert color_of(np.array([1 / 3] * 3), NAMES) == (1, 1, 1) and color_of([2.0], []) == "#eef3fa"
