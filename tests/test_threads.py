import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from tinygrad_edu import threads
from tinygrad_edu.threads import Pool, limit, one_blas_thread, split, split_product

ALWAYS = 0  # as grain: cut however small the arrays are


def pieces_of(rows, workers):
    """The row bounds of the pieces that `split` makes of so many rows."""
    x = np.arange(rows)
    seen = []
    with limit(workers):
        split(lambda part: seen.append((int(part[0]), int(part[-1]) + 1)), (x,), (0,), grain=ALWAYS)
    return sorted(seen)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 101])
def test_the_pieces_cover_every_row_once_and_are_of_nearly_equal_size(rows, workers):
    bounds = pieces_of(rows, workers)
    assert len(bounds) == min(rows, workers)
    assert [low for low, _ in bounds] == [0, *(high for _, high in bounds[:-1])]
    assert bounds[-1][1] == rows
    sizes = [high - low for low, high in bounds]
    assert max(sizes) - min(sizes) <= 1


def test_no_rows_are_one_call():
    calls = []
    split(calls.append, (np.zeros((0, 3)),), (0,), grain=ALWAYS)
    assert len(calls) == 1


def test_only_the_arguments_named_are_cut():
    seen = []
    with limit(2):
        split(lambda *args: seen.append([np.shape(a) for a in args]),
              (np.zeros((4, 3)), np.zeros((4, 3)), 5), (0,), grain=ALWAYS)
    assert seen == [[(2, 3), (4, 3), ()]] * 2


def test_small_arrays_stay_on_the_calling_thread():
    seen = []
    with limit(4):
        split(lambda x: seen.append(threading.current_thread()), (np.zeros(8),), (0,))
    assert seen == [threading.current_thread()]


def test_pieces_run_on_several_threads_at_once():
    meeting = threading.Barrier(3)  # passes only when three threads have come
    with limit(3):
        split(lambda x: meeting.wait(timeout=30), (np.zeros(3),), (0,), grain=ALWAYS)


def test_arguments_that_differ_in_length_are_refused():
    with limit(2), pytest.raises(ValueError, match=r"\[4, 5\]"):
        split(lambda x, y: None, (np.zeros(4), np.zeros(5)), (0, 1), grain=ALWAYS)


def column_sums(total, x):
    total[:] = 0
    for row in x:
        total += row


def test_a_sum_over_rows_is_the_sum_of_the_sums_of_the_pieces():
    x = np.arange(35.0).reshape(7, 5)
    total = np.full(5, np.nan)
    with limit(3):
        split(column_sums, (total, x), (1,), sums=(0,), grain=ALWAYS)
    assert np.array_equal(total, x.sum(0))


def test_a_sum_over_rows_is_the_same_bit_for_bit_each_time():
    x = np.random.default_rng(0).standard_normal((1001, 3)).astype(np.float32)
    results = set()
    for _ in range(50):
        total = np.empty(3, np.float32)
        with limit(4):
            split(column_sums, (total, x), (1,), sums=(0,), grain=ALWAYS)
        results.add(total.tobytes())
    assert len(results) == 1


TRAINING = """
import hashlib
import numpy as np
from tinygrad_edu import threads
from tinygrad_edu.models.gpt import GPT, GPTConfig
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.train.loop import take_step

run, cut = threads.pool.run, []
def counted(function, pieces):
    cut.append(len(pieces))
    run(function, pieces)
threads.pool.run = counted

random = np.random.default_rng(0)
model = GPT(GPTConfig(vocabulary=50, context=64, layers=2, width=96, dropout=0.1), random)
optimizer = AdamW(model.named_parameters())
for step in range(4):
    ids = random.integers(0, 50, (32, 65))
    take_step(model, optimizer, [(ids[:, :-1], ids[:, 1:])], step, 1e-2, 1.0, seed=0)
digest = hashlib.sha256()
for parameter in model.parameters():
    digest.update(parameter.data.tobytes())
print(digest.hexdigest(), cut.count(3))
"""


