import numpy as np
import pytest

from tinygrad_edu.data.loader import draw_batch
from tinygrad_edu.data.windows import Windows

STREAM = np.arange(1000)


def test_the_parts_of_a_step_are_one_large_batch_cut():
    whole = Windows(STREAM, STREAM, batch=12, context=8, seed=3).of_step(5)
    parts = Windows(STREAM, STREAM, batch=4, context=8, parts=3, seed=3).of_step(5)
    assert len(whole) == 1 and [x.shape for x, _ in parts] == [(4, 8)] * 3
    for k in (0, 1):
        np.testing.assert_array_equal(whole[0][k], np.concatenate([pair[k] for pair in parts]))
    np.testing.assert_array_equal(whole[0], draw_batch(STREAM, 12, 8, seed=3, step=5))


def test_a_step_is_the_same_whenever_it_is_asked_for_and_another_seed_has_others():
    first, again = (Windows(STREAM, STREAM, 4, 8, seed=1) for _ in range(2))
    first.of_step(0)
    np.testing.assert_array_equal(first.of_step(7), again.of_step(7))
    assert not np.array_equal(first.of_step(7), first.of_step(8))
    assert not np.array_equal(first.of_step(7), Windows(STREAM, STREAM, 4, 8, seed=2).of_step(7))


def test_windows_begin_at_documents_of_their_own_stream_where_a_separator_is_given():
    train, held_out = np.ones((2, 200), int)
    train[::7] = held_out[::9] = 0                 # documents of 7 and of 9 tokens, the 0 included
    windows = Windows(train, held_out, batch=16, context=6, separator=0)
    ((x, y),) = windows.of_step(0)
    assert not x[:, 0].any() and x[:, 1:].all() and y.all()
    seen = list(windows.of_held_out(windows.last_look()))
    assert not seen[0][0][::2, 0].any() and seen[0][0][1::2, 0].all()  # two windows a document
    assert sum((y >= 0).sum() for _, y in seen) == 199


@pytest.mark.parametrize("separator, windows", [(None, 125), (0, 200)])
def test_the_last_look_takes_all_windows_or_a_share_of_the_text(separator, windows):
    held_out = np.ones(1001, int)
    held_out[::10] = 0                             # documents of ten tokens: two windows of eight
    of = Windows(STREAM, held_out, batch=4, context=8, separator=separator)
    assert of.last_look() == of.last_look(1001) == windows
    assert of.last_look(500) == windows * 500 // 1001
    assert of.last_look(1) == 1                    # a look at nothing has no loss
