"""Lesson 1.19 · Replay: a training step without the Python around its kernels

Needs memory, tensor, watch. Used by scripts/bench_mlp.py.

Idea      A step of a small network is a dozen kernel calls of a few µs each. Most of its time goes
          into Python: tensors, closures, the tape, checks. All of that decides which kernels run
          on which arrays, and decides the same in every step. So write the calls down once, with
          their arguments, and from then on run the list. CUDA graphs do this for a GPU. Whatever is
          not in the list is not done again, so nothing is taken on trust: the first two calls run
          plainly, and the list must reproduce the second of them bit for bit, or is refused.
Math      state after replay(list, state, inputs) = state after step(state, inputs)            (1)
Shapes    Those of the first call. Inputs of other shapes or types get a list of their own.
Pitfalls  A list holds calls, not reasons. An `if` that looks at a value, a print, a random number
          of NumPy, train() or eval(): the list knows one outcome of each. item() is refused.
          An array that the step makes with NumPy alone keeps the numbers it had. If they differ
          between two steps it is refused; so two steps have to differ: while an input stays as
          it was it proves nothing, and when it first changes the proof is made again.
          The arrays of a step keep their memory between the steps, and the next replay overwrites
          them. What fast(x) returns is a copy; what the step put aside elsewhere is not.
          A model must not be taken apart afterwards: a new optimizer moves its parameters.
Cost      The second call costs three steps and a copy of all their arrays; from then on the list
          stays. A replay is worth it where Python is what a step waits for.
Try       build it    let two calls of the same kernel on rows of one array become one.
          break it    leave out `_prove`. Which tests of tests/test_replay.py notice?
          measure it  python scripts/bench_mlp.py: the same step, plain and replayed
See       NVIDIA, CUDA C++ Programming Guide, "CUDA Graphs" · PyTorch, "CUDA semantics"
"""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from . import memory, watch
from .tensor import Tensor


class Replay:
    """fast = Replay(step); loss = fast(x, y): as step(x, y), without Python from the third call on.

    step: a function of tensors, NumPy arrays and numbers that does one whole training step and
    returns a tensor, several, or None. A number that goes unchanged into a kernel, such as a
    learning rate, may be another at each call. Returned tensors are copies, off the tape.
    Raises ValueError where a step cannot be replayed; that step has been taken all the same.
    """

    def __init__(self, step):
        self.step = step
        self.tracks = {}  # kinds of the inputs -> Track

    def __call__(self, *inputs):
        key = (watch.state.forced, *map(_kind, inputs))
        track = self.tracks.get(key)
        if track is None:
            track = self.tracks[key] = Track(self.step, inputs)
        if watch.state.trace or watch.state.check or watch.state.listeners:
            return _copies(self.step(*inputs))
        try:
            return track.again(inputs) if track.serves(inputs) else track.recorded(inputs)
        except BaseException:
            del self.tracks[key]  # half a recording is none
            raise


def _kind(value):
    """What two inputs must have in common to share a list."""
    if isinstance(value, (Tensor, np.ndarray)):
        return type(value), value.shape, value.dtype
    if isinstance(value, (int, float)):
        return (type(value),)
    raise ValueError(f"a replayed step takes tensors, NumPy arrays and numbers, not {value!r}")


# ---- recording ----------------------------------------------------------------------------------


class Call(NamedTuple):
    """One piece of work on arrays: function(*args), which writes args[i] for i in writes."""

    function: object
    args: tuple
    writes: tuple
    name: str
    parameters: list = None


