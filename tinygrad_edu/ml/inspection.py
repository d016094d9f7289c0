"""Lesson 4.80 · Looking into a model: a tree as text, features by what they are worth

Needs inputs, pruning. Used by nothing.

Idea      A model that one cannot look into has to be believed. A tree can be printed: every
          question, every leaf. For any model at all, one can ask what a feature is worth to it:
          shuffle that column among the rows, so that it says nothing any more, and see how far the
          score falls.
Math      importance[f] = score(X, y) − mean over shuffles of score(X with column f shuffled, y)
Shapes    X (N, F) · importances (F, repeats)
Pitfalls  Of two features that say the same, the model still has one while the other is shuffled:
          both look worthless.
          On the training rows it tells what the model uses, noise it has learned by heart included;
          on held-out rows, what helps.
          Shuffling makes rows that cannot exist (a height of 2 m, a weight of 3 kg).
          A worthless feature comes out slightly negative as often as slightly positive: that is
          chance, not harm.
Cost      repeats · F predictions of all rows.
Try       build it    shuffle a group of columns together, and compare with each alone.
          break it    shuffle without putting the column back. Which test notices?
          measure it  on RandomForestClassifier with a column of noise added: what does
                      feature_importances_ say about it, and what permutation_importance?
See       Breiman 2001 "Random forests", section 10 · Strobl et al. 2007 "Bias in random forest
          variable importance measures"
"""

import numpy as np

from .inputs import check_array, check_random_state
from .pruning import LEAF


def export_text(model, feature_names=None, decimals=2):
    """A fitted decision tree as text, in the form that scikit-learn's export_text has.

    Raises ValueError where there is not one name for each feature.
    """
    model.check_fitted()
    names = feature_names
    if names is None:
        default = [f"feature_{i}" for i in range(model.n_features_in_)]
        names = getattr(model, "feature_names_in_", default)
    if len(names) != model.n_features_in_:
        raise ValueError(f"feature_names must contain {model.n_features_in_} elements, "
                         f"got {len(names)}")
    tree, lines, todo = model.tree_, [], [(0, 0, "")]
    while todo:
        node, depth, question = todo.pop()
        bars = "|   " * (depth - 1) + "|--- "
        if question:
            lines.append(bars + question)
        if tree.left[node] == LEAF:
            lines.append("|   " * depth + "|--- " + leaf_text(model, tree.value[node], decimals))
            continue
        name, cut = names[tree.feature[node]], f"{tree.cut[node]:.{decimals}f}"
        todo.append((tree.right[node], depth + 1, f"{name} >  {cut}"))
        todo.append((tree.left[node], depth + 1, f"{name} <= {cut}"))
    return "\n".join(lines) + "\n"


def leaf_text(model, value, decimals):
    """What a leaf answers."""
    if hasattr(model, "classes_"):
        return f"class: {model.classes_[np.argmax(value)]}"
    return f"value: [{value[0]:.{decimals}f}]"


def permutation_importance(model, X, y, repeats=5, random_state=None, progress=iter):
    """(F, repeats): by how much model.score falls when a column is shuffled.

    progress wraps the range of columns, as tqdm does.
    """
    X = check_array(X, by="permutation_importance", allow_nan=True).copy()
    generator = check_random_state(random_state)
    whole = model.score(X, y)
    falls = np.empty((X.shape[1], repeats))
    for f in progress(range(X.shape[1])):
        column = X[:, f].copy()
        for i in range(repeats):
            X[:, f] = generator.permutation(column)
            falls[f, i] = whole - model.score(X, y)
        X[:, f] = column
    return falls
