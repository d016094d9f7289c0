"""Lesson 4.48 · Export: a model of ours, for other people's programs

Needs atomic, gpt, llama, safetensors, tokenizer_file. Used by every test.

Idea      What was trained here should not be locked in here. A folder with a config.json and a
          safetensors file is what most programs of the field read, so a GPT or a Llama is written
          as one: lesson published, read backwards. The other way out is a GGUF file (lesson
          gguf_model).
Math      none
Shapes    weights by their published names: `model.` or `transformer.` in front; the inner matrices
          of a GPT as (in, out)
Pitfalls  A reader believes model_type and fills in the rest from defaults of its own: everything
          that a model depends on is written down, also where it is a default here.
          Not every mixture has a family. Norms on q and k together with a window could be computed
          here and by no published program, so it is refused rather than written almost right.
Cost      Writing four bytes for every number.
Try       build it    several files: begin another one where one would pass 5 GB.
          break it    leave out the transposition of a GPT's inner matrices. Which test notices, and
                      which matrix would no reader complain about?
          measure it  save_published of a run's model, then `ls -l`: four bytes a parameter, and a
                      few hundred for names.
See       Hugging Face transformers, configuration classes of the families named here
"""

import json
from pathlib import Path

import numpy as np

from tinygrad_edu.files.atomic import atomic_write, write_text
from tinygrad_edu.files.safetensors import save
from tinygrad_edu.models.gpt import INNER
from tinygrad_edu.models.llama import Llama
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def save_published(folder, model):
    """Write a GPT or a Llama as a folder that `load_published` and transformers read."""
    folder, config = Path(folder), model.config
    folder.mkdir(parents=True, exist_ok=True)
    weights = {}
    for name, tensor in model.named_parameters():
        array = tensor.numpy()
        if isinstance(model, Llama):
            weights[name if name.startswith("lm_head") else f"model.{name}"] = array
        else:
            weights[f"transformer.{name}"] = array.T if name.endswith(INNER) else array
    settings = llama_settings(config) if isinstance(model, Llama) else gpt_settings(config)
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in weights.items()}
    save(folder / "model.safetensors", arrays, {"format": "pt"})
    with atomic_write(folder / "config.json") as file:
        file.write(json.dumps(settings | {"dtype": "float32"}, indent=1).encode())


def save_opened(folder, opened):
    """Write what `open_model` reads: a model (lesson opened) with its tokenizer and its ends.

    A mark that its texts begin with, as in runs of ours, is not written: nothing would read it.
    ValueError for a tokenizer or a model that cannot be written.
    """
    folder, names = Path(folder), dict(opened.names or {})
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(opened.tokenizer, folder / "tokenizer.json")
    if opened.template:
        names["chat_template"] = opened.template
    write_text(folder / "tokenizer_config.json", json.dumps(names, indent=1))
    ends = {"eos_token_id": list(opened.ends)}
    write_text(folder / "generation_config.json", json.dumps(ends, indent=1))
    save_published(folder, opened.model)


def gpt_settings(config):
    """What config.json says of a GPT-2."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocabulary,
        "n_positions": config.context,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_embd": config.width,
    }


def llama_settings(config):
    """What config.json says of a Llama or a relative. ValueError where no family has all of it."""
    own = {"qwen3": config.head_norms, "qwen2": config.offsets, "mistral": config.window}
    chosen = [name for name, wanted in own.items() if wanted] or ["llama"]
    if len(chosen) > 1 or config.stretch != {"kind": "default"}:
        raise ValueError(f"no family that is written here is {' and '.join(chosen)} at once, with "
                         f"rotary positions of the kind {config.stretch['kind']}")
    family = chosen[0]
    return {
        "architectures": [f"{FAMILIES[family]}ForCausalLM"],
        "model_type": family,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.eps,
        "rope_theta": config.base,
        "tie_word_embeddings": config.tied,
    } | ({"sliding_window": config.window} if family == "mistral" else {})
