"""Lesson 4.90 · Pipeline: everything that learns, learns from the same rows

Needs estimator. Used by columns, validate, leaks, scripts/classical.py.

Idea      Filling holes, scaling, encoding: each of these learns something from the rows it is
          fitted on. Done by hand before the split, it learns from the rows that are to judge. So
          the steps and the model are chained into one estimator, with one fit: whoever splits,
          searches or cross-validates gives it the training rows alone, and no step can have seen
          another one.
Math      fit: z₀ = X, zₖ = fit_transformₖ(zₖ₋₁, y), then fit the last step on z                (1)
          ask: z₀ = X, zₖ = transformₖ(zₖ₋₁), then ask the last step about z                    (2)
Shapes    X (N, C), an array or a table · z (N, anything) · settings by path: model__max_depth
Pitfalls  (1) calls fit_transform, not fit and transform: for the target encoder that is the
          difference between cross-fitted and leaking.
          A pipeline cannot know what was done to the table before it: duplicate rows and the order
          of time are the business of the split.
Cost      One pass over the data per step; nothing is cached between two fits.
Try       build it    a step that looks at its rows and remembers them: in a cross-validation, which
                      has it never seen?
          break it    let (2) call fit_transform. Which test notices?
          measure it  scripts/classical.py leaks: what does each mistake fake?
See       Buitinck et al. 2013 · Kaufman, Rosset, Perlich 2012 "Leakage in data mining"
"""

import copy

from .estimator import Estimator

PASS = "passthrough"  # a step that leaves everything as it is


def clone(estimator):
    """A new estimator with the same settings, which has seen no data; also of a list of them.

    What is no estimator, such as a step "passthrough" or an array, is copied.
    """
    if isinstance(estimator, list | tuple):
        return type(estimator)(clone(each) for each in estimator)
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        return copy.deepcopy(estimator)
    settings = estimator.get_params(deep=False)
    return type(estimator)(**{name: clone(value) for name, value in settings.items()})


def kind_of(estimator):
    """"classifier", "regressor" and so on, or None; also of one of scikit-learn's."""
    if hasattr(estimator, "kind"):
        return estimator.kind
    tags = getattr(estimator, "__sklearn_tags__", None)
    return tags().estimator_type if tags else None


class Composed(Estimator):
    """Holds named estimators in a list; `parts` is the setting that holds it."""

    parts = None

    def named(self):
        """{name: estimator} of the list; ValueError for names that cannot be used in a path."""
        names = [part[0] for part in getattr(self, self.parts)]
        for name in names:
            if names.count(name) > 1 or "__" in name or name in self._defaults():
                raise ValueError(f"Names provided are not unique, or clash with a setting, or have "
                                 f"__ in them: {names}")
        return {part[0]: part[1] for part in getattr(self, self.parts)}

    def get_params(self, deep=True):
        """The settings; with `deep` also the estimators by name, and theirs as name__setting."""
        found = super().get_params(deep=False)
        for name, part in self.named().items() if deep else ():
            found[name] = part
            inner = part.get_params() if hasattr(part, "get_params") else {}
            found.update((f"{name}__{key}", value) for key, value in inner.items())
        return found

    def set_params(self, **settings):
        """Change settings, replace estimators by name, or reach inside with name__setting."""
        # The list itself comes first: the other names may mean estimators in the new one.
        own = {name: settings.pop(name) for name in list(settings) if name in self._defaults()}
        super().set_params(**own)
        for name in sorted(settings, key=len):  # an estimator before what is inside it
            outer, _, inner = name.partition("__")
            named = self.named()
            if outer not in named:
                raise ValueError(f"Invalid parameter {outer!r} for estimator {self}. Valid "
                                 f"parameters are: {sorted([*self._defaults(), *named])}")
            if inner:
                named[outer].set_params(**{inner: settings[name]})
            else:
                replaced = [(n, settings[name], *rest) if n == outer else (n, part, *rest)
                            for n, part, *rest in getattr(self, self.parts)]
                setattr(self, self.parts, replaced)
        return self


