"""Lesson 3.17 · GGUF: weights, settings and tokenizer in one file

Needs atomic, blocks, safetensors. Used by models/gguf_model.py.

Idea      A folder of weights needs other files beside it: what architecture it is, how to cut text
          into tokens. GGUF is one file that has all of it: first a list of settings, each with its
          type, then a table of tensors, then the tensors themselves, most of them in blocks of a
          few bits (lesson blocks). It is what llama.cpp runs, and what people download to run on a
          laptop. As with safetensors (lesson of that name), a stranger wrote it: every claim is
          checked before it is believed, and a tensor is a window on the mapped file.
Math      tensor i lies at  begin of the data + offsetᵢ,   offsetᵢ a multiple of the alignment   (1)
          its bytes: numbers / block · bytes of a block, rows of whole blocks                  (2)
          the data begin at the first multiple of the alignment behind the table               (3)
Shapes    "GGUF" · version (u32: 2 or 3) · tensors (u64) · settings (u64) · settings · table · data
          setting: name · type (u32) · value; a text is its length (u64) and UTF-8 bytes
          row of the table: name · axes (u32) · lengths (u64 each, the fastest axis first) ·
          type (u32) · offset (u64); here shapes are the other way round, as NumPy has them
Pitfalls  A count is a claim: a file of 100 bytes may say that it has 2⁶³ settings. Nothing is
          reserved by a count; reading stops where the file ends.
          A list takes fifty times as much memory here as in the file: LONGEST bounds it.
          Two settings or tensors of one name: which one counts? Refused. So are tensors that
          overlap, and an alignment that is no multiple of 8.
          The order of the rows of some matrices differs from that of safetensors: lesson
          gguf_model knows which.
Cost      Opening reads the settings and the table. A tensor costs its pages, when it is touched.
Try       build it    print the settings of a file without their arrays: inspect_model.py does.
          break it    leave out the check of the alignment. What does a wrong one lead to?
          measure it  python scripts/inspect_model.py FILE
See       ggml, docs/gguf.md (the format)
"""

import math
import mmap
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .atomic import atomic_write
from .blocks import READ, from_blocks, to_blocks
from .safetensors import short

TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 12: "Q4_K",
         13: "Q5_K", 14: "Q6_K", 30: "BF16"}
NUMBERS = {name: number for number, name in TYPES.items()}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
           12: "d"}  # of a setting, as the struct module spells them
TEXT, ARRAY = 8, 9
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
DEEPEST, LONGEST = 4, 2_000_000  # lists in lists; things in one, or bytes in a text
MOST_AXES = 4


class GGUFError(ValueError):
    """A file that is damaged or not GGUF; one sentence with the file and the place."""


class Entry(NamedTuple):
    """What the table says of one tensor; begin and end count from the start of the file."""

    kind: str
    shape: tuple
    begin: int
    end: int


class GGUF(Mapping):
    """An open file: a mapping from names to float32 arrays, each made when it is asked for.

    settings maps names to numbers, texts and lists; entries maps names to Entry; raw(name) are the
    bytes of a tensor, rows (…, bytes) uint8, as they lie in the file.
    """

    def __init__(self, path, mapped, settings, entries):
        self.path, self.mapped, self.settings, self.entries = path, mapped, settings, entries

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)

    def __contains__(self, name):
        return name in self.entries                # Mapping's own would read the tensor to see

    def __getitem__(self, name):
        return self.read(name)

    def read(self, name, out=None):
        """A tensor as floats; out: the array of its shape that they are to go into, if any."""
        kind = self.entries[name].kind
        return from_blocks(self.raw(name), kind, out)

    def raw(self, name):
        """The bytes of a tensor, a read-only view (…, bytes of a row) uint8."""
        _, shape, begin, end = self.entries[name]
        flat = np.frombuffer(self.mapped, np.uint8, end - begin, begin)
        return flat.reshape(*shape[:-1], -1)


