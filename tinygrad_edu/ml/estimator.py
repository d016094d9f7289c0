"""Lesson 4.61 · Estimator: settings in, fit, answers out

Needs inputs. Used by tests/ml/test_estimator.py.

Idea      Everything that learns from a table has the same three moments: it is set up, it is
          fitted, it is asked. If all keep the same manners in each, one program can cross-validate,
          search and chain any of them. Setting up only stores the arguments under their own names,
          so that a copy that has not seen data can always be made. Fitting writes what it learned
          into names with a trailing underscore, so that one sees what came from the data. Asking
          changes nothing. These are scikit-learn's manners; whoever keeps them drops into its
          pipelines, without inheriting anything from it.
Math      accuracy = Σᵢ wᵢ·[yᵢ = ŷᵢ] / Σᵢ wᵢ                                                   (1)
          R² = 1 − Σᵢ wᵢ·(yᵢ − ŷᵢ)² / Σᵢ wᵢ·(yᵢ − ȳ)²                                          (2)
          w the weights of the rows, ŷ the answers, ȳ = Σᵢ wᵢ·yᵢ / Σᵢ wᵢ, [true] = 1, [false] = 0
Shapes    X (N, C) · y (N,) · predict (N,) · predict_proba (N, K), columns in the order of classes_
Pitfalls  An __init__ that checks or converts breaks the copy: get_params would no longer give back
          what was passed. Checks belong into fit.
          A mutable default argument is shared by all copies.
          R² of a constant target divides by zero: by convention 1 if it is met, 0 otherwise.
          A data frame with its columns in another order has the right shape and wrong answers;
          so the names are kept, and compared.
Cost      Nothing beside the checks of lesson inputs.
Try       build it    a Regressor whose predict is the median of y, in ten lines. Does
                      sklearn.utils.estimator_checks.check_estimator pass?
          break it    let fit write self.alpha = float(self.alpha). Which check speaks?
          measure it  how long is predict on one row, how much of it are the checks?
See       Buitinck et al. 2013 "API design for machine learning software" · scikit-learn developer
          guide
"""

import inspect
import math
from numbers import Integral, Real

import numpy as np

from .inputs import (
    NotFittedError,
    check_array,
    check_column,
    check_target,
    check_weights,
    column_names,
    encode_classes,
    theirs,
)


