"""Lesson 3.13 · safetensors: a file of arrays that a stranger may have written

Needs atomic. Used by checkpoint, scripts/train_gpt.py.

Idea      A pickle is a program: whoever loads it runs it. A safetensors file is a table of contents
          in JSON and then nothing but numbers, so the worst it can do is lie about its contents.
          We check every claim of the table before a single number is touched. After that a tensor
          is a window on the file itself: nothing is copied, and what is not used is not read.
Math      With h the length of the header, s the size of the file and tensor i on bytes [bᵢ, eᵢ)
          of the data part, sorted by bᵢ, the file is accepted only if
              8 + h ≤ s                                                                          (1)
              eᵢ − bᵢ = itemsize · ∏ shape                                                       (2)
              b₁ = 0,   bᵢ₊₁ = eᵢ,   e_last = s − 8 − h       no hole, no overlap, no rest       (3)
          bfloat16 is the upper half of a float32. With u its 32 bits read as an integer,
              bf16(u) = ⌊(u + 0x7FFF + bit₁₆(u)) / 2¹⁶⌋       to nearest, ties to even           (4)
Shapes    h (8 bytes, little-endian) · JSON (h bytes, padded with spaces) · data (s − 8 − h bytes)
          JSON: {"__metadata__": {text: text}, name: {"dtype": "F32", "shape": [2, 3],
          "data_offsets": [b, e]}} · data little-endian, rows contiguous
Pitfalls  · json keeps the last of two equal keys and forgets the first: two readers, two files.
          · True is an int in Python, 1.0 == 1, and JSON may hold an integer of a million digits.
          · product of the shape: in 64 bits 2³² · 2³² is 0, in Python it is not; (2) needs Python.
          · (4) makes −0 of a NaN whose fraction is all ones; NaN has a branch of its own.
          · a header whose length is not a multiple of 8 is legal; then a view of the file is not
          aligned, which some C code cannot read. Such a tensor, and only such, is copied.
          · a mapped file that another program cuts short kills the reader with a bus error. Files
          are therefore replaced (lesson atomic), never rewritten in place.
Cost      Opening reads the header alone. A tensor costs its pages when they are touched, and they
          belong to the system's cache: a second process that maps the file pays nothing.
Try       build it    print the header of any file: 8 bytes, struct.unpack("<Q", …), json.loads.
          break it    sort by the end instead of the begin, or drop (3). Which test notices?
          measure it  time load() and then the sum of all tensors, twice, for a file of a gigabyte.
See       the format: github.com/huggingface/safetensors, README, "Format" · bfloat16: Wang, Kanwar
          2019, "BFloat16: The secret to high performance on Cloud TPUs"
"""

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from tinygrad_edu.files.atomic import atomic_write

CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
CODES |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
CODES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"}
DTYPES = {name: np.dtype(code) for name, code in CODES.items()}
NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
MAX_HEADER = 100_000_000  # bytes; the limit of the reference implementation
MAX_AXES = 32  # what every version of NumPy can index
LARGEST = 2**63 - 1  # a size or an offset that a file can have


class SafetensorsError(ValueError):
    """A file that is damaged or not safetensors; one sentence with the file and the tensor."""


class Entry(NamedTuple):
    """What the header says of one tensor; `begin` and `end` count from the start of the data."""

    dtype: str
    shape: tuple
    begin: int
    end: int


class Safetensors(Mapping):
    """An open file: a mapping from names to read-only arrays, each made when it is asked for.

    `metadata` maps text to text; `dtypes` maps names to the format's types, which tells "BF16"
    (given as uint16, see `bf16_to_float32`) from "U16".
    """

    def __init__(self, path, mapped, start, entries, metadata):
        self.path = path
        self.metadata = metadata
        self.dtypes = {name: entry.dtype for name, entry in entries.items()}
        self.entries = entries
        self.mapped = mapped
        self.start = start

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, name):
        dtype, shape, begin, end = self.entries[name]
        if begin == end:
            return np.zeros(shape, DTYPES[dtype])
        raw = np.frombuffer(self.mapped, np.uint8, end - begin, self.start + begin)
        reason = f"{self.path}: tensor {short(name)}: a BOOL byte is neither 0 nor 1"
        require(dtype != "BOOL" or raw.max() <= 1, reason)
        array = raw.view(DTYPES[dtype]).reshape(shape)
        return array if array.flags.aligned else array.copy()


