import numpy as np
import pytest

from tinygrad_edu.data.conversations import Conversation
from tinygrad_edu.data.turns import ChatTurns, Turns, inputs_and_targets
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, CharacterTokenizer, train_characters

TALK = Conversation((("user", "58+67"), ("assistant", "125"), ("user", "1+1"), ("assistant", "2")))


def plain():
    return Turns(train_characters("0123456789+\n <|endoftx>"))


def learnt(turns, ids, mask):
    """The text with what is learnt in « »."""
    names = [turns.tokenizer.decode([index]) for index in ids]
    text = "".join(f"«{name}»" if counts else name for name, counts in
                   zip(names, mask, strict=True))
    return text.replace("»«", "")


def test_questions_are_lines_and_answers_end_as_documents_do():
    turns = plain()
    ids, mask = turns.tokens_and_mask(TALK)
    end = END_OF_TEXT
    assert learnt(turns, ids, mask) == f"{end}58+67\n«125{end}»1+1\n«2{end}»"
    assert (ids.dtype, mask.dtype) == (np.int32, np.int8)
    assert turns.stop == (turns.tokenizer.special[end],)


def test_what_is_learnt_follows_what_a_model_is_given():
    turns = plain()
    for count in (1, 3):
        messages = TALK.messages[:count + 1]
        ids, mask = turns.tokens_and_mask(Conversation(messages))
        prompt = turns.prompt(messages[:-1])
        assert np.array_equal(ids[:len(prompt)], prompt) and prompt.dtype == np.int32
        assert mask[len(prompt):].all() and not mask[len(prompt) - 1]
        assert ids[-1] in turns.stop


def test_targets_are_the_next_tokens_where_they_are_learnt():
    turns = plain()
    ids, mask = turns.tokens_and_mask(Conversation(TALK.messages[:2]))
    x, y = inputs_and_targets(ids, mask)
    assert np.array_equal(x, ids[:-1])
    assert y.tolist() == [-1] * 6 + ids[7:].tolist() and y.dtype == np.int32


def test_a_user_who_writes_the_end_mark_writes_characters():
    turns = plain()
    ids, _ = turns.tokens_and_mask(Conversation((("user", END_OF_TEXT), ("assistant", "1"))))
    assert np.isin(ids, turns.stop).sum() == 2


def test_a_tokenizer_that_cannot_end_an_answer_is_refused():
    with pytest.raises(ValueError, match=r"no token <\|endoftext\|> to end an answer"):
        Turns(CharacterTokenizer("ab", special=()))


CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}\n"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


@pytest.fixture(scope="module")
def tokenizer():
    text = "user\nassistant\nWhat is a fox?\n\nA fox is an animal.\nsystem\n" * 3
    return train_bpe([text], 300, special=(END_OF_TEXT, "<|im_start|>", "<|im_end|>"))


FOX = Conversation((("system", "x"), ("user", "What?"), ("assistant", "A fox"), ("user", "Is it?"),
                    ("assistant", "\nIt is")))


def test_the_answers_of_a_chat_template_are_learnt_with_the_mark_that_ends_them(tokenizer):
    turns = ChatTurns(tokenizer, CHATML)
    ids, mask = turns.tokens_and_mask(FOX)
    assert learnt(turns, ids, mask) == (
        "<|im_start|>system\nx<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\n«A fox<|im_end|>»\n<|im_start|>user\nIs it?<|im_end|>\n"
        "<|im_start|>assistant\n«\nIt is<|im_end|>»\n")
    assert turns.stop == (tokenizer.special["<|im_end|>"],)


def test_a_chat_prompt_is_what_stands_before_the_learnt_answer(tokenizer):
    turns = ChatTurns(tokenizer, CHATML, {"eos_token": END_OF_TEXT})
    ids, mask = turns.tokens_and_mask(FOX)
    prompt = turns.prompt(FOX.prompt)
    assert np.array_equal(ids[:len(prompt)], prompt)
    assert mask[len(prompt):].tolist()[:1] == [1] and mask[len(prompt) - 1] == 0
    assert set(turns.stop) == {tokenizer.special[END_OF_TEXT], tokenizer.special["<|im_end|>"]}


def test_who_writes_a_special_token_into_a_message_is_refused(tokenizer):
    turns = ChatTurns(tokenizer, CHATML)
    for role in ("user", "assistant"):
        talk = Conversation((("user", "a"), (role, "b<|im_end|>"), ("assistant", "c")))
        with pytest.raises(ValueError, match=r"'<\|im_end\|>', which is a special token"):
            turns.tokens_and_mask(talk)


def test_a_template_that_rewrites_what_was_said_is_refused(tokenizer):
    last = CHATML.replace("{{ '<|im_start|>'", "{{ ('' if loop.last else 'was ') + '<|im_start|>'")
    turns = ChatTurns(tokenizer, last)
    with pytest.raises(ValueError, match="writes a message otherwise once others follow"):
        turns.tokens_and_mask(FOX)


def test_a_template_whose_answers_never_end_is_refused(tokenizer):
    endless = "{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"
    with pytest.raises(ValueError, match="ends an answer with no special token"):
        ChatTurns(tokenizer, endless)
