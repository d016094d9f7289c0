"""Lesson 4.26 · Downloads: text of others that is the same for everybody

Needs atomic. Used by sources.

Idea      A result can be compared only on the same text. So a data set has a name here, and the
          name stands for exact bytes: an address that does not move, a size, and a checksum. A file
          is looked for in the folder that the user names, then in a cache, and only then fetched;
          whichever way it came, its checksum is computed before anybody reads it. A machine without
          a network needs one thing only: to be told which file to bring, and where to put it.
Math      none but SHA-256: nobody knows how to make two files with the same 256 bits
Shapes    CACHE/tinyshakespeare/input.txt · while it comes: input.txt.part · if it is not what was
          expected: input.txt.differs · CACHE is $XDG_CACHE_HOME or ~/.cache, and tinygrad_edu in it
          a user's own folder may hold DIR/tinyshakespeare/input.txt or DIR/input.txt
Pitfalls  "The newest version" at an address changes results silently: every address names a commit.
          A connection that breaks is the normal end of a long download. What came stays in .part
          and the next try asks for the rest; a server that cannot do that sends all of it again.
          The length that a server announces is a promise, the end of the stream is a fact, and
          neither says that the bytes are right: the login page of a hotel is a good answer, too.
          A file that differs is kept, since it is the evidence; but under another name, so that it
          is never read by mistake. Files in the user's own folder are left alone.
          Two processes that fetch the same file at once write into the same .part: it will differ.
          Without a limit on silence a server that has died holds the program for ever.
          Proxies are those of the environment (https_proxy, no_proxy), as urllib reads them.
Cost      The checksum of a cached file is computed each time: no note could say that a disk is
          still right. `measure it` prints how fast; encoding the same text takes far longer.
Try       build it    a fourth data set: a row in DATASETS and nothing else.
          break it    rename the file before its checksum is known. Which tests notice?
          measure it  python -m tinygrad_edu.data.download: MB/s of SHA-256, and the table.
See       Karpathy's char-rnn (tinyshakespeare) · Eldan, Li 2023 "TinyStories" (the version whose
          stories GPT-4 wrote; huggingface.co/datasets/roneneldan/TinyStories, licence
          CDLA-Sharing-1.0) · Merity et al. 2016 (WikiText; CC BY-SA; the archive that llama.cpp's
          scripts/get-wikitext-2.sh fetches) · RFC 9110, section 14 (ranges) · XDG Base Directory
          Specification. The checksums are those under which Git LFS stores the files at
          huggingface.co, or those that other projects pinned for the same address.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tinygrad_edu.files.atomic import replace, sync_folder

CHUNK = 1 << 20  # bytes between two steps of the progress bar
PATIENCE = 30  # seconds without a byte after which a server has gone


@dataclass(frozen=True)
class Remote:
    """A file that is known by its content: where it is, its size in bytes, its SHA-256 in hex."""

    url: str
    size: int
    sha256: str

    @property
    def name(self):
        """The last part of the address."""
        return self.url.rpartition("/")[2]


CHAR_RNN = "https://raw.githubusercontent.com/karpathy/char-rnn/"
CHAR_RNN += "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/"
TINY_STORIES = "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/"
TINY_STORIES += "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64/"
WIKITEXT = "https://huggingface.co/datasets/ggml-org/ci/resolve/"
WIKITEXT += "927b3642933080f1b0e811e2f916e14c292992f9/"

DATASETS = {
    "tinyshakespeare": [
        Remote(
            CHAR_RNN + "input.txt",
            1_115_394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        )
    ],
    "tinystories": [
        Remote(
            TINY_STORIES + "TinyStoriesV2-GPT4-train.txt",
            2_227_753_162,
            "6418d412de72888f52b5142c761ac21a582f7d1166f0bfbdb5f03ccfdec90443",
        ),
        Remote(
            TINY_STORIES + "TinyStoriesV2-GPT4-valid.txt",
            22_502_601,
            "6874bae9a4c1a4e7edcf0e53b86c17817e9cf881fc75ff2368da457b80c0585d",
        ),
    ],
    "wikitext-2": [
        Remote(
            WIKITEXT + "wikitext-2-raw-v1.zip",
            4_721_645,
            "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
        )
    ],
}


def fetch(name, data_dir=None):
    """The paths of the files of a data set, each with the right checksum.

    `data_dir` is a folder of files brought by hand, looked into first. Raises OSError, in one
    sentence with the address, the name and the folder, where a file is neither there nor to be had;
    ValueError where its content is not the expected one.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"there is no folder {str(data_dir)!r} to look for {name} in")
    return [find(remote, name, data_dir) for remote in DATASETS[name]]


