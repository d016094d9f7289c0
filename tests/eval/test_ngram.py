from collections import Counter

import numpy as np
import pytest

from tinygrad_edu.eval.ngram import NGram, discounts


def text(length, vocabulary, seed=0):
    """A text with structure: each token is drawn from a table that the two before it choose."""
    generator = np.random.default_rng(seed)
    tables = generator.dirichlet(np.full(vocabulary, 0.2), (vocabulary, vocabulary))
    tokens = [0, 0]
    while len(tokens) < length:
        tokens.append(generator.choice(vocabulary, p=tables[tokens[-2], tokens[-1]]))
    return np.array(tokens)


def by_the_book(tokens, n, vocabulary, context, word):
    """p(word | context) from equations (1) to (4), counted with dictionaries."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    counts = {n: Counter(grams)}
    for k in range(n - 1, 0, -1):
        longer = {tuple(tokens[i : i + k + 1]) for i in range(len(tokens) - k)}
        counts[k] = Counter(gram[1:] for gram in longer)

    def p(k, context):
        if k == 0:
            return 1 / vocabulary
        d = discounts(np.array(list(counts[k].values())))
        followers = {g: c for g, c in counts[k].items() if g[:-1] == context}
        total = sum(followers.values())
        shorter = p(k - 1, context[1:])
        if total == 0:
            return shorter
        c = followers.get((*context, word), 0)
        rest = sum(d[min(c, 3)] for c in followers.values()) / total
        return (c - d[min(c, 3)]) / total + rest * shorter

    length = min(n - 1, len(context))
    return p(length + 1, tuple(context[len(context) - length :]))


def test_a_bigram_model_of_six_tokens_is_what_one_computes_by_hand():
    # ababac: ab 2, ba 2, ac 1; no count of 3, so D = 1/2, 1, 3/2. Each letter has one past.
    model = NGram([0, 1, 0, 1, 0, 2], 2, 3)
    np.testing.assert_allclose(model.distribution([]), [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(model.distribution([0]), [1 / 6, 1 / 2, 1 / 3])
    np.testing.assert_allclose(model.distribution([1]), [2 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose(model.distribution([2]), [1 / 3, 1 / 3, 1 / 3])
    found = model.log_probabilities([2, 0, 1, 0, 2])
    np.testing.assert_allclose(np.exp(found), [1 / 3, 1 / 2, 2 / 3, 1 / 3])
    assert model.loss([0, 1]) == pytest.approx(np.log(2))


def test_the_discounts_are_those_of_chen_and_goodman():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4/8, D1 = 1 − 2Y·2/4, D2 = 2 − 3Y·1/2, D3 = 3 − 4Y·1/1
    counts = np.array([0, 1, 1, 1, 1, 2, 2, 3, 4, 9])
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.25, 1])


def test_discounts_that_the_text_cannot_give_have_a_fallback():
    for counts in [[1], [2, 3], [1, 2, 2, 2, 3, 3], [1, 2, 3, 4, 4, 4, 4, 4]]:
        d = discounts(np.array(counts))
        assert np.all((d >= 0) & (d <= np.arange(4)))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_probability_is_the_one_of_the_equations(n):
    tokens = text(1500, 6)
    model = NGram(tokens, n, 7)  # token 6 never occurs
    generator = np.random.default_rng(1)
    new = np.concatenate([text(30, 6, seed=0), generator.integers(0, 7, 30)])
    wanted = [by_the_book(tokens.tolist(), n, 7, new[:i].tolist(), new[i]) for i in range(1, 60)]
    np.testing.assert_allclose(np.exp(model.log_probabilities(new)), wanted, rtol=1e-12)
    found = [model.distribution(new[:i])[new[i]] for i in range(1, 60)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("length", [5, 50, 5000])
def test_probabilities_are_positive_and_sum_to_one_in_every_context(n, length):
    model = NGram(text(length, 11), n, 13)
    generator = np.random.default_rng(0)
    for size in [0, 1, 3, 4, 9]:
        for _ in range(20):
            p = model.distribution(generator.integers(0, 13, size))
            assert p.min() > 0
            assert p.sum() == pytest.approx(1, abs=1e-12)


def test_a_word_with_one_past_is_less_likely_elsewhere_than_one_with_many():
    san, francisco, the = 0, 1, 2
    tokens = [san, francisco] * 20  # 20 times, always after the same word
    for other in range(3, 13):  # 20 times, after ten different words
        tokens += [other, the, other, the]
    p = NGram(tokens, 2, 20).distribution([15])
    assert p[the] > 3 * p[francisco]


def test_a_longer_context_predicts_held_out_text_better():
    tokens = text(60_000, 12)
    losses = [NGram(tokens[:50_000], n, 12).loss(tokens[50_000:]) for n in (1, 2, 3)]
    assert losses[0] > losses[1] + 0.05 > losses[2] + 0.1


def test_ids_of_a_large_vocabulary_never_overflow():
    tokens = np.random.default_rng(0).integers(0, 200_000, 3000)
    model = NGram(np.concatenate([tokens, tokens]), 8, 200_000)
    assert model.loss(tokens) < 2
    assert model.distribution(tokens[:7]).argmax() == tokens[7]


def test_greedy_sampling_follows_what_was_seen():
    tokens = list(range(10)) * 20
    model = NGram(np.array(tokens, np.uint16), 3, 10)
    greedy = model.sample([3, 4], 6, np.random.default_rng(0), temperature=0)
    assert list(greedy) == [5, 6, 7, 8, 9, 0]


def test_samples_have_the_frequencies_of_the_distribution():
    model = NGram(text(500, 5), 2, 5)
    for temperature in [1.0, 0.5]:
        wanted = model.distribution([1]) ** (1 / temperature)
        wanted /= wanted.sum()
        generator = np.random.default_rng(0)
        drawn = [next(model.sample([1], 1, generator, temperature)) for _ in range(4000)]
        found = np.bincount(drawn, minlength=5) / 4000
        assert abs(found - wanted).max() < 5 * np.sqrt(0.25 / 4000)


def test_the_same_generator_gives_the_same_sample():
    model = NGram(text(500, 5), 4, 5)
    first, second = (list(model.sample([], 50, np.random.default_rng(7))) for _ in range(2))
    assert first == second and len(first) == 50


def test_texts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="text of n tokens or more"):
        NGram([1, 2], 3, 5)
    for foreign in [5, -1]:
        with pytest.raises(ValueError, match="wrong tokenizer"):
            NGram([1, 2, foreign], 2, 5)
        with pytest.raises(ValueError, match="wrong tokenizer"):
            NGram([1, 2, 3], 2, 5).loss([1, foreign])
    with pytest.raises(ValueError, match="two tokens"):
        NGram([1, 2, 3], 2, 5).loss([1])
