import numpy as np

from tinygrad_edu.nn.schedule import warmup_cosine


def test_the_warm_up_climbs_in_equal_steps_and_starts_above_zero():
    rates = [warmup_cosine(step, 100, lr=1.0, warmup=10) for step in range(10)]
    assert np.allclose(rates, np.arange(1, 11) / 10)


def test_the_cosine_passes_its_middle_halfway_and_ends_at_the_minimum():
    assert warmup_cosine(10, 110, lr=1.0, min_lr=0.2, warmup=10) == 1.0
    assert np.isclose(warmup_cosine(60, 110, lr=1.0, min_lr=0.2, warmup=10), 0.6)
    assert np.isclose(warmup_cosine(110, 110, lr=1.0, min_lr=0.2, warmup=10), 0.2)
    assert np.isclose(warmup_cosine(500, 110, lr=1.0, min_lr=0.2, warmup=10), 0.2)


def test_a_run_that_is_all_warm_up_does_not_divide_by_zero():
    assert warmup_cosine(10, 10, lr=1.0, warmup=10) > 0