def load(path):
    """Map the file `path` and check its header: a `Safetensors`, name → array.

    Reads the header and allocates nothing for the data. Raises SafetensorsError for anything
    that is not a whole and consistent safetensors file, OSError where it cannot be opened.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header, start = read_header(file, size)
            metadata = check_metadata(header.pop("__metadata__", {}))
            entries = {name: check_entry(name, entry) for name, entry in header.items()}
            check_cover(entries, size - start)
        except SafetensorsError as error:
            raise SafetensorsError(f"{path}: {error}") from None
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Safetensors(path, mapped, start, entries, metadata)


def read_header(file, size):
    """The JSON object at the head of the file, and the position of the data behind it."""
    require(size >= 8, f"not a safetensors file: {size} bytes are too few for a header")
    (length,) = struct.unpack("<Q", file.read(8))
    reason = f"cut short or not a safetensors file: a header of {length} bytes in {size} bytes"
    require(length <= size - 8, reason)  # (1), before anything of that size is read
    require(length <= MAX_HEADER, f"the header has {length} bytes, more than {MAX_HEADER}")
    text = file.read(length)
    is_object = text.startswith(b"{") and text.rstrip(b" ").endswith(b"}")
    require(is_object, "not a safetensors file: the header is not a JSON object")
    try:
        text = text.decode("utf-8")  # json itself lets halves of surrogate pairs pass
        header = json.loads(text, object_pairs_hook=unique_keys, parse_int=bounded_integer)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deeply
        raise SafetensorsError(f"the header is not valid JSON: {error}") from None
    return header, 8 + length


def unique_keys(pairs):
    """A JSON object as a dict, refusing the second of two equal keys."""
    result = {}
    for key, value in pairs:
        require(key not in result, f"the header names {short(key)} twice")
        result[key] = value
    return result


def bounded_integer(digits):
    """An integer of the header; one that no file can need is refused before it is computed."""
    require(len(digits) <= 20, f"the header holds an integer of {len(digits)} digits")
    return int(digits)


def check_metadata(metadata):
    """The free part of the header: a dict from text to text, or None for an empty one."""
    metadata = {} if metadata is None else metadata
    require(isinstance(metadata, dict), "__metadata__ is not an object")
    for key, value in metadata.items():
        require(isinstance(value, str), f"__metadata__ entry {short(key)} is not text")
    return metadata


def check_entry(name, entry):
    """The Entry of one tensor, with everything checked that concerns this tensor alone."""
    where = f"tensor {short(name)}"
    require(is_text(name), f"{where}: the name is not valid Unicode")
    complete = isinstance(entry, dict) and entry.keys() >= {"dtype", "shape", "data_offsets"}
    require(complete, f"{where}: dtype, shape or data_offsets is missing")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    known = isinstance(dtype, str) and dtype in DTYPES
    require(known, f"{where}: unknown type {short(dtype)}; known are {', '.join(DTYPES)}")
    is_shape = are_sizes(shape) and len(shape) <= MAX_AXES
    require(is_shape, f"{where}: {short(shape)} is not a shape")
    itemsize = DTYPES[dtype].itemsize
    # NumPy refuses such a shape even where another axis is 0 and nothing would be stored.
    fits = itemsize * math.prod(size for size in shape if size) <= LARGEST
    require(fits, f"{where}: the shape {short(shape)} is larger than any file")
    is_range = are_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]
    require(is_range, f"{where}: data_offsets {short(offsets)} are not [begin, end]")
    begin, end = offsets
    needed = itemsize * math.prod(shape)
    reason = f"{where}: {dtype} of shape {short(shape)} takes {needed} bytes, not {end - begin}"
    require(end - begin == needed, reason)  # (2)
    return Entry(dtype, tuple(shape), begin, end)


def check_cover(entries, size):
    """Refuse tensors that do not tile the `size` bytes of data exactly."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        where = f"tensor {short(name)}"
        reason = f"{where}: ends at byte {entry.end} of {size} bytes of data: the file is cut short"
        require(entry.end <= size, reason)
        kind = "a hole before it" if entry.begin > position else "an overlap"
        reason = f"{where}: begins at byte {entry.begin}, not at {position}: {kind}"
        require(entry.begin == position, reason)  # (3)
        position = entry.end
    require(position == size, f"{size - position} bytes follow the last tensor")


