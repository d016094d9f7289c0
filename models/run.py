"""Lesson 4.50 · Run: the folder that a training run leaves behind

Needs atomic, checkpoint, config, gpt, memory, tokenizer_file. Used by scripts/train_gpt.py,
scripts/generate.py, scripts/score_python.py.

Idea      A run is a folder: what it was told, its tokenizer, its weights, and all that it takes to
          go on. Whoever wants to use the model needs the folder and nothing else.
Math      none
Shapes    tokenizer.json          the tokenizer, in the format of the field
          checkpoint.safetensors  weights as `model.NAME`, optimizer as `optimizer.NAME`, and in its
                                  metadata the settings of the run, how many steps it has done,
                                  and with how many threads
          model.safetensors       the weights alone, under the names of the published GPT-2 but with
                                  every matrix as (out, in)
          metrics.csv, loss.png   what happened
Pitfalls  Arrays that come from a file are windows on it: they are copied into the model and let go.
Cost      Writing a checkpoint takes 12 bytes a parameter.
Try       build it    keep the checkpoint with the lowest held-out loss as well.
          break it    change a number in the settings of a checkpoint by hand: what says so?
          measure it  how long does a save take beside a step?
See       the lessons checkpoint and safetensors
"""

import os
from pathlib import Path

import numpy as np

from tinygrad_edu.files.atomic import remove_leftovers
from tinygrad_edu.files.checkpoint import load_checkpoint, save_checkpoint
from tinygrad_edu.memory import on_host
from tinygrad_edu.nn.config import from_dict, to_dict
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer

from .gpt import GPT, GPTConfig

STATE = {"model": (dict,), "settings": (dict,), "done": (int,), "text": (str,),
         "threads": (int, type(None))}  # what stands in a checkpoint, and the types it has
WRITTEN = ("checkpoint.safetensors", "model.safetensors", "tokenizer.json")  # in one step each


def save_run(folder, model, optimizer, settings, done, text="", threads=None, more=None):
    """Write the checkpoint: weights, optimizer, settings (a dict for JSON), steps done.

    text: a checksum of what the run reads, threads: how many it computes with. A resumed run
    compares both with its own, since other ones lead to other numbers. more: name -> array beside
    the model's own, such as those of a second head.
    """
    arrays = {f"model.{name}": array for name, array in model.state().items()}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state().items()}
    arrays = {name: on_host(array) for name, array in (arrays | (more or {})).items()}
    state = {"model": to_dict(model.config), "settings": settings, "done": done, "text": text,
             "threads": threads}
    save_checkpoint(folder, arrays, state)


def read_run(folder):
    """(arrays, state) of the newest checkpoint: state has `model`, `settings` and `done`.

    Raises OSError or ValueError in one sentence that names the file.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no run in {folder}: train one with "
                                f"scripts/train_gpt.py --out {folder}")
    arrays, state = load_checkpoint(folder)
    if not {"model", "settings", "done"} <= state.keys():
        raise ValueError(f"{folder}: the checkpoint is not one of train_gpt.py")
    for name, kinds in STATE.items():
        if name in state and type(state[name]) not in kinds:  # not isinstance: True is an int
            raise ValueError(f"{arrays.path}: {name!r} in its state is not what train_gpt.py "
                             "writes there")
    for name, most in (("done", 2**53), ("threads", 2**12)):
        if not 0 <= (state.get(name) or 0) <= most:
            raise ValueError(f"{arrays.path}: {name!r} in its state is {state[name]}, and at "
                             f"most {most} makes sense")
    return arrays, state


def part(arrays, prefix):
    """The arrays whose names begin with `prefix.`, without it."""
    mine = (name for name in arrays if name.startswith(prefix + "."))
    return {name[len(prefix) + 1:]: arrays[name] for name in mine}


def load_model(arrays, state):
    """The model of a checkpoint, in evaluation mode. ValueError where the two do not fit."""
    try:
        weights = part(arrays, "model")
        model = GPT(fitting_config(weights, state), np.random.default_rng(0))
        model.load_state(weights)
    except ValueError as error:
        sentence = printable(str(error).removeprefix(f"{arrays.path}: "))
        raise ValueError(f"{arrays.path}: {sentence}") from None
    return model.eval()


def printable(text, longest=400):
    """A line for a message: names that a file made up may hold line ends, and be long."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= longest else line[:longest] + " ..."


def fitting_config(weights, state):
    """The model's configuration, once the weights show that it is not larger than they are.

    A model is made before its weights are copied: one of a size that somebody has only claimed
    could take all memory.
    """
    config = from_dict(GPTConfig, state["model"])
    size = sum(array.size for array in weights.values())
    if config.parameter_count() != size or config.layers > len(weights):
        raise ValueError("its weights are of another model: its settings speak of "
                         f"{config.layers} blocks of width {config.width}, and {size:,} numbers do "
                         "not make those")
    for name, array in weights.items():
        if array.dtype.kind != "f":
            raise ValueError(f"its weights {name} are {array.dtype}, and not floats")
    return config


def load_run(folder):
    """(model, tokenizer) of a run folder. Raises OSError or ValueError in one sentence."""
    arrays, state = read_run(folder)
    if "reward.head" in arrays:
        raise ValueError(f"{folder} holds a reward model, which judges texts and writes none: name "
                         "the run of a language model")
    return load_model(arrays, state), run_tokenizer(folder, state)


def run_tokenizer(folder, state):
    """The tokenizer of a run; ValueError where the file is another run's."""
    tokenizer = load_tokenizer(Path(folder) / "tokenizer.json")
    expected = from_dict(GPTConfig, state["model"]).vocabulary
    if tokenizer.vocab_size != expected:
        raise ValueError(f"{folder}/tokenizer.json has {tokenizer.vocab_size} tokens, the model of "
                         f"the run {expected}: it belongs to another run, put the right one there")
    return tokenizer


def claim(folder):
    """Keep other processes from training in this folder; ValueError where one does already.

    The lock is on the folder and lasts until the descriptor that is returned is closed, at the
    latest until the process ends, however it ends. None where the system has no such lock. Files
    that a killed process has left half-written are removed.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ValueError(f"another process is training in {folder}: wait for its end, or choose "
                         "another --out") from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return None
    for name in WRITTEN:  # nobody else writes here now: what is left is of a process that died
        remove_leftovers(Path(folder) / name)
    return descriptor
