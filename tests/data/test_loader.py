import math

import numpy as np
import pytest

from tinygrad_edu.data import loader
from tinygrad_edu.data.loader import (
    IGNORED,
    bits_per_byte,
    document_starts,
    draw_batch,
    evaluation_batches,
    read_tokens,
    token_stream,
    window_count,
    write_tokens,
)


def test_a_target_is_the_token_after_its_input():
    inputs, targets = draw_batch(np.arange(1000), 8, 16, seed=1, step=0)
    assert inputs.shape == targets.shape == (8, 16)
    assert inputs.dtype == targets.dtype == np.int32
    assert inputs.flags.c_contiguous and targets.flags.c_contiguous
    np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(inputs, inputs[:, :1] + np.arange(16))


def test_a_batch_depends_on_seed_and_step_and_nothing_else():
    tokens = np.arange(10_000)
    first = [draw_batch(tokens, 4, 8, seed=5, step=step)[0] for step in range(10)]
    np.random.seed(0)
    resumed = [draw_batch(tokens, 4, 8, seed=5, step=step)[0] for step in range(7, 10)]
    np.testing.assert_array_equal(first[7:], resumed)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], draw_batch(tokens, 4, 8, seed=6, step=0)[0])
    assert not np.array_equal(first[1], draw_batch(tokens, 4, 8, seed=1, step=5)[0])


def test_the_windows_of_a_seed_never_change():
    starts = draw_batch(np.arange(1000), 4, 8, seed=1, step=2)[0][:, 0]
    words = np.random.Philox(key=1 + (2 << 64)).random_raw(4)
    assert starts.tolist() == [int(word) % 992 for word in words]
    assert starts.tolist() == [233, 202, 11, 546]


def test_more_rows_begin_with_the_rows_of_a_smaller_batch():
    tokens = np.arange(1000)
    large, _ = draw_batch(tokens, 12, 8, seed=1, step=3)
    small, _ = draw_batch(tokens, 4, 8, seed=1, step=3)
    np.testing.assert_array_equal(large[:4], small)


def test_training_windows_reach_both_ends_of_the_stream_and_fall_evenly():
    tokens = np.arange(20)
    drawn = [draw_batch(tokens, 100, 4, seed=0, step=step) for step in range(40)]
    starts = np.concatenate([inputs[:, 0] for inputs, _ in drawn])
    counts = np.bincount(starts, minlength=16)
    assert len(counts) == 16  # 20 tokens hold 16 windows of 5
    assert max(targets.max() for _, targets in drawn) == 19
    assert abs(counts - 250).max() < 5 * math.sqrt(250)


def test_a_stream_of_one_window_is_enough_and_one_token_less_is_refused():
    inputs, targets = draw_batch(np.arange(9), 2, 8, seed=0, step=0)
    assert inputs.tolist() == [list(range(8))] * 2
    assert targets.tolist() == [list(range(1, 9))] * 2
    with pytest.raises(ValueError, match="has 8 tokens, a context of 8 needs 9 or more"):
        draw_batch(np.arange(8), 2, 8, seed=0, step=0)


@pytest.mark.parametrize("length", [2, 3, 8, 9, 10, 17, 24, 25, 26, 97])
@pytest.mark.parametrize("batch", [1, 3])
def test_evaluation_counts_every_target_exactly_once(length, batch):
    tokens = np.arange(100, 100 + length)
    seen = []
    for inputs, targets in evaluation_batches(tokens, batch, 8):
        assert inputs.shape == targets.shape
        assert inputs.shape[1] == 8 and 1 <= len(inputs) <= batch
        assert inputs.min() >= 0
        counted = targets != IGNORED
        assert counted.any(axis=1).all()  # no window without a target
        np.testing.assert_array_equal(targets[counted], inputs[counted] + 1)
        seen += targets[counted].tolist()
    assert seen == tokens[1:].tolist()


def test_a_partial_window_is_filled_with_targets_that_do_not_count():
    batches = list(evaluation_batches(np.array([5, 6, 7, 8, 9]), 4, 3))
    assert len(batches) == 1
    assert batches[0][0].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batches[0][1].tolist() == [[6, 7, 8], [9, IGNORED, IGNORED]]


def test_a_quick_estimate_reads_the_same_evenly_spread_windows_each_time():
    tokens = np.arange(8 * 100 + 1)
    estimates = [list(evaluation_batches(tokens, 4, 8, windows=10)) for _ in range(2)]
    starts = [inputs[:, 0].tolist() for inputs, _ in estimates[0]]
    assert starts == [[0, 80, 160, 240], [320, 400, 480, 560], [640, 720]]
    np.testing.assert_array_equal(estimates[0][2], estimates[1][2])
    everything = sum(len(inputs) for inputs, _ in evaluation_batches(tokens, 4, 8, windows=10**6))
    assert everything == 100


