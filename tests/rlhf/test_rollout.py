import numpy as np
import pytest

from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.rlhf.logprobs import answer_logprobs
from tinygrad_edu.rlhf.rollout import draw, refuse_other_tokenizer, rollout, scored
from tinygrad_edu.tokenizers.characters import train_characters

PROMPTS = [[1, 2, 3], [4], [5, 6]]


def model_of(dtype=np.float64, context=12):
    model = GPT(GPTConfig(11, context, 2, 2, 8), np.random.default_rng(0), dtype)
    for tensor in model.parameters():
        tensor.data[...] += np.random.default_rng(1).normal(0, 0.3, tensor.shape)
    return model


def test_log_probabilities_of_rollout_and_update_agree():
    model = model_of()
    written = rollout(model, PROMPTS, 6, [0, 7], np.random.default_rng(2), group=8)
    again = answer_logprobs(model, written.ids, written.mask).data
    assert written.mask.sum() > 60
    assert np.abs(written.logprobs - again).max() < 1e-12


def test_an_answer_stands_behind_its_prompt_and_ends_with_its_end():
    written = rollout(model_of(), PROMPTS, 6, [0, 7], np.random.default_rng(3), group=8)
    for row, answer in enumerate(written.answers()):
        prompt = PROMPTS[row // 8]
        assert written.ids[row].tolist()[: len(prompt) + len(answer)] == prompt + answer
        assert not {0, 7} & set(answer[:-1])
        assert answer[-1] in (0, 7) or len(answer) == 6
        assert not written.ids[row, len(prompt) + len(answer) :].any()
        assert written.mask[row].sum() == len(answer)


def test_greedy_answers_are_those_of_whole_passes():
    model = model_of()
    written = rollout(model, PROMPTS, 5, [], np.random.default_rng(0), greedy=True)
    for prompt, answer in zip(PROMPTS, written.answers(), strict=True):
        text = list(prompt)
        for token in answer:
            assert model.next_logits(np.array([text])).data.argmax() == token
            text.append(token)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = np.log([[0.5, 0.3, 0.2]]).repeat(10_000, axis=0)
    drawn, logprobs, entropies = draw(logits, np.random.default_rng(4).random(10_000))
    assert np.allclose(np.bincount(drawn) / 10_000, [0.5, 0.3, 0.2], atol=0.02)
    assert np.allclose(logprobs, logits[0, drawn])
    assert np.allclose(entropies, -(np.exp(logits[0]) * logits[0]).sum())


def test_a_number_close_to_1_never_draws_a_token_that_is_not_there():
    drawn, *_ = draw(np.array([[0.0, -50.0], [5.0, 5.0]]), np.array([1 - 2**-53, 0.0]))
    assert drawn.tolist() == [0, 0]


def test_what_cannot_be_answered_is_refused_in_a_sentence():
    model, random = model_of(), np.random.default_rng(0)
    with pytest.raises(ValueError, match="a prompt of 8 tokens and an answer of 6 do not fit"):
        rollout(model, [[1] * 8], 6, [0], random)
    with pytest.raises(ValueError, match="at least one token"):
        rollout(model, [[1], []], 6, [0], random)
    with pytest.raises(ValueError, match="the reward of row 1 is nan"):
        scored([1.0, np.nan], 2)
    with pytest.raises(ValueError, match="as many rewards"):
        scored([1.0], 2)
    with pytest.raises(ValueError, match="the reward model reads another tokenizer"):
        refuse_other_tokenizer(train_characters("ab"), train_characters("abc"), "the reward model")


def test_a_model_that_learns_is_in_training_mode_afterwards():
    model = model_of().train()
    rollout(model, PROMPTS, 2, [], np.random.default_rng(0))
    assert model.training
