import errno
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tinygrad_edu.data import download
from tinygrad_edu.data.download import DATASETS, Remote, cache_folder, fetch

TEXT = b"".join(b"%d bottles of milk\n" % i for i in range(9000))


class Server:
    """An HTTP server on this machine that answers as a test wants; it notes what it was asked."""

    def __init__(self):
        self.content = TEXT
        self.status = 200
        self.breaks_after = None  # bytes after which the connection ends
        self.knows_ranges = True
        self.ranges = []

    def answer(self, handler):
        asked = handler.headers["Range"]
        self.ranges.append(asked)
        content, status = self.content, self.status
        if asked and self.knows_ranges:
            content, status = content[int(re.fullmatch(r"bytes=(\d+)-", asked)[1]):], 206
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: self.breaks_after])


@pytest.fixture
def server(monkeypatch, tmp_path):
    """It serves the data set "milk"; the cache is empty, and no proxy is asked."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/milk.txt"
    remote = Remote(server.url, len(TEXT), hashlib.sha256(TEXT).hexdigest())
    monkeypatch.setitem(DATASETS, "milk", [remote])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    yield server
    http.shutdown()
    http.server_close()
    thread.join()


def cached():
    """The names and sizes of the files in the cache."""
    return {path.name: path.stat().st_size for path in (cache_folder() / "milk").iterdir()}


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


def test_a_file_is_fetched_once_and_then_read_from_the_cache(server):
    (path,) = fetch("milk")
    assert path == cache_folder() / "milk" / "milk.txt"
    assert path.read_bytes() == TEXT
    assert fetch("milk") == [path]
    assert server.ranges == [None]
    assert cached() == {"milk.txt": len(TEXT)}


@pytest.mark.parametrize(
    "content",
    [TEXT[:-1] + b"?", b"<html>log in</html>".ljust(len(TEXT)), TEXT + b"and more" * 300_000],
)
def test_a_download_whose_checksum_differs_is_kept_aside_and_named(server, content):
    server.content = content
    with pytest.raises(ValueError, match="sent something else than expected") as error:
        fetch("milk")
    assert str(cache_folder() / "milk" / "milk.txt.differs") in one_sentence(error)
    assert server.url in str(error.value)
    assert list(cached()) == ["milk.txt.differs"]
    server.content = TEXT
    assert fetch("milk")[0].read_bytes() == TEXT


def test_a_server_that_sends_more_is_found_out_and_not_listened_to_any_longer(server, monkeypatch):
    """Also where a block ends just where the file should: the next one has to be asked for."""
    monkeypatch.setattr(download, "CHUNK", len(TEXT))
    server.content = 4 * TEXT
    with pytest.raises(ValueError, match="sent something else than expected"):
        fetch("milk")
    assert cached() == {"milk.txt.differs": 2 * len(TEXT)}


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_broke_off_goes_on_where_it_was(server, knows_ranges):
    server.breaks_after, server.knows_ranges = 5000, knows_ranges
    with pytest.raises(OSError, match=r"broke off after 5,000 of 187,890 bytes") as error:
        fetch("milk")
    one_sentence(error)
    assert cached() == {"milk.txt.part": 5000}
    server.breaks_after = None
    assert fetch("milk")[0].read_bytes() == TEXT
    assert server.ranges == [None, "bytes=5000-"]
    assert list(cached()) == ["milk.txt"]


def test_ctrl_c_keeps_what_came(server, monkeypatch):
    def interrupt(file, block):
        file.write(block[:7000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, "write", interrupt)
        fetch("milk")
    assert cached() == {"milk.txt.part": 7000}
    assert fetch("milk")[0].read_bytes() == TEXT
    assert server.ranges == [None, "bytes=7000-"]


def test_a_part_that_is_not_the_beginning_of_the_file_is_found_out(server):
    folder = cache_folder() / "milk"
    folder.mkdir(parents=True)
    (folder / "milk.txt.part").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="sent something else"):
        fetch("milk")
    assert fetch("milk")[0].read_bytes() == TEXT


def test_a_cached_file_that_was_damaged_is_fetched_anew(server):
    (path,) = fetch("milk")
    path.write_bytes(TEXT[:-1] + b"?")
    assert fetch("milk")[0].read_bytes() == TEXT
    assert cached() == {"milk.txt": len(TEXT), "milk.txt.differs": len(TEXT)}


def test_what_a_server_refuses_is_one_sentence_with_the_way_out(server, tmp_path):
    server.status = 404
    with pytest.raises(OSError, match=r"\(Not Found\): try again, or bring milk.txt \(1") as error:
        fetch("milk")
    sentence = one_sentence(error)
    assert server.url in sentence
    assert sentence.endswith(f"put it into {cache_folder() / 'milk'}")
    with pytest.raises(OSError) as error:
        fetch("milk", tmp_path)
    assert str(error.value).endswith(f"put it into {tmp_path}")


def test_without_a_network_the_sentence_says_what_to_bring_where(server, monkeypatch):
    remote = DATASETS["milk"][0]
    nobody = Remote("http://127.0.0.1:9/milk.txt", remote.size, remote.sha256)
    monkeypatch.setitem(DATASETS, "milk", [nobody])
    with pytest.raises(OSError, match="cannot download http://127.0.0.1:9/milk.txt") as error:
        fetch("milk")
    assert "bring milk.txt (1" in one_sentence(error)
    (cache_folder() / "milk" / "milk.txt").write_bytes(TEXT)  # as it says
    assert fetch("milk")[0].read_bytes() == TEXT


def test_a_silent_server_is_given_up(server, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.1)
    waits = threading.Event()
    monkeypatch.setattr(server, "answer", lambda handler: waits.wait(10))
    try:
        with pytest.raises(OSError, match=r"cannot download .*timed out\): try again"):
            fetch("milk")
    finally:
        waits.set()


def test_a_full_disk_is_said_before_and_during_a_download(server, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(OSError, match=r"milk.txt needs 0 MB, .* has 0 MB left: make room"):
            fetch("milk")
    assert server.ranges == []

    class Full:
        name = "milk.txt.part"

        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError) as error:
        download.write(Full(), b"x")
    assert error.value.filename == "milk.txt.part"


@pytest.mark.parametrize("place", ["milk.txt", "milk/milk.txt"])
def test_a_file_brought_by_hand_is_used_and_nothing_is_fetched(server, tmp_path, place):
    path = tmp_path / "mine" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(TEXT)
    assert fetch("milk", tmp_path / "mine") == [path]
    assert server.ranges == []


def test_a_wrong_file_brought_by_hand_is_refused_and_left_alone(server, tmp_path):
    (tmp_path / "milk.txt").write_bytes(TEXT[:-1])
    with pytest.raises(ValueError, match="is not the file of that name that milk means") as error:
        fetch("milk", tmp_path)
    assert str(tmp_path / "milk.txt") in one_sentence(error)
    assert (tmp_path / "milk.txt").read_bytes() == TEXT[:-1]
    with pytest.raises(FileNotFoundError, match="there is no folder 'nowhere'"):
        fetch("milk", "nowhere")


def test_addresses_of_files_work_too(server, tmp_path, monkeypatch):
    (tmp_path / "milk.txt").write_bytes(TEXT)
    remote = Remote((tmp_path / "milk.txt").as_uri(), len(TEXT), DATASETS["milk"][0].sha256)
    monkeypatch.setitem(DATASETS, "milk", [remote])
    assert fetch("milk")[0].read_bytes() == TEXT


def test_the_cache_is_where_the_system_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinygrad_edu"
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert cache_folder().parts[-2:] == (".cache", "tinygrad_edu")


def test_every_known_file_has_an_address_that_names_a_commit_and_a_whole_checksum():
    for remotes in DATASETS.values():
        for remote in remotes:
            assert re.search(r"/[0-9a-f]{40}/", remote.url)
            assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256)
            assert remote.name in remote.url and remote.size > 0
