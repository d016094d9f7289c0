import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_edu.data.conversations import (
    Conversation,
    Preference,
    conversation_fields,
    conversation_from,
    preference_fields,
    preference_from,
    read_conversations,
    read_preferences,
)
from tinygrad_edu.data.jsonl import write_objects

HI = (("user", "Hi"), ("assistant", "Hello"))
ASKED = (("user", "Hi"),)


def message(role, text):
    return {"role": role, "content": text}


def said(who, text):
    return {"from": who, "value": text}


@pytest.mark.parametrize("fields, messages", [
    ({"messages": [message("user", "Hi"), message("assistant", "Hello")]}, HI),
    ({"conversations": [said("human", "Hi"), said("gpt", "Hello")]}, HI),
    ({"instruction": "Hi", "input": "", "output": "Hello"}, HI),
    ({"instruction": "Hi", "output": "Hello"}, HI),
    ({"instruction": "Add", "input": "1 2", "output": "3"},
     (("user", "Add\n\n1 2"), ("assistant", "3"))),
    ({"prompt": "Hi", "completion": "Hello"}, HI),
    ({"prompt": [message("system", "Be kind"), message("user", "Hi")],
      "completion": [message("assistant", "Hello")]}, (("system", "Be kind"), *HI)),
    ({"conversations": [said("system", "Be kind"), said("human", "Hi"), said("gpt", "Hello"),
                        said("human", "Hi"), said("gpt", "Hello")]},
     (("system", "Be kind"), *HI, *HI)),
])
def test_every_form_of_a_conversation_becomes_the_same_messages(fields, messages):
    assert conversation_from(fields) == Conversation(messages)
    assert conversation_from(fields).answer == messages[-1][1]
    assert conversation_from(fields).prompt == messages[:-1]


HUMAN = "\n\nHuman: Hi\n\nAssistant: "
BETTER = Preference(ASKED, "Hello", "Go")


@pytest.mark.parametrize("fields", [
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
    {"prompt": [message("user", "Hi")], "chosen": "Hello", "rejected": "Go"},
    {"prompt": "Hi", "chosen": [message("assistant", "Hello")],
     "rejected": [message("assistant", "Go")]},
    {"prompt": "Hi", "chosen": [message("user", "Hi"), message("assistant", "Hello")],
     "rejected": [message("user", "Hi"), message("assistant", "Go")]},
    {"chosen": [message("user", "Hi"), message("assistant", "Hello")],
     "rejected": [message("user", "Hi"), message("assistant", "Go")]},
    {"chosen": HUMAN + "Hello", "rejected": HUMAN + "Go"},
    {"chosen": HUMAN.lstrip() + "Hello\n", "rejected": HUMAN + " Go"},
    {"prompt": HUMAN, "chosen": "Hello", "rejected": "Go"},
])
def test_every_form_of_a_preference_becomes_the_same_pair(fields):
    assert preference_from(fields) == BETTER


def test_the_prompt_of_transcripts_is_what_they_share_turn_by_turn():
    talk = "\n\nHuman: a: b\n\nAssistant: c\n\nHuman: d\n\nAssistant: "
    found = preference_from({"chosen": talk + "The fox ran", "rejected": talk + "The fox sat"})
    assert found.prompt == (("user", "a: b"), ("assistant", "c"), ("user", "d"))
    assert (found.chosen, found.rejected) == ("The fox ran", "The fox sat")


def test_a_margin_is_kept():
    fields = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go", "margin": 2}
    assert preference_from(fields).margin == 2.0
    assert preference_fields(preference_from(fields)) == fields


@pytest.mark.parametrize("fields, said", [
    ({}, "prompt and completion, not none at all"),
    ({"text": "Hi"}, "not text"),
    ({"messages": []}, "the field 'messages' is a list, it has to be a list of messages with one"),
    ({"messages": "Hi"}, "the field 'messages' is text"),
    ({"messages": [1]}, "message 1 of 'messages' is a number, not an object"),
    ({"messages": [message("user", "Hi"), message("tool", "x")]}, "message 2 .* role 'tool'"),
    ({"messages": [message(["user"], "Hi")]}, "message 1 of 'messages' has the role"),
    ({"messages": [message("user", "Hi")]}, "the last message is the user's"),
    ({"messages": [{"role": "user"}]}, "'content' of message 1 of 'messages' is missing"),
    ({"messages": [message("user", None)]}, "message 1 of 'messages' is null, it has to be text"),
    ({"messages": [message("user", " \n")]}, "message 1 of 'messages' is empty"),
    ({"conversations": [said("human", "Hi"), said("gpt", "")]}, "'value' of message 2 .* is empty"),
    ({"instruction": "Hi"}, "the field 'output' is missing"),
    ({"instruction": "Hi", "output": 3}, "the field 'output' is a number"),
    ({"instruction": "Hi", "input": ["x"], "output": "3"}, "the field 'input' is a list"),
    ({"completion": "Hi"}, "the field 'prompt' is missing"),
    ({"prompt": "Hi", "completion": "\ud800"}, "the field 'completion' holds half a character"),
])
def test_what_no_conversation_can_be_made_of_is_told_with_its_field(fields, said):
    with pytest.raises(ValueError, match=said):
        conversation_from(fields)


