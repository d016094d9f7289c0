"""Lesson 4.111 · JSONL: a JSON object on every line, and a place for every mistake

Needs atomic. Used by conversations, scripts/make_data.py.

Idea      Examples to learn from come as files with one JSON object a line: they can be read without
          holding them all, cut with any tool, and compressed with gzip. Such files are made by
          scripts, by hand, and by models, so mistakes are normal; a line that is silently skipped
          or a traceback from deep inside are both useless. What is wrong is said in one sentence
          that begins with file and line, and the reader decides whether to stop there or to go on
          and count.
Math      none
Shapes    path -> (number, object) for every line that is not blank, counted from 1
Pitfalls  A name that ends in .gz proves nothing: gzip files begin with the bytes 1f 8b.
          A download that broke off is a gzip file without an end: its last lines are missing, and
          without a word about it one trains on half of the data.
          A file without line feeds is one line: a limit keeps it from filling the memory.
          JSON can hold half a character: "\\ud83d" is valid, and no UTF-8 can be made of it.
Cost      Decoding JSON, nearly all of it; `measure it` prints MB a second.
Try       build it    readers of CSV and of Parquet that yield the same pairs.
          break it    catch no EOFError. Which test cuts a file short?
          measure it  python -m tinygrad_edu.data.jsonl
See       RFC 8259 (JSON; section 8.2: half a character) · RFC 1952 (gzip) · jsonlines.org
"""

import gzip
import json
import zlib
from pathlib import Path

from tinygrad_edu.files.atomic import atomic_write

LONGEST_LINE = 1 << 24  # bytes


def read_objects(path, left_out=None):
    """Yield (number, object) for every line of a file with JSON objects, gzip or not.

    ValueError, in one sentence with file and line, for the first line that holds none; with a list
    `left_out` the sentence is appended to it, and reading goes on. OSError as `open` does, and
    where the file is damaged beyond a line.
    """
    for number, line in numbered_lines(Path(path)):
        if line.strip():
            with fault_of_line(path, number, left_out):
                yield number, parse_object(line)


class fault_of_line:
    """with fault_of_line(path, 3, None): a ValueError inside gets the place in front.

    With a list instead of None the sentence is appended to it, and the error ends here.
    """

    def __init__(self, path, number, left_out):
        self.place, self.left_out = f"{path}, line {number}", left_out

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not ValueError:
            return False
        sentence = f"{self.place}: {error}"
        if self.left_out is None:
            raise ValueError(sentence) from None
        self.left_out.append(sentence)
        return True


def numbered_lines(path):
    """(number, bytes) of every line, from 1; OSError where they cannot be read to the end."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    number = 0
    with gzip.open(path) if packed else open(path, "rb") as file:
        while True:
            try:
                line = file.readline(LONGEST_LINE + 1)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                raise OSError(f"{path} is a gzip file that was cut short or damaged behind line "
                              f"{number}: bring the whole file") from None
            if not line:
                break
            number += 1
            if len(line) > LONGEST_LINE:
                raise OSError(f"{path}, line {number} has more than {LONGEST_LINE >> 20} MiB: is "
                              "this a file with one JSON object a line?")
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line


def parse_object(line):
    """The dict that a line holds; ValueError where it holds something else."""
    try:
        found = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8: save the file as UTF-8") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except ValueError as error:
        text = line.lstrip()[:1]
        hint = " (one list over many lines? write each of its objects on a line of its own)"
        raise ValueError(f"this is not JSON: {error}{hint if text == b'[' else ''}") from None
    if not isinstance(found, dict):
        raise ValueError(f"a line holds a JSON object, {{…}}, not {kind_of(found)}")
    return found


def kind_of(value):
    """What JSON calls a value."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number",
             float: "a number", type(None): "null"}
    return kinds[type(value)]


def write_objects(path, objects):
    """Write dicts, one a line; as gzip where the path ends in .gz. Returns how many there were."""
    path, count = Path(path), 0
    with atomic_write(path) as plain:
        file = plain
        if path.suffix == ".gz":  # without a name and a time inside: equal objects, equal bytes
            file = gzip.GzipFile("", "wb", fileobj=plain, mtime=0)
        for each in objects:
            file.write(json.dumps(each, ensure_ascii=False).encode() + b"\n")
            count += 1
        if file is not plain:
            file.close()
    return count


if __name__ == "__main__":
    from tempfile import TemporaryDirectory
    from time import perf_counter

    with TemporaryDirectory() as folder:
        file = Path(folder, "talks.jsonl")
        rows = [{"prompt": f"{k} and {k}", "answer": "fox " * 50} for k in range(50_000)]
        write_objects(file, rows)
        start = perf_counter()
        same = [row for _, row in read_objects(file)] == rows
        rate = file.stat().st_size / 1e6 / (perf_counter() - start)
        print(f"same={same} mb_per_s={rate:.0f}")
