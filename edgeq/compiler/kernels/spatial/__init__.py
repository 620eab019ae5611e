"""Windows and images: pooling, resizing; reductions over axes."""