@pytest.mark.parametrize("changes, said", [
    ({"chosen": ""}, "the field 'chosen' is empty"),
    ({"rejected": "  "}, "the field 'rejected' is empty"),
    ({"rejected": "Hello"}, "chosen and rejected are equal"),
    ({"prompt": ""}, "the field 'prompt' is empty"),
    ({"prompt": [message("user", "Hi"), message("assistant", "x")]}, "'prompt' ends with an ans"),
    ({"chosen": [message("user", "Hi")]}, "the field 'chosen' has to add one answer"),
    ({"chosen": [message("assistant", "a"), message("assistant", "b")]}, "has to add one answer"),
    ({"chosen": {"text": "Hi"}}, "the field 'chosen' is an object, it has to be text"),
    ({"margin": -1}, "the field 'margin' has to be a number from 0"),
    ({"margin": True}, "the field 'margin'"),
    ({"margin": float("nan")}, "the field 'margin'"),
])
def test_what_no_preference_can_be_made_of_is_told_with_its_field(changes, said):
    fields = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"} | changes
    with pytest.raises(ValueError, match=said):
        preference_from(fields)


@pytest.mark.parametrize("chosen, rejected, said", [
    (HUMAN + "Hello", HUMAN + "Hello ", "are equal"),
    (HUMAN + "Hello", "\n\nHuman: Ho\n\nAssistant: Go", "differ before their last answer"),
    (HUMAN + "Hello", HUMAN, "in the field 'rejected' a turn of Assistant is empty"),
    (HUMAN + "Hello", HUMAN + "Go\n\nHuman: Bye", "'rejected' does not end with an answer"),
    ("Hello", "Go", "the field 'chosen' is no transcript"),
    ("So: " + HUMAN + "a", HUMAN + "b", "the field 'chosen' is no transcript"),
    ("\n\nAssistant: a", "\n\nAssistant: b", "have nothing before it"),
    (3, HUMAN, "the field 'chosen' is a number"),
])
def test_transcripts_that_do_not_share_a_prompt_are_told(chosen, rejected, said):
    with pytest.raises(ValueError, match=said):
        preference_from({"chosen": chosen, "rejected": rejected})


def test_a_field_that_is_missing_is_named_with_those_that_are_there():
    with pytest.raises(ValueError, match="'rejected' is missing: .* not prompt, chosen"):
        preference_from({"prompt": "Hi", "chosen": "Hello"})


def test_files_are_read_and_the_first_fault_is_told_with_its_line(tmp_path):
    path = tmp_path / "pairs.jsonl.gz"
    good = preference_fields(BETTER)
    write_objects(path, [good, good | {"rejected": "Hello"}, {"a": 1}, good])
    with pytest.raises(ValueError, match=r"pairs.jsonl.gz, line 2: chosen and rejected are equal"):
        read_preferences(path)
    left_out = []
    assert read_preferences(path, left_out) == [BETTER, BETTER]
    assert [f"line {n}:" in text for n, text in zip((2, 3), left_out, strict=True)] == [True] * 2


def test_a_file_without_an_example_is_told(tmp_path):
    (tmp_path / "empty").write_text("\n\n", encoding="utf-8")
    for read in (read_conversations, read_preferences):
        with pytest.raises(ValueError, match="empty: it holds no example"):
            read(tmp_path / "empty")


@pytest.mark.parametrize("conversation", [Conversation(HI),
                                          Conversation((("system", "ö"), *HI, *HI))])
def test_conversations_come_back_from_a_file(tmp_path, conversation):
    write_objects(tmp_path / "a", [conversation_fields(conversation)])
    assert read_conversations(tmp_path / "a") == [conversation]


@pytest.mark.parametrize("prompt", [ASKED, (("system", "s"), ("user", "u")),
                                    (*HI, ("user", "Why?"))])
def test_preferences_come_back_from_a_file(tmp_path, prompt):
    pair = Preference(prompt, "a", "b", 0.5)
    write_objects(tmp_path / "a", [preference_fields(pair)])
    assert read_preferences(tmp_path / "a") == [pair]


NAMES = st.sampled_from(["messages", "conversations", "prompt", "completion", "chosen", "rejected",
                         "instruction", "input", "output", "margin", "role", "content", "from",
                         "value", "user", "assistant", "human", "gpt", ""])
LEAVES = st.one_of(NAMES, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
                   st.sampled_from(["\n\nHuman: a\n\nAssistant: b", "\n\nHuman:", "\ud800"]))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_any_object_is_an_example_or_refused_in_one_sentence(fields):
    fields = json.loads(json.dumps(fields))
    for parse, back in ((conversation_from, conversation_fields),
                        (preference_from, preference_fields)):
        try:
            found = parse(fields)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
        else:
            assert parse(back(found)) == found
