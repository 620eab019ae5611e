"""Dense convolution kernels against ONNX Runtime fp32, one core, interleaved: microseconds and ratios.

python benchmarks/kernels/conv.py [--targets x86-vnni x86-avx2] [--core 0] [--rounds 15] [--only MobileNetV2]
"""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple

import numpy as np
from timing import Timed, kernel_calls, measure

from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.target import load_target


class Layer(NamedTuple):
    """A layer: input height, width, channels, output channels, kernel, stride, padding (top/bottom, left/right)."""

    model: str
    h: int
    w: int
    c: int
    n: int
    kh: int = 1
    kw: int = 1
    stride: int = 1
    pad: tuple[int, int] = (0, 0)

    @property
    def out(self) -> tuple[int, int]:
        return (
            (self.h + 2 * self.pad[0] - self.kh) // self.stride + 1,
            (self.w + 2 * self.pad[1] - self.kw) // self.stride + 1,
        )

    @property
    def macs(self) -> int:
        return self.out[0] * self.out[1] * self.n * self.c * self.kh * self.kw


LAYERS = [
    Layer("MobileNetV2", 224, 224, 3, 32, 3, 3, 2, (1, 1)),
    Layer("MobileNetV2", 112, 112, 32, 16),
    Layer("MobileNetV2", 112, 112, 16, 96),
    Layer("MobileNetV2", 56, 56, 96, 24),
    Layer("MobileNetV2", 56, 56, 24, 144),
    Layer("MobileNetV2", 56, 56, 144, 24),
    Layer("MobileNetV2", 28, 28, 144, 32),
    Layer("MobileNetV2", 28, 28, 32, 192),
    Layer("MobileNetV2", 28, 28, 192, 32),
    Layer("MobileNetV2", 14, 14, 192, 64),
    Layer("MobileNetV2", 14, 14, 64, 384),
    Layer("MobileNetV2", 14, 14, 384, 64),
    Layer("MobileNetV2", 14, 14, 384, 96),
    Layer("MobileNetV2", 14, 14, 96, 576),
    Layer("MobileNetV2", 14, 14, 576, 96),
    Layer("MobileNetV2", 7, 7, 576, 160),
    Layer("MobileNetV2", 7, 7, 160, 960),
    Layer("MobileNetV2", 7, 7, 960, 160),
    Layer("MobileNetV2", 7, 7, 960, 320),
    Layer("MobileNetV2", 7, 7, 320, 1280),
    Layer("MobileNetV2", 1, 1, 1280, 1001),
    Layer("SqueezeNet", 224, 224, 3, 64, 3, 3, 2),
    Layer("SqueezeNet", 55, 55, 64, 16),
    Layer("SqueezeNet", 55, 55, 16, 64, 3, 3, 1, (1, 1)),
    Layer("SqueezeNet", 27, 27, 32, 128, 3, 3, 1, (1, 1)),
    Layer("SqueezeNet", 13, 13, 64, 256, 3, 3, 1, (1, 1)),
    Layer("SqueezeNet", 13, 13, 512, 1000),
    Layer("ResNet8", 32, 32, 3, 16, 3, 3, 1, (1, 1)),
    Layer("ResNet8", 32, 32, 16, 16, 3, 3, 1, (1, 1)),
    Layer("ResNet8", 32, 32, 16, 32, 3, 3, 2, (1, 1)),
    Layer("ResNet8", 16, 16, 32, 32, 3, 3, 1, (1, 1)),
    Layer("ResNet8", 8, 8, 64, 64, 3, 3, 1, (1, 1)),
    Layer("DS-CNN", 49, 10, 1, 64, 10, 4, 2, (4, 1)),
    Layer("DS-CNN", 25, 5, 64, 64),
    Layer("VWW", 96, 96, 3, 8, 3, 3, 2, (1, 1)),
    Layer("VWW", 48, 48, 8, 16),
    Layer("VWW", 24, 24, 32, 32),
    Layer("VWW", 6, 6, 128, 128),
    Layer("VWW", 3, 3, 256, 256),
    Layer("autoencoder", 1, 1, 640, 128),
    Layer("autoencoder", 1, 1, 128, 128),
    Layer("autoencoder", 1, 1, 128, 640),
    Layer("YOLOX-nano", 208, 208, 12, 16, 3, 3, 1, (1, 1)),
    Layer("YOLOX-nano", 104, 104, 32, 16),
    Layer("YOLOX-nano", 52, 52, 64, 64),
    Layer("YOLOX-nano", 26, 26, 128, 64),
    Layer("YOLOX-nano", 13, 13, 256, 128),
    Layer("ResNet18", 56, 56, 64, 64, 3, 3, 1, (1, 1)),
    Layer("ResNet18", 7, 7, 512, 512, 3, 3, 1, (1, 1)),
]


