"""Lesson 4.46 · Published: a folder of somebody's weights as a model

Needs gpt, llama, safetensors. Used by gguf_model, embedder.

Idea      A published model is a folder: config.json says which architecture it is and with which
          numbers, one or several safetensors files hold the weights under dotted names. To run it,
          three things have to agree with what its authors meant: the numbers of the configuration,
          the name of every weight, and the layout of each. All three are tables in this file; what
          is not in a table is refused, since almost the right model is worse than none.
Math      several files: model.safetensors.index.json maps each name to the file that has it     (1)
Shapes    weights as the models name them: a prefix `model.` or `transformer.` is taken off; GPT-2's
          inner matrices are (in, out) there and (out, in) here (lesson gpt)
Pitfalls  A configuration leaves out what is at its default, and defaults differ between families.
          Settings that change the result and are not known here are refused by name.
          A head that is tied is left out of most files, and written a second time into some.
          bfloat16 has no type in NumPy: lesson safetensors gives it as whole numbers, which would
          be copied into the model without a word.
          A configuration may claim a model of any size; before one is made, the claim is compared
          with the numbers that are there. A name that leaves the folder ("../x") is refused.
Cost      Weights are mapped, and copied once into the model's arrays; 16 bits are widened to 32.
Try       build it    another family: Phi-3 is Llama with q, k and v in one matrix.
          break it    take eps 1e-5 for a model that was trained with 1e-6. What changes?
          measure it  time load_published of a folder twice: the second time nothing is read.
See       Hugging Face transformers, configuration classes of the families named here
"""

import json
import math
from pathlib import Path

from tinygrad_edu.files.safetensors import bf16_to_float32, load
from tinygrad_edu.models.gpt import GPT, GPTConfig, from_published
from tinygrad_edu.models.llama import Llama, LlamaConfig

LLAMAS = "llama", "mistral", "qwen2", "qwen3"  # families that lesson llama serves
# Settings that would change the result: the values that are served, the default first.
ONLY = {"hidden_act": ("silu",), "mlp_bias": (False,), "use_sliding_window": (False,)}
ONLY_GPT = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,), "n_inner": (None,), "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,), "tie_word_embeddings": (True,),
}


def load_published(folder):
    """The model in a folder, in evaluation mode. OSError or ValueError in one sentence."""
    folder = Path(folder)
    published = read_json(folder / "config.json")
    weights = read_weights(folder)
    try:
        kind = published.get("model_type")
        if kind == "gpt2":
            make, config = GPT, gpt_config(published)
            weights = from_published(weights)
        elif kind in LLAMAS:
            make, config = Llama, llama_config(published)
            weights = llama_names(weights, config)
        else:
            raise ValueError(f"its architecture is {kind!r}; known are gpt2, {', '.join(LLAMAS)}")
        check_size(config, weights.values())
        model = make(config, None)                 # without numbers: they are copied in
        model.load_state(weights)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return model.eval()


def check_size(config, arrays):
    """Refuse a configuration that claims more than these arrays hold, before memory is taken."""
    shapes = [array.shape for array in arrays]
    there = sum(map(math.prod, shapes))
    if config.layers > len(shapes) or config.parameter_count() > there:
        raise ValueError(f"its settings speak of {config.layers} blocks of width {config.width}, "
                         f"and {there:,} numbers do not make those")


def read_json(path):
    """The object in a JSON file. OSError as `open`, ValueError where it is none."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object of settings")
    return found


def read_weights(folder, unused=()):
    """name -> array of all safetensors files of a folder, (1), but names that begin like unused."""
    weights = {}
    for name in file_names(folder):
        file = load(folder / name)
        for key in file:
            if key in weights:
                raise ValueError(f"{folder / name}: {key} is in another file of it, too")
            if not key.removeprefix("bert.").startswith(tuple(unused)):
                weights[key] = floats(file, key)
    return weights


def file_names(folder):
    """Which files of the folder hold weights."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return ["model.safetensors"]
    places = read_json(index).get("weight_map")
    names = list(places.values()) if isinstance(places, dict) else [None]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{index}: weight_map names no files of this folder")
    return sorted(set(names))                                                                  # (1)


