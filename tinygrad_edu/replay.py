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
          break it    leave out `_must_agree`. Which tests of tests/test_replay.py notice?
          measure it  python scripts/bench_mlp.py: the same step, plain and replayed
See       NVIDIA, CUDA C++ Programming Guide, "CUDA Graphs" · PyTorch, "CUDA semantics" (make a graph)
"""

from types import SimpleNamespace

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
            return track.plainly(inputs)
        try:
            return track.again(inputs) if track.may_replay(inputs) else track.recorded(inputs)
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


class Recording(watch.Listener):
    """The calls of one step: (function, args, positions written, name, names of parameters)."""

    def __init__(self):
        self.calls, self.grown, self.owners = [], [], []

    def kernel_ran(self, body, args):
        """A kernel ran; its arrays stay alive with the list."""
        self._add(body.run, args, body.kernel.outputs, body.kernel.name, body.kernel.parameters)

    def numpy_ran(self, function, args, writes):
        """A piece of NumPy outside of all kernels that says what it does."""
        name = function.__name__
        self._add(function, args, () if writes is None else (writes,), name, None)

    def number_grew(self, owner, name):
        """A counter goes on counting in the list."""
        value = getattr(owner, name)
        self.grown.append((owner, name, value))
        self._add(_grow, (owner, name), (), "count", None)

    def value_read(self, what):
        """A decision may hang on it that a list cannot take."""
        raise ValueError(f"a replayed step cannot look at values on its way ({what}): do it with "
                         "what the step returns")

    def _add(self, function, args, writes, name, parameters):
        self.calls.append((function, args, writes, name, parameters))
        known = {id(owner) for owner in self.owners}
        for array in filter(_is_array, args):
            owner = memory.owner_of(array)
            if id(owner) not in known:
                self.owners.append(owner)
                known.add(id(owner))

    def written(self):
        """The owners that some call of the list writes, by id."""
        pairs = [(args, i) for _, args, writes, *_ in self.calls for i in writes]
        owners = [memory.owner_of(args[i]) for args, i in pairs if args[i] is not None]
        return {id(owner): owner for owner in owners}


def _is_array(value):
    return isinstance(value, np.ndarray)


def _grow(owner, name):
    setattr(owner, name, getattr(owner, name) + 1)


def _take(args, i, owner, name):
    args[i] = getattr(owner, name)


def _place(array, numbers):
    """Where an array lies: which owner, how far inside it, and its layout."""
    owner = memory.owner_of(array)
    start = array.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    number = numbers.setdefault(id(owner), len(numbers))
    return number, start, array.shape, array.strides, array.dtype


# ---- the list of one kind of inputs -------------------------------------------------------------


class Track:
    """The list for inputs of one kind: recorded twice, proven, and then run again."""

    def __init__(self, step, inputs):
        self.step = step
        self.inputs = [x.data.copy() if isinstance(x, Tensor) else np.copy(x) if _is_array(x) else x
                       for x in inputs]
        self.given = [Tensor(mine) if isinstance(x, Tensor) else mine
                      for x, mine in zip(inputs, self.inputs, strict=True)]
        self.numbers = SimpleNamespace()  # inputs that are numbers, as attributes input0, input1, …
        self.varied = [False] * len(inputs)
        self.last = None  # the recording of the step before
        self.calls = None  # the list, once it is proven

    def plainly(self, inputs):
        """The step itself, on the inputs as they are."""
        return self._copies(self.step(*inputs))

    def may_replay(self, inputs):
        """Is the list proven for such inputs? An input that changes for the first time says no."""
        fixed = [i for i, varied in enumerate(self.varied) if not varied]
        changed = [i for i in fixed if not _same(self.inputs[i], _content(inputs[i]))]
        for i in changed if self.last else ():
            self.varied[i] = True
        return self.calls is not None and not changed

    def again(self, inputs):
        """Run the list on these inputs."""
        self._take_over(inputs)
        try:
            for function, args in self.calls:
                function(*args)
        finally:
            for owner in self.lasting:
                memory.wrote(owner)
        return self._copies(self.result)

    def recorded(self, inputs):
        """Run the step plainly and record it; from the second time on, prove the list."""
        self.calls, before = None, self.last
        self._take_over(inputs)
        kept = [owner.copy() for owner in before.owners] if before else ()
        now = Recording()
        now.numbers = [x for x in self.inputs if not _is_array(x)]
        given = [x if isinstance(x, Tensor) or _is_array(x) else mine
                 for x, mine in zip(self.given, self.inputs, strict=True)]
        with watch.listening(now):
            result = self.step(*given)
        copies = self._copies(result)
        if before:
            calls = self._merged(before, now)
            self.lasting = _both(before, now)
            self._must_agree(before, now, kept, calls, result)
            self.calls, self.result = calls, result
        self.last = now
        return copies

    def _take_over(self, inputs):
        for i, value in enumerate(inputs):
            if _is_array(self.inputs[i]):
                np.copyto(self.inputs[i], _content(value))
            else:
                self.inputs[i] = value
                setattr(self.numbers, f"input{i}", value)

    @staticmethod
    def _copies(result):
        if result is None:
            return None
        if isinstance(result, (tuple, list)):
            return tuple(map(Track._copies, result))
        if not isinstance(result, Tensor):
            raise ValueError(f"a replayed step returns tensors, not {result!r}: call item() on "
                             "them afterwards")
        return Tensor(result.data.copy())

    # ---- the proof ----

    def _merged(self, before, now):
        """The list of the second recording, where the first has the same calls. ValueError else."""
        calls, numbers = [], ({}, {})
        names = [[call[3] for call in recording.calls] for recording in (before, now)]
        if names[0] != names[1]:
            raise ValueError("this step cannot be replayed: it made other kernel calls than the "
                             f"step before ({len(names[0])} and then {len(names[1])})")
        for old, new in zip(before.calls, now.calls, strict=True):
            function, args, _, name, parameters = new
            if old[0] != function:
                raise ValueError(f"this step cannot be replayed: another body of {name} ran")
            args = list(args)
            for i, (a, b) in enumerate(zip(old[1], args, strict=True)):
                what = f"{parameters[i] if parameters else f'argument {i}'} of {name}"
                if _is_array(a) and _is_array(b):
                    if _place(a, numbers[0]) != _place(b, numbers[1]):
                        raise ValueError(f"this step cannot be replayed: {what} was another array, "
                                         f"{a.dtype}{a.shape} and then {b.dtype}{b.shape}")
                elif not _same(a, b):
                    calls.append((_take, (args, i, *self._source(a, b, before, now, what))))
            calls.append((function, args))
        return calls

    def _source(self, a, b, before, now, what):
        """(object, attribute) that had these two values in the two steps. ValueError without."""
        for old, (owner, name, value) in zip(before.grown, now.grown, strict=True):
            if (old[2], value) == (a, b):
                return owner, name
        names = [f"input{i}" for i, x in enumerate(self.inputs) if not _is_array(x)]
        for name, old, value in zip(names, before.numbers, now.numbers, strict=True):
            if (old, value) == (a, b):
                return self.numbers, name
        raise ValueError(f"this step cannot be replayed: {what} was {a!r} and then {b!r}; a number "
                         "that changes has to be an input of the step, and go into the kernel "
                         "as it is")

    def _must_agree(self, before, now, kept, calls, result):
        """(1), from the state before the step that has just run. ValueError where it fails."""
        written = now.written()
        for old, owner in zip(before.owners, now.owners, strict=True):
            if id(owner) not in written and old is not owner and not _same(old, owner):
                raise ValueError("this step cannot be replayed: it makes an array of shape "
                                 f"{owner.shape} outside of kernels, with other numbers each time")
        for tensor in _tensors(result):
            if id(memory.owner_of(tensor.data)) not in written:
                raise ValueError("this step cannot be replayed: what it returns was computed "
                                 "outside of kernels")
        wanted = [owner.copy() for owner in now.owners]
        mine = {id(x) for x in self.inputs}
        for owner, old, want in zip(now.owners, kept, wanted, strict=True):
            if any(owner is other for other in self.lasting) and not _same(old, want):
                np.copyto(owner, want if id(owner) in mine else old)
        for owner, name, value in now.grown:
            setattr(owner, name, value - 1)
        for function, args in calls:
            function(*args)
        wrong = [o for o, want in zip(now.owners, wanted, strict=True) if not _same(o, want)]
        for owner, want in zip(wrong, [w for o, w in zip(now.owners, wanted, strict=True)
                                       if any(o is other for other in wrong)], strict=True):
            np.copyto(owner, want)
        if wrong:
            raise ValueError("this step cannot be replayed: something in it is computed outside "
                             f"of kernels, and an array of shape {wrong[0].shape} came out "
                             "different")


def _both(before, now):
    """The owners that both steps used, and so existed before: parameters, states, inputs."""
    known = {id(owner) for owner in before.owners}
    return [owner for owner in now.owners if id(owner) in known]


def _tensors(result):
    if isinstance(result, (tuple, list)):
        return [tensor for item in result for tensor in _tensors(item)]
    return [] if result is None else [result]


def _content(value):
    return value.data if isinstance(value, Tensor) else value


def _same(a, b):
    """Equal bit for bit? Numbers of Python: equal and of one type."""
    if _is_array(a) and _is_array(b):
        return a.tobytes() == b.tobytes()
    return type(a) is type(b) and (a is b or a == b)