def find(remote, name, data_dir):
    """One file: brought by hand, or in the cache, or fetched into it."""
    for folder in [Path(data_dir) / name, Path(data_dir)] if data_dir is not None else []:
        path = folder / remote.name
        if path.is_file():
            if not is_right(path, remote):
                raise ValueError(
                    f"{path} is not the file of that name that {name} means (SHA-256"
                    f" {remote.sha256[:12]}…, {remote.size:,} bytes): fetch it again from"
                    f" {remote.url}"
                )
            return path
    path = cache_folder() / name / remote.name
    if path.is_file():
        if is_right(path, remote):
            return path
        replace(path, differing(path))  # damaged since: its place is free for a new one
    download(remote, path, Path(data_dir) if data_dir is not None else path.parent)
    return path


def cache_folder():
    """Where downloads stay."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return home / "tinygrad_edu"


def differing(path):
    """The name under which a file is kept whose content is not the expected one."""
    return path.with_name(path.name + ".differs")


def is_right(path, remote):
    """Whether a file has the size and the checksum of a Remote; with a bar where it takes long."""
    size = path.stat().st_size
    if size != remote.size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file, progress(f"checking {path.name}", size) as bar:
        while block := file.read(CHUNK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest() == remote.sha256


def progress(title, size, done=0):
    """A bar in bytes, which appears after a second and goes when it is full."""
    from tqdm import tqdm

    return tqdm(
        desc=title, total=size, initial=done, unit="B", unit_scale=True, leave=False, delay=1
    )


def download(remote, path, by_hand):
    """Fetch a file to `path`, which appears when its checksum is right, and not before.

    by_hand: the folder that a sentence about a failure names, for those who bring the file.
    """
    import http.client  # here, and below: what is in the cache is read without waiting for these
    import urllib.error

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        receive(remote, part)
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as e:
        reason = getattr(e, "reason", e)
        reason = getattr(reason, "strerror", None) or str(reason) or type(e).__name__
        raise OSError(
            f"cannot download {remote.url} ({reason}): try again, or bring {remote.name}"
            f" ({remote.size:,} bytes) from another machine and put it into {by_hand}"
        ) from None
    if not is_right(part, remote):
        replace(part, differing(path))
        raise ValueError(
            f"{remote.url} sent something else than expected (SHA-256 {remote.sha256[:12]}…,"
            f" {remote.size:,} bytes), kept as {differing(path)}: look at it, try again, or put"
            f" the right {remote.name} into {by_hand}"
        )
    replace(part, path)
    sync_folder(path.parent)


def receive(remote, part):
    """Append what is missing to `part`; ConnectionError where the connection ends before the file.

    What is there stays, whatever happens: the next call asks for the rest only. A server that sends
    more than it should is not listened to any longer. OSError where the disk has no room for all.
    """
    import urllib.request

    done = part.stat().st_size if part.exists() else 0
    if done >= remote.size:
        return  # complete, or not this file: the checksum decides
    free = shutil.disk_usage(part.parent).free
    if free < remote.size - done:
        raise OSError(
            f"{remote.name} needs {(remote.size - done) / 1e6:,.0f} MB, {part.parent} has"
            f" {free / 1e6:,.0f} MB left: make room, or bring the file and name its folder"
        )
    request = urllib.request.Request(remote.url, headers={"User-Agent": "tinygrad_edu"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        if answer.status != 206:  # all of it, not the rest
            done = 0
        mode = "ab" if done else "wb"
        with open(part, mode) as file, progress(remote.name, remote.size, done) as bar:
            while done <= remote.size and (block := answer.read(CHUNK)):
                write(file, block)
                done += len(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
    if done < remote.size:
        raise ConnectionError(f"it broke off after {done:,} of {remote.size:,} bytes, now kept")


def write(file, block):
    """file.write, where a full disk says which file it was."""
    try:
        file.write(block)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from None


if __name__ == "__main__":
    from time import perf_counter

    for name, remotes in DATASETS.items():
        for remote in remotes:
            print(f"{name:16} {remote.size:13,} bytes  {remote.name}")
    block = bytes(100 * CHUNK)
    start = perf_counter()
    hashlib.sha256(block).hexdigest()
    speed = len(block) / 1e6 / (perf_counter() - start)
    print(f"cache={cache_folder()} sha256_mb_per_s={speed:.0f}")
