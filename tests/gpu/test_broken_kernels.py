"""Mistakes that are made in CUDA: each is reported, in any order, at a line that is to blame."""

import re
from pathlib import Path

import numpy as np
import pytest

from harness import need
from tinygrad_edu.gpu.compiler import CompileError
from tinygrad_edu.gpu.emulate import KernelError, emulating
from tinygrad_edu.gpu.launch import Launcher

FILE = Path(__file__).with_name("broken_kernels.cu")
RACE, UNWRITTEN = "data race", "no thread of this block has written"
BLOCKS = "blocks are not ordered"
i = np.int32


def numbers(*sizes):
    random = np.random.default_rng(0)
    return [random.standard_normal(size).astype(np.float32) for size in sizes]


def zeros(size):
    return np.zeros(size, i)


# kernel: (grid, block, arguments, words of the report, one of them)
BROKEN = {
    "reverse": (1, 128, numbers(128, 128), [RACE, UNWRITTEN]),
    "tree_sum": (1, 256, numbers(1, 256), [RACE]),
    "matmul": ((2, 2), (16, 16), [*numbers(1024, 1024, 1024), i(32)], [RACE]),
    "forward_difference": (1, 128, [*numbers(128, 128), i(0)], ["s[128], which has 128"]),
    "tail_sum": (1, 128, [*numbers(1, 100), i(100)], [UNWRITTEN]),
    "shifted_copy": (1, 32, numbers(128, 132), ["misaligned: reads 16 bytes"]),
    "smooth": (1, 128, [*numbers(100, 100), i(100)], ["divergent barrier"]),
    "histogram": (2, 128, [zeros(16), *numbers(1024), i(1024)], [RACE]),
    "pipelined_sum": (1, 32, numbers(128, 512), ["lets too many groups go on"]),
    "scale_in_place": (4, 64, [*numbers(1024), i(1024)], [BLOCKS]),
    "half_warp_sum": (1, 32, numbers(32, 32), ["lanes that have returned", "deadlock"]),
    "unrolled_sum": (1, 128, numbers(1, 128), [RACE]),
    "double_buffer": (1, 64, [*numbers(64, 512), i(8)], [RACE, UNWRITTEN]),
    "add_one": (4, 32, [*numbers(100, 100), i(100)], ["x[100], which has 100 elements"]),
    "standardize": (1, 128, numbers(128, 128), [RACE]),
    "subtract_first": (1, 64, numbers(64, 64), [RACE, UNWRITTEN]),
    "sum_blocks": (4, 32, numbers(1, 4, 128), [BLOCKS]),
    "last_block": (4, 32, [*numbers(1, 4), zeros(1), *numbers(128)], [BLOCKS]),
    "through_shared": (1, 64, numbers(64, 64), ["dynamic shared memory, which has 128"]),
    "transpose": ((4, 2), (8, 8), [*numbers(512, 512), i(16), i(32)], ["out of bounds: writes y["]),
    "from_outside": (1, 32, numbers(32, 32), ["which is not in the mask"]),
    "count_positive": (1, 64, [zeros(1), *numbers(64)], [RACE]),
    "blur_in_place": (1, 128, [*numbers(128), i(128)], [RACE]),
    "shifted_pairs": (1, 31, [*numbers(64), np.zeros(64, np.float16)], ["misaligned: reads 4"]),
    "reverse_block": (1, 64, numbers(64, 64), [RACE, UNWRITTEN]),
    "scan_in_place": (1, 64, numbers(64, 64), [RACE]),
    "no_barrier_after_wait": (1, 32, numbers(128, 128), [UNWRITTEN, "may still be copying"]),
    "any_negative": (1, 32, [zeros(1), *numbers(20), i(20)], ["lanes that have returned"]),
    "fence_too_late": (4, 1, [*numbers(1, 4), zeros(1), *numbers(4)], [BLOCKS]),
    "into_the_next": (1, 64, numbers(64), ["__shared__ first[64], which has 64"]),
    "into_the_one_before": (1, 64, numbers(64), ["__shared__ second[64], which has 64"]),
    "short_last_warp": (1, 48, numbers(48, 48), ["its last warp is not full"]),
}


def blamed(name):
    """The lines of a kernel, or of the function before it, that say BUG."""
    lines, found, mine = FILE.read_text(encoding="utf-8").splitlines(), set(), set()
    for number, line in enumerate(lines, 1):
        if not line:
            found = set()
        if line.endswith("// BUG"):
            found.add(number)
        if f"void {name}(" in line:
            mine = found
    return mine


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_is_reported_with_its_reason_at_a_line_to_blame(name, order):
    need("cuda")
    grid, block, arguments, words = BROKEN[name]
    arguments = tuple(a.copy() for a in arguments)
    with pytest.raises(KernelError) as report, emulating(mode="check", order=order, seed=1):
        Launcher(FILE, name)(grid, block, arguments, 128 * (name == "through_shared"))
    message = str(report.value)
    assert any(said in message for said in words)
    assert int(re.search(r"broken_kernels\.cu:(\d+)", message)[1]) in blamed(name)


def test_a_sum_that_never_began_is_refused_by_the_compiler_in_check_mode(tmp_path):
    need("cuda")
    path = tmp_path / "mine.cu"
    path.write_text("""extern "C" __global__ void row_sum(float *y, const float *x) {
    float sum;
    for (int c = 0; c < 4; c++) sum += x[4 * threadIdx.x + c];
    y[threadIdx.x] = sum;
}
""", encoding="utf-8")
    with (pytest.raises(CompileError, match=r"mine\.cu:3:.*sum.* uninitialized"),
          emulating(mode="check")):
        Launcher(path, "row_sum")(1, 32, tuple(numbers(32, 128)))
