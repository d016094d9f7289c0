import json

import numpy as np
import pytest

from tinygrad_edu.files.gguf import load_gguf, save_gguf
from tinygrad_edu.files.safetensors import bf16_to_float32, float32_to_bf16, load, save
from tinygrad_edu.models.export import save_published
from tinygrad_edu.models.gguf_model import load_gguf_model, save_gguf_model
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.llama import Llama, LlamaConfig
from tinygrad_edu.models.published import load_published
from tinygrad_edu.ops.rope_scaling import stretched_frequencies
from tinygrad_edu.tensor import no_grad

SIZE = {"vocabulary": 11, "context": 16, "layers": 2, "heads": 4, "groups": 2, "width": 32,
        "hidden": 64}
FAMILIES = {"llama": {"base": 500.0, "eps": 1e-3}, "untied": {"tied": False},
            "qwen2": {"offsets": True}, "qwen3": {"head_norms": True, "head_width": 24},
            "mistral": {"window": 4}, "gpt2": None}
IDS = np.random.default_rng(9).integers(0, 11, (2, 12))


def model_of(family):
    """A tiny model in which every number counts."""
    random, changes = np.random.default_rng(0), FAMILIES[family]
    if family == "gpt2":
        model = GPT(GPTConfig(11, 16, 2, 4, 32), random)
    else:
        model = Llama(LlamaConfig(**(SIZE | changes)), random)
    for tensor in model.parameters():
        tensor.assign(tensor.data * 5 + 0.2 * random.standard_normal(tensor.shape))
    return model.eval()


def logits(model):
    with no_grad():
        return model(IDS).numpy()


def folder_of(path, family="llama", **changes):
    """A folder with a model; changes: settings of its config.json, None to leave one out."""
    save_published(path, model_of(family))
    settings = json.loads((path / "config.json").read_text()) | changes
    settings = {name: value for name, value in settings.items() if value is not None}
    (path / "config.json").write_text(json.dumps(settings))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_that_was_written_is_the_same_model_again(tmp_path, family):
    model = model_of(family)
    save_published(tmp_path / "it", model)
    again = load_published(tmp_path / "it")
    assert np.array_equal(logits(again), logits(model))
    assert not again.training and again.config == model.config


@pytest.mark.parametrize("family", ["llama", "untied", "qwen2", "qwen3", "gpt2"])
def test_a_gguf_file_that_was_written_is_the_same_model_again(tmp_path, family):
    model = model_of(family)
    save_gguf_model(tmp_path / "it.gguf", model)
    again, file = load_gguf_model(tmp_path / "it.gguf")
    assert np.allclose(logits(again), logits(model), atol=1e-6)
    assert file.settings["general.architecture"] in (family, "llama")


