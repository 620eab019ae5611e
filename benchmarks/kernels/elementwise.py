"""Everything but convolutions and matrix products against ONNX Runtime fp32, one core, interleaved: time and ratio.

python benchmarks/kernels/elementwise.py [--targets x86-vnni x86-avx2] [--core 0] [--rounds 15] [--only pool]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from timing import Timed, kernel_calls, measure

from edgeq.compiler.kernels.base import DTYPE_RANGE, SLACK_BYTES, DType, Epilogue, Image, KernelSpec
from edgeq.compiler.kernels.elementwise.binary import BinarySpec, RescaleSpec
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.epilogue.requantize import MulSpec, RequantizeSpec
from edgeq.compiler.kernels.movement.copy import CopySpec
from edgeq.compiler.kernels.nonlinear.lut import LutInterpSpec, LutSpec
from edgeq.compiler.kernels.nonlinear.norm import NormSpec
from edgeq.compiler.kernels.nonlinear.softmax import SoftmaxSpec
from edgeq.compiler.kernels.spatial.pool import MaxPoolSpec, SumPoolSpec, Window
from edgeq.compiler.kernels.spatial.reduce import ArgMaxSpec, ReduceSpec
from edgeq.compiler.kernels.spatial.resize import ResizeLinearSpec
from edgeq.compiler.target import load_target
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.normalization import norm_constants

SINGLE = {"multiplier": np.array([2**30]), "shift": np.array([36])}
BYTES = Epilogue("single", "u8", 128, 0, 255, per_channel=False)
Feeds = dict[str, tuple[int, ...]]


@dataclass
class Case:
    """One kernel and what computes the same in fp32.

    Attributes:
        sizes: (elements, dtype) of each input and output operand.
        nodes: (op, inputs, attributes) of an ONNX graph, results named r0, r1 …; feeds: shapes of its inputs.
        fixed: constant inputs of that graph.
    """

    name: str
    spec: KernelSpec
    sizes: dict[str, tuple[int, DType]]
    nodes: Sequence[tuple[str, list[str], dict[str, Any]]]
    feeds: Feeds
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    fixed: dict[str, np.ndarray] = field(default_factory=dict)


def flat_cases() -> list[Case]:
    """Elementwise kernels over a dense tensor of 104 × 104 × 32 (a YOLOX layer)."""
    n = 104 * 104 * 32
    line, feeds = ((n,), (1,), (1,)), {"a": (1, 32, 104, 104), "b": (1, 32, 104, 104)}
    one = {"a": feeds["a"]}
    u8, s16 = (n, "u8"), (n, "s16")
    scales = (23170, 14211, 15, 128, 0, 255)
    table = {"table": np.arange(256, dtype=np.uint8)}
    wide = {"table": np.arange(256, dtype=np.int16)}
    points = {"table": np.arange(513, dtype=np.int16)}
    silu = [("Sigmoid", ["a"], {}), ("Mul", ["a", "r0"], {})]
    pair = {"a": u8, "b": u8, "y": u8}
    add = BinarySpec("add", *line, (1,), "u8", "u8", "u8", 128, 127, *scales)
    top = BinarySpec("max", *line, (1,), "u8", "u8", "u8", 128, 127, *scales)
    mul = MulSpec.of(*line, (0,), (1,), BYTES, SINGLE, "u8", "u8", 128, 3)
    narrow = Epilogue("narrow", "u8", 128, 0, 255, 4, per_channel=False)
    shifts = {"multiplier": np.array([2**14]), "shift": np.array([6])}
    lone = RequantizeSpec.of((n,), (1,), (0,), (1,), narrow, shifts)
    halve = RescaleSpec(*line, "s16", "u8", 0, 20000, 22, 128, 0, 255)
    interp = LutInterpSpec(*line, "s16", 7, 0, -32768, 32767)
    abs_node: list[tuple[str, list[str], dict[str, Any]]] = [("Abs", ["a"], {})]
    return [
        Case("Add u8", add, pair, [("Add", ["a", "b"], {})], feeds),
        Case("Max u8", top, pair, [("Max", ["a", "b"], {})], feeds),
        Case("Mul u8", mul, pair, [("Mul", ["a", "b"], {})], feeds, SINGLE),
        Case("SiLU, u8 table", LutSpec.of(*line, "u8", "u8"), {"x": u8, "y": u8}, silu, one, table),
        Case("SiLU, u8 to s16 table", LutSpec.of(*line, "u8", "s16"), {"x": u8, "y": s16}, silu, one, wide),
        Case("SiLU, s16 interpolated", interp, {"x": s16, "y": s16}, silu, one, points),
        Case("Rescale s16 to u8", halve, {"x": s16, "y": u8}, abs_node, one),
        Case("RequantizeNarrow s32 to u8", lone, {"x": (n, "s32"), "y": u8}, abs_node, one, shifts),
    ]


def pool_cases() -> list[Case]:
    """Pools of SqueezeNet, YOLOX and MobileNetV2."""
    cases = []
    for size, channels, window, pad in ((111, 64, (3, 2), 0), (27, 256, (3, 2), 0), (13, 128, (13, 1), 6)):
        taps, stride = window
        out = (size + 2 * pad - taps) // stride + 1
        x, y = Image.dense(1, size, size, channels), Image.dense(1, out, out, channels)
        spec = MaxPoolSpec(x, y, Window(taps, taps, stride, stride, pad, pad), "u8")
        attributes = {"kernel_shape": [taps] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        sizes: dict[str, tuple[int, DType]] = {"x": (x.elements, "u8"), "y": (y.elements, "u8")}
        node = [("MaxPool", ["a"], attributes)]
        cases.append(Case(f"MaxPool {taps}x{taps} of {size}x{size}x{channels}", spec, sizes, node,
                          {"a": (1, channels, size, size)}))  # fmt: skip
    for size, channels in ((7, 1280), (13, 1000)):
        x, y = Image.dense(1, size, size, channels), Image.dense(1, 1, 1, channels)
        mean = SumPoolSpec.of(x, y, Window(size, size), "u8", 128, (0, 0, 0, 0), BYTES, SINGLE)
        sizes = {"x": (x.elements, "u8"), "y": (y.elements, "u8")}
        average: Feeds = {"a": (1, channels, size, size)}
        cases.append(Case(f"GlobalAveragePool of {size}x{size}x{channels}", mean, sizes,
                          [("GlobalAveragePool", ["a"], {})], average, SINGLE))  # fmt: skip
    return cases


def movement_cases() -> list[Case]:
    """Copies and resizes."""
    u8: DType = "u8"
    image, big = Image.dense(1, 26, 26, 128), Image.dense(1, 52, 52, 128)
    shape = (26, 2, 26, 2, 128)
    nearest = CopySpec.of(shape, (26 * 128, 0, 128, 0, 1), (104 * 128, 52 * 128, 256, 128, 1))
    pixels = CopySpec.of((3, 224, 224), (224 * 224, 224, 1), (1, 226 * 3, 3), flip_sign_bit=True)
    planes = CopySpec.of((128, 676), (1, 128), (676, 1))
    part = CopySpec.of((55 * 55, 64), (64, 1), (128, 1))
    up: Feeds = {"a": (1, 128, 26, 26)}
    twice = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    sizes: dict[str, tuple[int, DType]] = {"x": (image.elements, u8), "y": (big.elements, u8)}
    resize = ["a", "roi", "scales"]
    return [
        Case("NCHW image to padded NHWC", pixels, {"x": (3 * 224 * 224, u8), "y": (226 * 226 * 3, u8)},
             [("Transpose", ["a"], {"perm": [0, 2, 3, 1]})], {"a": (1, 3, 224, 224)}),
        Case("NHWC 26x26x128 to NCHW", planes, {"x": (image.elements, u8), "y": (image.elements, u8)},
             [("Transpose", ["a"], {"perm": [0, 3, 1, 2]})], {"a": (1, 26, 26, 128)}),
        Case("Concat part 55x55x64", part, {"x": (55 * 55 * 64, u8), "y": (55 * 55 * 128, u8)},
             [("Concat", ["a", "a"], {"axis": 1})], {"a": (1, 64, 55, 55)}),
        Case("Resize nearest x2 26x26x128", nearest, sizes, [("Resize", resize, {"mode": "nearest"})], up, {}, twice),
        Case("Resize linear x2 26x26x128", ResizeLinearSpec(image, big, "half_pixel", u8), sizes,
             [("Resize", resize, {"mode": "linear"})], up, {}, twice),
    ]  # fmt: skip


def layer_norm(rows: int, length: int, x_dtype: DType) -> Case:
    norm = norm_constants(np.ones(length), np.zeros(length), 1e-5, 0.05, 0.05)
    line, n = (length, 1), rows * length
    spec = NormSpec.of(
        "layer", (rows, length), line, line, x_dtype, "u8", **norm.attributes(), zero_point=128, low=0, high=255
    )
    return Case(
        f"LayerNorm {rows}x{length} {x_dtype}",
        spec,
        {"x": (n, x_dtype), "y": (n, "u8")},
        [("LayerNormalization", ["a", "g", "b"], {"axis": -1})],
        {"a": (rows, length)},
        {"gamma": norm.gamma, "beta": norm.beta},
        {"g": np.ones(length, np.float32), "b": np.zeros(length, np.float32)},
    )


def row_cases() -> list[Case]:
    """Softmax, ArgMax, sums."""
    cases = []
    for rows, length in ((1, 1001), (197, 197)):
        constants = softmax_constants(0.1, length, 8)
        dense = ((rows, length), 1, (length, 1), (length, 1))
        spec = SoftmaxSpec.of(*dense, "s32", "u8", constants, 0, 0, 255)
        n = rows * length
        cases.append(Case(f"Softmax {rows}x{length}", spec, {"x": (n, "s32"), "y": (n, "u8")},
                          [("Softmax", ["a"], {"axis": -1})], {"a": (rows, length)}))  # fmt: skip
    for rows, length, x_dtype in ((197, 192, "u8"), (128, 384, "u8"), (128, 384, "s16")):
        cases.append(layer_norm(rows, length, cast(DType, x_dtype)))
    index = ArgMaxSpec.of((169, 20), 1, (20, 1), (1, 1), "u8")
    sums = ReduceSpec.sums((197, 768), (1,), (768, 1), (1, 1), (0, 0), "u8", 128, BYTES, SINGLE)
    return [
        *cases,
        Case("ArgMax 169x20", index, {"x": (3380, "u8"), "y": (169, "s64")}, [("ArgMax", ["a"], {"axis": 1})],
             {"a": (169, 20)}),
        Case("ReduceMean 197x768", sums, {"x": (197 * 768, "u8"), "y": (197, "u8")},
             [("ReduceMean", ["a"], {"axes": [1]})], {"a": (197, 768)}, SINGLE),
    ]  # fmt: skip


def our_calls(case: Case, name: str) -> tuple[Timed, Timed, str]:
    """Calls of our kernel with all tasks and with none, and its code size."""
    target = load_target(name)
    rng = np.random.default_rng(0)
    arrays = dict(case.spec.pack(target, case.constants))
    for operand, (elements, dtype) in case.sizes.items():
        low, high = DTYPE_RANGE[dtype]
        values = rng.integers(low, high, elements, dtype=np.int64, endpoint=True)
        arrays[operand] = np.concatenate([values, np.zeros(SLACK_BYTES, np.int64)]).astype(NUMPY_DTYPE[dtype])
    call, empty, size = kernel_calls(case.spec, target, arrays)
    return call, empty, f"{size:.0f}K"


def onnxruntime_call(case: Case | None) -> Timed:
    """The fp32 graph of a case; without one, the cheapest call there is."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    nodes = case.nodes if case else [("Abs", ["a"], {})]
    feeds = case.feeds if case else {"a": (1,)}
    made = [helper.make_node(op, inputs, [f"r{i}"], **attributes) for i, (op, inputs, attributes) in enumerate(nodes)]
    last = f"r{len(nodes) - 1}"
    kind = TensorProto.INT64 if nodes[-1][0] == "ArgMax" else TensorProto.FLOAT
    graph = helper.make_graph(
        made,
        "case",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in feeds.items()],
        [helper.make_tensor_value_info(last, kind, None)],
        [numpy_helper.from_array(value, name) for name, value in (case.fixed if case else {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    rng = np.random.default_rng(0)
    for name, shape in feeds.items():
        binding.bind_cpu_input(name, rng.normal(size=shape).astype(np.float32))
    binding.bind_output(last)
    return lambda: session.run_with_iobinding(binding)


def main() -> None:
    """Prints the table: times without the cost of an empty call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-vnni", "x86-avx2"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    nothing = onnxruntime_call(None)
    for case in [*flat_cases(), *pool_cases(), *movement_cases(), *row_cases()]:
        if options.only.lower() not in case.name.lower():
            continue
        ours = {name: our_calls(case, name) for name in options.targets}
        calls: dict[str, Timed] = {"fp32": onnxruntime_call(case), "nothing": nothing}
        for name, (call, empty, _) in ours.items():
            calls |= {name: call, f"{name} empty": empty}
        times = measure(calls, options.rounds)
        fp32 = times["fp32"] - np.median(times["nothing"])
        cells = []
        for name, (_, _, text) in ours.items():
            own = times[name] - np.median(times[f"{name} empty"])
            cells.append(f"{name[4:]} {own.min() * 1e6:7.1f} µs {np.median(fp32 / own):6.2f}x {text:>4}")
        print(f"{case.name:34} fp32 {fp32.min() * 1e6:7.1f} µs | " + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
