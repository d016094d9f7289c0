"""Lesson 7.3 · Adapter: the thin matrices in a folder that peft reads

Needs atomic, lora, safetensors. Used by scripts/finetune.py.

Idea      An adapter is worth sharing: some megabytes that turn a base everybody has into another
          model. The package `peft` has made a layout for it that the field uses, two files: what it
          is, and the numbers. An adapter of ours can be loaded there, and one from there here.
Math      none
Shapes    adapter_config.json          {"peft_type": "LORA", "r": 8, "lora_alpha": 16,
                                       "target_modules": ["q_proj", …], …}
          adapter_model.safetensors    base_model.model.NAME.lora_A.weight (r, in) and
                                       … .lora_B.weight (out, r), NAME as published
Pitfalls  An adapter fits a base of its shape, whoever trained it: of another model with the same
          sizes no program notices. The name of the base stands in the file; read it.
          GPT-2's published matrices are (in, out). The thin ones are as everywhere; a flag says so
          (fan_in_fan_out), and only the merge asks for it.
          Names that are in one of the two and not in the other mean another model: half an adapter
          is worse than none.
Cost      Four bytes for each number.
Try       build it    save in half precision. What does the held-out loss say?
          break it    forget lora_alpha when loading. Which test notices?
          measure it  ls -l of a folder that scripts/finetune.py wrote, beside its model's
See       huggingface/peft, documentation, "Checkpoint format"
"""

import json
from pathlib import Path

import numpy as np

from ..files.atomic import write_text
from ..files.safetensors import load, save
from .lora import add_lora, lora_layers

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BEFORE = "base_model.model."


def is_gpt(model):
    """Does a model have the names of a GPT-2, and not those of a Llama?"""
    return hasattr(model, "wte")


def published_name(model, name):
    """The name of a layer in published weights and in peft."""
    return f"{BEFORE}{'transformer' if is_gpt(model) else 'model'}.{name}"


def save_adapter(folder, model, base=""):
    """Write the adapter of a model with LoRA layers. base: where its base can be found."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no adapter: lesson lora adds one")
    folder, (_, first) = Path(folder), layers[0]
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, layer in layers:
        begin = published_name(model, name)
        arrays[f"{begin}.lora_A.weight"] = np.ascontiguousarray(layer.lora_A.numpy(), np.float32)
        arrays[f"{begin}.lora_B.weight"] = np.ascontiguousarray(layer.lora_B.numpy(), np.float32)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": first.rank,
        "lora_alpha": first.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": is_gpt(model),
        "target_modules": sorted({name.rpartition(".")[2] for name, _ in layers}),
        "inference_mode": True,
    }
    save(folder / WEIGHTS, arrays, {"format": "pt"})
    write_text(folder / CONFIG, json.dumps(config, indent=1) + "\n")


def read_config(folder):
    """(rank, alpha) of an adapter; ValueError for what is not LoRA as lesson lora has it."""
    path = Path(folder) / CONFIG
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{path} does not describe an adapter of the kind LORA")
    others = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save")
    for name in others:
        if config.get(name):
            raise ValueError(f"{path}: {name} is set, and only plain LoRA is read here")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float) or not alpha > 0:
        raise ValueError(f"{path}: r is {rank!r} and lora_alpha {alpha!r}; both have to be numbers "
                         "above 0")
    return rank, alpha


def load_adapter(folder, model, four_bit=False):
    """Add the adapter in a folder to a model without one; returns it.

    ValueError in one sentence for a damaged one and for that of another model.
    """
    folder = Path(folder)
    rank, alpha = read_config(folder)
    file = load(folder / WEIGHTS)
    begin = published_name(model, "")
    found = {}
    for name in file:
        layer, _, which = name.removeprefix(begin).rpartition(".lora_")
        if not name.startswith(begin) or which not in ("A.weight", "B.weight"):
            raise ValueError(f"{folder}: the adapter is for another model: this one has no {name}")
        found.setdefault(layer, {})[which[0]] = file[name]
    ends = sorted({name.rpartition(".")[2] for name in found})
    modules = dict(model.walk())
    for name, pair in found.items():
        weight = getattr(modules.get(name), "weight", None)
        expected = {} if weight is None else {"A": (rank, weight.shape[-1]),
                                              "B": (weight.shape[0], rank)}
        if expected != {which: array.shape for which, array in pair.items()}:
            shapes = ", ".join(f"{which} {array.shape}" for which, array in pair.items())
            raise ValueError(f"{folder}: the adapter is for another model: {name} has {shapes} "
                             f"there, here {expected or 'there is no such layer'}")
    add_lora(model, rank, alpha, ends, four_bit=four_bit)
    for name, layer in lora_layers(model):
        if name not in found:
            raise ValueError(f"{folder}: the adapter is for another model: it lacks {name}")
        layer.lora_A.assign(np.asarray(found[name]["A"], layer.lora_A.dtype))
        layer.lora_B.assign(np.asarray(found[name]["B"], layer.lora_B.dtype))
    return model
