"""A corpus that is encoded once, and mapped: what is written is what is read, and nothing else."""

import json
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from tinygrad_edu.data import corpus as corpus_module
from tinygrad_edu.data import token_folder
from tinygrad_edu.data.corpus import Corpus, Document, Documents
from tinygrad_edu.data.loader import draw_batch, evaluation_batches, read_tokens, token_stream
from tinygrad_edu.data.token_folder import is_token_folder, read_token_folder, write_token_folder
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.characters import END_OF_TEXT, train_characters

TRAIN = [("a.txt", b"the cat sat on the mat\n" * 30), ("b.txt", b"the dog did not\n" * 20)]
HELD_OUT = [("c.txt", b"the cow sat on the dog\n" * 5)]
CORPUS = Corpus("animals", TRAIN, HELD_OUT)
TOKENIZER = train_bpe([text for _, text in TRAIN], 270)


def expected(documents):
    return token_stream(documents, TOKENIZER.encode, TOKENIZER.special[END_OF_TEXT])


@pytest.fixture
def folder(tmp_path):
    write_token_folder(tmp_path / "tokens", CORPUS, TOKENIZER)
    return tmp_path / "tokens"


def test_what_is_written_is_what_is_read(tmp_path):
    written = write_token_folder(tmp_path / "new" / "tokens", CORPUS, TOKENIZER)
    read = read_token_folder(tmp_path / "new" / "tokens")
    for found in (written, read):
        np.testing.assert_array_equal(found.train, expected(TRAIN))
        np.testing.assert_array_equal(found.held_out, expected(HELD_OUT))
        assert isinstance(found.train, np.memmap) and not found.train.flags.writeable
        assert (found.train_bytes, found.held_out_bytes) == (690 + 320, 115)
        assert found.name == "animals"
        assert found.tokenizer.tokens == TOKENIZER.tokens
    assert written.checksum == read.checksum
    other = Corpus("animals", TRAIN, [("c.txt", b"the cow sat on the cat\n" * 5)])
    assert write_token_folder(tmp_path / "other", other, TOKENIZER).checksum != read.checksum


def test_the_pieces_of_a_long_file_are_one_document(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "PIECE", 64)
    for name, text in TRAIN:
        (tmp_path / name).write_bytes(text)
    files = Documents(Document(name, tmp_path / name, 0, len(text)) for name, text in TRAIN)
    found = write_token_folder(tmp_path / "tokens", Corpus("x", files, HELD_OUT), TOKENIZER)
    np.testing.assert_array_equal(found.train, expected(TRAIN))


def test_a_tokenizer_that_cannot_encode_the_text_leaves_no_token_folder(tmp_path):
    with pytest.raises(ValueError, match="the character 'w'"):
        write_token_folder(tmp_path, CORPUS, train_characters([text for _, text in TRAIN]))
    assert not is_token_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no encoded text: there is no tokens.json"):
        read_token_folder(tmp_path)


def test_encoding_that_is_interrupted_leaves_no_token_folder(folder, monkeypatch):
    assert is_token_folder(folder)

    def interrupted(path, pieces, vocabulary):
        raise KeyboardInterrupt

    monkeypatch.setattr(token_folder, "write_tokens", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_token_folder(folder, CORPUS, TOKENIZER)
    assert not is_token_folder(folder)


def test_a_missing_or_short_file_is_refused_by_its_name(folder):
    path = folder / "held_out.tokens"
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(ValueError, match=r"held_out.tokens has [\d,]+ tokens, tokens.json says"):
        read_token_folder(folder, check=False)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="write the file again"):
        read_token_folder(folder, check=False)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="held_out.tokens is missing: bring it back"):
        read_token_folder(folder)
    (folder / "train.tokens").write_bytes(b"")
    with pytest.raises(ValueError, match="train.tokens"):
        read_token_folder(folder)


def test_a_flipped_bit_is_found_by_the_checksum(folder):
    content = bytearray((folder / "train.tokens").read_bytes())
    content[77] ^= 4
    (folder / "train.tokens").write_bytes(content)
    with pytest.raises(ValueError, match="train.tokens is damaged: its checksum is not the one"):
        read_token_folder(folder)
    assert len(read_token_folder(folder, check=False).train) == len(content) // 2


def test_the_tokenizer_of_another_run_is_refused(folder, tmp_path):
    write_token_folder(tmp_path / "other", CORPUS, train_bpe([text for _, text in TRAIN], 265))
    shutil.copy(tmp_path / "other" / "tokenizer.json", folder)
    with pytest.raises(ValueError, match="has 265 tokens, the text beside it was encoded with 270"):
        read_token_folder(folder)


