"""Lesson 4.113 · Turns: a conversation as tokens, and which of them are to be learnt

Needs characters, chat_template, conversations. Used by packing.

Idea      A model that continues text becomes one that answers by being shown conversations in a
          fixed form, with marks for where an answer begins and ends. It should learn to write the
          answers and not the questions: of every token we note whether its loss counts. The mark
          that ends an answer counts too, or the model would never stop talking. A model that others
          have trained comes with a form of its own, its chat template. For our small ones the
          plainest form does: every message of the user is a line, and an answer ends as a document
          does.
Math      plain    ⟨end⟩ question ⏎ answer ⟨end⟩ question ⏎ answer ⟨end⟩                        (1)
          mask     0     0 … 0   0  1 … 1  1     0 … 0   0  1 … 1  1
          loss = Σ mask[t]·(−ln p(id[t] | id[0 … t − 1])) / Σ mask[t]                           (2)
Shapes    ids (N,) int32 · mask (N,) int8: 1 where a token is learnt
          x = ids[:-1] · y = ids[1:], −1 where the mask of that token is 0
Pitfalls  Masks belong to the token that is predicted, so targets are masked, not inputs: one place
          too late teaches the model to ask, one too early that answers have no first word.
          The prompt is encoded by itself, and so is the answer. As one text their border may lie
          inside a token, which the model would never see when it is asked something.
          Special tokens are made by the form alone. A user who writes <|endoftext|> gets its
          characters, or an error where they are none of the tokenizer's.
          Templates may write an earlier message otherwise once more follow: what a model thought
          is taken out. Then there is no one text to learn from, and it is refused.
Cost      That of encoding; a template is filled in twice for each answer.
Try       build it    learn a loss on the prompts too, weighted by 0.1. What changes?
          break it    leave the end mark out of the mask. Which test notices, and what would a model
                      do that was trained so?
          measure it  python -m tinygrad_edu.data.turns: tokens and mask of one conversation
See       Ouyang et al. 2022, section 3 · Huerta-Enochian, Ko 2024 (a loss on prompts) · lesson
          chat_template
"""

import numpy as np

from tinygrad_edu.data.conversations import Conversation
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.chat_template import encode_chat, render_chat, texts_in


class Turns:
    """The plain form (1), for a tokenizer that has the special token END_OF_TEXT.

    stop: ids at which an answer ends, for whoever generates one.
    """

    def __init__(self, tokenizer):
        if END_OF_TEXT not in tokenizer.special:
            raise ValueError(f"the tokenizer has no token {END_OF_TEXT} to end an answer with; a "
                             "model of others needs its own chat template")
        self.tokenizer = tokenizer
        self.stop = (tokenizer.special[END_OF_TEXT],)

    def prompt(self, messages):
        """Ids, (N,) int32, of messages (role, text), up to where the answer begins."""
        return np.concatenate([ids for ids, _ in self._parts(messages)]).astype(np.int32)

    def tokens_and_mask(self, conversation):
        """(ids, mask), each (N,), of a Conversation: (1)."""
        return joined(self._parts(conversation.messages))

    def _parts(self, messages):
        """Pairs (ids, whether they are learnt)."""
        yield [*self.stop], False
        for role, text in messages:
            learnt = role == "assistant"
            yield self.tokenizer.encode(text), learnt
            yield ([*self.stop], True) if learnt else (self.tokenizer.encode("\n"), False)


class ChatTurns:
    """The form that a chat template writes, otherwise as `Turns`.

    names: what lesson chat_template's `read_chat_template` returns beside the template.
    """

    def __init__(self, tokenizer, template, names=None):
        self.tokenizer, self.template = tokenizer, template
        self.names = dict(names or {})
        ids, mask = self.tokens_and_mask(Conversation((("user", "a"), ("assistant", "b"))))
        last = int(ids[mask == 1][-1])
        # What the template ends an answer with, and what the tokenizer calls the end of a text.
        ends = {last} & {*tokenizer.special.values()}
        if self.names.get("eos_token") in tokenizer.special:
            ends.add(tokenizer.special[self.names["eos_token"]])
        if not ends:
            raise ValueError("this chat template ends an answer with no special token, and the "
                             "model names no eos_token: nothing would stop an answer")
        self.stop = tuple(sorted(ends))

    def prompt(self, messages):
        """Ids, (N,) int32, of messages (role, text), up to where the answer begins."""
        return encode_chat(self.tokenizer, self.template, dicts(messages), **self.names)

    def tokens_and_mask(self, conversation):
        """(ids, mask), each (N,), of a Conversation."""
        self._refuse_special(conversation.messages)
        return joined(self._parts(conversation.messages))

    def _parts(self, messages):
        """Pairs (ids, whether they are learnt): the text between answers, an answer, …"""
        done = ""
        for place, (role, answer) in enumerate(messages):
            if role != "assistant":
                continue
            before = self._text(messages[:place], done, add_generation_prompt=True)
            yield self._ids(before, bool(done)), False
            done += before
            after = self._text(messages[: place + 1], done)
            end = self._end(after, answer)
            yield self._ids(after[:end], True), True
            yield self._ids(after[end:], True), False
            done += after

    def _text(self, messages, done, **more):
        """What the template writes for these messages behind the text `done`."""
        text = render_chat(self.template, dicts(messages), **self.names, **more)
        if not text.startswith(done):
            raise ValueError("this chat template writes a message otherwise once others follow, so "
                             "its answers are no part of one text: train on conversations with one "
                             "answer, or on a template without that")
        return text[len(done):]

    def _end(self, text, answer):
        """Where in the text behind a prompt the answer and the mark that ends it are over."""
        start = text.find(answer.strip()) + len(answer.strip())
        places = [(text.find(name, start), name) for name in self.tokenizer.special]
        place, name = min((found for found in places if found[0] >= 0), default=(len(text), ""))
        return place + len(name)

    def _ids(self, text, inside):
        """The ids of a piece of text; inside: other text stands before it.

        Some tokenizers put a space before a text: behind a special token they see that it is none.
        """
        bare = {"wrap": False} if hasattr(self.tokenizer, "template") else {}
        anchor = next(iter(self.tokenizer.special), "") if inside else ""
        ids = self.tokenizer.encode(anchor + text, allowed_special="all", **bare)
        return ids[1:] if anchor else ids

    def _refuse_special(self, messages):
        for text in texts_in(messages):
            found = next((name for name in self.tokenizer.special if name in text), None)
            if found:
                raise ValueError(f"a message holds {found!r}, which is a special token: whoever "
                                 "may write it can speak for others; remove it")


def dicts(messages):
    """Messages as chat templates want them."""
    return [{"role": role, "content": text} for role, text in messages]


def joined(parts):
    """(ids, mask) of pairs (ids, whether they are learnt)."""
    parts = [(np.asarray(ids, np.int32), learnt) for ids, learnt in parts]
    ids = np.concatenate([ids for ids, _ in parts])
    mask = np.concatenate([np.full(len(ids), learnt, np.int8) for ids, learnt in parts])
    return ids, mask


def inputs_and_targets(ids, mask):
    """(x, y) of a model's loss, each (N − 1,): y is −1 where nothing is learnt, (2)."""
    return ids[:-1], np.where(mask[1:] == 1, ids[1:], -1)


if __name__ == "__main__":
    from tinygrad_edu.tokenizers.characters import train_characters

    talk = Conversation((("user", "58+67"), ("assistant", "125")))
    ids, mask = Turns(train_characters("0123456789+\n")).tokens_and_mask(talk)
    print(f"ids={ids.tolist()} mask={mask.tolist()}")
