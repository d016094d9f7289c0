"""score_python.py: what it says of two shares."""

import pytest

from house import ROOT, load

SCORE = load(ROOT / "scripts" / "score_python.py")


@pytest.mark.parametrize(("shares", "said"), [
    ((0.5, 0.25), "2.00"), ((0.0, 0.5), "0.00"), ((0.5, 0.0), "inf"), ((0.0, 0.0), "unknown")])
def test_a_ratio_is_a_number_unless_the_rival_is_never_right(shares, said):
    assert SCORE.ratio(*shares) == said
