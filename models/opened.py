"""Lesson 4.54 · Open: a model and its tokenizer, in whatever they were saved

Needs characters, chat_template, gguf_model, gguf_tokenizer, kernel, llama, open_models,
packed_llama, published, run, tokenizer_file.
Used by scripts/generate.py, scripts/chat.py, scripts/perplexity.py, scripts/bench_decode.py.

Idea      There are three places where a model may lie: the folder that a training run of ours left,
          a folder of safetensors as models are published in, and a GGUF file. Each has weights, a
          tokenizer, and a word on how a text begins and ends, in another spelling. Behind this door
          they are all the same: something that turns text into numbers, numbers into likely next
          numbers, and numbers into text.
Math      none
Shapes    a path -> an Opened: model, tokenizer, ends (ids), template (text or None)
Pitfalls  How a text begins is part of the model. A run of ours has seen the mark of an end before
          every document; Llama 2 a mark of its own; SmolLM2 nothing. Who begins otherwise gets a
          worse model without a word.
          How an answer ends, too: a model that is never stopped goes on and writes the next
          question as well. There may be several such marks.
Cost      That of the weights: they are read once, and those of a GGUF file stay as they are.
Try       build it    a folder of several GGUF files, as very large models come.
          break it    leave out the begin of a run's texts, and ask scripts/perplexity.py.
          measure it  python scripts/generate.py MODEL --max-new 1: the time is that of this lesson.
See       the lessons run, published and gguf_model
"""

from dataclasses import dataclass, field

from tinygrad_edu.data.open_models import MODELS, located
from tinygrad_edu.kernel import backends
from tinygrad_edu.models.gguf_model import load_gguf_model
from tinygrad_edu.models.llama import Llama
from tinygrad_edu.models.packed_llama import PackedLlama
from tinygrad_edu.models.published import load_published, read_json
from tinygrad_edu.models.run import load_run
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.tokenizers.chat_template import encode_chat, read_chat_template
from tinygrad_edu.tokenizers.gguf_tokenizer import from_fields
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer

GGML = "tokenizer.ggml."


class TooLong(ValueError):
    """A text of more tokens than a model reads."""


@dataclass
class Opened:
    """A model that can be asked, and what belongs to it."""

    model: object
    tokenizer: object
    ends: tuple = ()                               # ids, any of which ends a text
    begins: tuple = ()                             # ids before a text, beside the tokenizer's own
    template: str | None = None                    # of conversations
    names: dict = field(default_factory=dict)      # of special tokens, which the template may use

    def ids(self, text):
        """A text as a list of ids, with what the model expects before it.

        ValueError where it has no token at all, or more than the model's context.
        """
        found = [*self.begins, *map(int, self.tokenizer.encode(text))]
        return self.fitting(found)

    def chat(self, messages, answer=0):
        """A conversation as a list of ids, up to where the model's answer begins.

        answer: how many tokens it shall have room for.
        """
        if self.template is None:
            raise ValueError("this model has no chat template: it only continues texts, with "
                             "scripts/generate.py")
        found = encode_chat(self.tokenizer, self.template, messages, **self.names)
        return self.fitting([int(i) for i in found], answer)

    def fitting(self, ids, more=0):
        """The ids, if the model can read so many, and some more. TooLong where it cannot."""
        if not ids:
            raise ValueError("the text is empty: give the model something to begin with")
        if len(ids) + more > self.model.config.context:
            raise TooLong(f"the text has {len(ids)} tokens, and this model reads "
                          f"{self.model.config.context} at most")
        return ids


def open_model(path, widen=False):
    """What lies at a path, ready to be asked: an Opened. OSError or ValueError in one sentence.

    widen: all weights of a GGUF file become float32; else those of a Llama stay in their blocks,
    where there is C or Numba to multiply them.
    path: also the name of a model that has been fetched (lesson open_models).
    """
    path = located(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no model {path}: give a run folder, a published folder, "
                                f"a .gguf file, or one of the names {', '.join(MODELS)}")
    if path.is_file():
        found = open_gguf(path, widen)
    elif (path / "config.json").is_file():
        found = open_published(path)
    elif path.is_dir() and not (path / "checkpoint.safetensors").is_file():
        raise FileNotFoundError(f"there is no model in {path}: neither config.json, as published "
                                "ones have, nor checkpoint.safetensors, as runs of ours have")
    else:
        model, tokenizer = load_run(path)
        end = tokenizer.special[END_OF_TEXT]
        found = Opened(model, tokenizer, (end,), (end,))
    tokens, rows = found.tokenizer.vocab_size, found.model.config.vocabulary
    if tokens > rows:
        raise ValueError(f"{path}: its tokenizer has {tokens} tokens, its model only {rows}")
    return found


def open_gguf(path, widen=False):
    """A GGUF file."""
    # The reference of products with blocks is no match for floats and BLAS. Loops are.
    packs = not widen and any(backends[name].available() for name in ("native", "numba"))
    model, file = load_gguf_model(path, PackedLlama if packs else Llama)
    try:
        tokenizer = from_fields(file.settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    special = {}
    for word in ("bos", "eos", "eot", "unknown", "padding"):
        index = file.settings.get(f"{GGML}{word}_token_id")
        if type(index) is int and 0 <= index < tokenizer.vocab_size:
            special[word] = index
    names = {f"{word}_token": tokenizer.tokens[index].decode("utf-8", "replace")
             for word, index in special.items() if word in ("bos", "eos")}
    ends = tuple({special[word] for word in ("eos", "eot") if word in special})
    template = file.settings.get("tokenizer.chat_template")
    return Opened(model, tokenizer, ends, (), template, names)


def open_published(folder):
    """A folder of safetensors. What ends a text stands in one of two files, as a number or more."""
    model, tokenizer = load_published(folder), load_tokenizer(folder)
    template, names = read_chat_template(folder)
    ends = set()
    for name in ("config.json", "generation_config.json"):
        found = read_json(folder / name) if (folder / name).is_file() else {}
        found = found.get("eos_token_id")
        ends.update(found if isinstance(found, list) else [found])
    return Opened(model, tokenizer, tuple(ends - {None}), (), template, names)
