"""A tokenizer as GGUF's fields: there and back, and refused in one sentence."""

import numpy as np
import pytest

from tinygrad_edu.tokenizers.added import Added
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.gguf_tokenizer import BYTE, CONTROL, GGML, from_fields, to_fields
from tinygrad_edu.tokenizers.hf_json import build_pipeline
from tinygrad_edu.tokenizers.kinds import train_tokenizer

TEXT = "the fox and the foxes run, naïve 狐 12\n" * 3


@pytest.mark.parametrize("pattern", ["gpt2", "smollm2", "llama3", "qwen2"])
def test_byte_level_bpe_comes_back_from_its_fields(pattern):
    bpe = train_bpe(TEXT, 270, pattern=pattern)
    again = from_fields(to_fields(bpe))
    assert (again.tokens, again.merges, again.special) == (bpe.tokens, bpe.merges, bpe.special)
    assert again.pattern == pattern
    assert again.encode(TEXT + "1234").tolist() == bpe.encode(TEXT + "1234").tolist()


def little_llama(**more):
    """Scores, not merges, decide: "ab" before "bc", "abc" last."""
    tokens = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)),
              "▁", "a", "b", "c", "ab", "bc", "abc", "▁a"]
    scores = [0.0] * 258 + [-9.0, -9.0, -9.0, -9.0, -1.0, -2.0, -3.0, -4.0]
    types = [2, CONTROL] + [BYTE] * 256 + [1] * 8
    fields = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": types,
              "bos_token_id": 1, "unknown_token_id": 0} | more
    return {GGML + name: value for name, value in fields.items()}


def test_the_best_score_is_joined_first_and_unknown_characters_are_bytes():
    chain = from_fields(little_llama())
    tokens = [chain.tokens[index].decode() for index in chain.encode("abc bc狐")]
    assert tokens == ["<s>", "▁", "abc", "▁", "bc", "<0xE7>", "<0x8B>", "<0x90>"]
    assert chain.decode(chain.encode("abc bc狐", wrap=False)) == "abc bc狐"
    turned = little_llama()
    turned[GGML + "scores"][262] = -2.5  # "ab" is worse than "bc" now, and "▁a" comes too late
    tokens = [t for t in from_fields(turned).encode("abc", wrap=False).tolist()]
    assert tokens == [258, 264] or [chain.tokens[t] for t in tokens][-1] in (b"abc", b"bc")


def test_the_fields_of_kind_llama_are_written_back():
    chain = from_fields(little_llama(add_space_prefix=False, add_bos_token=False))
    fields = to_fields(chain)
    assert fields[GGML + "scores"] == little_llama()[GGML + "scores"]
    assert fields[GGML + "token_type"] == little_llama()[GGML + "token_type"]
    assert fields[GGML + "add_space_prefix"] is False and fields[GGML + "add_bos_token"] is False
    assert from_fields(fields).encode("abc b").tolist() == chain.encode("abc b").tolist()


def test_merges_become_scores_that_replay_them():
    chain = train_tokenizer("sentencepiece", TEXT, 330)
    parts = {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}}
    chain = build_pipeline(chain.model, chain.added, parts)
    again = from_fields(to_fields(chain))
    assert again.encode(TEXT).tolist() == chain.encode(TEXT).tolist()


def test_fields_may_be_arrays_and_a_template_is_kept():
    bpe = train_bpe(TEXT, 270)
    added = [Added("<|endoftext|>", 269, special=True)]
    fields = to_fields(bpe) | {GGML + "add_bos_token": True, GGML + "bos_token_id": 269}
    fields[GGML + "token_type"] = np.array(fields[GGML + "token_type"])
    chain = from_fields(fields)
    assert chain.encode("fox").tolist() == [269, *bpe.encode("fox").tolist()]
    assert to_fields(chain)[GGML + "bos_token_id"] == 269
    assert chain.added == added


@pytest.mark.parametrize("change, message", [
    ({"model": "rwkv"}, "of kind 'rwkv' is not read"),
    ({"tokens": None}, "tokens is missing"),
    ({"tokens": [1]}, "no list of str"),
    ({"token_type": [1]}, "cannot have 1 types"),
    ({"pre": "chameleon"}, "cut as 'chameleon'"),
    ({"merges": ["a b c"]}, "not a pair"),
    ({"merges": ["q zz"]}, "no token"),
    ({"add_bos_token": True}, "does not name"),
])
def test_damaged_fields_are_one_sentence(change, message):
    fields = to_fields(train_bpe(TEXT, 262))
    fields |= {GGML + name: value for name, value in change.items()}
    with pytest.raises(ValueError, match=message) as error:
        from_fields(fields)
    assert "\n" not in str(error.value)


def test_a_kind_that_gguf_does_not_have_is_not_written():
    with pytest.raises(ValueError, match="another kind, Words"):
        to_fields(train_tokenizer("words", TEXT, 20))