class Estimator:
    """What all of them share. A subclass has an __init__ that stores its arguments, and fit.

    kind: "classifier", "regressor", "clusterer", "density_estimator" or None.
    tags: what scikit-learn should know beside that, by dotted name: {"input_tags.allow_nan": True}.
    """

    kind = None
    tags = {}

    @classmethod
    def _defaults(cls):
        """name -> default of every argument of __init__."""
        return {p.name: p.default for p in inspect.signature(cls).parameters.values()}

    def get_params(self, deep=True):
        """The settings as a dict; with `deep` also those of estimators inside, as outer__inner."""
        found = {name: getattr(self, name) for name in self._defaults()}
        if deep:
            for name, value in list(found.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    inner = value.get_params()
                    found.update((f"{name}__{key}", inner[key]) for key in inner)
        return found

    def set_params(self, **settings):
        """Change settings, outer__inner reaches inside. Raises ValueError for an unknown name."""
        nested = {}
        for name, value in settings.items():
            outer, dots, inner = name.partition("__")
            if outer not in self.get_params(deep=False):
                raise ValueError(f"Invalid parameter {outer!r} for estimator {self}. Valid "
                                 f"parameters are: {sorted(self.get_params(deep=False))}")
            if dots:
                nested.setdefault(outer, {})[inner] = value
            else:
                setattr(self, name, value)
        for outer, inner in nested.items():
            getattr(self, outer).set_params(**inner)
        return self

    def __repr__(self):
        """The call that made it, without what is at its default."""
        defaults, values = self._defaults(), self.get_params(deep=False)
        told = [f"{n}={v!r}" for n, v in values.items() if repr(v) != repr(defaults[n])]
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_tags__(self):
        """What scikit-learn asks everyone; only it calls this, so it is there to be imported."""
        from sklearn import utils

        tags = utils.Tags(self.kind, utils.TargetTags(required=False), input_tags=utils.InputTags())
        if self.kind == "classifier":
            tags.classifier_tags = utils.ClassifierTags()
        if self.kind == "regressor":
            tags.regressor_tags = utils.RegressorTags()
        tags.target_tags.required = self.kind in ("classifier", "regressor")
        if hasattr(self, "transform"):
            tags.transformer_tags = utils.TransformerTags()
        for dotted, value in self.tags.items():
            *group, name = dotted.split(".")
            setattr(getattr(tags, group[0]) if group else tags, name, value)
        return tags

    # ---- settings, checked by fit ---------------------------------------------------------------

    def number(self, name, low=-math.inf, high=math.inf, open_low=False, whole=False):
        """The setting `name` if it is a number in [low, high], or (low, high]; else ValueError."""
        value = getattr(self, name)
        right = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not right or not low <= value <= high or open_low and value == low:
            kind = "an int" if whole else "a float"
            span = f"{'(' if open_low else '['}{low}, {high}{']' if high < math.inf else ')'}"
            raise ValueError(f"The {name!r} parameter of {type(self).__name__} must be {kind} in "
                             f"the range {span}. Got {value!r} instead.")
        return value

    def choice(self, name, *allowed):
        """The setting `name` if it is one of `allowed`; else ValueError."""
        value = getattr(self, name)
        if not any(value is a or type(value) is type(a) and value == a for a in allowed):
            raise ValueError(f"The {name!r} parameter of {type(self).__name__} must be one of "
                             f"{', '.join(map(repr, allowed))}. Got {value!r} instead.")
        return value

    # ---- data -----------------------------------------------------------------------------------

    def check_X(self, X, fitting=False, **options):
        """X as lesson inputs wants it. When fitting, its width and names are kept; else compared.

        options: those of check_array. Raises NotFittedError where fit has not been called.
        """
        if not fitting:
            self.check_fitted()
        names = column_names(X)
        if not fitting:
            self._compare_names(names)
        table = check_array(X, by=type(self).__name__, **options)
        if fitting:
            self.n_features_in_ = table.shape[1]
            vars(self).pop("feature_names_in_", None)
            if names is not None:
                self.feature_names_in_ = names
        elif table.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {table.shape[1]} features, but {type(self).__name__} is "
                             f"expecting {self.n_features_in_} features as input")
        return table

    def _compare_names(self, names):
        """Raise ValueError where a data frame has other columns than the one it was fitted on."""
        known = getattr(self, "feature_names_in_", None)
        if known is None or names is None or list(known) == list(names):
            return
        text = "The feature names should match those that were passed during fit.\n"
        unseen, missing = sorted({*names} - {*known}), sorted({*known} - {*names})
        for label, group in [("Feature names unseen at fit time", unseen),
                             ("Feature names seen at fit time, yet now missing", missing)]:
            if group:
                text += f"{label}:\n" + "".join(f"- {name}\n" for name in group)
        if not unseen and not missing:
            text += "Feature names must be in the same order as they were in fit.\n"
        raise ValueError(text)

    def check_fitted(self):
        """Raise NotFittedError before fit: there is no attribute with a trailing underscore."""
        if not any(name.endswith("_") and name[0] != "_" for name in vars(self)):
            name = type(self).__name__
            raise theirs(NotFittedError)(f"This {name} instance is not fitted yet: call fit with "
                                         "data before you ask it for an answer")

    def check_fit(self, X, y=None, sample_weight=None, **options):
        """(X, y, w) for fit: codes of classes_ for a classifier, numbers for a regressor."""
        if self.kind and y is None and self.kind in ("classifier", "regressor"):
            check_column(y, 0, type(self).__name__)
        X = self.check_X(X, fitting=True, **options)
        if self.kind == "regressor":
            y = check_target(y, len(X), type(self).__name__)
        elif self.kind == "classifier":
            column = check_column(y, len(X), type(self).__name__)
            self.classes_, y = encode_classes(column)
        return X, y, check_weights(sample_weight, len(X))

    def refuse_one_class(self, w, y):
        """Raise ValueError unless two classes or more have rows that weigh something."""
        if (np.bincount(y, w) > 0).sum() < 2:
            raise ValueError(f"{type(self).__name__} needs samples of at least 2 classes in the "
                             f"data, but the data contains only one class: {self.classes_[y[0]]!r}")


class Classifier(Estimator):
    """Has predict_proba or a predict of its own; its score is the share of right answers."""

    kind = "classifier"

    def predict(self, X):
        """(N,) the most probable class of each row, of equal ones the first."""
        shares = self.predict_proba(X)
        return self.classes_[np.argmax(shares, axis=1)]

    def score(self, X, y, sample_weight=None):
        """Accuracy, (1)."""
        guess = self.predict(X)
        y = check_column(y, len(guess))
        return float(np.average(y == guess, weights=sample_weight))                           # (1)


class Regressor(Estimator):
    """Has predict; its score is the share of the variance that it explains."""

    kind = "regressor"

    def score(self, X, y, sample_weight=None):
        """R², (2); 1 or 0 where y is constant."""
        guess = self.predict(X)
        y, w = check_target(y, len(guess)), check_weights(sample_weight, len(guess))
        left = np.sum(w * (y - guess) ** 2)
        whole = np.sum(w * (y - np.average(y, weights=w)) ** 2)
        return float(1 - left / whole) if whole else float(left == 0)                         # (2)


class Transformer(Estimator):
    """Has transform: a table in, another table out."""

    def fit_transform(self, X, y=None, **options):
        """fit, then transform the same table."""
        return self.fit(X, y, **options).transform(X)


class Clusterer(Estimator):
    """Has labels_ after fit: the number of a group for each row."""

    kind = "clusterer"

    def fit_predict(self, X, y=None, **options):
        """fit, then the labels of the same rows."""
        return self.fit(X, **options).labels_
