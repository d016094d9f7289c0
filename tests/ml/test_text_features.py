"""Documents as counts."""

import numpy as np
import pytest

from tinygrad_edu.ml.text_features import CountVectorizer, TfidfTransformer

DOCUMENTS = ["The cat sat.", "The cat and the dog", "a dog!"]


def test_words_are_counted_and_later_ones_passed_over():
    words = CountVectorizer()
    counts = words.fit_transform(DOCUMENTS)
    assert words.get_feature_names_out().tolist() == ["and", "cat", "dog", "sat", "the"]
    assert counts.tolist() == [[0, 1, 0, 1, 1], [1, 1, 1, 0, 2], [0, 0, 1, 0, 0]]
    assert words.transform(["the bird"]).tolist() == [[0, 0, 0, 0, 1]]


def test_terms_are_runs_of_words_or_letters():
    pairs = CountVectorizer(ngram_range=(2, 2)).fit(DOCUMENTS)
    assert "the cat" in pairs.vocabulary_ and "cat" not in pairs.vocabulary_
    assert CountVectorizer(analyzer="char", ngram_range=(3, 3)).fit(["abcd"]).vocabulary_ == {
        "abc": 0, "bcd": 1}
    assert " c" in CountVectorizer(analyzer="char_wb", ngram_range=(2, 2)).fit(["c d"]).vocabulary_


def test_rare_frequent_and_unwanted_terms_are_left_out():
    assert list(CountVectorizer(min_df=2).fit(DOCUMENTS).vocabulary_) == ["cat", "dog", "the"]
    assert list(CountVectorizer(max_df=0.5).fit(DOCUMENTS).vocabulary_) == ["and", "sat"]
    assert list(CountVectorizer(max_features=1).fit(DOCUMENTS).vocabulary_) == ["the"]
    assert "the" not in CountVectorizer(stop_words=["the"]).fit(DOCUMENTS).vocabulary_
    assert CountVectorizer(binary=True).fit_transform(DOCUMENTS).max() == 1


def test_a_term_of_every_document_weighs_one_and_rows_have_length_one():
    counts = np.array([[3, 0, 1], [2, 0, 0], [3, 0, 0], [4, 0, 0]])
    plain = TfidfTransformer(norm=None, smooth_idf=False).fit(counts)
    np.testing.assert_allclose(plain.idf_[[0, 2]], [1, np.log(4) + 1])
    z = TfidfTransformer().fit_transform(counts)
    np.testing.assert_allclose((z**2).sum(1), 1)
    logs = TfidfTransformer(norm=None, use_idf=False, sublinear_tf=True).fit_transform(counts)
    np.testing.assert_allclose(logs[0], [1 + np.log(3), 0, 1])


@pytest.mark.parametrize(("documents", "said"), [
    ("one text", "string object received"), ([], "no document"), (["a b"], "empty vocabulary"),
    (["fine", np.nan], "document 1 is nan, which is no text")])
def test_what_is_no_list_of_texts_is_told(documents, said):
    with pytest.raises(ValueError, match=said):
        CountVectorizer().fit(documents)
