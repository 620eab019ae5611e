"""x86-64: registers, inner products, and pairs of weights."""
