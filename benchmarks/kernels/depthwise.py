"""Depthwise kernels against ONNX Runtime fp32, one core, interleaved: microseconds and ratios (median of rounds).

python benchmarks/kernels/depthwise.py [--targets x86-vnni x86-avx2] [--core 0] [--rounds 15] [--table] [--only 7x7]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgeq.compiler import codegen
from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue, Image
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.target import load_target

# (height, width, channels, kernel, stride, model); padding is "same"
SHAPES = [
    (112, 112, 32, 3, 1, "MobileNetV2"),
    (112, 112, 96, 3, 2, "MobileNetV2"),
    (56, 56, 144, 3, 1, "MobileNetV2"),
    (56, 56, 144, 3, 2, "MobileNetV2"),
    (28, 28, 192, 3, 1, "MobileNetV2"),
    (28, 28, 192, 3, 2, "MobileNetV2"),
    (14, 14, 384, 3, 1, "MobileNetV2"),
    (14, 14, 576, 3, 1, "MobileNetV2"),
    (14, 14, 576, 3, 2, "MobileNetV2"),
    (7, 7, 960, 3, 1, "MobileNetV2"),
    (48, 48, 8, 3, 1, "VWW"),
    (48, 48, 16, 3, 2, "VWW"),
    (24, 24, 32, 3, 1, "VWW"),
    (24, 24, 32, 3, 2, "VWW"),
    (12, 12, 64, 3, 1, "VWW"),
    (6, 6, 128, 3, 1, "VWW"),
    (3, 3, 256, 3, 1, "VWW"),
    (25, 5, 64, 3, 1, "DS-CNN"),
    (208, 208, 16, 3, 2, "YOLOX"),
    (104, 104, 16, 3, 1, "YOLOX"),
    (104, 104, 32, 3, 2, "YOLOX"),
    (52, 52, 64, 3, 1, "YOLOX"),
    (26, 26, 128, 3, 2, "YOLOX"),
    (13, 13, 128, 3, 1, "YOLOX"),
    (28, 28, 240, 5, 1, "MobileNetV3"),
    (14, 14, 672, 5, 1, "MobileNetV3"),
]
Timed = Callable[[], object]


def kernel_call(shape: tuple[int, int, int, int, int, str], target_name: str, table: bool) -> tuple[Timed, str]:
    """A call of our kernel on all tasks, and its name."""
    h, w, c, k, s, _ = shape
    target = load_target(target_name)
    pad = k // 2
    out_h, out_w = (h + 2 * pad - k) // s + 1, (w + 2 * pad - k) // s + 1
    epilogue = Epilogue("narrow", "u8", 128, 0 if table else 128, 255, 6, lut=table)
    x, y = Image.dense(1, h + 2 * pad, w + 2 * pad, c), Image.dense(1, out_h, out_w, c)
    spec = DepthwiseSpec(x, y, "u8", k, k, epilogue, stride_h=s, stride_w=s, x_zero_point=128)
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(-127, 128, (c, 1, k, k)).astype(np.int8),
        "bias": rng.integers(-5000, 5000, c).astype(np.int32),
        "multiplier": rng.integers(2**14, 2**15, c).astype(np.int32),
        "shift": np.full(c, 6, np.int32),
        "table": rng.integers(0, 256, 256).astype(np.uint8),
    }
    arrays = {"x": rng.integers(0, 256, x.elements + SLACK_BYTES).astype(np.uint8)}
    arrays |= spec.pack(target, constants)
    arrays["y"] = np.zeros(y.elements + SLACK_BYTES, np.uint8)
    buffers = [aligned(arrays[operand.name]) for operand in spec.operands()]
    path = Path(tempfile.mkdtemp()) / "kernel.o"
    codegen.write_object(spec.build(target), target.tvm_target(), path)
    library = path.with_suffix(".so")
    subprocess.run([sys.executable, "-m", "ziglang", "ld.lld", "-shared", str(path), "-o", str(library)], check=True)
    function = getattr(ctypes.CDLL(str(library)), spec.symbol(target))
    pointers = [ctypes.c_void_p(buffer.ctypes.data) for buffer in buffers]
    tasks = spec.tasks()

    def call(keep: list[np.ndarray] = buffers) -> None:
        del keep  # only holds the memory
        function(0, tasks, *pointers)

    return call, f"{spec.describe(target)} {path.stat().st_size >> 10}K"


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary with slack behind it."""
    raw = np.zeros(array.nbytes + SLACK_BYTES + 64, np.uint8)
    start = -raw.ctypes.data % 64
    view = raw[start : start + array.nbytes + SLACK_BYTES]
    view[: array.nbytes] = array.view(np.uint8).reshape(-1)
    return view


def onnxruntime_call(shape: tuple[int, int, int, int, int, str], table: bool = False) -> Timed:
    """The same layer with its activation in fp32, in ONNX Runtime's own blocked layout as inside a network."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    h, w, c, k, s, _ = shape
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.normal(size=(c, 1, k, k)).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(c, np.float32), "b")
    nodes = [
        helper.make_node(
            "Conv", ["x", "w", "b"], ["a"], group=c, kernel_shape=[k, k], strides=[s, s], pads=[k // 2] * 4
        ),
    ]
    if table:
        nodes += [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["y"])]
    else:
        nodes.append(helper.make_node("Relu", ["a"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, c, h, w])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", rng.normal(size=(1, c, h, w)).astype(np.float32))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def seconds(call: Timed, repeats: int) -> float:
    """Mean time of one call."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def measure(calls: dict[str, Timed], rounds: int) -> dict[str, np.ndarray]:
    """Times of every call, in turns."""
    repeats = {name: max(1, int(0.004 / min(seconds(call, 3) for _ in range(3)))) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, repeats[name]))
    return {name: np.array(values) for name, values in times.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-vnni", "x86-avx2"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    parser.add_argument("--table", action="store_true", help="SiLU as a table instead of ReLU")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    overhead: list[Timed] = [onnxruntime_call((1, 1, 16, 1, 1, ""))]
    for shape in SHAPES:
        title = "{}x{}x{} k{} s{}".format(*shape[:5])
        if options.only not in title:
            continue
        kernels = {name: kernel_call(shape, name, options.table) for name in options.targets}
        calls = {"fp32": onnxruntime_call(shape, options.table), "empty": overhead[0]} | {
            n: k[0] for n, k in kernels.items()
        }
        times = measure(calls, options.rounds)
        # ONNX Runtime's cost of a call, measured with a layer of one pixel, is not the kernel's.
        reference = times["fp32"] - times["empty"].min()
        cells = [
            f"{name} {times[name].min() * 1e6:8.1f} µs ({np.median(reference / times[name]):5.2f}×) {kernels[name][1]}"
            for name in kernels
        ]
        print(f"{shape[5]:12} {title:18} fp32 {reference.min() * 1e6:8.1f} µs | " + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
