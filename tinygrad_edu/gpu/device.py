"""Lesson 1.21 · Device: where a model's arrays live

Needs emulate, launch, memory, watch. Used by scripts/train_gpt.py, scripts/generate.py.

Idea      An operation computes where its arrays live, so a model computes where its parameters
          live. To train on a GPU is to move them there once, before the optimizer lays them out;
          all that is computed from them is made beside them. What comes from a text (token ids,
          targets) stays on the host, which is the CPU's side, until an operation has checked it: it
          is small, and asking a GPU for the largest id would make the host wait for all that is
          queued there.
          The emulator is the third device: arrays of NumPy, and CUDA kernels on the CPU.
Math      time of a step ≥ max(launches on the host, kernels on the GPU)                         (1)
          and each copy to the host adds the wait until both have met
Shapes    Any.
Pitfalls  A GPU runs behind the host, which only queues. Reading one number (loss.item(), the norm
          that clips) waits for it: fine twice a step, not once a kernel.
          Arrays of two devices never meet silently: CuPy refuses NumPy's, memory.beside copies.
          Move before the optimizer is made: it keeps views of the parameters' arrays.
Cost      A move is one copy per parameter, over PCIe 4.0 at most 32 GB/s by its specification.
Try       build it    print the bytes that a training step copies to the host.
          break it    look for the largest token id on the GPU. Which test of
                      tests/gpu/test_device.py notices?
          measure it  python scripts/train_gpt.py --device cuda --steps 200, and --device cpu
See       https://docs.cupy.dev/en/stable/user_guide/interoperability.html
"""

from .. import watch
from ..memory import beside, kinds
from . import emulate
from .launch import on_device

DEVICES = ("cpu", "emulator", "cuda")


def ready(device):
    """Make a device ready for the whole process. ValueError, in a sentence, where it is not there.

    The emulator is asked for as TG_BACKEND=emulator asks for it.
    """
    if device not in DEVICES:
        raise ValueError(f"there is no device {device!r}: it is one of {', '.join(DEVICES)}")
    if device == "cuda" and not on_device():
        raise ValueError("--device cuda needs an NVIDIA GPU and CuPy (pip install cupy-cuda13x), "
                         "and here is none: --device emulator runs the same kernels on a CPU")
    if device == "emulator":
        if not emulate.available():
            raise ValueError(f"--device emulator: {emulate.why_not()}")
        watch.state.forced = "emulator"


def move(model, device):
    """Lay the parameters and buffers of a model on a device; returns the model.

    Gradients are forgotten. An optimizer is to be made afterwards.
    """
    if device != "cuda":
        return model  # the emulator's arrays are NumPy's
    import cupy

    like = cupy.empty(0)
    for _, tensor in model.named_parameters():
        tensor.data, tensor.grad = beside(tensor.data, like), None
    for _, module in model.walk():
        for name, value in vars(module).items():
            if isinstance(value, kinds()):
                setattr(module, name, beside(value, like))
    return model


def peak_bytes(device):
    """The bytes that CuPy has taken of a GPU, None on other devices."""
    if device != "cuda":
        return None
    import cupy

    return cupy.get_default_memory_pool().total_bytes()
