"""Adapters of ours in the package peft, and its adapters here, logit by logit."""

import numpy as np
import pytest

from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.rlhf.adapter import load_adapter, save_adapter
from tinygrad_edu.rlhf.lora import add_lora, lora_layers
from tinygrad_edu.tensor import no_grad

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

IDS = np.random.default_rng(0).integers(0, 97, (2, 20))


def gpt():
    config = GPTConfig(vocabulary=97, context=32, layers=2, heads=2, width=32)
    return GPT(config, np.random.default_rng(0))


def llama():
    config = LlamaConfig(vocabulary=97, context=32, layers=2, heads=4, groups=2, width=32,
                         hidden=48)
    return Llama(config, np.random.default_rng(0))


def theirs_of(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def logits(model):
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.tensor(IDS)).logits.numpy()
    with no_grad():
        return model(IDS).numpy()


@pytest.mark.parametrize("make", [gpt, llama])
def test_peft_reads_our_adapter(make, tmp_path):
    save_published(tmp_path / "base", make())
    model, random = add_lora(make(), rank=4, alpha=8.0), np.random.default_rng(1)
    for _, layer in lora_layers(model):
        layer.lora_B.assign(random.normal(0, 0.2, layer.lora_B.shape).astype(np.float32))
    save_adapter(tmp_path / "adapter", model, tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(theirs_of(tmp_path / "base"), tmp_path / "adapter")
    assert np.abs(logits(model) - logits(make())).max() > 0.1
    assert np.abs(logits(theirs) - logits(model)).max() <= 1e-5


@pytest.mark.parametrize("make, targets", [(gpt, ["c_attn", "c_fc"]),
                                           (llama, ["q_proj", "v_proj"])])
def test_we_read_an_adapter_of_peft(make, targets, tmp_path):
    save_published(tmp_path / "base", make())
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets, task_type="CAUSAL_LM",
                             init_lora_weights=False, fan_in_fan_out=make is gpt)
    theirs = peft.get_peft_model(theirs_of(tmp_path / "base"), config).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    model = load_adapter(tmp_path / "adapter", make())
    assert np.abs(logits(theirs) - logits(model)).max() <= 1e-5
