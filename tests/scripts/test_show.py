"""show.py prints all bodies of a kernel, whatever language they are written in."""

import sys

import pytest

from house import ROOT, load
from tinygrad_edu.kernel import Kernel, kernels

show = load(ROOT / "scripts" / "show.py")

C = """\
/* What the file is about. */
#include "kernels.h"

/* Twice,
 * eq. (1) */
void twice_forward(real *y, const real *x,
                   int64_t n) {
    for (int64_t i = 0; i < n; i++) { y[i] = 2 * x[i]; }
}

// The slope, eq. (2).
// It is constant.
void twice_backward(real *dx, const real *dy, int64_t n) { twice_forward(dx, dy, n); }

#define UNARY(name, value, slope)                 \\
    void name##_forward(real *y, const real *x) { \\
        y[0] = value;                             \\
    }

UNARY(square,  x * x,
               2 * x)
UNARY(squares, 0, 0)
"""


def text_of(name):
    start, end = show.definition(C, name)
    return C[start:end]


def test_a_c_function_is_found_with_its_comment_and_to_its_last_bracket():
    found = text_of("twice_forward")
    assert found.startswith("/* Twice,\n * eq. (1) */\nvoid")
    assert found.endswith("2 * x[i]; }\n}")


def test_a_call_of_a_c_function_is_not_its_definition():
    found = text_of("twice_backward")
    assert found.startswith("// The slope, eq. (2).\n// It is constant.\nvoid twice_backward")
    assert show.definition(C, "UNARY") is None


def test_a_kernel_made_by_a_macro_is_shown_as_the_macro_and_its_row():
    macro, row = (C[start:end] for start, end in show.macro_row(C, "square_backward"))
    assert macro.startswith("#define UNARY(name") and macro.endswith("    }")
    assert row == "UNARY(square,  x * x,\n               2 * x)"
    assert show.macro_row(C, "cube_forward") == []


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A kernel with three bodies, one of them in C, and the folder of that C."""

    @Kernel
    def twice_forward(y, x):
        y[...] = 2 * x

    @twice_forward.body("numba")
    def twice_forward_numba(y, x):
        for i in range(x.size):
            y[i] = x[i] + x[i]

    @twice_forward.body("native", when=lambda y, x: False)
    def twice_forward_native(y, x):
        raise NotImplementedError

    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "twice.c").write_text(C, encoding="utf-8")
    monkeypatch.setattr(show, "PACKAGE", tmp_path / "tinygrad_edu")
    yield
    del kernels["twice_forward"]


def test_all_bodies_are_shown_one_under_another(example, capsys):
    assert show.main(["twice_forward"]) == 0
    printed = capsys.readouterr().out
    titles = [line for line in printed.splitlines() if line.startswith(("====", "----"))]
    words = ["numpy", "numba", "native", "native/twice.c:4"]
    assert len(titles) == 4
    assert all(word in title for word, title in zip(words, titles, strict=True))
    for text in ("y[...] = 2 * x", "y[i] = x[i] + x[i]", "y[i] = 2 * x[i];", "test_show.py:"):
        assert text in printed
    assert printed.splitlines()[-1] == "kernels=twice_forward bodies=native,numba,numpy"


def test_a_name_without_its_ending_means_forward_and_backward(example, capsys):
    assert show.main(["twice"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("kernels=twice_forward ")


def test_an_unknown_name_is_told_in_one_sentence_with_what_was_meant(example, capsys):
    assert show.main(["twice_forwrad"]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: there is no kernel 'twice_forwrad': did you mean twice_forward")
    assert show.main(["q"]) == 2
    assert "without a name, all are listed" in capsys.readouterr().err


def test_without_a_name_every_kernel_is_listed_with_its_bodies(example, capsys):
    assert show.main([]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"kernels={len(lines)}"
    (line,) = [line for line in lines if line.startswith("twice_forward(")]
    assert line.split() == ["twice_forward(y,", "x)", "numpy", "numba", "native"]
    assert "layernorm_forward(" in "".join(lines)


def test_a_module_that_cannot_be_imported_is_named_and_left_out(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tinygrad_edu.ops.norm", None)
    show.import_lessons()
    assert "left out: tinygrad_edu.ops.norm" in capsys.readouterr().err