@pytest.mark.parametrize("change", [
    {"vocabulary": "270"}, {"vocabulary": 270.0}, {"name": None}, {"train": 7}, {"train": {}},
    {"text_bytes": {"train": 1}}, {"held_out": {"tokens": True, "crc32": "00000000"}},
])
def test_a_note_that_is_none_is_refused_in_one_sentence(folder, change):
    note = json.loads((folder / "tokens.json").read_text()) | change
    for text in (json.dumps(note), "{", "[]", "[" * 99_999, "\x00"):
        (folder / "tokens.json").write_text(text)
        with pytest.raises(ValueError, match="tokens.json is not the note of a token folder"):
            read_token_folder(folder)


# ---- larger than memory -------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="wants a file system with sparse files")
def test_windows_are_right_beyond_two_to_the_32_tokens_and_little_is_read(tmp_path):
    count = 3 * 2**31
    drawn = int(np.random.Philox(key=4).random_raw(1)[0]) % (count - 50)
    last = 50 * (6 * -(-(count - 1) // 50) // 7)
    assert min(drawn, last) > 2**32
    with open(tmp_path / "huge.tokens", "wb") as file:
        file.truncate(2 * count)
        for start, first in ((drawn, 1), (last, 101)):
            file.seek(2 * start)
            file.write(np.arange(first, first + 51, dtype="<u2").tobytes())
    stream = read_tokens(tmp_path / "huge.tokens", 256)
    tracemalloc.start()
    inputs, targets = draw_batch(stream, 1, 50, seed=4, step=0)
    batches = list(evaluation_batches(stream, 4, 50, windows=7))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000
    assert inputs.tolist() == [list(range(1, 51))]
    assert targets.tolist() == [list(range(2, 52))]
    assert [len(x) for x, _ in batches] == [4, 3]
    assert batches[-1][0][-1].tolist() == list(range(101, 151))
    assert not batches[0][0].any()


CHILD = """
import resource, sys
import numpy as np
from tinygrad_edu.data.loader import draw_batch, evaluation_batches, read_tokens
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.train.loop import evaluate, take_step

path, limit, extra, steps = sys.argv[1], *map(int, sys.argv[2:])


def anonymous(name):
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
stream = read_tokens(path, 512)
model = GPT(GPTConfig(512, context=64, layers=2, heads=2, width=32), np.random.default_rng(0))
optimizer = SGD(model.named_parameters(), momentum=0.9)
peak = 0
for step in range(steps):
    if step == 2 and extra:  # by now everything is compiled, and most of it allocated
        limit = anonymous("VmData") + extra
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    loss, _ = take_step(model, optimizer, [draw_batch(stream, 8, 64, 0, step)], step, 1e-2, 1.0, 0)
    peak = max(peak, anonymous("RssAnon"))
loss, count = evaluate(model, evaluation_batches(stream, 8, 64, windows=16))
try:
    np.array(stream)
    copied = True
except MemoryError:
    copied = False
print(f"loss={loss:.3f} targets={count} peak={max(peak, anonymous('RssAnon'))} "
      f"limit={limit} file={stream.nbytes} copied={copied}")
"""


def trained_under_a_limit(path, megabytes, limit, extra, steps):
    """What CHILD prints after training on a file of so many megabytes of tokens."""
    tokens = np.random.default_rng(0).integers(0, 512, 500_000).astype("<u2").tobytes()
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(tokens)
    command = [sys.executable, "-c", CHILD, path, limit, extra, steps]
    done = subprocess.run([*map(str, command)], check=False, capture_output=True, text=True,
                          timeout=500)
    path.unlink()
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return dict(pair.split("=") for pair in done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux")
def test_a_file_larger_than_the_memory_that_is_left_trains(tmp_path):
    found = trained_under_a_limit(tmp_path / "t.tokens", 300, limit=0, extra=150 * 10**6, steps=6)
    assert found["copied"] == "False"  # the limit is one
    assert found["targets"] == str(16 * 64)
    assert 4 < float(found["loss"]) < 8


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux")
def test_three_gigabytes_of_tokens_train_in_one_gigabyte(tmp_path):
    if shutil.disk_usage(tmp_path).free < 4e9:
        pytest.skip("needs 4 GB of disk")
    found = trained_under_a_limit(tmp_path / "t.tokens", 3000, limit=10**9, extra=0, steps=20)
    assert found["copied"] == "False"
    assert int(found["file"]) == 3 * 10**9
    assert int(found["peak"]) < int(found["limit"]) == 10**9
    assert 4 < float(found["loss"]) < 8
