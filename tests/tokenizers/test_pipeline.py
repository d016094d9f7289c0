"""Pipelines: added tokens, templates, offsets and streams, on values that a reader can check."""

import numpy as np
import pytest

from tinygrad_edu.tokenizers.added import Added, Finder, Template
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import train_characters
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.kinds import train_tokenizer
from tinygrad_edu.tokenizers.pipeline import Pipeline, as_pipeline, followed
from tinygrad_edu.tokenizers.wordpiece import WordPiece

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fox", "##es", "run", "##s", "狐", "caf", "##e"]
BERT = {
    "normalizer": {"type": "BertNormalizer"},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
    "decoder": {"type": "WordPiece"},
    "post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3]},
}


@pytest.fixture
def bert():
    added = [Added(name, index, special=True) for index, name in enumerate(WORDS[:4])]
    return build_pipeline(WordPiece([word.encode() for word in WORDS], 1), added, BERT)


def test_a_text_is_normalized_cut_written_and_wrapped(bert):
    ids, offsets = bert.encode_with_offsets("A Foxes, Café狐 runs")
    assert [WORDS[index] for index in ids] == [
        "[CLS]", "a", "fox", "##es", "[UNK]", "caf", "##e", "狐", "run", "##s", "[SEP]"]
    assert offsets.tolist() == [[0, 0], [0, 1], [2, 5], [5, 7], [7, 8], [9, 12], [12, 13], [13, 14],
                                [15, 18], [18, 19], [0, 0]]
    assert bert.encode("A Foxes, Café狐 runs").tolist() == ids.tolist()
    assert bert.decode(ids) == "[CLS] a foxes [UNK] cafe 狐 runs [SEP]"
    assert bert.decode(ids, skip_special=True) == "a foxes cafe 狐 runs"


def test_a_special_token_is_text_unless_it_is_allowed(bert):
    assert bert.encode("[SEP]", wrap=False).tolist() != [3]
    assert bert.encode("a[SEP]a", allowed_special="all", wrap=False).tolist() == [4, 3, 4]
    with pytest.raises(ValueError, match="which is a special token"):
        bert.encode("a[SEP]", disallowed_special="all")


def test_two_texts_get_two_kinds(bert):
    ids, kinds = bert.encode_pair("a", "fox")
    assert ids.tolist() == [2, 4, 3, 5, 3]
    assert kinds.tolist() == [0, 0, 0, 1, 1]


def test_half_a_character_has_the_place_of_the_whole():
    chain = as_pipeline(train_bpe("狐", 257))
    ids, offsets = chain.encode_with_offsets("a狐")
    assert offsets.tolist() == [[0, 1], [1, 2], [1, 2], [1, 2]]
    assert chain.decode(ids) == "a狐"


def test_a_chain_around_a_bpe_takes_any_bytes_and_gives_its_ids():
    bpe = train_bpe("the fox and the dog", 258)
    chain = as_pipeline(bpe)
    for text in ("the dog", b"\xff the \xc3", "a<|endoftext|>b"):
        assert chain.encode(text, "all").tolist() == bpe.encode(text, "all").tolist()
        assert chain.decode_bytes(chain.encode(text)) == (
            text if isinstance(text, bytes) else text.encode())


def test_a_chain_with_steps_refuses_bytes_that_are_no_text(bert):
    with pytest.raises(ValueError, match="not UTF-8"):
        bert.encode(b"\xff")
    with pytest.raises(ValueError, match="surrogate"):
        bert.encode("\ud800")


def test_the_longer_of_two_names_is_meant_and_flags_change_what_is_taken():
    added = [Added("<a>", 0), Added("<a><b>", 1), Added("<l>", 2, lstrip=True, rstrip=True),
             Added("in", 3, single_word=True), Added("<s>", 4, special=True)]
    finder = Finder(added, str)

    def found(text, allowed=()):
        return [(text[low:high], token and token.id) for low, high, token
                in finder.cut(text, frozenset(allowed))]

    assert found("x<a><b>y<a>") == [("x", None), ("<a><b>", 1), ("y", None), ("<a>", 0)]
    assert found("x  <l> \ny") == [("x", None), ("  <l> \n", 2), ("y", None)]
    assert found("in inside") == [("in", 3), (" inside", None)]
    assert found("<s>") == [("<s>", None)]
    assert found("<s>", ["<s>"]) == [("<s>", 4)]


def test_a_normalized_token_is_found_in_the_normalized_text():
    words = [b"[UNK]", b"fox"]
    added = [Added("Fox", 2, normalized=True)]
    chain = build_pipeline(WordPiece(words, 0), added, {"normalizer": {"type": "Lowercase"}})
    assert chain.encode("FOX").tolist() == [2]
    assert chain.encode_with_offsets("FOX")[1].tolist() == [[0, 3]]


def test_what_comes_from_nowhere_stays_from_nowhere():
    assert followed(np.array([5, 6]), np.array([0, -1, 1])).tolist() == [5, -1, 6]
    assert followed(np.array([5, 6]), None).tolist() == [5, 6]


@pytest.mark.parametrize("row", [(), (("A", 0), ("A", 0)), (("B", 0),)])
def test_a_template_holds_the_text_once(row):
    with pytest.raises(ValueError, match="hold each text once"):
        Template(row)


def test_an_added_token_behind_a_gap_is_refused():
    with pytest.raises(ValueError, match="has the id 9"):
        Pipeline(train_characters("ab"), [Added("<x>", 9)])


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "sentencepiece", "words", "bpe"])
def test_a_stream_writes_what_decoding_at_once_does(kind):
    text = "the fox 狐 and the foxes run, naïve 👍🏽 dogs\n" * 3
    chain = train_tokenizer(kind, text, {"bpe": 270}.get(kind, 340))
    ids = chain.encode(text)
    stream = chain.stream()
    parts = [stream.push(index) for index in ids]
    assert "".join(parts) + stream.finish() == chain.decode(ids)
    if kind not in ("words", "wordpiece"):
        assert "\ufffd" not in "".join(parts)


def test_an_id_out_of_range_is_one_sentence(bert):
    for wrong in (-1, len(WORDS)):
        with pytest.raises(ValueError, match="is not in 0 … 11"):
            bert.decode([wrong])
