"""Replay runs the list of a step's kernel calls: the same bits as the step, or one sentence."""

import numpy as np
import pytest

from tinygrad_edu import memory
from tinygrad_edu.kernel import Kernel
from tinygrad_edu.nn.adam import AdamW
from tinygrad_edu.nn.layers import Linear
from tinygrad_edu.nn.module import Module
from tinygrad_edu.nn.optim import SGD
from tinygrad_edu.ops.cross_entropy import cross_entropy
from tinygrad_edu.ops.pointwise import relu, tanh
from tinygrad_edu.ops.squared_error import squared_error
from tinygrad_edu.replay import Replay
from tinygrad_edu.tensor import Tensor
from tinygrad_edu.watch import Listener, listening, settings


class Net(Module):
    def __init__(self, widths=(3, 8, 2)):
        random = np.random.default_rng(1)
        self.first, self.last = Linear(*widths[:2], random), Linear(*widths[1:], random)

    def forward(self, x):
        return self.last(tanh(self.first(x)))


OPTIMIZERS = {
    "sgd": lambda named: SGD(named, momentum=0.9),
    "adamw": AdamW,
}


def training(optimizer="sgd", loss_of=squared_error, between=lambda y: y):
    """(model, optimizer, step) of a small network, always with the same first weights."""
    model = Net()
    optimizer = OPTIMIZERS[optimizer](model.named_parameters())

    def step(x, y, lr=0.05):
        loss = loss_of(between(model(x)), y)
        loss.backward()
        optimizer.step(lr)
        return loss
    return model, optimizer, step


def batch(seed, count=4, integers=False):
    random = np.random.default_rng(seed)
    x = Tensor(random.standard_normal((count, 3), np.float32))
    if integers:
        return x, random.integers(0, 2, count)
    return x, Tensor(random.standard_normal((count, 2), np.float32))


def everything(model, optimizer):
    return {f"w.{n}": a for n, a in model.state().items()} | optimizer.state()


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def replays(fast):
    """How many of its lists are proven."""
    return sum(track.calls is not None for track in fast.tracks.values())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("loss_of", [squared_error, cross_entropy])
def test_twenty_steps_are_those_of_the_plain_step_bit_for_bit(name, loss_of):
    model, optimizer, step = training(name, loss_of)
    other, its_optimizer, plain = training(name, loss_of)
    fast = Replay(step)
    for seed in range(20):
        inputs = batch(seed, integers=loss_of is cross_entropy)
        assert fast(*inputs).item() == plain(*inputs).item()
        assert_equal(everything(model, optimizer), everything(other, its_optimizer))
    assert replays(fast) == 1


def test_from_the_third_call_on_the_step_itself_does_not_run():
    _, _, step = training()
    runs = []
    fast = Replay(lambda x, y: (runs.append(1), step(x, y))[1])
    for seed in range(9):
        fast(*batch(seed))
    assert len(runs) == 2


def test_plain_steps_in_between_change_nothing():
    model, optimizer, step = training("adamw")
    other, its_optimizer, plain = training("adamw")
    fast = Replay(step)
    for seed in range(12):
        (step if seed in (1, 5, 6, 9) else fast)(*batch(seed))
        plain(*batch(seed))
    assert_equal(everything(model, optimizer), everything(other, its_optimizer))


def test_every_shape_has_a_list_of_its_own():
    model, optimizer, step = training("adamw")
    other, its_optimizer, plain = training("adamw")
    fast = Replay(step)
    for seed in range(12):
        inputs = batch(seed, count=(4, 4, 7)[seed % 3])
        assert fast(*inputs).item() == plain(*inputs).item()
    assert_equal(everything(model, optimizer), everything(other, its_optimizer))
    assert replays(fast) == 2


def test_a_number_may_change_where_it_is_an_input():
    model, optimizer, step = training("adamw")
    other, its_optimizer, plain = training("adamw")
    fast = Replay(step)
    rates = [0.1, 0.1, 0.1, 0.1, 0.05, 0.02, 0.02, 0.01]  # it changes after the first proof
    for seed, lr in enumerate(rates):
        fast(*batch(seed), lr)
        plain(*batch(seed), lr)
    assert_equal(everything(model, optimizer), everything(other, its_optimizer))
    assert replays(fast) == 1


def test_a_number_that_changes_and_is_no_input_is_refused():
    _, _, step = training()
    rates = iter([0.1, 0.2])
    fast = Replay(lambda x, y: step(x, y, next(rates)))
    fast(*batch(0))
    with pytest.raises(ValueError, match="lr of sgd_update was 0.1 and then 0.2"):
        fast(*batch(1))


def test_numpy_that_makes_an_array_of_the_input_is_noticed():
    _, _, step = training()
    fast = Replay(lambda x, y: step(Tensor(x.data * 2), y))
    fast(*batch(0))
    with pytest.raises(ValueError, match="other numbers in each step, float32.4, 3."):
        fast(*batch(1))


def test_numpy_that_makes_an_array_of_an_input_that_changes_late_is_noticed():
    _, _, step = training()
    fast = Replay(lambda x, y: step(Tensor(x.data * 2), y))
    x = batch(0)[0]
    for seed in range(4):
        fast(x, batch(seed)[1])
    assert replays(fast) == 1
    with pytest.raises(ValueError, match="other numbers in each step"):
        fast(*batch(1))


