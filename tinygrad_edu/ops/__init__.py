"""Operations on tensors: kernels with their bodies, and the calculus above them."""
