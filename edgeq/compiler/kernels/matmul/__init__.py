"""Products of two computed tensors."""
