"""Small random models of every family beside the package transformers, logit by logit."""

import json

import numpy as np
import pytest

from tinygrad_edu.models.bert import Bert
from tinygrad_edu.models.embedder import UNUSED, bert_config, from_published
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.published import load_published, read_json, read_weights
from tinygrad_edu.tensor import no_grad

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZE = {"vocab_size": 199, "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def rotary(kind, **settings):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


FAMILIES = {
    "gpt2": ("GPT2", {"vocab_size": 199, "n_positions": 128, "n_embd": 64, "n_layer": 3,
                      "n_head": 4}),
    "llama": ("Llama", SIZE),
    "llama tied": ("Llama", SIZE | {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    "llama3": ("Llama", SIZE | rotary("llama3", factor=8.0, low_freq_factor=1.0,
                                      high_freq_factor=4.0, original_max_position_embeddings=32)),
    "linear": ("Llama", SIZE | rotary("linear", factor=4.0)),
    "yarn": ("Llama", SIZE | rotary("yarn", factor=4.0, original_max_position_embeddings=32)),
    "mistral": ("Mistral", SIZE | {"sliding_window": 9}),
    "qwen2": ("Qwen2", SIZE | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", SIZE | {"head_dim": 24}),
}
IDS = np.random.default_rng(0).integers(0, 199, (2, 40))


def theirs_of(name):
    torch.manual_seed(0)
    kind, settings = FAMILIES[name]
    config = getattr(transformers, f"{kind}Config")(**settings)
    suffix = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    model = getattr(transformers, kind + suffix)(config).eval()
    for parameter in model.parameters():            # biases and norms away from 0 and 1
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def logits(model):
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.tensor(IDS)).logits.numpy()
    with no_grad():
        return model(IDS).numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder_of_theirs_has_the_same_logits_here(name, tmp_path):
    theirs = theirs_of(name)
    theirs.save_pretrained(tmp_path)
    assert np.abs(logits(load_published(tmp_path)) - logits(theirs)).max() <= 1e-4


def test_a_folder_in_several_files_has_the_same_logits_here(tmp_path):
    theirs = theirs_of("llama")
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert np.abs(logits(load_published(tmp_path)) - logits(theirs)).max() <= 1e-4


def test_bert_has_the_same_stream_here_and_padding_does_not_count(tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=199, hidden_size=64, intermediate_size=112,
                                     num_hidden_layers=3, num_attention_heads=4)
    theirs = transformers.BertModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    theirs.save_pretrained(tmp_path)
    published = read_json(tmp_path / "config.json")
    ours = Bert(bert_config(published), None)
    ours.load_state(from_published(read_weights(tmp_path, UNUSED)))
    own = np.arange(40) < np.array([[40], [23]])
    with torch.no_grad():
        expected = theirs(torch.tensor(IDS), attention_mask=torch.tensor(own)).last_hidden_state
    with no_grad():
        found = ours(IDS, [40, 23]).numpy()
    assert np.abs(found - expected.numpy())[own].max() <= 1e-4


OURS = {"gpt2": None, "llama": {"base": 500.0, "eps": 1e-3}, "untied": {"tied": False},
        "qwen2": {"offsets": True}, "qwen3": {"head_norms": True, "head_width": 24},
        "mistral": {"window": 4}}


@pytest.mark.parametrize("name", OURS)
def test_a_folder_of_ours_has_the_same_logits_there(name, tmp_path):
    random = np.random.default_rng(0)
    if name == "gpt2":
        ours = GPT(GPTConfig(199, 64, 2, 4, 32), random)
    else:
        config = LlamaConfig(vocabulary=199, context=64, layers=2, heads=4, groups=2, width=32,
                             hidden=48, **OURS[name])
        ours = Llama(config, random)
    for tensor in ours.parameters():
        tensor.assign(tensor.data * 3 + 0.1 * random.standard_normal(tensor.shape))
    save_published(tmp_path, ours.eval())
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] in (name, "llama")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert np.abs(logits(ours) - logits(theirs)).max() <= 1e-4
