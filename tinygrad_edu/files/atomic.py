"""Lesson 3.12 · Writing a file that is old or new, never half

Needs nothing. Used by safetensors, checkpoint, tokenizer_file, loader,
scripts/train_tokenizer.py, scripts/tokenize_text.py.

Idea      open(path, "wb") destroys the old file before the first new byte exists. A process killed
          between the two, or a disk that fills up, leaves half a file and no way back. So write the
          new bytes under another name beside the old file, and when the last one is safe on the
          disk let the new name take over in one step that the file system promises not to split.
Math      With o the old bytes and n the new ones, a reader at any time t sees
          f(t) = o  for t < t_replace,   f(t) = n  for t ≥ t_replace                             (1)
          and f is (1) after a power failure too only if the order on the disk is
          data of n  →  the name points at n  →  the folder that holds the name                  (2)
Shapes    path "runs/a/model.bin" · temporary "runs/a/.model.bin.1f2e3d4c.tmp", in the same folder,
          because a rename is one step only inside one file system.
Pitfalls  · rename without fsync: some file systems commit the name before the data, and a power
          failure then leaves an empty file under the good name. (2) is about that order.
          · tempfile.mkstemp makes files that only their owner can read (mode 0600); a rename would
          hand that mode on to the target. open(…, "x") follows the umask instead.
          · kill -9 leaves the temporary file behind: nobody was left to remove it.
          · a rename onto a symbolic link replaces the link, so the link is followed first.
          · Windows refuses to replace a file that someone holds open or mapped.
          · macOS: fsync hands the data to the drive, which may still hold it in its own cache.
Cost      One more name in the folder and, for a moment, room for both files. fsync waits for the
          disk: milliseconds to seconds, so once per checkpoint and never once per training step.
Try       build it    write save(path, data) with open, write, os.replace, then strace it:
                      in which order do write, fsync and rename reach the kernel?
          break it    open path itself instead of the temporary name. Which test notices?
          measure it  take out the two fsync calls and write a megabyte a hundred times, with and
                      without. What does a promise about power failures cost on your disk?
See       POSIX.1-2017, rename() and fsync() · Pillai et al. 2014, "All File Systems Are Not Created
          Equal" (OSDI), which studies which programs get (2) wrong
"""

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path):
    """Open a binary file that becomes `path` when the block ends without an exception.

        with atomic_write("state.bin") as file:
            file.write(data)

    If the block, the disk or Ctrl-C raises, `path` keeps the bytes it had (or stays absent), the
    temporary file is removed and the exception goes on. Raises OSError as `open` and `write` do;
    PermissionError where another program holds `path` open (Windows).
    """
    path = Path(os.path.realpath(path))  # write through a symbolic link, do not replace it
    # Random letters, so that two writers never share a temporary file: the last to finish wins.
    # `secrets` draws from the system: the generators that a training run seeds are not touched.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    if path.is_dir():  # known before the block runs, not after it
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        file = open(temporary, "xb")  # noqa: SIM115 - closed by the `with` below
    except OSError as error:
        error.filename = str(path)  # nobody but us has heard of the temporary one
        raise
    try:
        with file:
            yield file
            file.flush()  # from Python's buffer to the system
            os.fsync(file.fileno())  # from the system to the disk: first arrow of (2)
        keep_mode(path, temporary)
        replace(temporary, path)
    except BaseException as error:  # KeyboardInterrupt too
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # a full disk does not say which file it was
        raise
    sync_folder(path.parent)  # second arrow of (2)


def write_text(path, text):
    """Replace the file `path` by `text` in UTF-8, in one step; line ends stay as they are."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def refuse_unwritable(path):
    """Raise OSError where `atomic_write(path)` would: for before long work, not after it."""
    with suppress(LookupError), atomic_write(path):
        raise LookupError  # no more than a try: `path` stays as it is


def remove_leftovers(path):
    """Remove the temporary files that killed writers of `path` left behind.

    Only for someone who is alone in writing `path`: the temporary file of a writer that is still
    at work looks the same, and that writer would then fail (loudly, and `path` stays whole).
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        return
    start = f".{path.name}."
    for entry in path.parent.iterdir():
        middle = entry.name[len(start) : -len(".tmp")]
        if entry.name == f"{start}{middle}.tmp" and len(middle) == 8:
            entry.unlink(missing_ok=True)


def replace(temporary, path):
    """os.replace, with a sentence about the one failure that surprises: a file held open."""
    try:
        os.replace(temporary, path)
    except PermissionError as error:
        reason = "cannot replace the file: a program, perhaps this one, has it open or mapped"
        raise PermissionError(error.errno, reason, str(path)) from None


def keep_mode(path, temporary):
    """Give the new file the permissions of the old one, so that a private file stays private."""
    if path.exists():
        os.chmod(temporary, path.stat().st_mode & 0o777)


def sync_folder(folder):
    """Make a new name in `folder` durable. Windows cannot open a folder for that."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without this call
            raise
    finally:
        os.close(descriptor)
