import numpy as np
import pytest

from tinygrad_edu.nn import init
from tinygrad_edu.nn.module import Flat, Module, recording
from tinygrad_edu.tensor import Tensor, record


class Scale(Module):
    def __init__(self, value, size=3):
        self.weight = init.constant((size,), value, np.float64)

    def forward(self, x):
        w = self.weight

        def vjp(dy):
            return dy * w.data, dy * x.data
        return record(x.data * w.data, (x, w), vjp)


class Chain(Module):
    def __init__(self):
        self.first = Scale(2)
        self.rest = [Scale(3), Scale(5)]
        self.tied = self.first.weight
        self.count = np.zeros(1)                   # a buffer

    def forward(self, x):
        x = self.first(x)
        for part in self.rest:
            x = part(x)
        return x


def test_names_are_dotted_paths_and_a_tied_parameter_is_listed_once():
    names = [name for name, _ in Chain().named_parameters()]
    assert names == ["tied", "rest.0.weight", "rest.1.weight"]


def test_walk_gives_parents_before_children():
    assert [name for name, _ in Chain().walk()] == ["", "first", "rest.0", "rest.1"]


def test_state_holds_parameters_and_buffers_and_comes_back():
    model, other = Chain(), Chain()
    model.rest[0].weight.assign(np.array([7.0, 8.0, 9.0]))
    model.count[0] = 4
    other.load_state({name: array.copy() for name, array in model.state().items()})
    assert np.array_equal(other.rest[0].weight.data, [7, 8, 9])
    assert other.count[0] == 4


def test_foreign_weights_are_refused_by_name_and_shape():
    state = Chain().state()
    with pytest.raises(ValueError, match=r"missing count"):
        Chain().load_state({name: array for name, array in state.items() if name != "count"})
    with pytest.raises(ValueError, match=r"unknown extra"):
        Chain().load_state(state | {"extra": np.zeros(1)})
    with pytest.raises(ValueError, match=r"rest.1.weight has shape \(4,\), here it is \(3,\)"):
        Chain().load_state(state | {"rest.1.weight": np.zeros(4)})


def test_replace_puts_another_module_in_place_also_within_a_list():
    model = Chain()
    old = model.replace("rest.1", Scale(10))
    assert np.array_equal(old.weight.data, [5, 5, 5])
    model.replace("first", Scale(1))
    assert np.array_equal(model(Tensor(np.ones(3))).data, [30, 30, 30])
    with pytest.raises(KeyError, match="no module is called 'rest.7'"):
        model.replace("rest.7", Scale(1))


def test_recording_gives_inputs_and_outputs_of_every_call_innermost_first():
    model = Chain()
    with recording(model) as calls:
        model(Tensor(np.ones(3)))
    assert [call.name for call in calls] == ["first", "rest.0", "rest.1", ""]
    assert np.array_equal(calls[1].inputs[0].data, [2, 2, 2])
    assert np.array_equal(calls[1].output.data, [6, 6, 6])
    model(Tensor(np.ones(3)))
    assert len(calls) == 4                         # nothing is recorded after the block


def test_recording_can_be_limited_and_does_not_see_other_models():
    model, other = Chain(), Chain()
    with recording(model, only=lambda name, module: name.startswith("rest")) as calls:
        model(Tensor(np.ones(3)))
        other(Tensor(np.ones(3)))
    assert [call.name for call in calls] == ["rest.0", "rest.1"]


def test_train_and_eval_reach_every_module():
    model = Chain().eval()
    assert not any(module.training for _, module in model.walk())
    assert all(module.training for _, module in model.train().walk())


def test_flat_storage_keeps_values_and_takes_gradients_in_place():
    model = Chain()
    x = np.array([1.0, 2.0, 3.0])
    model(Tensor(x)).backward(np.ones(3))
    expected = np.concatenate([tensor.grad for tensor in model.parameters()])
    model.zero_grad()
    flat = Flat(model.parameters())
    assert np.array_equal(flat.data, np.repeat([2.0, 3.0, 5.0], 3))
    model(Tensor(x)).backward(np.ones(3))
    assert np.array_equal(flat.gather(), expected)
    assert all(np.shares_memory(tensor.grad, flat.grad) for tensor in model.parameters())
    flat.data[:] = 1
    assert np.array_equal(model(Tensor(x)).data, x)


def test_flat_storage_of_mixed_types_is_refused():
    with pytest.raises(TypeError, match="one type"):
        Flat([init.constant((2,), 1, np.float32), init.constant((2,), 1, np.float64)])


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module must define forward"):
        Module()(1)
