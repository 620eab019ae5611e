"""The public functions. A command of the command line is a few lines over one of them, and has its name.

Everything heavy (onnx, onnxruntime, tvm) is imported when a function needs it. All errors that a caller can cause are
`edgeq.errors.EdgeqError`; arrays are NumPy, samples along the first axis, layouts as in the source model (NCHW).

artifact.py, static.py, source.py and wasm.py write the four kinds of products (formats.py says which a target takes);
graphs.py quantizes; debug.py and inspect.py are the commands of these names.
"""
