"""Lesson 3.12: at every instant a file is the old one or the new one, whatever happens to us."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tinygrad_edu.files import atomic
from tinygrad_edu.files.atomic import (
    atomic_write,
    refuse_unwritable,
    remove_leftovers,
    write_text,
)

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name == "nt", reason="signals, limits and links as POSIX has them")


def start(code, *arguments):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    path = tmp_path / "a.bin"
    for data in (b"first", b"second, longer", b""):
        with atomic_write(path) as file:
            file.write(data)
        assert path.read_bytes() == data
    assert names(tmp_path) == ["a.bin"]


def test_the_old_file_is_whole_until_the_block_has_ended(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, exception):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(exception), atomic_write(path) as file:
        file.write(b"half of the n")
        raise exception
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_failed_fsync_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"), atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_data_reaches_the_disk_before_the_name_and_the_name_before_the_folder(
    tmp_path, monkeypatch
):
    events = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(descriptor):
        is_folder = os.path.isdir(f"/proc/self/fd/{descriptor}") or not os.fstat(descriptor).st_size
        events.append("folder" if is_folder else "data")
        fsync(descriptor)

    def noted_rename(old, new):
        events.append("name")
        rename(old, new)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(atomic.os, "replace", noted_rename)
    with atomic_write(tmp_path / "a.bin") as file:
        file.write(b"some bytes")
    assert events[:2] == ["data", "name"]
    assert os.name == "nt" or len(events) == 3


@posix
def test_a_disk_that_fills_up_leaves_the_old_file_whole(tmp_path):
    # A limit on the size of files stands in for a full disk: write() fails in the same way.
    code = """
import resource, sys
from tinygrad_edu.files.atomic import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with atomic_write(sys.argv[1]) as file:
        for _ in range(100):
            file.write(b"n" * 1000)
except OSError as error:
    print(type(error).__name__)
"""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    output, _ = start(code, path).communicate(timeout=60)
    assert output.strip() == "OSError"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@posix
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    code = """
import sys
from tinygrad_edu.files.atomic import atomic_write
for turn in range(10**9):
    with atomic_write(sys.argv[1]) as file:
        for _ in range(50):
            file.write(bytes([turn % 256]) * 1000)
            file.flush()
    if turn == 0:
        print("started", flush=True)
"""
    path = tmp_path / "a.bin"
    for wait in (0.0, 0.003, 0.007, 0.013, 0.02):
        process = start(code, path)
        process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        data = path.read_bytes()
        assert len(data) == 50_000
        assert data == data[:1] * 50_000
    remove_leftovers(path)
    assert names(tmp_path) == ["a.bin"]


def test_leftovers_of_this_file_are_removed_and_nothing_else(tmp_path):
    keep = [".a.bin.tmp", ".a.bin.extra.0123abcd.tmp", ".b.bin.0123abcd.tmp", "a.bin", "a.bin.tmp"]
    for name in [*keep, ".a.bin.0123abcd.tmp", ".a.bin.ffffffff.tmp"]:
        (tmp_path / name).write_bytes(b"x")
    remove_leftovers(tmp_path / "a.bin")
    assert names(tmp_path) == sorted(keep)
    remove_leftovers(tmp_path / "no such folder" / "a.bin")


def test_two_writers_at_once_do_not_mix_their_bytes(tmp_path):
    path = tmp_path / "a.bin"
    gate = threading.Barrier(2)

    def write(letter):
        with atomic_write(path) as file:
            file.write(letter * 1000)
            gate.wait(timeout=30)
            file.write(letter * 1000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in (b"a" * 2000, b"b" * 2000)
    assert names(tmp_path) == ["a.bin"]


@posix
def test_permissions_follow_the_old_file_or_the_umask(tmp_path):
    private, fresh, plain = tmp_path / "private", tmp_path / "fresh", tmp_path / "plain"
    private.write_bytes(b"old")
    private.chmod(0o600)
    plain.write_bytes(b"")
    for path in (private, fresh):
        write_text(path, "new")
    assert private.stat().st_mode & 0o777 == 0o600
    assert fresh.stat().st_mode == plain.stat().st_mode


@posix
def test_a_symbolic_link_is_followed_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder" / "a.txt")
    write_text(tmp_path / "link", "through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "a.txt").read_text() == "through"


def test_text_keeps_its_line_ends_and_its_letters(tmp_path):
    write_text(tmp_path / "a.txt", "α\nβ\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "α\nβ\r\n".encode()


def test_a_file_held_open_elsewhere_is_named_in_one_sentence(tmp_path, monkeypatch):
    def refuse(old, new):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(atomic.os, "replace", refuse)
    with pytest.raises(PermissionError, match="has it open or mapped.*a.bin"):
        write_text(tmp_path / "a.bin", "new")
    assert names(tmp_path) == []


def test_a_missing_folder_is_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "a.bin"):
        raise AssertionError("the block must not run")


def test_what_cannot_be_written_is_refused_by_its_own_name_and_before_the_block(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "a.bin"):
        with pytest.raises(OSError) as caught, atomic_write(path):
            raise AssertionError("the block must not run")
        assert caught.value.filename == os.path.realpath(path)
        with pytest.raises(OSError):
            refuse_unwritable(path)


def test_a_try_changes_nothing(tmp_path):
    refuse_unwritable(tmp_path / "new.bin")
    assert names(tmp_path) == []
    (tmp_path / "old.bin").write_bytes(b"old")
    refuse_unwritable(tmp_path / "old.bin")
    assert names(tmp_path) == ["old.bin"] and (tmp_path / "old.bin").read_bytes() == b"old"


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "file"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == os.path.realpath(tmp_path / "file")
