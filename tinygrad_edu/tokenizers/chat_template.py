"""Lesson 4.34 · Chat templates: a conversation as one text

Needs nothing. Used by tests/tokenizers/test_chat_template.py.

Idea      A chat model continues one text, like any other. That there are messages, and who wrote
          them, is a convention of the text: "<|im_start|>user\\nHi<|im_end|>\\n". Each family of
          models was trained with its own, and answers badly to another's. So the convention is
          published with the tokenizer, as a little program in the template language Jinja: it is
          given the messages and writes the text. Here such programs are run as the package
          `transformers` runs them.
Math      text = template(messages, tools, add_generation_prompt, names of special tokens)       (1)
          add_generation_prompt ends the text where the model's answer begins
Shapes    messages: [{"role": "user", "content": "Hi"}, …] → str → ids (N,) int32
Pitfalls  A template is a program from a stranger: it runs in a sandbox, where it can neither reach
          files nor change what it is given.
          Jinja leaves a line feed behind every {% … %}; published templates are written for
          trim_blocks and lstrip_blocks, which do away with it. One line feed too many is another
          text. Who may write <|im_end|> in a message can speak for others. Once it is one text
          nobody can tell, so `encode_chat` looks at the messages, before.
          The template may write the token that begins a text; then the tokenizer must not add it
          again. Some templates write today's date: ask for a fixed `now` to get the same text
          tomorrow.
Cost      A template is compiled once; a conversation takes far less than a millisecond.
Try       build it    a template for "User: …" and "Assistant: …", five lines of Jinja.
          break it    leave out trim_blocks. Which test notices?
          measure it  python -m tinygrad_edu.tokenizers.chat_template
See       huggingface/transformers, documentation, "Chat templates" · jinja.palletsprojects.com,
          sandbox and whitespace control
"""

import json
from datetime import datetime
from functools import cache
from pathlib import Path

NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@cache
def environment():
    """Jinja as transformers sets it up. ImportError in one sentence where it is missing."""
    try:
        from jinja2 import nodes
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise ImportError("chat templates need the package jinja2: pip install jinja2") from None

    class Generation(Extension):
        """{% generation %} … {% endgeneration %} marks what the model wrote; its text is kept."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return nodes.Scope(body, lineno=line)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                         extensions=[Generation, loopcontrols])
    made.filters["tojson"] = to_json
    made.globals["raise_exception"] = complain
    return made


def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """JSON as it is; Jinja's own filter would write < as an escape, for the sake of web pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


class Refused(Exception):
    """What a template itself says against its messages."""


def complain(message):
    """What a template calls where it cannot write these messages."""
    raise Refused(message)


@cache
def compiled(template):
    """The template as a program; ValueError where it is none."""
    from_string = environment().from_string
    from jinja2 import TemplateError

    try:
        return from_string(template)
    except (TemplateError, RecursionError) as error:
        raise ValueError(f"the chat template cannot be read: {error}") from None


def render_chat(template, messages, add_generation_prompt=False, now=None, **more):
    """The text of a conversation, (1).

    messages: list of {"role": …, "content": …}. more: tools, documents, bos_token and whatever the
    template asks for. now: a datetime for templates that write the date; None is the present.
    ImportError where jinja2 is missing; ValueError where the template does not take these messages.
    """
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ValueError(f"a message is {{'role': …, 'content': …}}, not {str(message)[:60]!r}")
    program = compiled(template)
    from jinja2 import TemplateError

    def date(form):
        return (now or datetime.now()).strftime(form)

    values = {"tools": None, "documents": None, "strftime_now": date} | more
    try:
        return program.render(messages=messages, add_generation_prompt=add_generation_prompt,
                              **values)
    except Refused as error:
        raise ValueError(f"the chat template refuses these messages: {error}") from None
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError,
            RecursionError, IndexError) as error:
        raise ValueError(f"the chat template fails on these messages: {error}") from None


def encode_chat(tokenizer, template, messages, add_generation_prompt=True, **more):
    """Ids, (N,) int32, of a conversation; special tokens of the template count, those of the
    messages are refused with a ValueError.
    """
    for message in messages:
        for text in texts_in(message):
            found = next((name for name in tokenizer.special if name in text), None)
            if found:
                raise ValueError(f"a message holds {found!r}, which is a special token: whoever "
                                 "may write it can speak for others; remove it")
    text = render_chat(template, messages, add_generation_prompt, **more)
    bare = {"wrap": False} if hasattr(tokenizer, "template") else {}
    return tokenizer.encode(text, allowed_special="all", **bare)


def texts_in(value):
    """Every text inside a message, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


def read_chat_template(folder):
    """(template or None, names of special tokens) that a published model's folder holds.

    The names are a dict as templates want it: {"bos_token": "<s>", …}. OSError, ValueError.
    """
    folder, settings = Path(folder), {}
    if (folder / "tokenizer_config.json").is_file():
        try:
            settings = json.loads((folder / "tokenizer_config.json").read_bytes())
            names = {key: settings[key] for key in NAMES if settings.get(key)}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ValueError(f"{folder / 'tokenizer_config.json'} is damaged") from None
        # A name may be given as an added token, with its flags.
        names = {key: value.get("content") if isinstance(value, dict) else value
                 for key, value in names.items()}
    else:
        names = {}
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8"), names
    template = settings.get("chat_template")
    if isinstance(template, list):  # several, by name
        template = next((each.get("template") for each in template if isinstance(each, dict)
                         and each.get("name") == "default"), None)
    return template if isinstance(template, str) else None, names


if __name__ == "__main__":
    from timeit import timeit

    plain = ("{% for m in messages %}\n<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
             "{% endfor %}")
    talk = [{"role": "user", "content": "What is a fox?"}, {"role": "assistant", "content": "It."}]
    seconds = timeit(lambda: render_chat(plain, talk), number=1000) / 1000
    print(f"microseconds={seconds * 1e6:.0f} text={render_chat(plain, talk)!r}")
