"""Lesson 4.112 · Conversations and preferences: five ways to write them down, read into one

Needs jsonl. Used by turns, curation, preference_pairs.

Idea      An assistant learns from two kinds of examples. A conversation shows what to answer. A
          preference shows two answers to the same words and says which one people, or a program,
          liked better. Everybody who published such examples invented a form of their own; here
          each is read into one of two small classes, and nothing behind this file knows that there
          were forms. An example that cannot teach anything, an empty answer, two equal ones, is
          refused with its line, since averaging over it would hide it for ever.
Math      none
Shapes    messages      {"messages": [{"role": "user", "content": "Hi"}, …]}
          ShareGPT      {"conversations": [{"from": "human", "value": "Hi"}, …]}
          Alpaca        {"instruction": …, "input": …, "output": …}, "input" may be absent or empty
          completion    {"prompt": …, "completion": …}
          preference    {"prompt": …, "chosen": …, "rejected": …}: texts, or lists of messages, with
                        or without the prompt's in front; "margin": by how much, may be absent
          transcripts   {"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": …} with the same
                        beginning, as in HH-RLHF
          a message here is (role, text), with the role "system", "user" or "assistant"
Pitfalls  A conversation has to end with an answer: what comes behind the last one teaches nothing.
          In transcripts the prompt is what both have in common *turn by turn*. The longest common
          text would cut two answers that begin with the same word.
          An answer may itself contain "\\n\\nHuman:"; in transcripts that cannot be told apart.
          Roles have many names: human, gpt, bot, model. A role that nobody knows is refused: to
          guess who speaks is to train a model to speak as the user.
Cost      Reading is lesson jsonl's; all examples are in memory, as text.
Try       build it    the form of KTO: {"prompt", "completion", "label": true or false}.
          break it    take the longest common text as a transcript's prompt. Which test notices?
          measure it  python scripts/make_data.py --check FILE, on a file of your own
See       Taori et al. 2023 (Alpaca) · Bai et al. 2022 (HH-RLHF) · huggingface/trl, documentation,
          "Dataset formats"
"""

import re
from dataclasses import dataclass

from tinygrad_edu.data.jsonl import fault_of_line, kind_of, read_objects

ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant",
         "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


@dataclass(frozen=True)
class Conversation:
    """Messages (role, text), of which the last one is an answer."""

    messages: tuple

    @property
    def prompt(self):
        """What stands before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self):
        """The last answer."""
        return self.messages[-1][1]


@dataclass(frozen=True)
class Preference:
    """Messages (role, text), and two answers to them: one was liked better, by some margin."""

    prompt: tuple
    chosen: str
    rejected: str
    margin: float = 0.0


def read_conversations(path, left_out=None, check=None):
    """A list of Conversations from a file of lesson jsonl, in any form but those of preferences.

    ValueError, with file, line and field, for the first that is wrong; with a list `left_out` the
    sentence goes there and reading goes on. check: called with each, may raise ValueError, too, say
    for one that is too long for a model. OSError where the file cannot be read.
    """
    return read(path, conversation_from, left_out, check)


def read_preferences(path, left_out=None, check=None):
    """A list of Preferences, otherwise as `read_conversations`."""
    return read(path, preference_from, left_out, check)


def read(path, parse, left_out, check=None):
    """What `parse` makes of every line."""
    found = []
    for number, fields in read_objects(path, left_out):
        with fault_of_line(path, number, left_out):
            example = parse(fields)
            if check:
                check(example)
            found.append(example)
    if not found and not left_out:
        raise ValueError(f"{path} is empty: it holds no example")
    return found


def conversation_from(fields):
    """A Conversation from a dict of any of the forms; ValueError naming the field."""
    if "messages" in fields:
        messages = messages_from(fields, "messages", "role", "content")
    elif "conversations" in fields:
        messages = messages_from(fields, "conversations", "from", "value")
    elif "instruction" in fields:
        question = text_of(fields, "instruction")
        more = text_of(fields, "input") if fields.get("input") else ""
        question += f"\n\n{more}" if more else ""
        messages = ("user", question), ("assistant", text_of(fields, "output"))
    elif "completion" in fields:
        answer = answer_of(fields, "completion", ())
        messages = (*prompt_of(fields), ("assistant", answer))
    else:
        known = "messages, conversations, instruction and output, or prompt and completion"
        raise ValueError(f"a conversation has the fields {known}, not {listed(fields)}")
    if messages[-1][0] != "assistant":
        raise ValueError(f"the last message is the {messages[-1][0]}'s: a conversation that is to "
                         "be learnt from ends with an answer of the assistant")
    return Conversation(messages)


def preference_from(fields):
    """A Preference from a dict of either form; ValueError naming the field."""
    missing = [name for name in ("chosen", "rejected") if name not in fields]
    if missing:
        raise ValueError(f"the field {missing[0]!r} is missing: a preference has prompt, chosen "
                         f"and rejected, not {listed(fields)}")
    if "prompt" in fields:
        prompt = prompt_of(fields)
        chosen, rejected = (answer_of(fields, name, prompt) for name in ("chosen", "rejected"))
    else:
        told = [turns_of(fields, name) for name in ("chosen", "rejected")]
        # Both transcripts have the prompt in them, turn by turn.
        prompt, other = (turns[:-1] for turns in told)
        chosen, rejected = (turns[-1][1] for turns in told)
        if prompt != other or not prompt:
            raise ValueError("chosen and rejected differ before their last answer, or have nothing "
                             "before it: there is no prompt that both answer")
    if chosen == rejected:
        raise ValueError("chosen and rejected are equal: nothing is preferred to anything")
    return Preference(prompt, chosen, rejected, margin_of(fields))


def prompt_of(fields):
    """The messages before an answer: a text is one message of the user."""
    if isinstance(fields.get("prompt"), list):
        prompt = messages_from(fields, "prompt", "role", "content")
    else:
        text = text_of(fields, "prompt")
        prompt = (("user", text),)
        # Some copies of HH-RLHF have cut the transcript off where the answer begins.
        if text.lstrip().startswith("Human:"):
            prompt = transcript(re.sub(r"\n\nAssistant:\s*\Z", "", text), "prompt")
    if prompt[-1][0] == "assistant":
        raise ValueError("the field 'prompt' ends with an answer: it ends with words of the user")
    return prompt


def answer_of(fields, name, prompt):
    """The text of an answer that may be a text, or messages, with or without the prompt's."""
    if not isinstance(fields.get(name), list):
        return text_of(fields, name)
    messages = messages_from(fields, name, "role", "content")
    if messages[:len(prompt)] == prompt:
        messages = messages[len(prompt):]
    if len(messages) != 1 or messages[0][0] != "assistant":
        raise ValueError(f"the field {name!r} has to add one answer of the assistant to the prompt")
    return messages[0][1]


