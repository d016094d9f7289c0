import numpy as np
import pytest

from tinygrad_edu import memory
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.optim import AdamW
from tinygrad_edu.train.estimate import estimate_peak, readable, training_bytes


@pytest.mark.parametrize("B, T, C, L, V", [(4, 64, 96, 3, 300), (2, 128, 64, 6, 1000)])
def test_the_estimate_is_what_the_arrays_of_a_step_take(B, T, C, L, V):
    config = GPTConfig(V, context=T, layers=L, heads=4, width=C)
    random = np.random.default_rng(0)
    ids = random.integers(0, V, (B, T + 1))
    with memory.Meter() as meter:
        model = GPT(config, random)
        optimizer = AdamW(model.named_parameters())
        for _ in range(2):
            model.loss(ids[:, :-1], ids[:, 1:]).backward()
            optimizer.step(1e-3)
    assert abs(training_bytes(config, B * T) / meter.peak - 1) < 0.15


def test_the_estimate_counts_what_the_process_holds_already():
    peak = estimate_peak(GPTConfig(300, context=64, layers=1, heads=1, width=16), 64)
    if peak is not None:
        assert peak >= memory.peak_resident_bytes()


@pytest.mark.parametrize("seconds, text", [
    (4.6, "5 s"), (59.4, "59 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")])
def test_durations_read_as_people_say_them(seconds, text):
    assert readable(seconds) == text