class Recording(watch.Listener):
    """The calls of one step, which it keeps alive, and the owners of the memory they work on."""

    def __init__(self, inputs):
        self.inputs = [x.copy() if _is_array(x) else x for x in inputs]
        self.calls, self.owners = [], {}  # id -> owner
        self.grown = []  # (object, attribute, value) of counters
        self.looked_at = None

    def kernel_ran(self, body, args):
        """A kernel ran, by a body that is chosen once and for all."""
        kernel = body.kernel
        self._add(Call(body.run, args, kernel.outputs, kernel.name, kernel.parameters))

    def numpy_ran(self, function, args, writes):
        """A piece of NumPy outside of all kernels that says what it does."""
        self._add(Call(function, args, () if writes is None else (writes,), function.__name__))

    def number_grew(self, owner, name):
        """A counter, which has to go on counting."""
        self.grown.append((owner, name, getattr(owner, name)))
        self._add(Call(_grow, (owner, name), (), "count"))

    def value_read(self, what):
        """A decision may hang on it that a list cannot take."""
        self.looked_at = what

    def _add(self, call):  # args hold the arrays alive: no other gets their memory
        self.calls.append(call)
        for owner in map(memory.owner_of, filter(_is_array, call.args)):
            self.owners[id(owner)] = owner

    def written(self):
        """The ids of the owners that the calls write."""
        arrays = [call.args[i] for call in self.calls for i in call.writes]
        return {id(memory.owner_of(array)) for array in arrays if _is_array(array)}


def _grow(owner, name):  # two calls of the list itself
    setattr(owner, name, getattr(owner, name) + 1)


def _take(args, i, owner, name):  # a number that is another in each step is looked up
    args[i] = getattr(owner, name)