def our_calls(layer: Layer, name: str, table: bool) -> tuple[Timed, Timed, str]:
    """Calls of our kernel with all tasks and with none, and a description."""
    target = load_target(name)
    (oh, ow), (top, left) = layer.out, layer.pad
    x = Image.dense(1, layer.h + 2 * top, layer.w + 2 * left, layer.c)
    y = Image.dense(1, oh, ow, layer.n)
    epilogue = Epilogue("narrow", "u8", 128, 0 if table else 128, 255, 6, lut=table)
    spec = ConvSpec(x, y, "u8", layer.kh, layer.kw, epilogue, layer.stride, layer.stride, x_zero_point=128)
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.integers(-127, 128, (layer.n, layer.c, layer.kh, layer.kw)).astype(np.int8),
        "bias": rng.integers(-5000, 5000, layer.n).astype(np.int32),
        "multiplier": rng.integers(2**14, 2**15, layer.n).astype(np.int32),
        "shift": np.full(layer.n, 6, np.int32),
        "table": np.arange(256, dtype=np.uint8),
    }
    arrays = {"x": rng.integers(0, 256, x.elements).astype(np.uint8)} | spec.pack(target, constants)
    arrays["y"] = np.zeros(y.elements + SLACK_BYTES, np.uint8)
    call, empty, size = kernel_calls(spec, target, arrays)
    return call, empty, f"{spec.describe(target).removeprefix('conv')} {size:.0f}K"


def onnxruntime_call(layer: Layer) -> Timed:
    """The same layer with ReLU in fp32: in ONNX Runtime's blocked layout as inside a network; 1×1 pixel as Gemm."""
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    dense = layer.h == layer.w == 1
    shape = (layer.c, layer.n) if dense else (layer.n, layer.c, layer.kh, layer.kw)
    fed = (1, layer.c) if dense else (1, layer.c, layer.h, layer.w)
    weights = numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(layer.n, np.float32), "b")
    window = {
        "kernel_shape": [layer.kh, layer.kw],
        "strides": [layer.stride] * 2,
        "pads": [*layer.pad, *layer.pad],
    }
    first = helper.make_node("Gemm" if dense else "Conv", ["x", "w", "b"], ["a"], **({} if dense else window))
    graph = helper.make_graph(
        [first, helper.make_node("Relu", ["a"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, fed)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", rng.normal(size=fed).astype(np.float32))
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def main() -> None:
    """Prints the table: times without the cost of an empty call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-vnni", "x86-avx2"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="")
    parser.add_argument("--table", action="store_true", help="our kernels end in a table (fp32 stays with ReLU)")
    parser.add_argument("--no-fp32", action="store_true", help="our kernels only")
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    nothing = onnxruntime_call(Layer("", 1, 1, 4, 4))
    for layer in LAYERS:
        title = f"{layer.h}x{layer.w}x{layer.c}->{layer.n} {layer.kh}x{layer.kw} s{layer.stride}"
        if options.only not in f"{layer.model} {title}":
            continue
        ours = {name: our_calls(layer, name, options.table) for name in options.targets}
        calls: dict[str, Timed] = {} if options.no_fp32 else {"fp32": onnxruntime_call(layer), "nothing": nothing}
        for name, (call, empty, _) in ours.items():
            calls |= {name: call, f"{name} empty": empty}
        times = measure(calls, options.rounds)
        cells = []
        for name, (_, _, text) in ours.items():
            own = times[name] - np.median(times[f"{name} empty"])
            best = own.min()
            cell = f"{name[4:]} {best * 1e6:7.1f} µs {layer.macs / best / 1e9:5.0f} GMAC/s"
            if not options.no_fp32:
                cell += f" {np.median((times['fp32'] - np.median(times['nothing'])) / own):5.2f}x"
            cells.append(f"{cell} {text:18}")
        fp32 = "" if options.no_fp32 else f"fp32 {(times['fp32'].min() - times['nothing'].min()) * 1e6:7.1f} µs | "
        print(f"{layer.model:12} {title:26} {fp32}" + " | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
