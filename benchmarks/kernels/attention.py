"""Products of two computed tensors, as attention has them, against ONNX Runtime's fp32 MatMul: one core, interleaved.

python benchmarks/kernels/attention.py [--targets x86-vnni x86-avx2] [--core 0] [--rounds 15]
"""

from __future__ import annotations

import argparse
import os

import numpy as np
from timing import Timed, kernel_calls, measure

from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
from edgeq.compiler.target import load_target

SHAPES = {"DeiT-Tiny": (3, 197, 64), "MiniLM 128": (12, 128, 32)}  # heads, tokens, width of a head
NARROW = Epilogue("narrow", "u8", 128, 0, 255, 4, per_channel=False)
RAW = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
SCALE = {"multiplier": np.array([2**14]), "shift": np.array([6])}


def products(heads: int, tokens: int, width: int) -> dict[str, MatMulSpec]:
    """Both products over [token, head, channel] memory, zero points as quantizers choose them."""
    rows, columns = (width, heads * width, 1), (width, 1, heads * width)
    square = (tokens * tokens, tokens, 1)
    scores = MatMulSpec.of((heads, tokens, tokens), width, rows, columns, square, "u8", "u8", 120, 131, RAW)
    mixed = (heads, tokens, width), tokens, square, rows, rows
    return {
        "Q·Kᵀ u8": scores,
        "P·V u8": MatMulSpec.of(*mixed, "u8", "u8", 0, 126, NARROW),
        "P·V s16": MatMulSpec.of(*mixed, "s16", "u8", 0, 126, NARROW),
    }


def ours(spec: MatMulSpec, name: str) -> Timed:
    """A call of the kernel on random operands."""
    target, rng = load_target(name), np.random.default_rng(0)
    arrays = dict(spec.pack(target, {} if spec.epilogue.form == "none" else SCALE))
    stored = {"a": spec.a_dtype, "b": spec.b_dtype, "y": spec.epilogue.dtype}
    for (operand, dtype), elements in zip(stored.items(), spec.extents(), strict=True):
        arrays[operand] = rng.integers(0, 127, elements + SLACK_BYTES).astype(NUMPY_DTYPE[dtype])
    return kernel_calls(spec, target, arrays)[0]


def fp32(heads: int, tokens: int, width: int) -> Timed:
    """ONNX Runtime's Q·Kᵀ, which has as many multiplications as P·V."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    shapes = {"a": (heads, tokens, width), "b": (heads, width, tokens)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding, rng = session.io_binding(), np.random.default_rng(0)
    for name, shape in shapes.items():
        binding.bind_cpu_input(name, rng.standard_normal(shape, np.float32))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def main() -> None:
    """Prints microseconds, billions of multiplications a second, and the ratio to fp32."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-vnni", "x86-avx2"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    for network, (heads, tokens, width) in SHAPES.items():
        macs = heads * tokens * tokens * width
        calls = {"fp32": fp32(heads, tokens, width)}
        for label, spec in products(heads, tokens, width).items():
            calls |= {f"{label} {name}": ours(spec, name) for name in options.targets}
        times = measure(calls, options.rounds)
        for label, taken in times.items():
            ratio = np.median(times["fp32"] / taken)
            best = taken.min()
            print(f"{network:<12} {label:<18} {best * 1e6:7.1f} µs {macs / best / 1e9:6.1f} G/s {ratio:5.2f}x")


if __name__ == "__main__":
    main()
