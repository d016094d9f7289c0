import struct

from harness import need
from tinygrad_edu.gpu import compiler
from tinygrad_edu.gpu.elf import Elf, Lines, plain_name

TEXT = """static __thread int first[8];
template <class T> T *second() { static __thread T inner[16]; return inner; }
extern "C" int f(int n) {
    first[n] = 1;


    second<int>()[n] = first[n / 2];
    return n;
}
"""


def test_the_lines_and_the_thread_locals_of_a_library_are_those_of_its_text():
    need("cuda")
    path = compiler.shared_library("lines", {"lines.cpp": TEXT}, {}, ["-O0", "-g1", "-gdwarf-4"])
    library = Elf(path.read_bytes())
    names = {name: size for _, size, name in library.shared_variables()}
    assert names == {"first": 32, "inner": 64}
    lines = library.lines()
    found = {row[2] for row in lines.rows if row[1] == "lines.cpp"}
    assert {2, 3, 4, 7, 8, 9} <= found
    assert not found & {1, 5, 6}
    address = next(row[0] for row in lines.rows if row[2] == 7)
    assert lines.find(address) == ("lines.cpp", 7)
    assert lines.find(lines.rows[-1][0]) is None


def test_a_line_may_go_back():
    """A table made by hand: line 1, forward by 9 to 10, back by 3 to 7, a row at each."""
    program = bytes([0, 9, 2]) + struct.pack("<Q", 64)              # the address is 64
    program += bytes([3, 9, 1, 2, 4, 3, 0x7d, 1, 2, 4, 0, 1, 1])    # 0x7d is -3
    header = bytes([1, 1, 1, 0xfb, 14, 10, 0, 1, 1, 1, 1, 0, 0, 0, 1])
    header += b"\0" + b"k.cu\0" + bytes([0, 0, 0]) + b"\0"
    unit = struct.pack("<HI", 4, len(header)) + header + program
    lines = Lines(struct.pack("<I", len(unit)) + unit)
    assert [lines.find(a) for a in (63, 64, 67, 68, 71, 72)] == [
        None, ("k.cu", 10), ("k.cu", 10), ("k.cu", 7), ("k.cu", 7), None]


def test_the_name_of_a_variable_is_the_last_one_in_its_mangled_name():
    assert plain_name("_ZZ12block_reduceI3SumEffE5parts") == "parts"
    assert plain_name("_ZZ1kE1s") == "s"
    assert plain_name("_ZL9tileL2far") == "tileL2far"
    assert plain_name("tile.3") == "tile"
