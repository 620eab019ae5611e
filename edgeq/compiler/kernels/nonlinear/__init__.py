"""Tables, softmax, normalization, GELU."""
