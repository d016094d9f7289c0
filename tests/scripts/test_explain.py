"""explain.py quotes what the files say about a word, and the glossary is made of such quotes."""

import functools
import unicodedata

import pytest

from house import ROOT, load

explain = load(ROOT / "scripts" / "explain.py")
explain.read_lessons = functools.cache(explain.read_lessons)  # nothing is edited meanwhile


def asked(capsys, *words):
    assert explain.main(list(words)) == 0
    return capsys.readouterr().out


def first_place(capsys, word):
    return asked(capsys, *word.split()).splitlines()[0]


@pytest.mark.parametrize(("word", "place"), [
    ("B", "tinygrad_edu/lessons.py:"), ("dx", "tinygrad_edu/lessons.py:"),
    ("softmax", "tinygrad_edu/ops/softmax.py:"), ("rstd", "tinygrad_edu/ops/norm.py:"),
    ("lse", "tinygrad_edu/ops/attention_weights.py:"), ("AdamW", "tinygrad_edu/nn/adam.py:"),
    ("top-p", "tinygrad_edu/inference/sampling.py:"), ("vjp", "tinygrad_edu/tape.py:"),
    ("checkpoint", "tinygrad_edu/files/checkpoint.py:"), ("MLP", "models/mlp.py:")])
def test_a_word_is_explained_by_the_lesson_that_is_about_it(capsys, word, place):
    assert first_place(capsys, word).startswith(place)


def test_every_quote_stands_at_the_line_that_is_named():
    lessons = explain.read_lessons()
    for word in explain.spelled_words():
        quote = explain.quotes(word, lessons)[0]
        lines = (ROOT / quote.path).read_text(encoding="utf-8").splitlines()
        there = " ".join(" ".join(lines[quote.line - 1:quote.line + 8]).split())
        assert quote.text[:12] in there, word


@pytest.mark.parametrize("pair", [
    ("softmax", "Softmax"), ("heads", "head"), ("cross entropy", "cross-entropy"),
    ("top p", "top-p"), ("sigma", "σ"), ("epsilon", "ε"), ("checkpoints", "checkpoint")])
def test_case_plural_hyphens_and_greek_letters_do_not_matter(capsys, pair):
    assert first_place(capsys, pair[0]) == first_place(capsys, pair[1])


def test_greek_letters_have_the_names_that_unicode_gives_them():
    for name, letter in explain.GREEK.items():
        assert unicodedata.name(letter) == f"GREEK SMALL LETTER {name.upper().replace('MB', 'M')}"


@pytest.mark.parametrize(("word", "said"), [
    ("rstd", "one over the standard deviation"), ("lse", "ln Σ exp(z)"), ("tied", "one tensor"),
    ("logsumexp", "The logarithm of a sum of exponentials is"), ("backward", "walks the tape")])
def test_a_word_that_formulas_are_full_of_is_told_in_a_sentence(capsys, word, said):
    assert said in asked(capsys, word).splitlines()[1]


def test_functions_kernels_and_flags_of_that_name_are_listed(capsys):
    out = asked(capsys, "gelu")
    assert "python scripts/show.py gelu_forward" in out and "def gelu(x" in out
    out = asked(capsys, "temperature")
    assert "scripts/generate.py:" in out and "--temperature: below 1 safer, above 1 wilder" in out


@pytest.mark.parametrize("word", ["2.8", "norm.py", "tinygrad_edu/ops/norm.py"])
def test_a_number_and_a_file_show_the_lesson(capsys, word):
    out = asked(capsys, word)
    assert out.startswith("tinygrad_edu/ops/norm.py · lesson 2.8 · LayerNorm, alone and fused")
    assert "\nIdea, line 5\n" in out and "\nShapes, line " in out


@pytest.mark.parametrize(("word", "said"), [
    ("sofmax", "did you mean softmax"), ("qqqq", "--glossary lists"), ("", "which word?"),
    ("9.99", "no lesson speaks of '9.99'")])
def test_an_unknown_word_is_told_in_one_sentence(capsys, word, said):
    assert explain.main([word] if word else []) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and said in err and err.count("\n") == 1


def test_the_glossary_is_written_and_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(explain, "WORDS", "B: lessons, softmax")
    path = tmp_path / "docs" / "glossary.md"
    assert explain.main(["--glossary", "--check"], path=path) == 1
    assert "is stale: run python scripts/explain.py" in capsys.readouterr().err
    assert explain.main(["--glossary", "--write"], path=path) == 0
    assert explain.main(["--glossary", "--check"], path=path) == 0
    assert "| B | B sequences in a batch | [1." in path.read_text(encoding="utf-8")


def test_a_word_of_the_glossary_that_no_lesson_explains_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(explain, "WORDS", "softmax, quuxification")
    assert explain.main(["--glossary"]) == 2
    assert "no lesson explains 'quuxification'" in capsys.readouterr().err


def test_the_glossary_of_the_repository_is_fresh(capsys):
    assert explain.main(["--glossary", "--check"]) == 0, capsys.readouterr().err
