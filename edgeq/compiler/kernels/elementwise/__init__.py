"""One or two tensors, element by element."""