def test_rows_of_q_and_k_are_neighbours_in_a_gguf_file_of_llama_and_of_no_other(tmp_path):
    for family in ("llama", "qwen2"):
        model = model_of(family)
        save_gguf_model(tmp_path / "it.gguf", model)
        file = load_gguf_model(tmp_path / "it.gguf")[1]
        for there, here, heads in (("attn_q", "q_proj", 4), ("attn_k", "k_proj", 2)):
            w = model.find(f"layers.0.self_attn.{here}").weight.numpy()
            D = len(w) // heads
            order = [head * D + i + j * D // 2 for head in range(heads)
                     for i in range(D // 2) for j in range(2)]
            expected = w[order] if family == "llama" else w
            assert np.array_equal(file[f"blk.0.{there}.weight"], expected)


@pytest.mark.parametrize(("kind", "tolerance"), [("F16", 0.02), ("Q8_0", 0.2)])
def test_a_gguf_file_of_fewer_bits_is_nearly_the_same_model(tmp_path, kind, tolerance):
    model = model_of("llama")
    save_gguf_model(tmp_path / "it.gguf", model, kind=kind)
    again, file = load_gguf_model(tmp_path / "it.gguf")
    assert 0 < np.abs(logits(again) - logits(model)).max() < tolerance * np.abs(logits(model)).max()
    assert {entry.kind for entry in file.entries.values()} == {kind, "F32"}


def test_frequencies_that_come_as_divisors_are_those_of_the_published_way():
    settings = {"kind": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "context": 8}
    by = stretched_frequencies(8)[0] / stretched_frequencies(8, **settings)[0]
    configs = [LlamaConfig(**SIZE, stretch=stretch)
               for stretch in (settings, {"kind": "divided", "by": by.tolist()})]
    models = [Llama(config, np.random.default_rng(0)) for config in configs]
    assert np.allclose(logits(models[0]), logits(models[1]), atol=1e-6)


@pytest.mark.parametrize("kind", ["BF16", "F16"])
def test_weights_of_sixteen_bits_are_widened(tmp_path, kind):
    folder, model = folder_of(tmp_path / "it"), model_of("llama")
    narrow = float32_to_bf16 if kind == "BF16" else np.float16
    wide = bf16_to_float32 if kind == "BF16" else np.float32
    file = load(folder / "model.safetensors")
    arrays = {name: narrow(file[name]) for name in file}
    save(folder / "model.safetensors", arrays, dtypes=dict.fromkeys(arrays, kind))
    for tensor in model.parameters():
        tensor.assign(wide(narrow(tensor.numpy())))
    assert np.array_equal(logits(load_published(folder)), logits(model))


def in_two_files(folder, **changes):
    arrays = dict(load(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    names = sorted(arrays)
    places = {name: f"model-{place % 2}.safetensors" for place, name in enumerate(names)}
    for file in set(places.values()):
        save(folder / file, {name: arrays[name] for name in names if places[name] == file})
    index = {"weight_map": places | changes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_several_files_are_one_model(tmp_path):
    folder = folder_of(tmp_path / "it")
    in_two_files(folder)
    assert np.array_equal(logits(load_published(folder)), logits(model_of("llama")))


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", 7])
def test_an_index_that_leaves_the_folder_is_refused(tmp_path, name):
    folder = folder_of(tmp_path / "it")
    in_two_files(folder, extra=name)
    with pytest.raises(ValueError, match="weight_map names no files of this folder"):
        load_published(folder)


def test_a_weight_in_two_files_is_refused(tmp_path):
    folder = folder_of(tmp_path / "it")
    in_two_files(folder)
    (folder / "model-1.safetensors").write_bytes((folder / "model-0.safetensors").read_bytes())
    with pytest.raises(ValueError, match="is in another file of it, too"):
        load_published(folder)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"model_type": "mamba"}, "its architecture is 'mamba'; known are gpt2, llama, mistral"),
    ({"model_type": None}, "its architecture is None"),
    ({"hidden_act": "relu"}, "hidden_act is 'relu', and only silu is served"),
    ({"hidden_size": None}, "hidden_size is None, and a number above 0 is needed"),
    ({"hidden_size": "32"}, "hidden_size is '32'"),
    ({"hidden_size": True}, "hidden_size is True"),
    ({"num_hidden_layers": 10**15}, "speak of 1000000000000000 blocks of width 32"),
    ({"vocab_size": 2**52}, "numbers do not make those"),
    ({"head_dim": 2**50}, "numbers do not make those"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan"),
    ({"num_key_value_heads": 3}, "4 query heads cannot share 3"),
    ({"intermediate_size": 48}, "has shape"),
    ({"num_hidden_layers": 1}, "unknown layers.1"),
    ({"rope_scaling": {"rope_type": "rubber", "factor": 2.0}}, "not by 'rubber'"),
    ({"rope_scaling": {"rope_type": "linear"}}, "factor is None"),
    ({"rope_scaling": 7}, "rotary settings"),
])
def test_settings_that_do_not_fit_are_refused_in_one_sentence(tmp_path, changes, reason):
    folder = folder_of(tmp_path / "it", **changes)
    with pytest.raises(ValueError, match=reason) as error:
        load_published(folder)
    assert str(error.value).startswith(str(folder)) and "\n" not in str(error.value)


def test_weights_that_are_no_floats_are_refused(tmp_path):
    folder = folder_of(tmp_path / "it")
    arrays = dict(load(folder / "model.safetensors"))
    arrays["model.norm.weight"] = arrays["model.norm.weight"].astype(np.int32)
    save(folder / "model.safetensors", arrays)
    with pytest.raises(ValueError, match=r"model.norm.weight are I32, and not floats"):
        load_published(folder)


def test_a_config_that_is_no_object_is_refused(tmp_path):
    folder = folder_of(tmp_path / "it")
    for text, reason in (("[1]", "holds no object"), ("{", "is not JSON"), ("[" * 99999, "JSON")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=reason):
            load_published(folder)
    with pytest.raises(OSError, match=r"config\.json"):
        load_published(tmp_path / "nothing")


def test_what_no_family_can_say_is_not_written(tmp_path):
    both = Llama(LlamaConfig(**SIZE, window=4, head_norms=True), np.random.default_rng(0))
    with pytest.raises(ValueError, match="qwen3 and mistral at once"):
        save_published(tmp_path / "it", both)
    with pytest.raises(ValueError, match="a window are not written to GGUF"):
        save_gguf_model(tmp_path / "it.gguf", both)


def gguf_with(path, family="llama", drop=(), **changes):
    """A GGUF file of a tiny model with other settings, or without some tensors."""
    save_gguf_model(path, model_of(family))
    file = load_gguf(path)
    settings = file.settings | {name.replace("__", "."): v for name, v in changes.items()}
    tensors = {name: file[name] for name in file if name not in drop}
    save_gguf(path, {name: v for name, v in settings.items() if v is not None}, tensors)
    return path


@pytest.mark.parametrize(("changes", "reason"), [
    ({"general__architecture": "mamba"}, "its architecture is 'mamba'; known are gpt2, llama"),
    ({"general__architecture": [1]}, r"its architecture is \[1\]"),
    ({"llama__block_count": None}, "llama.block_count is None"),
    ({"llama__block_count": 2**40}, "speak of 1099511627776 blocks"),
    ({"llama__block_count": 3}, "3 blocks of width 32"),
    ({"llama__embedding_length": 64}, "numbers do not make those"),
    ({"llama__attention__head_count_kv": 1}, "attn_k.weight has the shape"),
    ({"llama__attention__head_count": "four"}, "llama.attention.head_count is 'four'"),
    ({"llama__rope__scaling__type": "rubber", "llama__rope__scaling__factor": 2.0}, "'rubber'"),
    ({"drop": ["blk.1.ffn_up.weight"]}, "numbers do not make those"),
    ({"drop": ["token_embd.weight"]}, "token_embd.weight is missing"),
])
def test_a_gguf_file_that_does_not_fit_its_settings_is_refused(tmp_path, changes, reason):
    path = gguf_with(tmp_path / "it.gguf", **changes)
    with pytest.raises(ValueError, match=reason) as error:
        load_gguf_model(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