class Reader:
    """Reads values one after the other; GGUFError where the file ends before."""

    def __init__(self, mapped):
        self.mapped, self.at = mapped, 0

    def take(self, count):
        """The next `count` bytes."""
        end = self.at + count
        require(end <= len(self.mapped), f"it is cut short: {count} bytes are missing at byte "
                                         f"{self.at}")
        found = self.mapped[self.at : end]
        self.at = end
        return found

    def number(self, code):
        """The next number, by its letter of the struct module."""
        return struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]

    def text(self):
        """The next text."""
        return self.texts(1)[0]

    def texts(self, count):
        """The next `count` texts, in one loop: a vocabulary with its merges has a hundred thousand.
        """
        found, begin = [], self.at
        for _ in range(count):
            end = begin + 8                        # the length of a text comes before it
            if end <= len(self.mapped):
                end += struct.unpack_from("<Q", self.mapped, begin)[0]
            if end > min(len(self.mapped), begin + LONGEST):
                raise GGUFError(f"it is cut short, or the text at byte {begin} is far too long")
            try:
                found.append(self.mapped[begin + 8 : end].decode("utf-8"))
            except UnicodeDecodeError:
                raise GGUFError(f"the text before byte {end} is not UTF-8") from None
            begin = end                            # where the next one begins
        self.at = begin
        return found

    def value(self, kind, depth=0):
        """The next setting of this type: a number, a text, or a list.

        A list of numbers or texts is read at once; one of lists item by item.
        """
        if kind == TEXT:
            return self.text()
        if kind == ARRAY:
            require(depth < DEEPEST, f"arrays lie {DEEPEST} deep in each other at byte {self.at}")
            inner, count = self.number("I"), self.number("Q")
            if inner == TEXT:
                return self.texts(self.enough(count, 8))
            if inner not in SCALARS:
                return [self.value(inner, depth + 1) for _ in range(self.enough(count, 8))]
            size = struct.calcsize(SCALARS[inner])
            raw = self.take(self.enough(count, size) * size)
            return list(struct.unpack(f"<{count}{SCALARS[inner]}", raw))
        require(kind in SCALARS, f"a setting has the unknown type {kind} at byte {self.at}")
        return self.number(SCALARS[kind])

    def enough(self, count, size):
        """count, if the rest of the file can hold so many things of `size` bytes."""
        left = len(self.mapped) - self.at
        require(count <= min(left // size, LONGEST), f"it speaks of {count} things at byte "
                f"{self.at}, with {left} bytes left, and {LONGEST} are the most that is read")
        return count


def load_gguf(path):
    """Map the file `path` and check it: a GGUF. Raises GGUFError, or OSError as `open` does."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            require(size >= 24 and file.read(4) == b"GGUF", "it is not a GGUF file")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            settings, entries = read_head(Reader(mapped), size)
        except GGUFError as error:
            raise GGUFError(f"{path}: {error}") from None
    return GGUF(path, mapped, settings, entries)


def read_head(reader, size):
    """(settings, entries) of a file of so many bytes."""
    reader.take(4)
    version = reader.number("I")
    require(version in (2, 3), f"it has version {version}; versions 2 and 3 are read here")
    tensors, count = reader.number("Q"), reader.number("Q")
    settings = {}
    for _ in range(reader.enough(count, 13)):
        name = reader.text()
        require(name not in settings, f"the setting {short(name)} is there twice")
        settings[name] = reader.value(reader.number("I"))
    table = {}
    for _ in range(reader.enough(tensors, 32)):
        name = reader.text()
        require(name not in table, f"the tensor {short(name)} is there twice")
        axes = reader.number("I")
        require(1 <= axes <= MOST_AXES, f"the tensor {short(name)} has {axes} axes")
        shape = tuple(reader.number("Q") for _ in range(axes))[::-1]
        table[name] = shape, reader.number("I"), reader.number("Q")
    step = settings.get("general.alignment", ALIGNMENT)
    aligned = type(step) is int and 8 <= step <= 1 << 20 and step % 8 == 0
    require(aligned, f"general.alignment is {short(step)}, not a multiple of 8")
    start = -(-reader.at // step) * step                                                       # (3)
    return settings, check_table(table, start, step, size)


def check_table(table, start, step, size):
    """name -> Entry, with every claim of the table checked: (1) and (2), and no overlap."""
    entries = {}
    for name, (shape, number, offset) in table.items():
        where = f"the tensor {short(name)}"
        require(min(shape) > 0, f"{where} has an axis of length 0")
        require(number in TYPES, f"{where} has the type {number}, which is not known here; known "
                                 f"are {', '.join(TYPES.values())}")
        kind = TYPES[number]
        block, width, _ = READ[kind]
        require(shape[-1] % block == 0, f"{where} has rows of {shape[-1]} numbers, and {kind} "
                                        f"blocks of {block}")
        begin, bytes_ = start + offset, math.prod(shape) // block * width                      # (2)
        require(offset % step == 0, f"{where} begins at {offset}, no multiple of {step}")      # (1)
        require(begin + bytes_ <= size, f"{where} ends at byte {begin + bytes_} of {size}: the "
                                        "file is cut short")
        entries[name] = Entry(kind, shape, begin, begin + bytes_)
    position = start
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        require(entry.begin >= position, f"the tensor {short(name)} overlaps the one before")
        position = entry.end
    return entries


def require(claim, reason):
    """Raise GGUFError with `reason` where a claim of the file does not hold."""
    if not claim:
        raise GGUFError(reason)


# ---- writing ---------------------------------------------------------------------------------


def save_gguf(path, settings, tensors, kinds=None):
    """Write a file of version 3, in one step: the old file, or all of the new one.

    settings: name -> bool, int, float, text, or a list of one of these. tensors: name -> array of
    floats, or a pair (bytes (…, n) uint8, its kind). kinds: name -> "F32" (default), "F16", "Q8_0",
    "Q4_0" or "Q4_1". Raises ValueError for rows that do not divide into blocks.
    """
    parts, table, offset = [], b"", 0
    for name, array in tensors.items():
        raw, kind = array if isinstance(array, tuple) else (None, (kinds or {}).get(name, "F32"))
        block, width, _ = READ[kind]
        shape = np.shape(array if raw is None else raw)
        shape = shape if raw is None else (*shape[:-1], shape[-1] // width * block)
        table += text_bytes(name) + struct.pack("<I", len(shape))
        table += struct.pack(f"<{len(shape)}QIQ", *shape[::-1], NUMBERS[kind], offset)
        parts.append((array, kind) if raw is None else (raw, None))
        offset += -(-math.prod(shape) // block * width // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    head += b"".join(text_bytes(name) + typed(value) for name, value in settings.items()) + table
    with atomic_write(path) as file:
        file.write(head.ljust(-(-len(head) // ALIGNMENT) * ALIGNMENT, b"\0"))
        for array, kind in parts:                  # in blocks one at a time: less memory
            raw = to_blocks(np.asarray(array), kind) if kind else array
            file.write(np.ascontiguousarray(raw).data)
            file.write(b"\0" * (-raw.nbytes % ALIGNMENT))


def text_bytes(text):
    """A text with its length before it."""
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def kind_of(value):
    """The number of the type that a setting is written with."""
    if isinstance(value, bool):
        return 7
    if isinstance(value, int):
        return 4 if 0 <= value < 2**32 else 11
    return 6 if isinstance(value, float) else TEXT


def typed(value):
    """A setting: its type, then its value."""
    if not isinstance(value, list):
        return struct.pack("<I", kind_of(value)) + plain(value)
    # Whole numbers as int32, also where all are positive: llama.cpp takes token types in no other.
    small = all(type(item) is int and abs(item) < 2**31 for item in value)
    kind = 5 if small else kind_of(max(value))
    head = struct.pack("<IIQ", ARRAY, kind, len(value))
    return head + b"".join(plain(item, kind) for item in value)


def plain(value, kind=None):
    """A value without its type, as kind_of would write it, or as a list of this kind needs it."""
    kind = kind_of(value) if kind is None else kind
    return text_bytes(value) if kind == TEXT else struct.pack("<" + SCALARS[kind], value)
