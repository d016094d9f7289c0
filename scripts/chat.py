"""Talk with a model.

    python scripts/chat.py smollm2

MODEL is a .gguf file or a published folder, with a chat template, or the name of a model that
fetch_model.py has fetched. /reset begins anew, /exit or the end of the input ends. Behind each
answer stands how fast it came.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_edu.inference.cache import CACHES
from tinygrad_edu.inference.decoding import Reading, generate, text_of
from tinygrad_edu.models.opened import TooLong, open_model
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """With whom to talk, and how."""

    model: Path = option(help="folder of safetensors, .gguf file, or name", positional=True)
    system: str | None = option(None, "what the model is told before the conversation")
    max_new: int = option(500, "tokens of an answer at most", low=1)
    temperature: float = option(0.6, "below 1 safer, above 1 wilder", low=0.01)
    top_p: float | None = option(0.9, "draw from the likeliest tokens that together reach p",
                                 low=0.0, high=1.0)
    penalty: float = option(1.1, "above 1: what was there is less likely", low=1.0)
    greedy: bool = option(False, "always take the likeliest token")
    float32: bool = option(False, "widen the weights of a .gguf file; else x is rounded to 8 bits "
                           "where they are small integers")
    cache: str = option("float", "what keys and values are kept as", choices=tuple(CACHES))
    seed: int = option(1, "of the draws", low=0)


def main():
    """Read questions and stream answers, until the input ends."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        opened = open_model(settings.model, settings.float32)
        opened.chat([{"role": "user", "content": "Hello"}])  # without a template it ends here
        reading = Reading(opened.model, [[]], opened.model.config.context, settings.cache)
    random = np.random.default_rng(settings.seed)
    begin = [{"role": "system", "content": settings.system}] if settings.system else []
    messages, turns, count, seconds = list(begin), 0, 0, 0.0
    for question in questions():
        if question == "/reset":
            messages = list(begin)
            print("(a new conversation)")
            continue
        messages.append({"role": "user", "content": question})
        try:
            prompt = fitting(opened, messages, len(begin), settings.max_new)
        except ValueError as error:                # too long, or a special token in the question
            messages.pop()
            print(f"({error}; ask otherwise, or /reset)")
            continue
        text, new, took = answer(settings, opened, reading, prompt, random)
        messages.append({"role": "assistant", "content": text})
        turns, count, seconds = turns + 1, count + new, seconds + took
    print(f"turns={turns} tokens={count} tokens_per_s={count / max(seconds, 1e-9):.1f} "
          f"seed={settings.seed}")


def fitting(opened, messages, begin, most):
    """The ids of a conversation. Where it no longer fits, its oldest turns are dropped, and said.

    A quarter of the context is left for the answer, or what the answer may have at most.
    """
    room = min(most, opened.model.config.context // 4)
    for dropped in range((len(messages) - begin) // 2 + 1):
        kept = messages[:begin] + messages[begin + 2 * dropped :]  # a question with its answer less
        alone = len(kept) == begin + 1             # then only the question could be shorter
        try:
            ids = opened.chat(kept, 0 if alone else room)
        except TooLong:
            if alone:
                raise
            continue
        if dropped:
            print(f"(the conversation is too long for this model: {dropped} of the oldest "
                  "questions with their answers are forgotten)")
            messages[:] = kept
        return ids


def questions():
    """The lines of the input, with a mark before each where somebody types them."""
    shown = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(shown).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line == "/exit":
            return
        if line:
            yield line


def answer(settings, opened, reading, prompt, random):
    """(text, tokens, seconds) of one answer, which is printed as it comes. Ctrl-C cuts it short.

    Only what the conversation has got since the last answer is read.
    """
    room = min(settings.max_new, opened.model.config.context - len(prompt) + 1)
    choice = {name: getattr(settings, name)
              for name in ("greedy", "temperature", "top_p", "penalty")}
    text, ids, began = "", [], time.perf_counter()
    known, first = reading.turn_to(prompt), None

    def kept():
        nonlocal first
        for token in generate(opened.model, prompt, room, random, opened.ends, reading=reading,
                              **choice):
            first = first or time.perf_counter() - began
            ids.append(token)
            yield token

    try:
        for piece in text_of(opened.tokenizer, kept()):
            text += piece
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        pass
    took = time.perf_counter() - began
    print(f"\n({len(ids)} tokens, {len(ids) / took:.1f} a second, the first after "
          f"{first or took:.2f} s; {len(prompt) - known} of {len(prompt)} were new to read)",
          flush=True)
    return text, len(ids), took


if __name__ == "__main__":
    with program():
        main()
