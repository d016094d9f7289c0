"""Lesson 1.14 · What a compiled file remembers of its source

Needs nothing. Used by emulate, nvrtc.

Idea      When a kernel goes wrong in the emulator, what is known is an address of machine code. A
          debugger turns it into a file and a line with a table that the compiler leaves in the
          library on request (-g). The table would be long, a row for every instruction; so it is
          stored as a small program, whose machine has registers `address`, `file` and `line`, and
          which says "emit a row" now and then. Here is that machine. A second table, the symbols,
          says where each __shared__ variable lies.
Math      line(a) = the line of the last row whose address is ≤ a                                (1)
          LEB128: seven bits a byte, lowest first; the eighth says that more follow. Of a number
          that may be negative the seventh bit of the last byte is the sign                      (2)
Shapes    a library -> Lines.find(offset) = (file, line) · shared_variables = [(offset, size, name)]
Pitfalls  The address that a function returns to is the one behind the call: look up one less.
          An inlined function has the lines of its own file, not of the one that called it.
          C++ names are mangled: `_ZZ7softmaxE5parts` is the variable parts of the function softmax.
          Version 5 of the table has another header: so the emulator compiles with -gdwarf-4.
Cost      Some milliseconds, once a kernel file, in the modes that report lines.
Try       build it    which function is an address in? The symbols know.
          break it    forget that (2) may be negative. Which test of tests/gpu/test_elf.py notices?
          measure it  how many rows, and how many bytes of program, has the table of a kernel file?
See       DWARF Debugging Information Format 4, section 6.2 · System V ABI, "ELF header", "Symbols"
"""

import bisect
import re
import struct

SYMBOL_IS_THREAD_LOCAL = 6


class Elf:
    """The content of a library of 64-bit Linux, or of machine code for a GPU, as its sections."""

    def __init__(self, content):
        self.content = content
        start, size, count, names = struct.unpack_from("<40xQ10xHHH", self.content)
        fields = [struct.unpack_from("<IIQQQQI", self.content, start + i * size)
                  for i in range(count)]
        table = fields[names][4]
        self.sections = {self._text(table + name): (offset, length, link)
                         for name, _, _, _, offset, length, link in fields}
        self._fields = fields

    def _text(self, at):
        """Characters up to a zero, anywhere in the file."""
        return self.content[at:self.content.index(b"\0", at)].decode()

    def shared_variables(self):
        """[(offset, bytes, name)] of the thread-local variables, in the order of their places."""
        offset, length, link = self.sections[".symtab"]
        names, found = self._fields[link][4], set()
        for at in range(offset, offset + length, 24):
            name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", self.content, at)
            if info & 15 == SYMBOL_IS_THREAD_LOCAL and section and size:
                found.add((value, size, plain_name(self._text(names + name))))
        return sorted(found)

    def lines(self):
        """The table of lines, ready to be asked."""
        offset, length, _ = self.sections.get(".debug_line", (0, 0, 0))
        return Lines(self.content[offset:offset + length])


def plain_name(mangled):
    """The last name within a mangled one: parts, for _ZZ7softmaxE5parts."""
    last, at = mangled.partition(".")[0], 0
    while match := re.compile(r"[EL](\d+)(?=[A-Za-z_])").search(mangled, at):
        at = match.end() + int(match[1])
        last = mangled[match.end():at]
    return last


class Lines:
    """The rows of a table of lines (DWARF 2 to 4), by address."""

    def __init__(self, content):
        self.content, self.at = content, 0
        self.rows = []  # (address, file, line), the file None where a sequence ends
        while self.at < len(content):
            self._unit()
        self.rows.sort(key=lambda row: row[0])
        self._addresses = [row[0] for row in self.rows]

    def find(self, address):
        """(file, line) of an instruction, or None: (1)."""
        i = bisect.bisect_right(self._addresses, address) - 1
        return None if i < 0 or self.rows[i][1] is None else self.rows[i][1:]

    # ---- reading

    def _number(self, kind):
        """One number of a fixed size, by its letter of the struct module."""
        (value,) = struct.unpack_from("<" + kind, self.content, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def _leb(self, signed=False):
        """A number of any length: (2)."""
        value = shift = 0
        while True:
            byte = self._number("B")
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if signed and byte & 64 else value

    def _string(self):
        """Characters up to a zero."""
        end = self.content.index(b"\0", self.at)
        text = self.content[self.at:end].decode()
        self.at = end + 1
        return text

    # ---- the machine

    def _unit(self):
        """A header, two lists of names, and a program, of one source that was compiled."""
        end = self._number("I") + self.at
        version = self._number("H")
        if version > 4:
            self.at = end  # of a library that came with the compiler: not a kernel's
            return
        program = self._number("I") + self.at
        self.smallest = self._number("B")
        self.at += 2 if version == 4 else 1  # operations per instruction, default of is_stmt
        self.base, self.range, opcode_base = self._number("b"), self._number("B"), self._number("B")
        self.operands = [self._number("B") for _ in range(opcode_base - 1)]
        while self._string():
            pass  # folders
        self.files = [None]
        while name := self._string():
            self.files.append(name)
            for _ in range(3):  # folder, time, length
                self._leb()
        self.at = program
        self._start()
        while self.at < end:
            self._step(self._number("B"), opcode_base)

    def _start(self):
        """The registers as each sequence of instructions finds them."""
        self.address, self.file, self.line = 0, 1, 1

    def _emit(self):
        self.rows.append((self.address, self.files[self.file], self.line))

    def _step(self, opcode, opcode_base):
        """One instruction. Most are of the first kind, which is why the table is small."""
        if opcode >= opcode_base:  # one byte moves both and emits
            self.address += (opcode - opcode_base) // self.range * self.smallest
            self.line += self.base + (opcode - opcode_base) % self.range
            self._emit()
        elif opcode == 0:
            self._extended()
        elif opcode == 1:
            self._emit()
        elif opcode == 2:
            self.address += self._leb() * self.smallest
        elif opcode == 3:
            self.line += self._leb(signed=True)
        elif opcode == 4:
            self.file = self._leb()
        elif opcode == 8:
            self.address += (255 - opcode_base) // self.range * self.smallest
        elif opcode == 9:
            self.address += self._number("H")
        else:  # columns, statements, prologues: not asked for
            for _ in range(self.operands[opcode - 1]):
                self._leb()

    def _extended(self):
        """Instructions with a length: the end of a sequence of addresses, and where one begins."""
        end = self._leb() + self.at
        opcode = self._number("B")
        if opcode == 1:
            self.rows.append((self.address, None, 0))
            self._start()
        elif opcode == 2:
            self.address = self._number("Q")
        self.at = end