def floats(file, name):
    """A tensor of an open file; ValueError where it holds no floats."""
    kind, array = file.dtypes[name], file[name]
    if kind == "BF16":
        return bf16_to_float32(array)
    if array.dtype.kind != "f":
        raise ValueError(f"{file.path}: the weights {name} are {kind}, and not floats")
    return array


def number(published, name, default=None, kind=int):
    """A setting that is a number of this kind; null counts as missing.

    ValueError where it is missing and has no default, or is no number above 0. True is none.
    """
    value = published.get(name)
    if value is None:
        value = default
    if type(value) not in (int, kind) or not 0 < value < 2**53:  # NaN is not between them either
        raise ValueError(f"{name} is {value!r}, and a number above 0 is needed")
    return kind(value)


def check_only(published, table):
    """Refuse a setting with another value than those that are served."""
    for name, values in table.items():
        if published.get(name, values[0]) not in values:
            raise ValueError(f"its {name} is {published[name]!r}, and only {values[0]} is served")


def gpt_config(published):
    """The configuration of a GPT-2."""
    check_only(published, ONLY_GPT)

    def ask(name, default):
        return number(published, name, default)

    return GPTConfig(ask("vocab_size", 50257), ask("n_positions", 1024), ask("n_layer", 12),
                     ask("n_head", 12), ask("n_embd", 768))


def llama_config(published):
    """The configuration of a Llama or one of its relatives.

    Defaults are those of the family's configuration class.
    """
    check_only(published, ONLY)

    def ask(name, default=None, kind=int):
        return number(published, name, default, kind)

    family = published["model_type"]
    heads, width = ask("num_attention_heads"), ask("hidden_size")
    mistral, qwen3 = family == "mistral", family == "qwen3"
    rotary = published | rotary_settings(published)
    window = published.get("sliding_window", 4096)
    return LlamaConfig(
        vocabulary=ask("vocab_size"), context=ask("max_position_embeddings", 2048),
        layers=ask("num_hidden_layers"), heads=heads, width=width,
        groups=ask("num_key_value_heads", 8 if mistral else heads),
        hidden=ask("intermediate_size"), eps=ask("rms_norm_eps", 1e-6, float),
        head_width=ask("head_dim", 128 if qwen3 else width // heads),
        # Of the rotary positions, newer files keep all settings together, older ones beside others.
        base=number(rotary, "rope_theta", 10000.0, float), stretch=stretch(published),
        tied=bool(published.get("tie_word_embeddings", False)), head_norms=qwen3,
        offsets=family == "qwen2" or bool(published.get("attention_bias")),
        # Without the word it is 4096, and null means none; other families ignore it.
        window=ask("sliding_window", 4096) if mistral and window is not None else None)


def rotary_settings(published):
    """The object that newer or older files have for them. ValueError where it is something else."""
    found = published.get("rope_parameters") or published.get("rope_scaling") or {}
    if not isinstance(found, dict):
        raise ValueError(f"its rotary settings are {found!r}, and an object is needed")
    return found


def stretch(published):
    """The settings of lesson rope_scaling. ValueError for a setting that is missing.

    Whether the way is known is asked there, when the model makes its first tables.
    """
    scaling = rotary_settings(published)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return {"kind": kind}

    def ask(name, default=None):
        return number(scaling, name, default, float)

    found = {"kind": kind, "factor": ask("factor")}
    longest = published.get("max_position_embeddings")
    if kind in ("llama3", "yarn"):
        found["context"] = ask("original_max_position_embeddings", longest)
    if kind == "llama3":
        found["low"] = ask("low_freq_factor")
        found["high"] = ask("high_freq_factor")
    if kind == "yarn":
        found["fast"] = ask("beta_fast", 32.0)
        found["slow"] = ask("beta_slow", 1.0)
        if scaling.get("attention_factor") is not None:
            found["scale"] = ask("attention_factor")
    return found


def llama_names(weights, config):
    """The weights by the names of lesson llama.

    Old files also hold the rotary frequencies, which are computed here.
    """
    state = {name.removeprefix("model."): array for name, array in weights.items()}
    if config.tied:
        state.pop("lm_head.weight", None)
    return {name: array for name, array in state.items() if not name.endswith(".inv_freq")}
