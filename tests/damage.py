"""What the tests of files share: good files with a few changes, and how a reader takes them."""

import struct
import tracemalloc

import numpy as np

from tinygrad_edu.memory import peak_resident_bytes

EXTREME = np.array([0, 1, 3, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1], np.int64)
WORDS = (b"null", b"-1", b"1e999", b"[]", b'"x"', b"true", b"99999999999999999999", b"NaN", b"{")


def mutated(data, random, head=1 << 20, whole=None):
    """Bytes with one to three changes in the first `head` of them.

    Another byte, an extreme or a small number, a word of JSON, a piece twice, or the end cut off.
    whole: how many bytes the file has, of which `data` is the begin; a hole follows.
    """
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at, way = int(random.integers(0, min(head, len(data)) + 1)), random.integers(0, 6)
        if way == 0:
            data[at : at + 1] = random.bytes(1)
        elif way == 1:
            data[at : at + 8] = struct.pack("<Q", int(random.choice(EXTREME)))
        elif way == 2:
            data[at : at + 4] = struct.pack("<I", int(random.integers(0, 40)))
        elif way == 3:
            data[at : at + int(random.integers(0, 4))] = WORDS[random.integers(0, len(WORDS))]
        elif way == 4:
            data[at:at] = data[at : at + int(random.integers(1, 60))]
        elif whole is None:
            del data[int(random.integers(0, len(data) + 1)) :]
    return bytes(data)


def survive(load, path, count, seed, head=1 << 20, read=None, most=30e6):
    """How many of so many mutations of the file `path` are refused, each in one short line.

    load(read) reads what the file belongs to: itself, or its folder. Every other exception ends the
    test, and so does memory beyond `most` bytes.
    """
    whole, random, refused = path.read_bytes(), np.random.default_rng(seed), 0
    tracemalloc.start()
    for _ in range(count):
        path.write_bytes(mutated(whole, random, head))
        refused += is_refused(load, path if read is None else read)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    path.write_bytes(whole)
    assert peak < most
    return refused


def survive_head(load, path, copy, size, count, seed, most=300e6):
    """The same with a large file, whose head of `size` bytes alone is copied and changed.

    The rest of the copy is a hole of the right length, which costs no disk. Changes are at the
    begin, at the end of the head, or anywhere in it.
    """
    random, refused, length = np.random.default_rng(seed), 0, path.stat().st_size
    before = peak_resident_bytes()
    with open(path, "rb") as file:
        head = file.read(size)
    for turn in range(count):
        cut = [0, max(0, size - 40_000), int(random.integers(0, size))][turn % 3]
        reach = 40_000 if cut else 2000
        with open(copy, "wb") as file:
            file.write(head[:cut] + mutated(head[cut:], random, reach, length))
            file.truncate(length if random.integers(0, 10) else int(random.integers(0, length)))
        refused += is_refused(load, copy)
    assert peak_resident_bytes() - before < most
    return refused


def is_refused(load, path):
    """Whether load(path) raises ValueError, which must be one short line."""
    try:
        load(path)
    except ValueError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error), error
        return True
    return False
