"""Moving scale between layers: the float function stays the same, its tensors get easier to quantize."""
