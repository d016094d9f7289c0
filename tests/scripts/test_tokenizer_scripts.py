"""tokenize_text.py shows pieces; tokenizer_study.py compares kinds; both refuse in one sentence."""

import re
import sys

import pytest

from house import ROOT, load
from tinygrad_edu.tokenizers.bpe import train_bpe
from tinygrad_edu.tokenizers.kinds import KINDS
from tinygrad_edu.tokenizers.tokenizer_file import save_tokenizer

TEXT = "the fox & the foxes\nnaïve 狐 <|endoftext|> end\n"


def call(script, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, *map(str, flags)])
        load(ROOT / "scripts" / script).main()


@pytest.fixture
def files(tmp_path):
    save_tokenizer(train_bpe(TEXT * 3, 265), tmp_path / "tokenizer.json")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "tokenizer.json", tmp_path / "text.txt"


def test_the_coloured_pieces_are_the_text(files, capsys):
    tokenizer, text = files
    flags = ("--text", text, "--special", "plain", "--show", 0, "--colours", "always")
    call("tokenize_text.py", tokenizer, *flags)
    out = capsys.readouterr().out
    told = dict(pair.split("=") for pair in out.splitlines()[-1].split())
    assert int(told["bytes"]) == len(TEXT.encode()) and told["kind"] == "BPETokenizer"
    shown = out[out.index("\x1b["):]
    bare = re.sub(r"\x1b\[[\d;]*m|‹[0-9a-f]{2}›", "", shown)
    assert bare.startswith(TEXT)
    assert "‹" in shown  # a byte of 狐 that shows nothing of its own


def test_the_page_holds_the_text_and_no_tags_of_it(files, tmp_path, capsys):
    tokenizer, text = files
    call("tokenize_text.py", tokenizer, "--text", text, "--special", "allow", "--html",
         tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "&amp;" in page and "&lt;|endoftext|&gt;" in page
    assert page.count("<span") == int(re.search(r"tokens=(\d+)", capsys.readouterr().out)[1])


@pytest.mark.parametrize("flags, message", [
    ((), "which is a special token"),
    (("--special", "plain", "--text", "nothing.txt"), "nothing.txt"),
    (("--colours", "red"), "takes auto or always or never"),
    (("--html", "none/page.html"), "none/page.html: No such file"),
])
def test_what_cannot_be_shown_is_one_sentence(files, capsys, flags, message):
    tokenizer, text = files
    with pytest.raises(SystemExit) as leaving:
        call("tokenize_text.py", tokenizer, "--text", text, *flags)
    assert leaving.value.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_all_kinds_are_compared_on_a_folder_of_languages(tmp_path, capsys):
    for name in ("README", "CONTRIBUTING"):
        text = (ROOT / f"{name}.md").read_text("utf-8")[:8000]
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    flags = ("--text", tmp_path, "--vocab", 420, "--budget", 2e8, "--width", 32, "--layers", 1)
    call("tokenizer_study.py", *flags)
    out = capsys.readouterr().out
    told = dict(pair.split("=") for pair in out.splitlines()[-1].split())
    assert set(KINDS) <= set(told)
    rows = [line.split() for line in out.splitlines() if line.startswith("bytes ")]
    assert rows[-1][2:4] == ["1.00", "1.00"]  # of both languages


def test_a_language_of_a_few_lines_is_refused(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("one\n\ntwo", encoding="utf-8")
    with pytest.raises(SystemExit):
        call("tokenizer_study.py", "--text", tmp_path)
    assert "needs at least 10" in capsys.readouterr().err
