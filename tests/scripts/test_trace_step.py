"""trace_step.py shows training and nothing else."""

import sys

from house import ROOT, load
from tinygrad_edu import watch

# The one kernel call of a step that nothing but training makes.
STEP = "embedding_backward"


def test_the_trace_has_the_calls_of_the_traced_steps_alone(monkeypatch, capsys):
    monkeypatch.setattr(watch, "_totals", {})
    monkeypatch.setattr(sys, "argv", ["trace_step.py", "--batch", "1", "--vocab", "50",
                                      "--steps", "2"])
    load(ROOT / "scripts" / "trace_step.py").main()
    out, trace = capsys.readouterr()
    calls = [line.split()[0] for line in trace.splitlines()]
    assert calls.count(STEP) == 2
    assert "cross_entropy_forward" not in calls, "the loss of a text that is only looked at"
    assert out.startswith("step_ms=") and out.endswith("steps=2\n")
    assert not watch.state.trace
