"""Lesson 3.14 · Checkpoints: one file from which a run goes on

Needs atomic, safetensors. Used by models/run.py, scripts/train_gpt.py.

Idea      A run that can be killed at any moment must find, when it comes back, all that it was made
          of at one moment: weights, optimizer, counters, random generators. Two files can always
          disagree, because a kill fits between them. So everything goes into one file, replaced in
          one step: numbers as tensors, the rest as JSON in the file's metadata. Never a pickle:
          loading a checkpoint must not run it. A checksum over all of it tells a file that rotted
          from a file that is whole, which its layout alone cannot.
Math      CRC-32 reads n bits as a polynomial M over {0, 1} and keeps the remainder
              c = M·x³² mod P,   P of degree 32                                                  (1)
          (and inverts some bits, which changes nothing here). A damage E goes unseen only if P
          divides E: never for a burst of up to 32 bits, else with a probability of about 2⁻³².
Shapes    folder/checkpoint.safetensors: the tensors under their names, and in its metadata
          "tinygrad_edu" {"kind": "checkpoint", "version": 1, "state": {…}} as JSON ·
          "checksum" (1) of the other metadata, of all names, types and shapes, and of the data, as
          8 hexadecimal digits · "format" "pt"
Pitfalls  · a tuple comes back from JSON as a list, the key 1 as "1": a state that would change on
          its way is refused when it is written, not when a run resumes wrongly.
          · a checksum finds accidents, not enemies: anyone can compute the CRC of a forged file.
          · some loaders of published models refuse a file whose "format" is not a name they know;
          "pt" is one. It does not say whether a matrix lies as (out, in) or (in, out).
          · the loaded tensors are windows on the file. Copy them into the parameters and let them
          go: Windows does not replace a file that is mapped, so the next save would fail.
Cost      Disk for two checkpoints while one replaces the other. Saving reads every number twice
          (checksum, write) and waits for the disk; loading reads every number for the checksum.
Try       build it    save the state of numpy.random.default_rng() and go on from it elsewhere.
          break it    change one bit of the data with a hex editor, then load it. And without (1)?
          measure it  time zlib.crc32 over 100 MB. How much of a save is that on your disk?
See       Peterson, Brown 1961, "Cyclic Codes for Error Detection", for (1) and what it detects
"""

import json
import zlib
from pathlib import Path

import numpy as np

from tinygrad_edu.files import safetensors
from tinygrad_edu.files.atomic import remove_leftovers

KEY = "tinygrad_edu"  # the metadata entry that makes a safetensors file ours
VERSION = 1


class CheckpointError(ValueError):
    """A file that is not a checkpoint, or not a whole one; one sentence that names the file."""


def checkpoint_path(folder, kind="checkpoint"):
    """Where `save_checkpoint` puts the file: folder/kind.safetensors."""
    return Path(folder) / f"{kind}.safetensors"


def save_checkpoint(folder, tensors, state, kind="checkpoint", dtypes=None):
    """Replace the checkpoint in `folder` (made if it is missing) in one step.

    `tensors` maps names to arrays, `state` is a dict of JSON's own types: text keys, lists, numbers
    that are finite. kind="model" writes model.safetensors instead, for weights to be handed to
    other programs. `dtypes` as in `safetensors.save`. Killed at any moment, or on a full disk, the
    checkpoint that was there stays whole. Raises TypeError or ValueError before anything is
    written for what the file cannot hold, OSError where the disk refuses.
    """
    path = checkpoint_path(folder, kind)
    text = json_text({"kind": kind, "version": VERSION, "state": state})
    tensors = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    dtypes = {name: safetensors.dtype_name(name, tensors[name], dtypes or {}) for name in tensors}
    metadata = {"format": "pt", KEY: text}
    metadata["checksum"] = checksum(metadata, tensors, dtypes)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)  # of a run that was killed while it wrote: they may fill the disk
    safetensors.save(path, tensors, metadata, dtypes)


def load_checkpoint(folder, kind="checkpoint"):
    """The newest complete checkpoint of `folder`: (tensors, state).

    `tensors` is a `Safetensors`: name → read-only array mapped from the file. Raises
    FileNotFoundError where there is none, CheckpointError (a ValueError) where the file is
    damaged, foreign, of another kind or of a later version.
    """
    path = checkpoint_path(folder, kind)
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} in {folder}: there is no file {path.name}")
    try:
        tensors = safetensors.load(path)
        record = read_record(tensors.metadata, kind)
        found = checksum(tensors.metadata, tensors, tensors.dtypes)
    except ValueError as error:
        sentence = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: {sentence}") from None
    if found != tensors.metadata.get("checksum"):
        raise CheckpointError(f"{path}: damaged: its checksum does not fit; go back to a copy")
    return tensors, record["state"]


def read_record(metadata, kind):
    """The dict with kind, version and state from the metadata of a file that is ours."""
    if KEY not in metadata:
        raise CheckpointError(f"a safetensors file, but not a {kind} written by tinygrad_edu")
    try:
        record = json.loads(metadata[KEY])
    except (ValueError, RecursionError):
        raise CheckpointError("damaged: its state is not valid JSON") from None
    if not isinstance(record, dict) or record.keys() != {"kind", "version", "state"}:
        raise CheckpointError("damaged: kind, version or state is missing")
    if not isinstance(record["state"], dict):
        raise CheckpointError("damaged: its state is not an object")
    if record["kind"] != kind:
        raise CheckpointError(f"holds a {safetensors.short(record['kind'])}, not a {kind}")
    if record["version"] != VERSION:
        version = safetensors.short(record["version"])
        raise CheckpointError(f"has version {version}, and this program reads version {VERSION}")
    return record


def json_text(record):
    """JSON for `record`; a state that would not come back as it is raises TypeError."""
    try:
        if not isinstance(record["state"], dict):
            raise TypeError("it is not a dict")
        text = json.dumps(record, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the state cannot be written as JSON: {error}") from None
    if json.loads(text) != record:
        raise TypeError("the state changes in JSON: use lists for tuples and text for keys")
    return text


def checksum(metadata, tensors, dtypes):
    """(1) over everything that has a meaning in the file, as 8 hexadecimal digits."""
    rest = {key: value for key, value in metadata.items() if key != "checksum"}
    arrays = {name: tensors[name] for name in sorted(tensors)}
    table = [[name, dtypes[name], list(array.shape)] for name, array in arrays.items()]
    code = zlib.crc32(json.dumps([rest, table], sort_keys=True).encode())
    for name, array in arrays.items():
        little = np.ascontiguousarray(array, safetensors.DTYPES[dtypes[name]])
        code = zlib.crc32(little.reshape(-1).view(np.uint8), code)
    return f"{code:08x}"
