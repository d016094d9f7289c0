"""Lesson 4.67 · Naive Bayes: count, and turn the question round

Needs inputs, estimator. Used by tests/ml/test_bayes.py.

Idea      How probable are these features in each class? That is easy to learn: sort the rows by
          class and look. Bayes' rule turns it into what one wants to know, how probable each class
          is given the features. The naive part: within a class, features are taken as independent,
          so that each is looked at alone, and a table with a million columns needs no more than
          sums. The probabilities are mostly far too sure, since dependent features count twice;
          which class is the largest comes out right surprisingly often. Sums can be continued: a
          table may come in pieces, none of which has to be kept.
Math      log p(k|x) = log πₖ + Σ_c log p(x_c|k) − log Σⱼ πⱼ·p(x|j), πₖ the share of class k    (1)
          Gaussian: log p(x_c|k) = −½·log 2πσ² − (x_c − μ)²/2σ², μ and σ² of feature c in class k,
          σ² enlarged by ε·(the largest variance of a feature)                                  (2)
          two pieces of n and m rows, δ = μ′ − μ:  μ ← μ + δ·m/(n + m),
          n·σ² ← n·σ² + m·σ′² + δ²·nm/(n + m)                                                   (3)
          multinomial: x counts things, Σ_c x_c·log θₖ_c, θₖ_c = (N_kc + α)/(Nₖ + α·C), N_kc the
          sum of feature c in the rows of class k, Nₖ that of all C features                    (4)
Shapes    X (N, C) · theta_, var_, feature_log_prob_ (K, C) · class_count_ (K,) · answers (N, K)
Pitfalls  A feature that is constant in one class has σ² = 0 and would decide alone: ε is added.
          A word that a class has never seen would forbid the class for ever: hence α > 0.
          mean(x²) − mean(x)² cancels; (3) never takes the difference of large numbers.
          Products of a thousand probabilities are zero; sums of logarithms are not.
Cost      One pass to learn, N·C·K to answer. Nothing is searched for: there are no steps.
Try       build it    Bernoulli features: present or absent, and absence counts too.
          break it    leave δ² out of (3). Which test of tests/ml/test_bayes.py notices?
          measure it  log loss of GaussianNB on a table with one column copied ten times: who has
                      become more certain, and has anybody learned anything?
See       Chan, Golub, LeVeque 1983 (3) · McCallum, Nigam 1998 · Domingos, Pazzani 1997 (why it
          works where its assumption is wrong)
"""

import numpy as np

from .estimator import Classifier
from .inputs import check_column, check_weights, encode_classes


