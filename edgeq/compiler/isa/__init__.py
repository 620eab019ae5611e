"""What instruction sets give to kernel generators: from s32 vectors to stored values, and what dot products are made of.

Importing this package doesn't import tvm: layouts are plain data, code is emitted through a lazily imported builder.
"""
