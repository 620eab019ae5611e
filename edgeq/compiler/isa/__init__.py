"""What instruction sets give to kernel generators: from s32 vectors to stored values, and the parts of dot products.

Importing this package doesn't import tvm: layouts are plain data, code is emitted through a lazily imported builder.
"""
