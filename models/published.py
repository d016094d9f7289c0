"""Lesson 4.46 · Published: a folder of somebody's weights as a model

Needs gpt, llama, safetensors. Used by every test.

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
          A name that leaves the folder ("../x") in the index is refused.
Cost      Weights are mapped, and copied once into the model's arrays; bfloat16 is widened.
Try       build it    write a model's folder: to_published, then transformers reads it.
          break it    take eps 1e-5 for a model that was trained with 1e-6. What changes?
          measure it  time load_published of a folder twice: the second time nothing is read.
See       Hugging Face transformers, configuration classes of the families named here
"""

import json
from pathlib import Path

from tinygrad_edu.files.safetensors import load
from tinygrad_edu.models.gpt import GPT, GPTConfig, from_published
from tinygrad_edu.models.llama import Llama, LlamaConfig

LLAMAS = ("llama", "mistral", "qwen2", "qwen3")  # families that lesson llama serves
# Settings that would change the result, with the one value that is served.
ONLY = {"hidden_act": ("silu",), "mlp_bias": (False,), "attention_dropout": (0, 0.0),
        "pretraining_tp": (1,), "use_sliding_window": (False,)}


def load_published(folder):
    """The model in a folder, in evaluation mode. OSError or ValueError in one sentence."""
    folder = Path(folder)
    published = read_json(folder / "config.json")
    weights = read_weights(folder)
    kind = published.get("model_type")
    try:
        if kind == "gpt2":
            model, weights = GPT(gpt_config(published), None), from_published(weights)
        elif kind in LLAMAS:
            model, weights = Llama(llama_config(published), None), llama_names(weights, published)
        else:
            raise ValueError(f"its architecture is {kind!r}; known are gpt2, {', '.join(LLAMAS)}")
        model.load_state(weights)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    return model.eval()


def read_json(path):
    """The object in a JSON file. OSError as `open`, ValueError where it is none."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object of settings")
    return found


def read_weights(folder):
    """name -> array of all safetensors files of a folder, (1)."""
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
            raise ValueError(f"{index} has no weight_map of names")
        names = sorted(set(places.values()))                                                   # (1)
    weights = {}
    for name in names:
        if Path(name).name != name:
            raise ValueError(f"{index} names the file {name!r}, which is not in the folder")
        arrays = load(folder / name)
        twice = weights.keys() & arrays.keys()
        if twice:
            raise ValueError(f"{folder / name}: {min(twice)} is in another file of it, too")
        weights |= {key: arrays[key] for key in arrays}
    return weights


def number(published, name, default=None, kind=int):
    """A setting that is a number. ValueError where it is missing or something else."""
    value = published.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or value <= 0:
        raise ValueError(f"config.json says {name} = {value!r}, and a number above 0 is needed")
    return kind(value)


def gpt_config(published):
    """The configuration of a GPT-2."""
    if published.get("activation_function", "gelu_new") not in ("gelu_new", "gelu_pytorch_tanh"):
        raise ValueError(f"its activation is {published['activation_function']!r}, not gelu_new")
    return GPTConfig(number(published, "vocab_size", 50257), number(published, "n_positions", 1024),
                     number(published, "n_layer", 12), number(published, "n_head", 12),
                     number(published, "n_embd", 768))


def llama_config(published):
    """The configuration of a Llama or one of its relatives."""
    for name, values in ONLY.items():
        if published.get(name, values[0]) not in values:
            raise ValueError(f"its {name} is {published[name]!r}, and only {values[0]} is served")
    kind, heads = published["model_type"], number(published, "num_attention_heads", 32)
    default_eps = 1e-5 if kind == "llama" else 1e-6
    qwen = kind.startswith("qwen")
    return LlamaConfig(
        vocabulary=number(published, "vocab_size"),
        context=number(published, "max_position_embeddings", 2048),
        layers=number(published, "num_hidden_layers"), heads=heads,
        groups=number(published, "num_key_value_heads", heads),
        width=number(published, "hidden_size"), hidden=number(published, "intermediate_size"),
        head_width=number(published, "head_dim", number(published, "hidden_size") // heads),
        eps=number(published, "rms_norm_eps", default_eps, float),
        base=number(rotary(published), "rope_theta", 10000.0, float), stretch=stretch(published),
        tied=bool(published.get("tie_word_embeddings", False)),
        offsets=kind == "qwen2" or bool(published.get("attention_bias")),
        head_norms=kind == "qwen3",
        window=None if qwen else published.get("sliding_window"))


def rotary(published):
    """The rotary settings: newer files have them together, older ones beside the others."""
    return {**published, **(published.get("rope_parameters") or {})}


def stretch(published):
    """The settings of lesson rope_scaling. ValueError for a way that is not known."""
    scaling = published.get("rope_parameters") or published.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    context = scaling.get("original_max_position_embeddings",
                          published.get("max_position_embeddings"))
    if kind == "default":
        return {"kind": kind}
    found = {"kind": kind, "factor": number(scaling, "factor", kind=float)}
    if kind == "llama3":
        found |= {"low": number(scaling, "low_freq_factor", kind=float),
                  "high": number(scaling, "high_freq_factor", kind=float), "context": context}
    if kind == "yarn":
        found |= {"fast": number(scaling, "beta_fast", 32.0, float),
                  "slow": number(scaling, "beta_slow", 1.0, float), "context": context,
                  "scale": scaling.get("attention_factor")}
    return found


def llama_names(weights, published):
    """The weights by the names of lesson llama."""
    state = {name.removeprefix("model."): array for name, array in weights.items()}
    if published.get("tie_word_embeddings"):
        state.pop("lm_head.weight", None)
    return {name: array for name, array in state.items()
            if not name.endswith("rotary_emb.inv_freq")}