def turns_of(fields, name):
    """The messages of a whole transcript, a text or a list, that ends with an answer."""
    if isinstance(fields[name], list):
        turns = messages_from(fields, name, "role", "content")
    else:
        turns = transcript(text_of(fields, name), name)
    if turns[-1][0] != "assistant":
        raise ValueError(f"the field {name!r} does not end with an answer of the assistant")
    return turns


def transcript(text, name):
    """Messages from "\\n\\nHuman: …\\n\\nAssistant: …"."""
    before, *parts = re.split(r"(?:\A\s*|\n\n)(Human|Assistant):", text)
    if before.strip() or not parts:
        raise ValueError(f"the field {name!r} is no transcript, which begins with Human: (without "
                         "a field 'prompt' both answers need the words before them)")
    turns = []
    for who, said in zip(parts[::2], parts[1::2], strict=True):
        if not said.strip():
            raise ValueError(f"in the field {name!r} a turn of {who} is empty")
        turns.append(("user" if who == "Human" else "assistant", said.strip()))
    return tuple(turns)


def messages_from(fields, name, role, content):
    """Messages from a list of objects; ValueError naming the place in it."""
    found = fields[name]
    if not isinstance(found, list) or not found:
        raise ValueError(f"the field {name!r} is {kind_of(found)}, it has to be a list of messages "
                         "with one or more in it")
    messages = []
    for place, message in enumerate(found, start=1):
        if not isinstance(message, dict):
            raise ValueError(f"message {place} of {name!r} is {kind_of(message)}, not an object")
        who = message.get(role)
        if not isinstance(who, str) or who not in ROLES:
            raise ValueError(f"message {place} of {name!r} has the {role} {str(who)[:40]!r}: one "
                             f"of {', '.join(ROLES)} is needed")
        text = text_of(message, content, f" of message {place} of {name!r}")
        messages.append((ROLES[who], text))
    return tuple(messages)


def text_of(fields, name, where=""):
    """A field that is text, with something in it."""
    if name not in fields:
        raise ValueError(f"the field {name!r}{where} is missing")
    text = fields[name]
    if not isinstance(text, str):
        raise ValueError(f"the field {name!r}{where} is {kind_of(text)}, it has to be text")
    if not text.strip():
        raise ValueError(f"the field {name!r}{where} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the field {name!r}{where} holds half a character (a lone \\ud800 to "
                         "\\udfff)") from None
    return text


def margin_of(fields):
    """By how much the chosen answer is better; 0.0 where nobody says."""
    margin = fields.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1e6:
        raise ValueError("the field 'margin' has to be a number from 0 to a million")
    return float(margin)


def listed(fields):
    """The names of the fields that were found, for a message."""
    return ", ".join(name[:40] for name in [*fields][:8]) or "none at all"


def conversation_fields(conversation):
    """The dict of a Conversation, in the form "messages"."""
    return {"messages": [{"role": role, "content": text} for role, text in conversation.messages]}


def preference_fields(preference):
    """The dict of a Preference; the prompt as messages unless it is one of the user."""
    prompt = preference.prompt
    if len(prompt) == 1 and prompt[0][0] == "user":
        prompt = prompt[0][1]
    else:
        prompt = conversation_fields(Conversation(prompt))["messages"]
    fields = {"prompt": prompt, "chosen": preference.chosen, "rejected": preference.rejected}
    return fields | ({"margin": preference.margin} if preference.margin else {})
