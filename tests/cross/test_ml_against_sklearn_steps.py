"""scikit-learn examines transformers, pipelines and searches, and uses them in its own."""

import warnings

import numpy as np
import pytest

from tinygrad_edu.ml.chain import Pipeline
from tinygrad_edu.ml.columns import ColumnTransformer, usual_columns
from tinygrad_edu.ml.datasets import load
from tinygrad_edu.ml.encoding import OneHotEncoder, OrdinalEncoder, TargetEncoder
from tinygrad_edu.ml.features import KBinsDiscretizer, PolynomialFeatures, SimpleImputer
from tinygrad_edu.ml.halving import HalvingGridSearchCV
from tinygrad_edu.ml.leaks import SelectBest
from tinygrad_edu.ml.linear import Ridge
from tinygrad_edu.ml.logistic import LogisticRegression
from tinygrad_edu.ml.scaling import MinMaxScaler, RobustScaler, StandardScaler
from tinygrad_edu.ml.search import GridSearchCV, RandomizedSearchCV
from tinygrad_edu.ml.text_features import CountVectorizer, TfidfTransformer

pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")

from sklearn import base, ensemble, feature_extraction, model_selection, pipeline
from sklearn.utils.estimator_checks import check_estimator

CV = {"cv": 2}
MODEL = [("scale", StandardScaler()), ("model", LogisticRegression())]
QUICK = [
    StandardScaler(), MinMaxScaler(), RobustScaler(), SimpleImputer(), KBinsDiscretizer(),
    PolynomialFeatures(), OneHotEncoder(handle_unknown="ignore"),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    TargetEncoder(random_state=0), TfidfTransformer(), SelectBest(2), Pipeline(MODEL),
    Pipeline([("scale", StandardScaler()), ("more", MinMaxScaler())]),
    ColumnTransformer([("first", StandardScaler(), slice(0, 1))], remainder="passthrough"),
]
SLOW = [
    Pipeline([("scale", StandardScaler()), ("model", Ridge())]),
    GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, **CV),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, **CV),
    RandomizedSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, 2, random_state=0, **CV),
    HalvingGridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, random_state=0, **CV),
]


@pytest.mark.parametrize("estimator", [*QUICK, *(pytest.param(e, marks=pytest.mark.long)
                                                 for e in SLOW)], ids=repr)
def test_scikit_learns_examination_is_passed_without_an_exception(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(estimator)


def test_our_steps_work_in_their_pipeline_and_theirs_in_ours():
    data = load("customers")
    X, y = usual_columns().fit_transform(data.X), data.y
    mixed = pipeline.make_pipeline(StandardScaler(), LogisticRegression())
    ours = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression())])
    np.testing.assert_allclose(model_selection.cross_val_score(mixed, X, y),
                               model_selection.cross_val_score(ours, X, y))
    theirs = Pipeline([("scale", StandardScaler()),
                       ("model", ensemble.ExtraTreesClassifier(10, random_state=0))])
    assert base.is_classifier(theirs) and theirs.fit(X, y).score(X, y) > 0.95
    found = [kind(ours, {"model__C": [0.1, 1.0]}).fit(X, y).best_params_
             for kind in (GridSearchCV, model_selection.GridSearchCV)]
    assert found[0] == found[1]


def test_counts_of_words_are_theirs():
    documents = [__doc__, *(str(e) for e in (*QUICK, *SLOW)), "", "a b"]
    for settings in [{}, {"ngram_range": (1, 2), "min_df": 2}, {"max_df": 0.5},
                     {"analyzer": "char", "ngram_range": (2, 3)},
                     {"analyzer": "char_wb", "ngram_range": (2, 4), "min_df": 3},
                     {"binary": True, "stop_words": ["the", "of"], "lowercase": False}]:
        ours = CountVectorizer(**settings)
        peer = feature_extraction.text.CountVectorizer(**settings)
        counts, theirs = ours.fit_transform(documents), peer.fit_transform(documents).toarray()
        assert [*ours.get_feature_names_out()] == [*peer.get_feature_names_out()]
        np.testing.assert_array_equal(counts, theirs)
        for weighing in [{}, {"norm": "l1", "sublinear_tf": True}, {"use_idf": False},
                         {"norm": None, "smooth_idf": False}]:
            np.testing.assert_allclose(
                TfidfTransformer(**weighing).fit_transform(counts),
                feature_extraction.text.TfidfTransformer(**weighing).fit_transform(
                    theirs).toarray(), rtol=0, atol=1e-12)


def test_a_data_frame_with_words_and_holes_goes_through():
    pandas = pytest.importorskip("pandas", reason="pip install pandas")
    data = load("customers")
    frame = pandas.DataFrame({name: data.X[name] for name in data.X.columns})
    model = Pipeline([("columns", usual_columns()), ("model", LogisticRegression())])
    by_frame = model_selection.cross_val_score(model, frame, data.y)
    by_table = [model.fit(data.X.take(train), data.y[train]).score(data.X.take(test), data.y[test])
                for train, test in model_selection.StratifiedKFold(5).split(data.y, data.y)]
    np.testing.assert_allclose(by_frame, by_table)
