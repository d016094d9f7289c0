"""Rows of one length: filled up, cut, and masked."""

import pytest

from tinygrad_edu.tokenizers.batch import encode_batch
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.kinds import train_tokenizer
from tinygrad_edu.tokenizers.merges_file import steps_of_bert

LETTERS = train_characters("abc", special=("<pad>",))


def test_short_rows_are_filled_up_and_masked():
    ids, mask = encode_batch(LETTERS, ["abc", "a", ""], pad="<pad>")
    assert ids.tolist() == [[0, 1, 2], [0, 3, 3], [3, 3, 3]]
    assert mask.sum(axis=1).tolist() == [3, 1, 0]
    ids, mask = encode_batch(LETTERS, ["abc", "a"], pad=3, side="left")
    assert ids.tolist() == [[0, 1, 2], [3, 3, 0]]
    assert mask.tolist() == [[True] * 3, [False, False, True]]


def test_a_long_row_is_cut_but_never_its_template():
    plain = train_tokenizer("wordpiece", "a b c ab " * 3, 13)
    special = plain.special
    chain = build_pipeline(plain.model, plain.added, steps_of_bert(special, False))
    ids, mask = encode_batch(chain, ["a b c", "a"], length=4, pad="[PAD]", truncate=True)
    a, b = (plain.encode(text)[0] for text in "ab")
    cls, sep, pad = (special[name] for name in ("[CLS]", "[SEP]", "[PAD]"))
    assert ids.tolist() == [[cls, a, b, sep], [cls, a, sep, pad]]
    assert mask.sum() == 7


@pytest.mark.parametrize("options, message", [
    ({}, "name the token that fills them up"),
    ({"pad": "<none>"}, "no special token is called"),
    ({"pad": 99}, "is not in 0"),
    ({"pad": 3, "length": 2}, "pass truncate=True"),
    ({"pad": 3, "side": "top"}, "not 'top'"),
])
def test_what_cannot_be_is_one_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        encode_batch(LETTERS, ["abc", "a"], **options)


def test_no_texts_are_no_rows():
    ids, mask = encode_batch(LETTERS, [])
    assert ids.shape == mask.shape == (0, 0)
