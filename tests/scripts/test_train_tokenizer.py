"""train_tokenizer.py writes a tokenizer of each kind, and says what is wrong where it cannot."""

import sys

import pytest

from house import ROOT, load
from tinygrad_edu.tokenizers.kinds import KINDS, train_tokenizer
from tinygrad_edu.tokenizers.tokenizer_file import load_tokenizer

TRAIN = load(ROOT / "scripts" / "train_tokenizer.py")
TEXT = "The quick brown fox jumps over the lazy dog, and over it again: the fox, not the dog. " * 30


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["train_tokenizer.py", *map(str, flags)])
    TRAIN.main()
    return capsys.readouterr().out


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_trained_written_and_read_again(kind, text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "tokenizer.json"
    flags = "--kind", kind, "--vocab", 300, "--text", text, "--out", out
    last = run(monkeypatch, capsys, *flags).splitlines()[-1]
    tokenizer = load_tokenizer(out)
    assert last.startswith(f"kind={kind} vocab={tokenizer.vocab_size} bytes={len(TEXT)} ")
    assert tokenizer.vocab_size <= 300
    assert "<|endoftext|>" in tokenizer.special
    expected = train_tokenizer(kind, [TEXT], 300)
    assert tokenizer.encode(TEXT).tolist() == expected.encode(TEXT).tolist()
    if kind not in ("words", "wordpiece"):  # those two forget white space
        assert tokenizer.decode(tokenizer.encode("the fox, not the dog")) == "the fox, not the dog"


def test_flags_of_bpe_reach_the_tokenizer(text, tmp_path, monkeypatch, capsys):
    out = tmp_path / "tokenizer.json"
    names = "--special", "<|end|>", "<|pad|>", "<|end|>"
    flags = "--vocab", 300, *names, "--pattern", "llama3", "--ties", "first"
    run(monkeypatch, capsys, *flags, "--text", text, "--out", out)
    tokenizer = load_tokenizer(out)
    assert tokenizer.special == {"<|end|>": 298, "<|pad|>": 299}
    assert tokenizer.pattern == "llama3"
    expected = train_tokenizer(
        "bpe", TEXT, 300, ["<|end|>", "<|pad|>"], pattern="llama3", ties="first"
    )
    assert tokenizer.merges == expected.merges
    assert expected.merges != train_tokenizer("bpe", TEXT, 300, ["a b", "<|pad|>"]).merges


def test_no_special_token_is_possible_and_documents_of_a_folder_do_not_touch(
    tmp_path, monkeypatch, capsys
):
    folder, out = tmp_path / "texts", tmp_path / "tokenizer.json"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("ab", encoding="utf-8")
    (folder / "c.bin").write_bytes(b"\0\1")
    told = run(monkeypatch, capsys, "--vocab", 258, "--text", folder, "--out", out)
    assert "2 documents with 4 bytes" in told
    assert load_tokenizer(out).merges == [(97, 98)]


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--vocab", "256"], "256 bytes and 1 special tokens need 257"),
        (["--vocab", "99999"], "is more than this text can give"),
        (["--kind", "words", "--ties", "first"], "--ties belongs to --kind bpe: leave it away"),
        (["--kind", "bytes", "--vocab", "20"], "a vocabulary of 20 is too small"),
        (["--kind", "char"], "--kind takes bpe or"),
        (["--pattern", "gpt5"], "--pattern takes gpt2 or gpt4"),
        (["--text", "nowhere.txt"], "nowhere.txt: No such file"),
    ],
)
def test_a_mistake_is_one_sentence(flags, sentence, text, tmp_path, monkeypatch, capsys):
    given = ["--text", text] if "--text" not in flags else []
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, capsys, *given, "--out", tmp_path / "t.json", *flags)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "t.json").exists()


def test_a_text_that_is_binary_or_empty_is_refused(tmp_path, monkeypatch, capsys):
    for name, content in (("binary", b"\0\1\2"), ("empty", b"")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SystemExit):
            run(monkeypatch, capsys, "--text", path, "--out", tmp_path / "t.json")
        assert f"{name} holds no plain text" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_refused_before_the_training(
    text, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(TRAIN, "train_tokenizer", None)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, capsys, "--vocab", 300, "--text", text, "--out", tmp_path)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"
