"""Each kind of column gets its own steps."""

import numpy as np
import pytest

from tinygrad_edu.ml.chain import Pipeline, clone
from tinygrad_edu.ml.columns import ColumnTransformer, number_columns, usual_columns, word_columns
from tinygrad_edu.ml.datasets import load
from tinygrad_edu.ml.encoding import OneHotEncoder
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.scaling import MinMaxScaler, StandardScaler
from tinygrad_edu.ml.table import Table
from tinygrad_edu.ml.text_features import CountVectorizer

TABLE = Table({"age": [1.0, 2.0, 3.0], "town": ["b", "a", "b"], "note": ["x yy", "yy", "zz"],
               "rank": [5, 6, 7]})


def test_groups_stand_side_by_side_in_their_order():
    chosen = ColumnTransformer([("words", OneHotEncoder(), ["town"]),
                                ("numbers", MinMaxScaler(), ["age"]),
                                ("text", CountVectorizer(), "note")])
    z = chosen.fit_transform(TABLE)
    assert z.tolist() == [[0, 1, 0, 1, 0], [1, 0, 0.5, 1, 0], [0, 1, 1, 0, 1]]
    assert chosen.transform(TABLE).tolist() == z.tolist()
    assert chosen.get_feature_names_out().tolist() == [
        "words__town_a", "words__town_b", "numbers__age", "text__yy", "text__zz"]


@pytest.mark.parametrize("columns", [[0, 2], slice(0, 3, 2), [True, False, True], [-3, -1],
                                     lambda X: [0, 2]])
def test_columns_of_an_array_are_named_in_many_ways(columns):
    X = np.arange(12.0).reshape(4, 3)
    z = ColumnTransformer([("some", "passthrough", columns)]).fit_transform(X)
    assert z.tolist() == X[:, [0, 2]].tolist()


def test_the_rest_is_dropped_or_kept():
    X = np.arange(12.0).reshape(4, 3)
    parts = [("a", StandardScaler(), [1])]
    assert ColumnTransformer(parts).fit_transform(X).shape == (4, 1)
    kept = ColumnTransformer(parts, remainder="passthrough").fit(X)
    assert kept.transform(X)[:, 1:].tolist() == X[:, [0, 2]].tolist()
    assert kept.get_feature_names_out().tolist() == ["a__x1", "remainder__x0", "remainder__x2"]
    with pytest.raises(ValueError, match="every column is dropped"):
        ColumnTransformer([("a", "drop", [0, 1, 2])]).fit(X)


def test_a_column_that_is_not_there_and_one_that_became_a_vector_are_told():
    with pytest.raises(ValueError, match="A given column is not a column .*'height'"):
        ColumnTransformer([("a", StandardScaler(), ["height"])]).fit(TABLE)
    with pytest.raises(ValueError, match="has its name in a list|Expected 2D array"):
        ColumnTransformer([("a", "passthrough", "age")]).fit_transform(TABLE)


def test_kinds_are_seen_in_tables_and_in_arrays_of_objects():
    assert number_columns(TABLE) == ["age", "rank"] and word_columns(TABLE) == ["town", "note"]
    assert number_columns(np.asarray(TABLE)) == [0, 3]


def test_the_usual_columns_take_a_table_with_holes_and_words_that_are_new():
    data = load("customers", 300)
    model = Pipeline([("columns", usual_columns()), ("model", LogisticRegression())])
    train, test = data.X.take(np.arange(200)), data.X.take(np.arange(200, 300))
    model.fit(train, data.y[:200])
    test["town"][:] = "a new town"
    assert model.score(test, data.y[200:]) > 0.6
    assert clone(model).get_params()["columns__numbers__fill__strategy"] == "median"
    with pytest.raises(ValueError, match="same order as they were in fit"):
        model.predict(test[["months", "age", "plan", "town"]])