def test_numpy_that_writes_in_place_is_noticed():
    def doubled(y):
        y.data[...] *= 2
        return y
    _, _, step = training(between=doubled)
    fast = Replay(step)
    fast(*batch(0))
    with pytest.raises(ValueError, match="something in it is computed outside of kernels"):
        fast(*batch(1))


def test_a_refused_step_has_been_taken_once():
    def average(y):
        means.data[...] += y.data.mean()
        return y + means
    model, optimizer, step = training("adamw", between=average)
    other, its_optimizer, plain = training("adamw", between=average)
    means = Tensor(np.zeros(2, np.float32))
    fast = Replay(step)
    fast(*batch(0))
    with pytest.raises(ValueError, match="outside of kernels"):
        fast(*batch(1))
    moved, means = means, Tensor(np.zeros(2, np.float32))
    plain(*batch(0))
    plain(*batch(1))
    assert_equal(everything(model, optimizer), everything(other, its_optimizer))
    assert moved.data.tobytes() == means.data.tobytes()


def test_steps_that_take_turns_are_refused():
    turns = iter([tanh, relu])

    def between(y):
        return next(turns)(y)
    _, _, step = training(between=between)
    fast = Replay(step)
    fast(*batch(0))
    with pytest.raises(ValueError, match="other calls of kernels than the step before"):
        fast(*batch(1))


def test_looking_at_a_value_on_the_way_is_refused():
    _, _, step = training(between=lambda y: y if y.sum().item() < 1e9 else relu(y))
    with pytest.raises(ValueError, match="item.. of a tensor looks at a value"):
        Replay(step)(*batch(0))


def test_clipping_is_refused_even_while_nothing_is_clipped():
    model, optimizer, _ = training()

    def step(x, y):
        squared_error(model(x), y).backward()
        optimizer.step(0.1, clip=1e9)
    with pytest.raises(ValueError, match="clip of an optimizer looks at a value"):
        Replay(step)(*batch(0))


def test_a_step_that_returns_a_number_is_refused():
    _, _, step = training()
    with pytest.raises(ValueError, match="call item.. on them afterwards"):
        Replay(lambda x, y: float(step(x, y).data))(*batch(0))


def test_a_result_that_numpy_made_is_refused():
    _, _, step = training()
    fast = Replay(lambda x, y: Tensor(step(x, y).data * 2))
    fast(*batch(0))
    with pytest.raises(ValueError, match="what it returns is computed outside"):
        fast(*batch(1))


def test_inputs_that_are_neither_arrays_nor_numbers_are_refused():
    with pytest.raises(ValueError, match="takes tensors, NumPy arrays and numbers, not 'text'"):
        Replay(lambda x: None)("text")


def test_a_gradient_that_is_not_finite_stops_a_replayed_step_before_anything_changes():
    model, optimizer, step = training("adamw")
    fast = Replay(step)
    for seed in range(4):
        fast(*batch(seed))
    before = {name: array.copy() for name, array in everything(model, optimizer).items()}
    x, y = batch(9)
    with pytest.raises(FloatingPointError, match="at optimizer step 5"):
        fast(Tensor(np.full_like(x.data, np.inf)), y)
    assert_equal(everything(model, optimizer), before)


def test_a_target_outside_the_vocabulary_is_refused_by_a_replayed_step_too():
    _, _, step = training(loss_of=cross_entropy)
    fast = Replay(step)
    for seed in range(3):
        fast(*batch(seed, integers=True))
    x, targets = batch(7, integers=True)
    targets[2] = 2
    with pytest.raises(IndexError, match="target 2 is outside the vocabulary of 2"):
        fast(x, targets)


def test_what_a_replayed_step_returns_is_not_overwritten_by_the_next():
    _, _, step = training()
    fast = Replay(step)
    losses = [fast(*batch(seed)) for seed in range(6)]
    assert len({loss.item() for loss in losses}) == 6


def test_a_replayed_step_raises_the_versions_of_what_it_writes():
    model, _, step = training()
    fast = Replay(step)
    for seed in range(3):
        fast(*batch(seed))
    pending = squared_error(model(batch(0)[0]), batch(0)[1])
    version = memory.version(model.first.weight.data)
    fast(*batch(5))
    assert memory.version(model.first.weight.data) > version
    with pytest.raises(RuntimeError, match="overwritten in the meantime"):
        pending.backward()


def test_who_listens_or_checks_gets_the_plain_step():
    heard = []

    class Ear(Listener):
        def node_recorded(self, node):
            heard.append(node)
    _, _, step = training()
    fast = Replay(step)
    for seed in range(3):
        fast(*batch(seed))
    with listening(Ear()):
        fast(*batch(3))
    assert heard
    with settings(check=True):
        fast(*batch(4))


def test_a_number_that_changes_and_goes_into_no_kernel_is_refused():
    _, _, step = training()
    fast = Replay(lambda x, y, i: step(x, y if i < 10 else x))
    fast(*batch(0), 0)
    with pytest.raises(ValueError, match="its input 2, now 1, changed, but goes into no kernel"):
        fast(*batch(1), 1)


@Kernel(inout="w")
def mark_positive_in_test_of_replay(w, x):
    w[x > 0] = 1


def test_an_array_that_has_to_be_empty_at_the_start_of_each_step_is_noticed():
    def step(x):
        w = np.zeros_like(x.data)
        mark_positive_in_test_of_replay(w, x.data)
        return Tensor(w)
    fast = Replay(step)
    fast(batch(0)[0])
    with pytest.raises(ValueError, match="came out different"):
        fast(batch(1)[0])