class NaiveBayes(Classifier):
    """What both share: pieces, and answers by (1). A subclass has begin, learn and evidence."""

    def fit(self, X, y, sample_weight=None):
        """Learn from this table alone."""
        return self._learn_piece(X, y, None, sample_weight, first=True)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Learn from one more piece. The first call names all classes that will ever come."""
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit: later "
                             "pieces may have labels that this one lacks")
        if not first and classes is not None and not np.array_equal(np.unique(classes),
                                                                    self.classes_):
            raise ValueError(f"classes={list(classes)} is not the same as on the first call to "
                             f"partial_fit: {self.classes_.tolist()}")
        return self._learn_piece(X, y, classes, sample_weight, first)

    def _learn_piece(self, X, y, classes, sample_weight, first):
        X = self.check_X(X, fitting=first)
        y = check_column(y, len(X), type(self).__name__)
        labels, codes = encode_classes(y)
        w = check_weights(sample_weight, len(X))
        known = np.unique(labels if classes is None else classes) if first else self.classes_
        new = sorted(set(labels.tolist()) - set(known.tolist()))
        if new:
            raise ValueError(f"The target labels {new} in y do not exist in the initial classes "
                             f"{known.tolist()}")
        places = np.searchsorted(known, labels)[codes]
        member = np.zeros((len(X), len(known)))  # row n: its weight, in the column of its class
        member[np.arange(len(X)), places] = w
        if first:
            self.begin(len(known), X.shape[1])
            self.classes_, self.class_count_ = known, np.zeros(len(known))
        self.learn(X, member)
        self.class_count_ = self.class_count_ + member.sum(axis=0)
        return self

    def log_prior(self, given, learned=True):
        """log πₖ: of the given probabilities, of the counts, or all the same."""
        K = len(self.classes_)
        prior = self.class_count_ if learned else np.ones(K)
        if given is not None:
            prior = np.asarray(given, dtype=np.float64)
            if prior.shape != (K,) or prior.min() < 0 or not np.isclose(prior.sum(), 1):
                raise ValueError(f"the priors must be {K} numbers ≥ 0 whose sum is 1, one a class")
        with np.errstate(divide="ignore"):  # a class without rows is impossible: −∞
            return np.log(prior / prior.sum())

    def predict_joint_log_proba(self, X):
        """(N, K) log πₖ + log p(x|k): (1) without its last term."""
        return self.evidence(self.check_X(X))

    def predict_log_proba(self, X):
        """(N, K) logarithms of probabilities: (1)."""
        joint = self.predict_joint_log_proba(X)
        return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)                      # (1)

    def predict_proba(self, X):
        """(N, K) probabilities."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """(N,) labels: the most probable class."""
        joint = self.predict_joint_log_proba(X)
        return self.classes_[joint.argmax(axis=1)]


class GaussianNB(NaiveBayes):
    """Features are normally distributed within a class: (2).

    priors: (K,) probabilities, or None for those of the data. var_smoothing: ε.
    Afterwards: theta_ and var_ (means and variances), class_count_, epsilon_.
    """

    def __init__(self, *, priors=None, var_smoothing=1e-9):
        self.priors = priors
        self.var_smoothing = var_smoothing

    def begin(self, K, C):
        """Nothing is known yet."""
        self.theta_, self._spread = np.zeros((K, C)), np.zeros((K, C))
        self.number("var_smoothing", 0)

    def learn(self, X, member):
        """Means and variances of one more piece, joined with those before: (3)."""
        w, old, new = member.sum(axis=1), self.class_count_[:, None], member.sum(axis=0)[:, None]
        centre = np.average(X, axis=0, weights=w)
        self.epsilon_ = self.var_smoothing * np.average((X - centre) ** 2, axis=0, weights=w).max()
        there = np.maximum(new, np.finfo(float).tiny)
        theta = member.T @ X / there
        spread = np.stack([of @ (X - t) ** 2 for of, t in zip(member.T, theta, strict=True)])
        both = np.maximum(old + new, np.finfo(float).tiny)
        apart = np.where(new > 0, theta - self.theta_, 0)
        self._spread = self._spread + spread + apart**2 * old * new / both                    # (3)
        self.theta_ = self.theta_ + apart * new / both                                        # (3)
        self.var_ = self._spread / both + self.epsilon_

    def evidence(self, X):
        """log πₖ + log p(x|k) by (2)."""
        var = np.maximum(self.var_, np.finfo(float).tiny)  # all features constant, and ε nothing
        joint = np.empty((len(X), len(self.classes_)))
        joint[:] = self.log_prior(self.priors) - 0.5 * np.log(2 * np.pi * var).sum(axis=1)
        for k in range(len(self.classes_)):
            joint[:, k] -= 0.5 * ((X - self.theta_[k]) ** 2 / var[k]).sum(axis=1)             # (2)
        return joint


class MultinomialNB(NaiveBayes):
    """Features count things, such as words: (4).

    alpha: α > 0. fit_prior: learn how frequent the classes are; class_prior: they are known.
    Afterwards: feature_count_, feature_log_prob_, class_count_, class_log_prior_.
    """

    tags = {"input_tags.positive_only": True, "classifier_tags.poor_score": True}

    def __init__(self, *, alpha=1.0, fit_prior=True, class_prior=None):
        self.alpha = alpha
        self.fit_prior = fit_prior
        self.class_prior = class_prior

    def begin(self, K, C):
        """Nothing has been counted yet."""
        self.feature_count_ = np.zeros((K, C))

    def learn(self, X, member):
        """Count one more piece."""
        if X.min() < 0:
            raise ValueError("Negative values in data passed to MultinomialNB: it counts things")
        self.feature_count_ = self.feature_count_ + member.T @ X
        smooth = self.feature_count_ + self.number("alpha", 0, open_low=True)
        self.feature_log_prob_ = np.log(smooth / smooth.sum(axis=1, keepdims=True))           # (4)

    @property
    def class_log_prior_(self):
        """log πₖ."""
        return self.log_prior(self.class_prior, self.choice("fit_prior", True, False))

    def evidence(self, X):
        """log πₖ + log p(x|k) by (4), without the factor that all classes share."""
        return X @ self.feature_log_prob_.T + self.class_log_prior_
