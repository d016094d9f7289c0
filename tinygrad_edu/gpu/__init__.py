"""CUDA kernels: their text, and the two ways to run it, on a GPU and in the emulator."""
