"""A checkpoint of a real run, damaged in many ways: it loads, or one sentence says why it does not.

Accidents change bytes, and the checksum finds them. Somebody who changes a file on purpose also
mends the checksum; so half of the damage is done to the state and the arrays before the file is
written as the library writes it. Whatever the file says: an error is a ValueError or an OSError of
one line, it comes at once, and no more memory is taken than the file has bytes and some to spare.
"""

import json
import random
import struct
import time
import tracemalloc
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from tinygrad_edu.files import safetensors
from tinygrad_edu.files.checkpoint import checksum, load_checkpoint
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.models.run import load_model, load_run, part, read_run, save_run
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.config import from_dict, option, to_dict
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

FEW, MANY = 500, 10_000
SPARE = 1 << 20                                    # bytes: the objects of Python
LONGEST = 600                                      # characters of a sentence


@dataclass
class Settings:
    """Settings of every type that a script has."""

    data: str = option("pystdlib")
    steps: int | None = option(None, low=1, high=2**53)
    lr: float = option(1e-3, low=0.0)
    resume: bool = option(False)
    tokenizer: Literal["bpe", "char"] = option("char")


# ---- damage to the bytes -------------------------------------------------------------------------


def flip_bits(data, draw):
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(data, draw):
    del data[draw.randrange(len(data)):]


def insert(data, draw):
    place = draw.randrange(len(data))
    data[place:place] = draw.randbytes(draw.choice((1, 8, 4096)))


def remove(data, draw):
    place = draw.randrange(len(data))
    del data[place:place + draw.choice((1, 8, 512))]


def swap_blocks(data, draw):
    size = draw.choice((8, 64, 512))
    first, second = sorted(draw.randrange(len(data) - size) for _ in range(2))
    data[first:first + size], data[second:second + size] = (
        data[second:second + size], data[first:first + size])


def zeros(data, draw):
    place = draw.randrange(len(data))
    size = min(draw.choice((16, 4096)), len(data) - place)
    data[place:place + size] = bytes(size)


def header_length(data, draw):
    length = draw.choice((0, 1, len(data), len(data) - 8, 2**31, 2**63, 2**64 - 1,
                          draw.randrange(2**64), draw.randrange(len(data))))
    data[:8] = struct.pack("<Q", length)


def header(data, draw):
    """A claim of the header about one array is changed; what follows the header stays."""
    (length,) = struct.unpack("<Q", data[:8])
    table = json.loads(bytes(data[8:8 + length]))
    name = draw.choice(list(table))
    entry = table[name]
    key = draw.choice(list(entry))
    entry[key] = draw.choice((*hostile(draw), [2**40, 2**20], [0, 2**62], [2**31] * 2, [-1], "F64"))
    if draw.random() < 0.2:
        table[draw.choice(("", "é" * 300, "model.more"))] = entry
    text = json.dumps(table).encode()
    data[:8 + length] = struct.pack("<Q", len(text)) + text


BYTES = [flip_bits, cut, insert, remove, swap_blocks, zeros, header_length, header]


# ---- damage to what the bytes mean ---------------------------------------------------------------


def hostile(draw):
    """Values that nobody expects; lists are nested as deeply as Python's reader can follow."""
    deep = []
    for _ in range(draw.choice((3, 400))):
        deep = [deep]
    return (None, True, False, -1, 0, 1, 2, 10**9, 2**63, 10**30, -10**400, 1e308, -0.5,
            float("nan"), float("inf"), "", "a\nb\r\x00\x1b[2J", "x" * 100_000, "../../etc",
            [], {}, [1] * 1000, {"a": {"b": None}}, deep)


def change_state(state, arrays, draw):
    """A value somewhere in the state is replaced, removed or put beside another."""
    place = state
    while draw.random() < 0.7:
        inner = [value for value in place.values() if isinstance(value, dict) and value]
        if not inner:
            break
        place = draw.choice(inner)
    key = draw.choice(list(place))
    if draw.random() < 0.1:
        del place[key]
    elif draw.random() < 0.1:
        place[draw.choice(("", "more", "x" * 5000, "a\nb"))] = draw.choice(hostile(draw))
    else:
        place[key] = draw.choice(hostile(draw))


def claim_a_size(state, arrays, draw):
    """A larger model than the weights make, or a smaller one."""
    name = draw.choice(("vocabulary", "context", "layers", "heads", "width"))
    state["model"][name] = draw.choice((1, 2, 3, 7, 64, 1000, 10**6, 10**9, 2**31, 10**30))