def passed_on(name):
    """A method that is there where the estimator inside has it: the question, asked as in (2).

    The class says which one that is: _last as it was given, _fitted after fit.
    """

    def get(self):
        # hasattr(pipeline, "predict_proba") asks this: AttributeError where there is none.
        getattr(self._last, name)

        def ask(X, **options):
            z = self._before_last(X)
            return getattr(self._fitted, name)(z, **options)

        def ask_with_y(X, y=None, **options):
            z = self._before_last(X)
            return getattr(self._fitted, name)(z, y, **options)

        return ask_with_y if name == "score" else ask

    return property(get, doc=f"{name} of the estimator inside.")


class Pipeline(Composed):
    """Steps (name, transformer), the last of them (name, estimator), fitted together.

    A step before the last may be "passthrough". Copies are fitted, and found in steps_ or by name:
    pipeline["scale"].
    """

    parts = "steps"

    def __init__(self, steps):
        self.steps = steps

    @property
    def kind(self):
        """What the last step is."""
        return kind_of(self._last)

    @property
    def _last(self):
        return self.steps[-1][1]

    @property
    def _fitted(self):
        return self[-1]

    def __sklearn_tags__(self):
        from sklearn.utils import get_tags

        # What may come in is said by the first step, what comes out by the last one.
        inner = [get_tags(step) for _, step in self.steps if step != PASS]
        tags = copy.deepcopy(inner[-1])
        tags.input_tags = copy.deepcopy(inner[0].input_tags)
        tags.input_tags.allow_nan = all(each.input_tags.allow_nan for each in inner)
        tags.target_tags.required = any(each.target_tags.required for each in inner)
        return tags

    def fit(self, X, y=None, **options):
        """Fit all steps, (1). options: of the last step's fit, as name__option."""
        name, last = self.steps[-1]
        if any(not key.startswith(f"{name}__") for key in options):
            raise ValueError(f"Pipeline.fit takes options of its last step, as {name}__option; "
                             f"got {sorted(options)}")
        own = {key.removeprefix(f"{name}__"): value for key, value in options.items()}
        done, X = self._fit_before_last(X, y)
        self.steps_ = [*done, (name, clone(last).fit(X, y, **own))]
        return self

    def _fit_before_last(self, X, y):
        """(fitted copies of all steps but the last, what that one is to learn from), (1)."""
        self.named()
        done = []
        for name, step in self.steps[:-1]:
            if step != PASS:
                if not hasattr(step, "transform"):
                    raise TypeError(f"All intermediate steps should be transformers: {name} has no "
                                    "transform")
                copied = clone(step)
                X = copied.fit_transform(X, y)                                                # (1)
                done.append((name, copied))
        return done, X

    @property
    def fit_transform(self):
        """fit, and the transformed table of the same rows, by each step's own fit_transform."""
        name, last = self.steps[-1]
        last = clone(last)
        transform = last.fit_transform  # AttributeError where the last step has none

        def ask(X, y=None):
            done, X = self._fit_before_last(X, y)
            self.steps_ = [*done, (name, last)]
            return transform(X, y)

        return ask

    def _before_last(self, X):
        self.check_fitted()
        for _, step in self.steps_[:-1]:
            X = step.transform(X)                                                             # (2)
        return X

    predict, predict_proba = passed_on("predict"), passed_on("predict_proba")
    decision_function, score = passed_on("decision_function"), passed_on("score")
    transform = passed_on("transform")

    @property
    def classes_(self):
        """Of the last step."""
        return self[-1].classes_

    @property
    def n_features_in_(self):
        """Of the first step."""
        return self[0].n_features_in_

    @property
    def feature_names_in_(self):
        """Of the first step."""
        return self[0].feature_names_in_

    def __getitem__(self, name):
        """A fitted step by its name, or by its place."""
        if "steps_" not in vars(self):
            raise AttributeError("this Pipeline is not fitted yet: its steps_ are made by fit")
        return dict(self.steps_)[name] if isinstance(name, str) else self.steps_[name][1]

    def get_feature_names_out(self, input_features=None):
        """The names of the columns that the last step gets or, if it is a transformer, makes."""
        self.check_fitted()
        names = input_features
        for _, step in self.steps_:
            if hasattr(step, "get_feature_names_out"):
                names = step.get_feature_names_out(names)
        return names