class Track:
    """The list for inputs of one kind: recorded twice, proven, and from then on run."""

    def __init__(self, step, inputs):
        self.step = step
        self.inputs = [_content(x).copy() if _is_array(_content(x)) else x for x in inputs]
        self.last = None  # the last Recording
        self.calls = None  # [(function, args)], once it is proven
        self.numbers = SimpleNamespace()  # inputs that are numbers: input0, input1, …

    def serves(self, inputs):
        """Is the list proven for these? What was one and the same in the proof may not change."""
        return self.calls is not None and all(
            _same(self.last.inputs[i], _content(inputs[i])) for i in self.fixed)

    def again(self, inputs):
        """Run the list on these inputs."""
        self._take_over(inputs)
        try:
            for function, args in self.calls:
                function(*args)
        finally:
            for owner in self.lasting:  # what a tape of somebody else may have kept
                memory.wrote(owner)
        return _copies(self.result)

    def recorded(self, inputs):
        """Run the step plainly and record it; from the second time on, prove the list."""
        given = self._take_over(inputs)
        before, now = self.last, Recording(self.inputs)
        kept = {key: owner.copy() for key, owner in before.owners.items()} if before else {}
        with watch.listening(now):
            self.result = self.step(*given)
        copies = _copies(self.result)
        if now.looked_at:
            _refuse(f"{now.looked_at} looks at a value; do it with what the step returns")
        if before:
            calls = self._merged(before, now)
            lasting = {key: kept[key] for key in now.owners if key in before.owners}
            self._must_come_from_the_list(before, now, lasting)
            self._prove(calls, now, lasting)
            pairs = zip(before.inputs, now.inputs, strict=True)
            self.fixed = [i for i, (a, b) in enumerate(pairs) if _same(a, b)]
            self._numbers_must_arrive(calls)
            self.lasting = [now.owners[key] for key in now.written() if key in lasting]
            self.calls = calls
        self.last = now
        return copies

    def _take_over(self, inputs):
        """Copy the inputs into the arrays that the list reads; returns what the step is given."""
        given = []
        for i, (mine, value) in enumerate(zip(self.inputs, inputs, strict=True)):
            if _is_array(mine):
                np.copyto(mine, _content(value))
            else:
                self.inputs[i] = value
                setattr(self.numbers, f"input{i}", value)
            given.append(Tensor(mine) if isinstance(value, Tensor) else self.inputs[i])
        return given

    # ---- the proof ----

    def _merged(self, before, now):
        """The list of the second recording, where the first has the same calls."""
        if [call.name for call in before.calls] != [call.name for call in now.calls]:
            _refuse("it made other calls of kernels than the step before")
        calls, numbers = [], ({}, {})
        for old, new in zip(before.calls, now.calls, strict=True):
            if old.function != new.function:
                _refuse(f"another body of {new.name} ran than in the step before")
            args = list(new.args)
            for i, (a, b) in enumerate(zip(old.args, args, strict=True)):
                what = f"{new.parameters[i] if new.parameters else f'argument {i}'} of {new.name}"
                if _is_array(a) and _is_array(b):
                    if _place(a, numbers[0]) != _place(b, numbers[1]):
                        _refuse(f"{what} was another array, {watch.describe((a, b))}")
                elif not _same(a, b):
                    calls.append((_take, (args, i, *self._source(a, b, before, now, what))))
            calls.append((new.function, args))
        return calls

    def _source(self, a, b, before, now, what):
        """(object, attribute) that had these values in the two steps."""
        for (_, _, old), (owner, name, value) in zip(before.grown, now.grown, strict=True):
            if (old, value) == (a, b):
                return owner, name
        for i, pair in enumerate(zip(before.inputs, now.inputs, strict=True)):
            if not _is_array(pair[0]) and pair == (a, b):
                return self.numbers, f"input{i}"
        _refuse(f"{what} was {a!r} and then {b!r}; a number that changes has to be an input of "
                "the step, and go into the kernel as it is")

    def _must_come_from_the_list(self, before, now, lasting):
        """What no call writes has to be older than the step, or the same in both steps."""
        written = now.written()
        results = self.result if isinstance(self.result, (tuple, list)) else [self.result]
        if any(id(memory.owner_of(x.data)) not in written for x in results if x is not None):
            _refuse("what it returns is computed outside of kernels")
        for old, (key, owner) in zip(before.owners.values(), now.owners.items(), strict=True):
            if key not in written and key not in lasting and not _same(old, owner):
                _refuse(f"NumPy alone makes other numbers in each step, {watch.describe([owner])}")

    def _numbers_must_arrive(self, calls):
        """A number that changed and went into no kernel has an effect that the list does not."""
        taken = {args[3] for function, args in calls if function is _take}
        for i, value in enumerate(self.inputs):
            if not (_is_array(value) or i in self.fixed or f"input{i}" in taken):
                _refuse(f"its input {i}, now {value!r}, changed, but goes into no kernel as it is")

    def _prove(self, calls, now, lasting):
        """(1), from the state before the step that has just run, which is then as it was."""
        wanted = {key: owner.copy() for key, owner in now.owners.items()}
        for key in now.written() - lasting.keys():
            watch.poison(now.owners[key])  # what the list does not fill in shows
        for key in lasting:  # parameters, states and inputs, as they were before
            _restore(now.owners[key], lasting[key])
        for owner, name, value in reversed(now.grown):  # the list counts once more
            setattr(owner, name, value - 1)
        for function, args in calls:
            function(*args)
        wrong = [owner for key, owner in now.owners.items() if not _same(owner, wanted[key])]
        for key, owner in now.owners.items():  # refused or not, the step has been taken
            _restore(owner, wanted[key])
        if wrong:
            _refuse("something in it is computed outside of kernels; replayed, an array "
                    f"{watch.describe(wrong[:1])} came out different")


def _refuse(why):
    raise ValueError(f"this step cannot be replayed: {why}")


def _place(array, numbers):
    """Where an array lies: in which owner, by order of appearance, where in it, and how."""
    owner = memory.owner_of(array)
    start = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    number = numbers.setdefault(id(owner), len(numbers))
    return number, start, array.shape, array.strides, array.dtype


def _restore(owner, content):
    if not _same(owner, content):  # what is the same may be read-only
        np.copyto(owner, content)


def _copies(result):
    """What a step returned, as tensors that nobody is going to overwrite."""
    if isinstance(result, (tuple, list)):
        return tuple(map(_copies, result))
    if result is not None and not isinstance(result, Tensor):
        _refuse(f"it returns {result!r}, and not tensors; call item() on them afterwards")
    return result if result is None else Tensor(result.data.copy())


def _is_array(value):
    return isinstance(value, np.ndarray)


def _content(value):
    return value.data if isinstance(value, Tensor) else value


def _same(a, b):
    """Equal bit for bit? Numbers of Python: equal and of one type."""
    if _is_array(a) and _is_array(b):
        return a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a is b or a == b)