def change_array(state, arrays, draw):
    """One array gets another type, another shape, other numbers, another name, or goes."""
    name = draw.choice(list(arrays))
    array = arrays.pop(name)
    way = draw.randrange(6)
    if way == 0:
        kind = draw.choice(("F64", "F16", "I64", "BOOL", "U8"))
        array = (np.nan_to_num(array) != 0).astype(safetensors.DTYPES[kind])
    elif way == 1:
        array = draw.choice((array.reshape(-1), array[None], array[..., None], array.T,
                             array.reshape(-1)[:-1], np.zeros((0, 2**40), np.float32)))
    elif way == 2:
        value = draw.choice((np.nan, np.inf, -1e38, 0))
        array = np.full(array.shape, value, np.float32)
    elif way == 3:
        name = draw.choice(("", "model.", "optimizer.more", "x" * 2000, name + "\n"))
    elif way == 4:
        return
    else:
        array = np.array(draw.choice((-1, 2**62, 0)))
    arrays[name] = array


MEANINGS = [change_state, change_state, claim_a_size, change_array]


# ---- the judge -----------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has done one step."""
    tokenizer = train_bpe([b"abcdefgh" * 9], 260)
    model = GPT(GPTConfig(tokenizer.vocab_size, 6, 2, 2, 8), np.random.default_rng(7))
    optimizer = AdamW(model.named_parameters())
    ids = np.array([[1, 0, 2, 2, 1]])
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step(lr=0.1)
    save_run(tmp_path, model, optimizer, to_dict(Settings(steps=9)), 1, "0123abcd", 2)
    save_tokenizer(tokenizer, tmp_path / "tokenizer.json")
    return tmp_path


def go_on(folder):
    """All that train_gpt.py --resume reads."""
    arrays, state = read_run(folder)
    from_dict(Settings, state["settings"])
    model = load_model(arrays, state)
    optimizer = AdamW(model.named_parameters())
    optimizer.load_state(part(arrays, "optimizer"))


def complaint(read, folder):
    """The sentence of the error, None without one; its form, time and memory are judged."""
    path = folder / "checkpoint.safetensors"
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    sentence = None
    try:
        read(folder)
    except (ValueError, OSError) as error:
        sentence = str(error)
        assert "\n" not in sentence and 10 < len(sentence) <= LONGEST, sentence[:5000]
        assert read is go_on or str(folder) in sentence, f"which file? {sentence}"
    assert time.process_time() - start < 1, f"it took seconds: {sentence}"
    taken = tracemalloc.get_traced_memory()[1] - before
    assert taken < path.stat().st_size + SPARE, f"it took {taken} bytes: {sentence}"
    return sentence


def judge(folder, count, seed):
    """Damage the checkpoint `count` times; how often it was refused, by the kind of damage."""
    path = folder / "checkpoint.safetensors"
    whole = path.read_bytes()
    arrays, state = load_checkpoint(folder)
    arrays = {name: np.array(arrays[name]) for name in arrays}
    record = {"kind": "checkpoint", "version": 1, "state": state}
    refused = {damage.__name__: [0, 0] for damage in BYTES + MEANINGS}
    for read in (load_run, go_on):                 # what is loaded but once is not counted
        read(folder)
    tracemalloc.start()
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        damage = draw.choice(draw.choice((BYTES, MEANINGS)))
        if damage in BYTES:
            data = bytearray(whole)
            damage(data, draw)
            path.write_bytes(data)
        else:
            forged, others = json.loads(json.dumps(record)), dict(arrays)
            damage(forged["state"], others, draw)
            write_forged(path, forged, others)
        try:
            sentences = [complaint(read, folder) for read in (load_run, go_on)]
        except Exception as error:
            raise AssertionError(f"damage {damage.__name__}, number {number}: {error!r}") from error
        refused[damage.__name__][0] += any(sentences)
        refused[damage.__name__][1] += 1
        if damage in BYTES and path.read_bytes() != whole:
            assert all(sentences), f"{damage.__name__}, number {number} went unseen"
    tracemalloc.stop()
    return refused


def write_forged(path, record, arrays):
    """What save_checkpoint writes, of a state that it would refuse."""
    dtypes = {name: safetensors.dtype_name(name, array, {}) for name, array in arrays.items()}
    metadata = {"format": "pt", "tinygrad_edu": json.dumps(record)}
    metadata["checksum"] = checksum(metadata, arrays, dtypes)
    safetensors.save(path, arrays, metadata)


def test_a_damaged_checkpoint_gets_one_sentence_at_once_and_takes_no_memory(run):
    refused = judge(run, FEW, seed=1)
    assert all(some for some, _ in refused.values()), refused


@pytest.mark.long
def test_ten_thousand_damaged_checkpoints_get_one_sentence_each(run, capsys):
    refused = judge(run, MANY, seed=2)
    with capsys.disabled():
        print()
        for name, (some, tried) in refused.items():
            print(f"{name:<14} tried {tried:>5}, refused {some:>5}")
        print(f"tried={sum(tried for _, tried in refused.values())} "
              f"refused={sum(some for some, _ in refused.values())} crashed=0")
