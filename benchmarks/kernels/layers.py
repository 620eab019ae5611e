"""Layers that the kernel benchmarks share, at any width of weights: calls of our kernels and of ONNX Runtime's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from timing import Timed, kernel_calls

from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue, Image
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.target import load_target


@dataclass(frozen=True)
class Layer:
    """Output height and width, channels, output channels, square kernel, stride; padding keeps the size."""

    h: int
    w: int
    c: int
    n: int
    k: int = 1
    stride: int = 1
    depthwise: bool = False

    def __str__(self) -> str:
        kind = "dw" if self.depthwise else f"-> {self.n}"
        return f"{self.h}x{self.w}x{self.c} {kind} {self.k}x{self.k}" + (f"/{self.stride}" if self.stride > 1 else "")

    @property
    def macs(self) -> int:
        return self.h * self.w * self.n * self.k**2 * (1 if self.depthwise else self.c)

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of the padded input."""
        return (self.h - 1) * self.stride + self.k, (self.w - 1) * self.stride + self.k

    def weights(self, bits: int) -> np.ndarray:
        """Gaussian weights, each channel's largest at the bound of the width: int8 [N, C, k, k]."""
        rng = np.random.default_rng(0)
        values = rng.normal(size=(self.n, 1 if self.depthwise else self.c, self.k, self.k))
        if bits == 1:
            return np.where(values < 0, -1, 1).astype(np.int8)
        largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
        return np.rint(values / largest * (2 ** (bits - 1) - 1)).astype(np.int8)


def conv_call(
    layer: Layer, bits: int, name: str, storage: Storage = "fast"
) -> tuple[Timed, Timed, ConvSpec | DepthwiseSpec]:
    """(all tasks, no task, spec) of our kernel for this layer."""
    target = load_target(name)
    x = Image.dense(1, *layer.padded, layer.c)
    y = Image.dense(1, layer.h, layer.w, layer.n)
    w = layer.weights(bits)
    rng = np.random.default_rng(1)
    constants = {
        "w": w,
        "bias": rng.integers(-5000, 5000, layer.n).astype(np.int32),
        "multiplier": rng.integers(2**14, 2**15, layer.n).astype(np.int32),
        "shift": np.full(layer.n, 6, np.int32),
    }
    epilogue = Epilogue("narrow", "u8", 128, 128, 255, 6)
    spec: ConvSpec | DepthwiseSpec
    if layer.depthwise:
        spec = DepthwiseSpec(x, y, "u8", layer.k, layer.k, epilogue, x_zero_point=128)
        spec = replace(spec, stride_h=layer.stride, stride_w=layer.stride).fitted(target, constants)
    else:
        spec = ConvSpec(x, y, "u8", layer.k, layer.k, epilogue, layer.stride, layer.stride, x_zero_point=128)
        spec = spec.fitted(target, w, storage)
    arrays = {"x": rng.integers(0, 256, x.elements).astype(np.uint8)} | spec.pack(target, constants)
    arrays["y"] = np.zeros(y.elements + SLACK_BYTES, np.uint8)
    call, empty, _ = kernel_calls(spec, target, arrays)
    return call, empty, spec


def _session(model: object, fed: np.ndarray) -> Timed:
    """A call of a model with one input, everything bound in advance."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    serialised = model.SerializeToString()  # type: ignore[attr-defined]
    session = ort.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", fed)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def onnxruntime_u8s8(layer: Layer) -> Timed:
    """QLinearConv in ONNX Runtime's channels-last form, u8 by s8 with 7-bit weights (its reduced range)."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    height, width = layer.padded
    pad = layer.k // 2
    shape = (1, height - 2 * pad, width - 2 * pad, layer.c)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "w": layer.weights(7),
        "ws": rng.uniform(0.001, 0.01, layer.n).astype(np.float32),
        "wz": np.zeros(layer.n, np.int8),
        "ys": np.float32(0.1),
        "yz": np.uint8(128),
        "b": np.zeros(layer.n, np.int32),
    }
    node = helper.make_node(
        "QLinearConv",
        ["x", *constants],
        ["y"],
        domain="com.microsoft",
        channels_last=1,
        kernel_shape=[layer.k] * 2,
        strides=[layer.stride] * 2,
        pads=[pad] * 4,
        group=layer.c if layer.depthwise else 1,
    )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=9)
    return _session(model, rng.integers(0, 256, shape).astype(np.uint8))


def onnxruntime_fp32(layer: Layer) -> Timed:
    """Conv with ReLU in ONNX Runtime's blocked layout, as inside a network."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    height, width = layer.padded
    pad = layer.k // 2
    shape = (1, layer.c, height - 2 * pad, width - 2 * pad)
    weights = rng.normal(size=layer.weights(8).shape).astype(np.float32)
    window = {"kernel_shape": [layer.k] * 2, "strides": [layer.stride] * 2, "pads": [pad] * 4}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["a"], group=layer.c if layer.depthwise else 1, **window)
    graph = helper.make_graph(
        [conv, helper.make_node("Relu", ["a"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(layer.n, np.float32), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return _session(model, rng.normal(size=shape).astype(np.float32))
