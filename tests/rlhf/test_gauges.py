from tinygrad_edu.rlhf import gauges


def rows_of(count=40, **columns):
    return [{"step": step} | {name: value(step) for name, value in columns.items()}
            for step in range(count)]


def test_a_number_in_its_band_is_not_lit_and_one_outside_says_why():
    good = rows_of(clip_fraction=lambda step: 0.1, first_ratio=lambda step: 1.0)
    assert gauges.lit(good) == []
    bad = rows_of(clip_fraction=lambda step: 0.6, first_ratio=lambda step: 3.0)
    assert gauges.lit(bad) == ["clip_fraction", "first_ratio"]
    text = gauges.table(bad)
    assert "!! updates are too long" in text
    assert "stale" in text
    assert "explained_variance" not in text  # nobody wrote it down


def test_a_single_step_outside_is_noise():
    assert gauges.lit(rows_of(kl=lambda step: 50.0 if step == 39 else 1.0)) == []


def test_entropy_and_length_are_measured_against_where_they_began():
    fading = rows_of(entropy=lambda step: 2.0 if step < 20 else 0.1)
    assert gauges.lit(fading) == ["entropy"]
    assert gauges.lit(rows_of(entropy=lambda step: 0.01)) == []
    assert gauges.lit(rows_of(length=lambda step: 4 + step)) == ["length"]


def test_every_band_has_a_word_for_the_sides_that_can_be_left():
    for name, gauge in gauges.GAUGES.items():
        if gauge.low is not None:
            assert gauge.above or gauge.high == 1.0, name
            assert gauge.below or gauge.low in (0.0, 1.0), name


def test_the_picture_has_a_panel_for_every_gauge_that_was_written_down(tmp_path):
    rows = rows_of(reward=lambda step: step, kl=lambda step: 20.0,
                   score=lambda step: step / 40 if step % 10 == 0 else None)
    gauges.draw_gauges(rows, tmp_path / "gauges.png", "a title")
    assert (tmp_path / "gauges.png").stat().st_size > 5000
