"""Does what a model writes parse as Python? A GPT beside an n-gram model of the same text.

    python scripts/score_python.py runs/pystdlib --blocks 100

Both models are asked for functions, with the same tokenizer, prompt, temperature and limit of
tokens; Python's own parser is the judge. --show prints the first blocks of each.
"""

import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinygrad_edu.data.loader import bits_per_byte, token_stream
from tinygrad_edu.data.sources import is_encoded, read_corpus
from tinygrad_edu.data.token_folder import read_token_folder
from tinygrad_edu.eval.ngram import NGram
from tinygrad_edu.eval.python_blocks import PROMPT, finished, score_blocks
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.run import load_model, read_run, run_tokenizer
from tinygrad_edu.nn.config import errors_in_one_sentence, option, parse
from tinygrad_edu.tokenizers.characters import END_OF_TEXT
from tinygrad_edu.train.program import program


@dataclass
class Settings:
    """What to sample, and how much."""

    run: Path = option(help="run folder", positional=True)
    blocks: int = option(100, "blocks to sample from each model", low=1)
    order: int = option(5, "n of the n-gram model", low=1, high=9)
    max_new: int = option(200, "tokens a block may take", low=1)
    temperature: float = option(0.5, "of both models", low=0.01)
    seed: int = option(0, "of the draws", low=0)
    show: int = option(0, "blocks of each model to print", low=0)


def main():
    """Score both models and print their shares."""
    settings, _ = parse(Settings, description=__doc__.splitlines()[0])
    with errors_in_one_sentence():
        arrays, state = read_run(settings.run)
        model, tokenizer = load_model(arrays, state), run_tokenizer(settings.run, state)
        prompt = [tokenizer.special[END_OF_TEXT], *tokenizer.encode(PROMPT)]
        train, held_out, text_bytes = encoded_text(settings.run, state["settings"], tokenizer)
        rival = NGram(train, settings.order, tokenizer.vocab_size)
        loss = rival.loss(held_out)
        bits = bits_per_byte(loss, len(held_out) - 1, text_bytes)
    print(f"{settings.order}gram: {loss:.4f} nats a token on held-out text, {bits:.4f} bits a byte")

    def by_gpt(prompt, random):
        return generate(model, prompt, settings.max_new, random, temperature=settings.temperature)

    def by_ngram(prompt, random):
        return rival.sample(prompt, settings.max_new, random, settings.temperature)

    shares = {}
    for name, write in (("gpt", by_gpt), (f"{settings.order}gram", by_ngram)):
        sample = partial(written, write, tokenizer, prompt)
        bar = partial(tqdm, desc=name, unit="block", leave=False)
        score = score_blocks(sample, settings.blocks, settings.seed, bar)
        low, high = score.interval()
        print(f"{name}: {score.accepted} of {len(score.blocks)} blocks parse "
              f"(95 % interval {low:.0%} to {high:.0%})")
        for block in score.blocks[:settings.show]:
            print(f"----- {block.reason or 'accepted'}\n{block.text}")
        shares[name] = score.share
    print(" ".join(f"{name}_share={share:.2f}" for name, share in shares.items()),
          f"ratio={ratio(*shares.values())} blocks={settings.blocks} "
          f"temperature={settings.temperature:g} python={platform.python_version()}")


def ratio(first, second):
    """How many times as often the first is right, as text; of two that never are it is unknown."""
    if not second:
        return "inf" if first else "unknown"
    return f"{first / second:.2f}"


def encoded_text(run, trained, tokenizer):
    """Training tokens, held-out tokens, bytes of held-out text: as the run left them, or anew."""
    for folder in (run.absolute(), trained["data"]):
        if is_encoded(folder):
            found = read_token_folder(folder)
            return found.train, found.held_out, found.held_out_bytes
    corpus = read_corpus(trained["data"], trained.get("data_dir"))
    end = tokenizer.special[END_OF_TEXT]
    train, held_out = (token_stream(part, tokenizer.encode, end)
                       for part in (corpus.train, corpus.held_out))
    return train, held_out, corpus.held_out_bytes


def written(write, tokenizer, prompt, random):
    """PROMPT and what a model wrote after it, up to the end of the first block or the limit.

    prompt: the ids of PROMPT, the start of a document before them.
    """
    ids = []
    for token in write(np.array(prompt), random):
        ids.append(token)
        text = PROMPT + tokenizer.decode(ids)
        if finished(text):
            break
    return text


if __name__ == "__main__":
    with program():
        main()
