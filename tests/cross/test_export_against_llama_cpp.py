"""Models of ours, trained for a few steps and written as GGUF, in llama.cpp.

    pip install llama-cpp-python                                compiles for some minutes
"""

from itertools import islice

import numpy as np
import pytest

from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.rlhf.lora import add_lora, merge_lora
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.gguf_tokenizer import to_fields

llama_cpp = pytest.importorskip("llama_cpp")

TEXT = ("The cat sat on the mat, and the dog did not. The dog ran to the door; the cat saw it. "
        "In 1987 there were 12 cats here, and nobody counted the dogs. ") * 12
OTHER = "A bird flew over the house, and nobody in the house saw the bird that flew. " * 12
SIZE = {"context": 96, "layers": 2, "heads": 4, "width": 64}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT.encode()], 300)


def trained(kind, tokenizer):
    """A model that has learnt the text well enough to be sure of most tokens."""
    random, size = np.random.default_rng(0), SIZE | {"vocabulary": tokenizer.vocab_size}
    if kind == "gpt2":
        model = GPT(GPTConfig(**size), random)
    else:
        more = {"qwen2": {"offsets": True, "tied": False}, "qwen3": {"head_norms": True}}
        model = Llama(LlamaConfig(**size, groups=2, hidden=96, base=5000.0, **more.get(kind, {})),
                      random)
    return learnt(model, tokenizer.encode(TEXT), 60, 3e-3)


def learnt(model, ids, steps, rate):
    """The model after some steps on a text."""
    random, optimizer = np.random.default_rng(0), AdamW(model.named_parameters())
    for _ in range(steps):
        starts = random.integers(0, len(ids) - 33, 8)
        batch = np.stack([ids[start : start + 33] for start in starts])
        model.loss(batch[:, :-1], batch[:, 1:]).backward()
        optimizer.step(lr=rate, clip=1.0)
    return model.eval()


def in_llama_cpp(path):
    return llama_cpp.Llama(str(path), n_ctx=SIZE["context"], logits_all=True, verbose=False,
                           n_threads=1)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "qwen3"])
def test_a_model_trained_here_writes_the_same_tokens_in_llama_cpp(kind, tokenizer, tmp_path):
    model, prompt = trained(kind, tokenizer), b"The dog ran to"
    ids = tokenizer.encode(prompt.decode()).tolist()
    # There keys and values are kept in 16 bits, and rows are cut to 8 bits for a product with Q8_0:
    # where the two likeliest tokens are close, the other one may come first.
    for weights, tolerance in (("F32", 0.02), ("F16", 0.02), ("Q8_0", 0.5)):
        save_gguf_model(tmp_path / "it.gguf", model, to_fields(tokenizer), weights)
        ours, _ = load_gguf_model(tmp_path / "it.gguf")
        theirs = in_llama_cpp(tmp_path / "it.gguf")
        assert theirs.tokenize(prompt, add_bos=False) == ids
        expected = list(generate(ours, ids, 30, None, greedy=True))
        if weights != "Q8_0":
            found = list(islice(theirs.generate(ids, temp=0.0, repeat_penalty=1.0), 30))
            assert found == expected and len(set(found)) > 5
        with no_grad():
            logits = ours(np.array([ids + expected])).numpy()[0]
        theirs.reset()
        theirs.eval(ids + expected)
        assert np.abs(theirs.scores[: len(logits)] - logits).max() <= tolerance
        theirs.close()


def test_an_adapter_that_was_merged_writes_the_same_tokens_in_llama_cpp(tokenizer, tmp_path):
    model, prompt = trained("llama", tokenizer), tokenizer.encode("A bird flew").tolist()
    before = list(generate(model, prompt, 64, None, greedy=True))
    learnt(add_lora(model, rank=8), tokenizer.encode(OTHER), 60, 1e-2)
    expected = list(generate(model, prompt, 64, None, greedy=True))
    assert expected != before
    save_gguf_model(tmp_path / "it.gguf", merge_lora(model), to_fields(tokenizer))
    theirs = in_llama_cpp(tmp_path / "it.gguf")
    found = list(islice(theirs.generate(prompt, temp=0.0, repeat_penalty=1.0), 64))
    assert found == expected and len(set(found)) > 5
    theirs.close()
