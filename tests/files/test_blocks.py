import struct
import warnings

import numpy as np
import pytest

from tinygrad_edu.files.blocks import READ, WRITE, from_blocks, to_blocks


def half_bytes(*numbers):
    return struct.pack(f"<{len(numbers)}e", *numbers)


def numbers(kind, *parts):
    """The numbers of one block, given as pieces of bytes."""
    raw = np.frombuffer(b"".join(map(bytes, parts)), np.uint8)
    return from_blocks(raw, kind).tolist()


UP = [k | 15 - k << 4 for k in range(16)]           # numbers 0 … 15, then 15 … 0
LADDER = [*range(16), *range(15, -1, -1)]


def test_eight_bits_are_a_sign_and_a_size():
    assert numbers("Q8_0", half_bytes(0.5), range(30), [255, 128]) == [
        *(k / 2 for k in range(30)), -0.5, -64.0]


def test_four_bits_are_counted_from_eight_and_the_upper_halves_come_second():
    assert numbers("Q4_0", half_bytes(0.25), UP) == [(k - 8) / 4 for k in LADDER]


def test_four_bits_with_a_begin_are_counted_from_there():
    assert numbers("Q4_1", half_bytes(2, -3), UP) == [2 * k - 3 for k in LADDER]


def test_the_fifth_bit_of_number_k_is_bit_k_of_four_bytes():
    high = [0b00000001, 0, 0, 0b10000000]           # of the first number, and of the last
    five = [16 + LADDER[0], *LADDER[1:31], 16 + LADDER[31]]
    assert numbers("Q5_0", half_bytes(1), high, UP) == [k - 16 for k in five]
    assert numbers("Q5_1", half_bytes(1, 100), high, UP) == [k + 100 for k in five]


def six_bits(scales, j):
    """Scale and begin of group j out of twelve bytes, group by group."""
    if j < 4:
        return scales[j] & 63, scales[j + 4] & 63
    high = scales[j - 4] >> 6, scales[j] >> 6
    return scales[j + 4] % 16 + 16 * high[0], scales[j + 4] // 16 + 16 * high[1]


def slow_q4_k(raw, fifth=None):
    d, e = struct.unpack("<2e", raw[:4])
    found = []
    for k in range(256):
        j = k // 32
        byte = raw[(16 if fifth is None else 48) + j // 2 * 32 + k % 32]
        q = byte >> 4 if j % 2 else byte & 15
        if fifth is not None:
            q += 16 * (fifth[k % 32] >> j & 1)
        s, m = six_bits(raw[4:16], j)
        found.append(d * s * q - e * m)
    return found


def slow_q5_k(raw):
    return slow_q4_k(raw, raw[16:48])


def slow_q6_k(raw):
    (d,) = struct.unpack("<e", raw[208:])
    found = []
    for k in range(256):
        half, group, place = k // 128, k % 128 // 32, k % 32
        byte = raw[64 * half + 32 * (group % 2) + place]
        low = byte >> 4 if group >= 2 else byte & 15
        high = raw[128 + 32 * half + place] >> 2 * group & 3
        (s,) = struct.unpack("b", raw[192 + k // 16 : 193 + k // 16])
        found.append(d * s * (low + 16 * high - 32))
    return found


@pytest.mark.parametrize("slow", [slow_q4_k, slow_q5_k, slow_q6_k])
def test_large_blocks_hold_what_number_by_number_reading_finds(slow):
    kind = slow.__name__[5:].upper()
    width = READ[kind][1]
    raw = np.random.default_rng(0).integers(0, 256, (3, width), dtype=np.uint8)
    places = [208] if kind == "Q6_K" else [0, 2]    # scales of a size that is a number
    for place in places:
        raw[:, place : place + 2] = np.frombuffer(half_bytes(0.0625), np.uint8)
    expected = [slow(bytes(block)) for block in raw]
    assert np.array_equal(from_blocks(raw, kind), np.float32(expected))


@pytest.mark.parametrize(("kind", "steps"), [("Q8_0", 254), ("Q4_1", 15), ("Q4_0", 16)])
def test_what_is_written_comes_back_within_half_a_step(kind, steps):
    x = np.random.default_rng(1).normal(0, 3, (20, 128)).astype(np.float32)
    found = from_blocks(to_blocks(x, kind), kind).reshape(-1, 32)
    x = x.reshape(-1, 32)
    reach = (x.max(1) - x.min(1) if kind == "Q4_1" else 2 * abs(x).max(1)) / steps
    bound = 1.0 if kind == "Q4_0" else 0.5          # Q4_0 has no +8: that end is a step off
    assert (abs(found - x) <= (bound + 0.02) * reach[:, None] + 2e-3 * abs(x).max()).all()


def test_numbers_on_the_ladder_come_back_as_they_were():
    steps = np.float32([*range(-8, 8), *range(-8, 8)])
    for kind, x in (("Q4_0", steps / 4), ("Q4_1", steps / 2), ("Q8_0", np.float32(range(96, 128)))):
        assert np.array_equal(from_blocks(to_blocks(x, kind), kind), x), kind


def test_zeros_are_zeros_in_every_kind():
    for kind in WRITE:
        assert not from_blocks(to_blocks(np.zeros((2, 32), np.float32), kind), kind).any()


def test_halves_are_rounded_away_from_zero_in_eight_bits():
    x = np.zeros(32, np.float32)
    x[:3] = 127, 2.5, -2.5                          # the step is 1
    assert from_blocks(to_blocks(x, "Q8_0"), "Q8_0")[:3].tolist() == [127, 3, -3]


def test_a_scale_that_is_infinite_or_no_number_is_passed_on_without_a_word():
    for kind in READ:
        raw = np.full(READ[kind][1], 255, np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not np.isfinite(from_blocks(raw, kind)).all()


def test_rows_that_do_not_divide_into_blocks_are_refused():
    with pytest.raises(ValueError, match="rows of 33 numbers do not divide into blocks of 32"):
        to_blocks(np.zeros((2, 33), np.float32), "Q4_0")
