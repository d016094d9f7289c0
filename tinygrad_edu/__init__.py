"""A tiny autograd tensor library in NumPy, with Numba, C and CUDA kernels under it."""