def test_a_held_out_text_without_a_target_is_refused():
    with pytest.raises(ValueError, match="fewer than two tokens"):
        next(evaluation_batches(np.arange(1), 1, 8))


def test_every_document_begins_with_the_separator():
    documents = [("a", b"xy"), ("b", b""), ("c", b"z")]
    stream = token_stream(documents, lambda text: np.frombuffer(text, np.uint8), separator=256)
    assert stream.tolist() == [256, 120, 121, 256, 256, 122]
    assert stream.dtype == np.int32
    assert token_stream(documents, list).tolist() == [120, 121, 122]
    assert token_stream([], list).tolist() == []


def test_a_uniform_guess_over_bytes_costs_eight_bits_per_byte():
    assert bits_per_byte(math.log(256), 1000, 1000) == pytest.approx(8)
    assert bits_per_byte(math.log(256), 500, 2000) == pytest.approx(2)


@pytest.mark.parametrize("vocabulary, width", [(256, 2), (65536, 2), (65537, 4)])
def test_a_token_file_gives_back_the_stream_without_reading_it(tmp_path, vocabulary, width):
    path = tmp_path / "tokens.bin"
    ids = np.array([0, 1, vocabulary - 1, 7] * 10, np.int32)
    write_tokens(path, (ids[i : i + 7] for i in range(0, 40, 7)), vocabulary)
    assert path.stat().st_size == 40 * width
    stream = read_tokens(path, vocabulary)
    assert isinstance(stream, np.memmap)
    np.testing.assert_array_equal(stream, ids)
    from_file = draw_batch(stream, 3, 8, seed=1, step=1)
    np.testing.assert_array_equal(from_file, draw_batch(ids, 3, 8, seed=1, step=1))
    assert type(from_file[0]) is np.ndarray


def test_a_damaged_token_file_and_a_foreign_token_are_refused(tmp_path):
    path = tmp_path / "tokens.bin"
    for content in [b"", b"123"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="write the file again"):
            read_tokens(path, 256)
    for foreign in [256, -1]:
        with pytest.raises(ValueError, match="wrong tokenizer"):
            write_tokens(path, [np.array([1, foreign])], 256)
    assert path.read_bytes() == b"123"  # the old file is whole


# ---- document by document ----------------------------------------------------------------------

STREAM = np.array([9, 1, 2, 3, 9, 4, 9, 5, 6, 7, 8, 1, 2, 9, 3], np.uint16)  # 9 begins a document


def test_document_starts_are_where_the_separator_stands(monkeypatch):
    assert document_starts(STREAM, 9).tolist() == [0, 4, 6, 13]
    monkeypatch.setattr(loader, "SCAN", 2)
    assert document_starts(STREAM, 9).tolist() == [0, 4, 6, 13]
    with pytest.raises(ValueError, match="no documents"):
        document_starts(STREAM, 10)


def test_windows_begin_where_documents_do_and_every_document_is_drawn():
    starts = document_starts(STREAM, 9)
    drawn = set()
    for step in range(20):
        x, y = draw_batch(STREAM, 4, 3, seed=1, step=step, starts=starts)
        assert (x[:, 0] == 9).all()
        drawn |= {tuple(row) for row in y.tolist()}
    assert drawn == {(1, 2, 3), (4, 9, 5), (5, 6, 7), (3, IGNORED, IGNORED)}


def test_evaluation_by_document_counts_each_target_once_and_none_of_the_next_document():
    starts = document_starts(STREAM, 9)
    pairs = [pair for x, y in evaluation_batches(STREAM, 2, 4, starts=starts)
             for pair in zip(x.tolist(), y.tolist(), strict=True)]
    assert pairs == [
        ([9, 1, 2, 3], [1, 2, 3, 9]),
        ([9, 4, 9, 0], [4, 9, IGNORED, IGNORED]),
        ([9, 5, 6, 7], [5, 6, 7, 8]),
        ([8, 1, 2, 9], [1, 2, 9, IGNORED]),
        ([9, 3, 0, 0], [3, IGNORED, IGNORED, IGNORED]),
    ]
    assert window_count(STREAM, 4, starts) == 5 and window_count(STREAM, 4) == 4
    some = list(evaluation_batches(STREAM, 9, 4, windows=2, starts=starts))
    assert [x.tolist() for x, _ in some] == [[pairs[0][0], pairs[2][0]]]
