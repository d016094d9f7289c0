"""Lesson 4.89 · Text features: a document as counts of its words

Needs estimator, scaling. Used by tests/ml/test_text_features.py.

Idea      A document has no columns. Count how often each word occurs in it, and it has as many as
          there are words: the order is lost, but much of what a text is about stays. Pairs of words
          bring some order back. A word that stands in every document tells nothing, so counts are
          weighed by how rare a word is; and long documents are scaled to the length of short ones.
Math      count[i, t] = how often the term t occurs in document i                               (1)
          idf(t) = ln((N + 1)/(df(t) + 1)) + 1      df(t) = documents in which t occurs         (2)
          z = count·idf, or (1 + ln count)·idf      then z/|z| for each document                (3)
Shapes    documents (N,) of str · counts, tf-idf (N, V) · vocabulary_: term → column
Pitfalls  The vocabulary is learned: a term that first occurs in the test rows has no column.
          idf learned on all documents knows the test rows: put both into a pipeline.
          Most of the matrix is zero and is stored all the same: 8·N·V bytes. Limit V by min_df and
          max_features.
          The usual pattern drops words of one letter and cuts "don't" in two.
Cost      A look-up for every word of every document, in Python.
Try       build it    hashing instead of a vocabulary: which columns share words?
          break it    leave out the + 1 outside the logarithm in (2). Which words vanish?
          measure it  time fit_transform on the docstrings of this library; where is the time?
See       Salton, Buckley 1988 · Spärck Jones 1972 (idf) · scikit-learn user guide, "Tf–idf term
          weighting" (whose variant (2) is)
"""

import re
from collections import Counter
from numbers import Integral

import numpy as np

from .estimator import Transformer
from .scaling import names_of

WORD = r"(?u)\b\w\w+\b"


class CountVectorizer(Transformer):
    """Documents to counts of terms, (1).

    analyzer: "word", "char", or "char_wb", letters within words. ngram_range: how many of them
    make a term, least and most. min_df, max_df: terms in fewer or more documents are left out, a
    whole number or a share. max_features: only the most frequent ones. binary: 1 for any count.
    """

    tags = {"input_tags.string": True, "input_tags.two_d_array": False}

    def __init__(self, lowercase=True, token_pattern=WORD, stop_words=None, ngram_range=(1, 1),
                 analyzer="word", max_df=1.0, min_df=1, max_features=None, binary=False):
        self.lowercase = lowercase
        self.token_pattern = token_pattern
        self.stop_words = stop_words
        self.ngram_range = ngram_range
        self.analyzer = analyzer
        self.max_df = max_df
        self.min_df = min_df
        self.max_features = max_features
        self.binary = binary

    def fit(self, documents, y=None):
        """Collect the vocabulary."""
        self.fit_transform(documents)
        return self

    def fit_transform(self, documents, y=None):
        """Collect the vocabulary, and count."""
        self.choice("analyzer", "word", "char", "char_wb")
        counts = [Counter(self.terms(text)) for text in self._documents(documents)]
        if not counts:
            raise ValueError("Found array with 0 sample(s): there is no document to learn from")
        documents_with, total = Counter(), Counter()
        for count in counts:
            documents_with.update(count.keys())
            total.update(count)
        low, high = (share if isinstance(share, Integral) else share * len(counts)
                     for share in (self.min_df, self.max_df))
        kept = sorted(term for term, df in documents_with.items() if low <= df <= high)
        if not kept:
            raise ValueError("empty vocabulary; perhaps the documents only contain stop words, or "
                             "min_df and max_df leave none: change them")
        if self.max_features is not None:
            kept = sorted(sorted(kept, key=lambda term: -total[term])[:self.max_features])
        self.vocabulary_ = {term: i for i, term in enumerate(kept)}
        return self._table(counts)

    def transform(self, documents):
        """Counts of the terms that fit has seen; others are passed over."""
        self.check_fitted()
        return self._table([Counter(self.terms(text)) for text in self._documents(documents)])

    def _table(self, counts):
        table = np.zeros((len(counts), len(self.vocabulary_)), dtype=np.int64)
        for row, count in zip(table, counts, strict=True):
            for term in count.keys() & self.vocabulary_.keys():
                row[self.vocabulary_[term]] = 1 if self.binary else count[term]               # (1)
        return table

    def _documents(self, documents):
        """Each as text; a sentence for what is none."""
        if isinstance(documents, str):
            raise ValueError("Iterable over raw text documents expected, string object received: "
                             "put it into a list")
        for i, text in enumerate(documents):
            if not isinstance(text, str):
                raise ValueError(f"document {i} is {text!r}, which is no text: fill it in first "
                                 "(SimpleImputer)")
            yield text.lower() if self.lowercase else text

    def terms(self, text):
        """The terms of one document, in order."""
        low, high = self.ngram_range
        if self.analyzer == "char_wb":
            words = [f" {word} " for word in text.split()]
            return [term for word in words for term in windows(word, low, min(high, len(word)))]
        if self.analyzer == "char":
            return windows(re.sub(r"\s\s+", " ", text), low, high)
        words = re.findall(self.token_pattern, text)
        if self.stop_words is not None:
            words = [word for word in words if word not in self.stop_words]
        return [" ".join(part) for part in windows(words, low, high)]

    def get_feature_names_out(self, input_features=None):
        """The terms, in the order of their columns."""
        self.check_fitted()
        return np.array(list(self.vocabulary_), dtype=object)


def windows(items, low, high):
    """All runs of `low` to `high` neighbouring items."""
    return [items[i:i + n] for n in range(low, high + 1) for i in range(len(items) - n + 1)]


class TfidfTransformer(Transformer):
    """Counts, weighed by how rare a term is, each row scaled to length 1: (2) and (3).

    norm: "l2", "l1" or None. sublinear_tf: 1 + ln count for the count. smooth_idf: the + 1 inside
    the logarithm, as if one more document had every term.
    """

    def __init__(self, norm="l2", use_idf=True, smooth_idf=True, sublinear_tf=False):
        self.norm = norm
        self.use_idf = use_idf
        self.smooth_idf = smooth_idf
        self.sublinear_tf = sublinear_tf

    def fit(self, X, y=None):
        """Count the documents of each term."""
        self.choice("norm", "l1", "l2", None)
        X = self.check_X(X, fitting=True)
        more = int(self.smooth_idf)
        with np.errstate(divide="ignore"):
            df = np.count_nonzero(X, axis=0) + more
            self.idf_ = np.log((len(X) + more) / df) + 1                                      # (2)
        if not self.use_idf:
            self.idf_ = np.ones(X.shape[1])
        return self

    def transform(self, X):
        """Weighed and scaled, a new table."""
        z = self.check_X(X).copy()
        if self.sublinear_tf:
            there = z > 0
            z[there] = 1 + np.log(z[there])
        z = np.where(z != 0, z * self.idf_, 0.0)                                              # (3)
        if self.norm is None:
            return z
        length = np.abs(z).sum(1) if self.norm == "l1" else np.sqrt((z * z).sum(1))
        return z / np.where(length == 0, 1.0, length)[:, None]

    def get_feature_names_out(self, input_features=None):
        """The names that went in."""
        return names_of(self, input_features)
