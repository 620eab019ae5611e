"""Small integer graphs for tests of the compiler: layers with random constants that keep their outputs lively."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeq.integer.builder import GraphBuilder, emit
from edgeq.integer.graph import IntegerGraph, Quant

ZERO_POINT = -3
INT8 = 3
PRODUCT = 73 * 73  # standard deviation of the product of two uniform bytes


class Layers:
    """A graph under construction; every method adds one layer and returns its int8 output."""

    def __init__(self, seed: int = 0) -> None:
        self.builder = GraphBuilder()
        self.rng = np.random.default_rng(seed)

    def input(self, *shape: int, name: str = "x") -> ir.Value:
        return self.builder.input(name, np.int8, shape, Quant(np.dtype(np.int8), 0.05, ZERO_POINT))

    def emit(self, op: str, *inputs: object, **attributes: object) -> ir.Value:
        return emit(self.builder, op, list(inputs), **attributes)  # type: ignore[arg-type]

    def weights(self, *shape: int) -> np.ndarray:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def narrow(self, acc: ir.Value, channels: tuple[int, ...], spread: float, low: int = -128) -> ir.Value:
        """Requantizes accumulators of this standard deviation to about 40 steps."""
        total = max(0, round(math.log2(spread / 40 * 0.75)))
        post = min(6, total)
        multiplier = self.rng.integers(2**14, 2**15, channels).astype(np.int32)
        multiplier.reshape(-1)[4::5] >>= 5  # some much smaller than the others, which the form allows
        shift = np.full(channels, total - post, np.int32)
        clamp = {"zero_point": ZERO_POINT, "low": low, "high": 127, "to": INT8}
        return self.emit("RequantizeNarrow", acc, multiplier, shift, post_shift=post, **clamp)

    def conv(
        self, x: ir.Value, n: int, k: int, stride: int = 1, group: int = 1, dilation: int = 1, low: int = -128
    ) -> ir.Value:
        assert x.shape is not None
        c = int(x.shape[1])  # type: ignore[arg-type]
        bias = self.rng.integers(-1000, 1000, (1, n, 1, 1)).astype(np.int32)
        geometry = {
            "strides": [stride, stride],
            "pads": [dilation * (k // 2)] * 4,
            "dilations": [dilation, dilation],
            "group": group,
            "x_zero_point": ZERO_POINT,
        }
        acc = self.emit("Conv", x, self.weights(n, c // group, k, k), bias, **geometry)
        return self.narrow(acc, (1, n, 1, 1), PRODUCT * math.sqrt(c // group * k * k), low)

    def gemm(self, x: ir.Value, n: int) -> ir.Value:
        assert x.shape is not None
        k = int(x.shape[-1])  # type: ignore[arg-type]
        bias = self.rng.integers(-1000, 1000, n).astype(np.int32)
        acc = self.emit("Gemm", x, self.weights(k, n), bias, x_zero_point=ZERO_POINT)
        return self.narrow(acc, (n,), PRODUCT * math.sqrt(k))

    def add(self, a: ir.Value, b: ir.Value) -> ir.Value:
        sides = {"a_zero_point": ZERO_POINT, "b_zero_point": ZERO_POINT, "a_multiplier": 16384, "b_multiplier": 12001}
        return self.emit("Add", a, b, **sides, shift=15, zero_point=ZERO_POINT, low=-128, high=127, to=INT8)

    def lut(self, x: ir.Value) -> ir.Value:
        return self.emit("Lut", x, self.rng.integers(-128, 128, 256).astype(np.int8))

    def finish(self, *outputs: ir.Value) -> IntegerGraph:
        for number, output in enumerate(outputs):
            self.builder.output(output, f"y{number}")
        return self.builder.finish()