def require(claim, reason):
    """Raise SafetensorsError with `reason` where a claim of the file does not hold."""
    if not claim:
        raise SafetensorsError(reason)


def are_sizes(values):
    """True for a list of integers from 0 to LARGEST; True and 1.0 are no integers here."""
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= LARGEST for v in values)


def is_text(value):
    """True for text that UTF-8 can write: JSON can spell half of a surrogate pair, UTF-8 not."""
    try:
        value.encode("utf-8")
    except (AttributeError, UnicodeEncodeError):
        return False
    return True


def short(value):
    """A value of the file for a message: printable and not longer than a line."""
    shown = repr(value[:64] if isinstance(value, (str, list)) else value)
    return shown if len(shown) <= 64 else shown[:60] + " ..."


def save(path, tensors, metadata=None, dtypes=None):
    """Write `tensors` (name → array of any shape) to `path` in one atomic step.

    `metadata` maps text to text. `dtypes` may say {"name": "BF16"} for a uint16 array that holds
    bfloat16; other arrays keep the type they have. So save(path, f, f.metadata, f.dtypes) copies a
    loaded file. Raises TypeError or ValueError, before anything is written, for what the format
    cannot hold; OSError as `atomic_write` does, and then the old file is whole.
    """
    tensors = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    kinds = {name: dtype_name(name, tensors[name], dtypes or {}) for name in tensors}
    # Wide types first: every tensor then begins at a multiple of its own item size.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header = header_bytes(tensors, kinds, order, metadata or {})
    with atomic_write(path) as file:
        file.write(header)
        for name in order:
            array = np.ascontiguousarray(tensors[name], DTYPES[kinds[name]])
            file.write(array.reshape(-1).view(np.uint8).data)


def dtype_name(name, array, dtypes):
    """The format's word for the type of `array`; refuses names and types it has no word for."""
    if not is_text(name) or name == "__metadata__":
        raise ValueError(f"{name!r} cannot be the name of a tensor")
    kind = dtypes.get(name) or NAMES.get(array.dtype.newbyteorder("<"))
    if kind not in DTYPES or array.dtype.newbyteorder("<") != DTYPES[kind]:
        raise TypeError(f"tensor {name!r}: safetensors cannot hold {array.dtype} as {kind}")
    return kind


def header_bytes(tensors, kinds, order, metadata):
    """Length and JSON, padded with spaces so that the data begins at a multiple of 8."""
    for key, value in metadata.items():
        if not is_text(key) or not is_text(value):
            raise TypeError(f"metadata {short(key)}: keys and values have to be text")
    header = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        end = position + tensors[name].nbytes
        shape = list(tensors[name].shape)
        header[name] = {"dtype": kinds[name], "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"names and metadata take {len(text)} bytes, more than {MAX_HEADER}")
    return struct.pack("<Q", len(text)) + text


def float32_to_bf16(x):
    """bfloat16 nearest to each float32, ties to even, as uint16 of the same shape.

    NaN stays NaN with its sign; what lies beyond the largest bfloat16 becomes an infinity.
    """
    x = np.asarray(x)
    if x.dtype != np.float32:  # from float64 it would be rounded twice
        raise TypeError(f"float32_to_bf16 takes float32, not {x.dtype}")
    bits = x.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16  # (4)
    quiet = bits >> 16 | 0x40  # the fraction must not become 0: that would be an infinity
    return np.where(np.isnan(x), quiet, rounded).astype(np.uint16)


def bf16_to_float32(x):
    """The float32 equal to each bfloat16 given as uint16: exact, the lower half is zeros."""
    x = np.asarray(x)
    if x.dtype != np.uint16:
        raise TypeError(f"bf16_to_float32 takes bfloat16 as uint16, not {x.dtype}")
    return (x.astype(np.uint32) << 16).view(np.float32)
