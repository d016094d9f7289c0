"""Lesson 3.14: what was saved comes back, or one sentence says why not; a kill changes nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinygrad_edu.files import checkpoint, safetensors
from tinygrad_edu.files.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def tensors():
    rng = np.random.default_rng(0)
    return {
        "weight": rng.normal(size=(3, 4)).astype(np.float32),
        "optimizer.m.weight": rng.normal(size=(3, 4)),
        "step": np.array(7, np.int64),
        "empty": np.zeros((0, 5), np.float16),
    }


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_tensors_and_state_come_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(3)
    state = {"step": 10, "loss": [0.1, 1e-300, -0.0], "π": "ü\ud800", "none": None, "flag": True}
    state["generator"] = rng.bit_generator.state
    save_checkpoint(tmp_path / "new" / "run", tensors(), state)
    back, state_back = load_checkpoint(tmp_path / "new" / "run")
    assert state_back == state
    assert back.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert back[name].dtype == tensor.dtype and np.array_equal(back[name], tensor)
    again = np.random.default_rng(0)
    again.bit_generator.state = state_back["generator"]
    assert again.random() == rng.random()


def test_a_second_checkpoint_replaces_the_first_while_the_first_is_still_in_use(tmp_path):
    save_checkpoint(tmp_path, {"w": np.zeros(3)}, {"step": 1})
    old, _ = load_checkpoint(tmp_path)
    kept = old["w"]
    if os.name == "nt":  # a mapped file cannot be replaced there, see Pitfalls
        kept = kept.copy()
        del old
    save_checkpoint(tmp_path, {"w": np.ones(3)}, {"step": 2})
    back, state = load_checkpoint(tmp_path)
    assert state == {"step": 2} and back["w"].tolist() == [1, 1, 1]
    assert kept.tolist() == [0, 0, 0]
    assert names(tmp_path) == ["checkpoint.safetensors"]


def test_the_same_checkpoint_is_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        save_checkpoint(tmp_path / folder, tensors(), {"step": 1})
    first, second = (tmp_path / folder / "checkpoint.safetensors" for folder in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_strides_and_bf16_survive_the_checksum(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    half = safetensors.float32_to_bf16(x)
    save_checkpoint(tmp_path, {"t": x.T, "h": half}, {}, dtypes={"h": "BF16"})
    back, _ = load_checkpoint(tmp_path)
    assert np.array_equal(back["t"], x.T)
    assert back.dtypes == {"t": "F32", "h": "BF16"} and np.array_equal(back["h"], half)


def test_a_model_lies_beside_the_checkpoint_in_a_file_that_others_can_read(tmp_path):
    save_checkpoint(tmp_path, tensors(), {"step": 1})
    save_checkpoint(tmp_path, {"w": np.ones(2)}, {"width": 2}, kind="model")
    assert names(tmp_path) == ["checkpoint.safetensors", "model.safetensors"]
    plain = safetensors.load(tmp_path / "model.safetensors")
    assert plain.metadata["format"] == "pt" and plain["w"].tolist() == [1, 1]
    assert load_checkpoint(tmp_path, kind="model")[1] == {"width": 2}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": (1, 2)}, "changes in JSON"),
        ({1: "a"}, "changes in JSON"),
        ({"a": float("nan")}, "cannot be written as JSON"),
        ({"a": np.float32(1)}, "cannot be written as JSON"),
        ({"a": np.zeros(2)}, "cannot be written as JSON"),
        ([1], "not a dict"),
    ],
)
def test_a_state_that_would_not_come_back_is_refused_before_anything_is_written(
    tmp_path, state, message
):
    save_checkpoint(tmp_path, {}, {"step": 1})
    with pytest.raises(TypeError, match=message):
        save_checkpoint(tmp_path, {}, state)
    assert load_checkpoint(tmp_path)[1] == {"step": 1}


def test_a_folder_without_a_checkpoint_says_so(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint in .* checkpoint.safetensors"):
            load_checkpoint(folder)


def test_a_foreign_safetensors_file_is_told_from_a_checkpoint(tmp_path):
    safetensors.save(tmp_path / "checkpoint.safetensors", tensors(), {"format": "pt"})
    with pytest.raises(CheckpointError, match="not a checkpoint written by tinygrad_edu"):
        load_checkpoint(tmp_path)


def test_a_file_of_another_format_gets_one_sentence(tmp_path):
    for data in (b"", b"PK\3\4" + bytes(100), b"\x80\x02}q\x00.", b"hello, world, this is text"):
        (tmp_path / "checkpoint.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="safetensors: .*not a safetensors file"):
            load_checkpoint(tmp_path)


def test_a_model_is_no_checkpoint(tmp_path):
    save_checkpoint(tmp_path, {}, {}, kind="model")
    os.rename(tmp_path / "model.safetensors", tmp_path / "checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="holds a 'model', not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"kind": "checkpoint", "version": 2, "state": {}}', "version 2, and this program reads"),
        ('{"kind": "checkpoint", "version": 1}', "is missing"),
        ('{"kind": "checkpoint", "version": 1, "state": []}', "state is not an object"),
        ('{"kind": "checkpoint", "version": 1, "state": {}}', "checksum does not fit"),
        ("[1, 2]", "is missing"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_record_that_is_not_ours_gets_one_sentence(tmp_path, record, message):
    safetensors.save(tmp_path / "checkpoint.safetensors", {}, {"tinygrad_edu": record})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


def test_no_single_damaged_byte_goes_unseen(tmp_path):
    save_checkpoint(tmp_path, tensors(), {"step": 12, "loss": 3.25})
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    rng = random.Random(0)
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_types_shapes_names_and_metadata_are_under_the_checksum(tmp_path):
    save_checkpoint(tmp_path, {"w": np.ones((2, 3), np.float32)}, {"step": 1})
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for old, new in ((b'"F32"', b'"I32"'), (b"[2,3]", b"[3,2]"), (b'"w"', b'"v"'), (b"pt", b"tf")):
        assert whole.count(old) == 1
        path.write_bytes(whole.replace(old, new))
        assert safetensors.load(path)  # the layout alone does not tell
        with pytest.raises(CheckpointError, match="checksum"):
            load_checkpoint(tmp_path)


def test_a_disk_that_fills_up_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    def no_space(path, *arguments):
        raise OSError(28, "No space left on device")

    save_checkpoint(tmp_path, {}, {"step": 1})
    monkeypatch.setattr(checkpoint.safetensors, "save", no_space)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, {}, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)[1] == {"step": 1}


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_run_killed_inside_the_write_finds_a_whole_checkpoint(tmp_path):
    code = """
import sys
import numpy as np
from tinygrad_edu.files.checkpoint import save_checkpoint
for step in range(10**9):
    save_checkpoint(sys.argv[1], {"w": np.full(200_000, step)}, {"step": step})
    print(step, flush=True)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    for wait in (0.001, 0.004, 0.009):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        lines = process.communicate(timeout=60)[0].split()
        back, state = load_checkpoint(tmp_path)
        assert state["step"] >= max(map(int, lines), default=0)
        assert (back["w"] == state["step"]).all()
    save_checkpoint(tmp_path, {}, {})
    assert names(tmp_path) == ["checkpoint.safetensors"]


def test_the_state_is_json_that_a_person_can_read_out_of_the_file(tmp_path):
    save_checkpoint(tmp_path, {}, {"step": 5})
    data = (tmp_path / "checkpoint.safetensors").read_bytes()
    header = json.loads(data[8:])
    assert json.loads(header["__metadata__"]["tinygrad_edu"])["state"] == {"step": 5}
