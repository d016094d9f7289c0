"""CUDA kernels: their text, the two ways to run it (a GPU, the emulator), and what compilers say."""