def test_a_training_run_on_three_threads_leaves_the_same_bytes_each_time():
    runs = [subprocess.run([sys.executable, "-c", TRAINING], capture_output=True, text=True,
                           env=os.environ | {"OMP_NUM_THREADS": "3"}, timeout=60, check=False)
            for _ in range(2)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert int(runs[0].stdout.split()[1]) > 100  # so many calls were cut into three pieces
    assert runs[0].stdout == runs[1].stdout


# ---- exceptions, nesting, concurrency, forks ----------------------------------------------------


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_exception_of_any_piece_reaches_the_caller_and_the_pool_goes_on(bad):
    done = []

    def work(x):
        if x[0] == bad:
            raise KeyError("no such row")
        done.append(int(x[0]))

    with limit(3):
        for _ in range(3):
            done.clear()
            with pytest.raises(KeyError, match="no such row"):
                split(work, (np.arange(3),), (0,), grain=ALWAYS)
            assert sorted(done) == sorted({0, 1, 2} - {bad})
        assert pieces_of(3, 3) == [(0, 1), (1, 2), (2, 3)]


def test_an_idle_pool_keeps_no_array_alive_even_after_an_exception():
    def work(x):
        if x[0] == 1:
            raise KeyError("no")

    x = np.arange(2)
    gone = weakref.ref(x)
    with limit(2):
        with pytest.raises(KeyError):
            split(work, (x,), (0,), grain=ALWAYS)
        split(lambda x: None, (np.arange(2),), (0,), grain=ALWAYS)
        del x
        assert gone() is None


def test_pieces_that_an_interrupted_caller_left_behind_do_not_disturb_the_next_call():
    pool = Pool(2)
    started, go_on = threading.Event(), threading.Event()
    late = []

    def work(i):
        if i == 1:
            started.set()
            go_on.wait(30)
            late.append(i)

    def interrupted_wait(worker):
        started.wait(30)
        raise KeyboardInterrupt

    real_wait = threads.Worker.wait
    threads.Worker.wait = interrupted_wait
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run(work, [(0,), (1,)])
    finally:
        threads.Worker.wait = real_wait
    results = []
    pool.run(results.append, [(10,), (11,)])       # while the old piece still runs
    assert sorted(results) == [10, 11]
    assert not late
    go_on.set()


def test_a_call_inside_a_piece_runs_there_in_pieces_of_the_same_size():
    sizes = []

    def inner(x):
        sizes.append(len(x))

    with limit(2):
        split(lambda x: split(inner, (x,), (0,), grain=ALWAYS), (np.zeros(8),), (0,), grain=ALWAYS)
    assert sizes == [2, 2, 2, 2]


def test_several_callers_at_once_get_right_results():
    x = np.random.default_rng(0).standard_normal((501, 4))
    wrong = []

    def caller():
        for _ in range(50):
            total = np.full(4, np.nan)
            split(column_sums, (total, x), (1,), sums=(0,), grain=ALWAYS)
            if not np.allclose(total, x.sum(0)):
                wrong.append(total)

    with limit(3):
        callers = [threading.Thread(target=caller) for _ in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join(60)
    assert not wrong


def test_more_pieces_than_threads_are_all_done():
    done = []
    Pool(2).run(done.append, [(i,) for i in range(5)])
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_a_limit_ends_with_its_block_and_makes_no_new_threads_each_time():
    before = threads.count()
    with limit(3):
        assert threads.count() == 3
        pieces_of(3, 3)
    alive = threading.active_count()
    for _ in range(5):
        with limit(3):
            pieces_of(3, 3)
    assert threads.count() == before
    assert threading.active_count() == alive


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own():
    code = """
import os, sys
import numpy as np
from tinygrad_edu.threads import limit, split

seen = []
def go():
    split(lambda x: seen.append(len(x)), (np.zeros(4),), (0,), grain=0)

with limit(2):
    go()                                  # now there is a worker, which the child will not have
    with limit(2):
        child = os.fork()
        go()
    go()
if child == 0:
    os._exit(len(seen))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 6 or len(seen) != 6)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("2,1", 2), (" 5", 5), ("0", None),
                                                 ("many", None), ("", None), ("-2", None)])
def test_omp_num_threads_says_how_many_threads(value, expected, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = threads.default_count()
    assert cores >= 1
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.default_count() == (expected or cores)


# ---- BLAS ---------------------------------------------------------------------------------------


def blas_threads():
    setters = threads._blas_setters()
    return setters[0]() if setters else None


def test_blas_is_limited_inside_the_block_and_as_before_after_it_even_after_an_exception():
    before = blas_threads()
    if before is None:
        pytest.skip("the number of BLAS threads cannot be set here")
    with one_blas_thread() as alone:
        assert alone
        assert blas_threads() == 1
    assert blas_threads() == before
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == before


def test_blocks_that_overlap_in_two_threads_leave_blas_as_it_was():
    before = blas_threads()

    def caller():
        for _ in range(200):
            with one_blas_thread():
                time.sleep(0)

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert blas_threads() == before


def test_blas_obeys_although_numpy_was_imported_and_used_before_and_others_use_it_beside():
    code = """
import threading
import numpy as np
a = np.random.default_rng(0).standard_normal((600, 600))
exact = a @ a                             # the threads of BLAS have begun
from tinygrad_edu import threads
get = (threads._blas_setters() or (lambda: 1,))[0]
before, seen, wrong, over = get(), [], [], threading.Event()

def others():                             # another library, which multiplies when it likes
    while not over.is_set():
        if not np.allclose(a @ a, exact):
            wrong.append(1)

def product(y, x):
    seen.append(get())
    np.matmul(x, a, out=y)

other = threading.Thread(target=others)
other.start()
y = np.empty_like(a)
with threads.limit(2):
    for _ in range(20):
        y[...] = np.nan
        threads.split_product(product, (y, a), (0, 1), grain=0)
        assert np.allclose(y, exact)
over.set()
other.join()
assert not wrong and set(seen) == {1} and get() == before, (wrong, seen, before, get())
"""
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True,
                         text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_product_in_pieces_is_the_product_and_never_uses_the_threads_of_blas(workers):
    random = np.random.default_rng(0)
    x, w = random.standard_normal((101, 30)), random.standard_normal((30, 20))
    y = np.full((101, 20), np.nan)
    seen = []

    def product(y, x):
        seen.append(blas_threads())
        np.matmul(x, w, out=y)

    with limit(workers):
        split_product(product, (y, x), (0, 1), grain=ALWAYS)
    assert np.allclose(y, x @ w)
    assert seen == [1] * workers or blas_threads() is None


def test_blas_that_cannot_be_told_gets_the_whole_product(monkeypatch):
    monkeypatch.setattr(threads, "_blas_setters", lambda: None)
    seen = []
    with limit(4):
        split_product(lambda x: seen.append(len(x)), (np.zeros(8),), (0,), grain=ALWAYS)
    assert seen == [8]
    with one_blas_thread() as alone:
        assert alone is False
