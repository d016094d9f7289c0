"""bench_tokenizer.py measures with and without the peers, and compares while it is at it."""

import sys

import pytest

from house import ROOT, load

BENCH = load(ROOT / "scripts" / "bench_tokenizer.py")


@pytest.mark.parametrize("alone", [True, False])
def test_the_last_line_has_every_number(alone, tmp_path, monkeypatch, capsys):
    text = tmp_path / "text.txt"
    content = (ROOT / "README.md").read_bytes()
    text.write_bytes(content)
    monkeypatch.setattr(BENCH, "MEGABYTE", 10_000)
    if alone:
        monkeypatch.setattr(BENCH, "package", lambda name: None)
    flags = "--text", str(text), "--vocab", "300", "--rounds", "1"
    monkeypatch.setattr(sys, "argv", ["bench_tokenizer.py", *flags])
    BENCH.main()
    last = capsys.readouterr().out.splitlines()[-1]
    found = dict(word.split("=") for word in last.split())
    assert found["bytes"] == str(len(content))
    assert found["same_ids"] == "True"
    assert found.get("same_merges", "True") == "True"
    rates = ("ours_cold", "ours_warm", "ours_decode", "letter", "chinese", "minified")
    assert all(float(found[f"{name}_mb_per_s"]) > 0 for name in rates)
    assert ("cold_over_tiktoken" in found) == (not alone and BENCH.package("tiktoken") is not None)


def test_the_large_text_has_new_names_in_every_copy(tmp_path, monkeypatch):
    monkeypatch.setattr(BENCH, "python_library", lambda: [b"def f(self): pass\n"])
    path = tmp_path / "text.txt"
    assert BENCH.write_varied(path, 400_000) == path.stat().st_size
    lines = path.read_bytes().splitlines()
    names = {line for line in lines if line.startswith(b"def f(")}
    assert len(names) > 1
    assert b"self" not in b"".join(names)
    assert BENCH.peak_memory() > 10**7
