"""Random integer graphs: chains, branches and joins of layers, as odd as the dialect allows.

Every value lives in a pool; each layer reads from the pool and adds to it. Layouts come from how values are used:
halos, slices of concatenations, strided and reversed views, rows, images that are graph outputs as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeq.integer.builder import GraphBuilder, emit, emit_all
from edgeq.integer.graph import IntegerGraph, Quant

S8, U8, S16 = (np.dtype(t) for t in (np.int8, np.uint8, np.int16))
MOST_ELEMENTS = 60_000  # of one value
SPREAD = {S8: 60, U8: 60, S16: 9000}  # expected standard deviation of values


class RandomLayers:
    """One random graph.

    Args:
        seed: decides everything.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = GraphBuilder()
        self.pool: list[ir.Value] = []

    def graph(self) -> IntegerGraph:
        """The graph: some layers, and as outputs what nobody reads and a value that is read on."""
        batch, large = self.number(1, 2), self.chance(4)
        for name in ("x", "z")[: self.number(1, 2)]:
            shape = (batch, self.number(1, 9), *(self.number(1, 12) for _ in range(2)))
            if large:
                shape = (batch, 24, self.number(18, 26), self.number(18, 26))
            zero_point = Quant(S8, 0.05, self.number(-128, 127))
            self.pool.append(self.builder.input(name, S8, shape, zero_point))
        self.conv()
        for _ in range(self.number(4, 9)):
            LAYERS[self.number(0, len(LAYERS) - 1)](self)
        ends = [v for v in self.pool if not v.uses() and v.producer() is not None]
        inner = [v for v in self.pool if v.uses() and v.producer() is not None]
        if inner and self.chance(2):
            ends.append(self.pick(inner))
        for value in ends:
            self.builder.output(value, f"y{len(self.builder.outputs)}")
        return self.builder.finish()

    # --- decisions ----------------------------------------------------------------------------------------------------

    def number(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, one_in: int) -> bool:
        return self.number(1, one_in) == 1

    def pick(self, options: list[ir.Value]) -> ir.Value:
        """Later values more often: chains grow long."""
        return options[max(self.number(0, len(options) - 1) for _ in range(2))]

    def images(self, *dtypes: np.dtype) -> list[ir.Value]:
        """Values of rank 4 of these dtypes."""
        return [v for v in self.pool if len(shape_of(v)) == 4 and dtype_of(v) in dtypes]

    def zero_point(self, dtype: np.dtype) -> int:
        info = np.iinfo(dtype)
        return 0 if dtype == S16 else self.number(int(info.min), int(info.max))

    def keep(self, value: ir.Value) -> ir.Value:
        """Into the pool, unless it is too large or empty."""
        if 0 < math.prod(shape_of(value)) <= MOST_ELEMENTS:
            self.pool.append(value)
        return value

    def emit(self, op: str, *inputs: object, **attributes: object) -> ir.Value:
        return emit(self.builder, op, list(inputs), **attributes)  # type: ignore[arg-type]

    # --- layers that accumulate ---------------------------------------------------------------------------------------

    def clamp(self, dtype: np.dtype) -> dict[str, object]:
        """zero_point, low, high, to: often the whole range, sometimes a ReLU or a narrow band."""
        info = np.iinfo(dtype)
        low, high = int(info.min), int(info.max)
        zero_point = self.number(-20, 20) + (128 if dtype == U8 else 0) if dtype != S16 else 0
        kind = self.number(0, 4)
        if kind == 0:
            low = zero_point
        elif kind == 1:
            low, high = max(low, zero_point - 50), min(high, zero_point + 40)
        return {"zero_point": zero_point, "low": low, "high": high, "to": dtype}

    def requantize(self, acc: ir.Value, channels: tuple[int, ...], spread: float, narrow: bool = True) -> ir.Value:
        """Either form; one scale, or one for each channel; what follows may be a table or a residual add."""
        shape = channels if self.chance(2) else (1,) * len(channels)
        if self.chance(8):
            shape = shape_of(acc)[-self.number(1, len(channels)) :]  # one for each of any elements
        dtype = (S8, S8, S8, S8, S8, U8, S16)[self.number(0, 6)]
        value = self.rounded(acc, shape, dtype, spread, narrow and dtype != S16 and self.chance(2))
        if self.chance(4):
            value = self.table_of(value)
        if self.chance(3):
            self.keep(value)
        return self.residual_of(value) if self.chance(2) else self.keep(value)

    def rounded(self, acc: ir.Value, shape: tuple[int, ...], dtype: np.dtype, spread: float, narrow: bool) -> ir.Value:
        """A requantize that uses the dtype's range, its multipliers of this shape."""
        ratio = SPREAD[dtype] / spread * self.rng.uniform(0.5, 1.5, shape)
        fraction, exponent = np.frexp(ratio)
        if narrow:
            post = self.number(0, 6)
            multiplier = np.minimum(fraction * 2**15, 2**15 - 1).astype(np.int32)
            shift = np.clip(-exponent - post, 0, 30).astype(np.int32)
            multiplier = multiplier if self.chance(3) else multiplier.reshape(-1)[:1]
            return self.emit("RequantizeNarrow", acc, multiplier, shift, post_shift=post, **self.clamp(dtype))
        multiplier = np.minimum(fraction * 2**31, 2**31 - 1).astype(np.int64).astype(np.int32)
        shift = np.clip(31 - exponent, 2, 62).astype(np.int32)
        return self.emit("Requantize", acc, multiplier, shift, **self.clamp(dtype))

    def weights(self, shape: tuple[int, ...], taps: int, dtype: np.dtype) -> np.ndarray:
        """Full range (sometimes −128 too), or what keeps sums over s16 inside 32 bits."""
        most = 127 if dtype == S8 else min(127, 2**30 // (2**15 * taps))
        least = -128 if dtype == S8 and self.chance(3) else -most
        return self.rng.integers(least, most + 1, shape).astype(np.int8)

    def conv(self) -> None:
        """Dense, grouped or depthwise; any stride, dilation and padding that leaves an output."""
        choices = self.images(S8, S8, S16)
        if not choices:
            return
        x = self.pick(choices)
        _, c, *size = shape_of(x)
        depthwise, grouped = self.chance(3), self.chance(5)
        group = c if depthwise else self.number(1, c) if grouped else 1
        group = group if c % group == 0 else 1
        outputs = group * self.number(1, 2) if group == c else group * max(1, self.number(1, 40) // group)
        dilations, strides = [self.number(1, 2) for _ in range(2)], [self.number(1, 2) for _ in range(2)]
        kernel, pads = [1, 1], [0, 0, 0, 0]
        if self.chance(3):  # the output's size and channels are the input's: something to add to
            outputs, strides = c, [1, 1]
            half = self.number(0, 1)
            kernel, pads = [1 + 2 * half] * 2, [half * d for d in (*dilations, *dilations)]
        for axis in (0, 1) if outputs != c else ():
            wanted, before, after = (1, 3, 3, 5)[self.number(0, 3)], self.number(0, 2), self.number(0, 2)
            if size[axis] + before + after >= dilations[axis] * (wanted - 1) + 1:
                kernel[axis], pads[axis], pads[2 + axis] = wanted, before, after
        taps = c // group * kernel[0] * kernel[1]
        dtype = dtype_of(x)
        w = self.weights((outputs, c // group, *kernel), taps, dtype)
        bias = self.rng.integers(-2000, 2001, (1, outputs, 1, 1)).astype(np.int32)
        zero = {} if dtype == S16 else {"x_zero_point": self.zero_point(S8)}
        geometry = {"strides": strides, "pads": pads, "dilations": dilations, "group": group, **zero}
        acc = self.emit("ConvS16" if dtype == S16 else "Conv", x, w, bias, **geometry)
        self.requantize(acc, (1, outputs, 1, 1), max(1.0, float(w.std())) * SPREAD[dtype] * math.sqrt(taps))

    def block(self) -> None:
        """Convolution, requantize, maybe a table, and the input added: what fuses into one kernel."""
        choices = self.images(S8)
        if not choices:
            return
        x = self.pick(choices)
        c = shape_of(x)[1]
        group = c if self.chance(3) else 1
        half = self.number(0, 1)
        w = self.weights((c, c // group, 1 + 2 * half, 1 + 2 * half), 1, S8)
        bias = self.rng.integers(-2000, 2001, (1, c, 1, 1)).astype(np.int32)
        acc = self.emit("Conv", x, w, bias, pads=[half] * 4, group=group, x_zero_point=self.zero_point(S8))
        channels = (1, c, 1, 1) if self.chance(2) else (1, 1, 1, 1)
        y = self.rounded(acc, channels, S8, 73 * 60 * math.sqrt(w[0].size), self.chance(2))
        if self.chance(3):
            y = self.emit("Lut", y, self.rng.integers(-128, 128, 256).astype(np.int8))
        self.add_of(y, x, S8)

    def transposed(self) -> None:
        """ConvTranspose."""
        choices = [v for v in self.images(S8) if math.prod(shape_of(v)) < MOST_ELEMENTS // 20]
        if not choices:
            return
        x = self.pick(choices)
        c = shape_of(x)[1]
        group = c if self.chance(3) else 1
        w = self.weights((c, self.number(1, 12) if group == 1 else 1, *(self.number(2, 3) for _ in "hw")), 1, S8)
        outputs = w.shape[1] * group
        bias = self.rng.integers(-2000, 2001, (1, outputs, 1, 1)).astype(np.int32)
        geometry = {"strides": [self.number(1, 2), self.number(1, 3)], "pads": [0, self.number(0, 1), 0, 0]}
        acc = self.emit("ConvTranspose", x, w, bias, group=group, x_zero_point=self.zero_point(S8), **geometry)
        self.requantize(acc, (1, outputs, 1, 1), 73 * 60 * math.sqrt(c // group * 3))

    def rows(self) -> None:
        """A matrix product over rows of features: channels of pixels, or columns of an image as they lie."""
        choices = [v for v in self.pool if len(shape_of(v)) >= 2 and dtype_of(v) in (S8, S16)]
        if not choices:
            return
        x = self.pick(choices)
        shape = shape_of(x)
        if len(shape) == 4 and self.chance(2):
            x = self.emit("Transpose", self.emit("Reshape", x, np.array([*shape[:2], -1])), perm=[0, 2, 1])
        elif self.chance(3):
            x = self.emit("Flatten", x, axis=1)
        k, dtype = shape_of(x)[-1], dtype_of(x)
        outputs = self.number(1, 24)
        w = self.weights((k, outputs), k, dtype)
        bias = self.rng.integers(-2000, 2001, outputs).astype(np.int32)
        if dtype == S16:
            acc = self.emit("GemmS16", x, w, bias)
        else:
            acc = self.emit("Gemm", x, w, bias, x_zero_point=self.zero_point(S8))
        self.requantize(acc, (outputs,), max(1.0, float(w.std())) * SPREAD[dtype] * math.sqrt(k))

    def average(self) -> None:
        """SumPool with a requantize: windows, or the whole image."""
        choices = self.images(S8, U8, S16)
        if not choices:
            return
        x = self.pick(choices)
        size = shape_of(x)[2:]
        whole = self.chance(2)
        kernel = list(size) if whole else [min(n, self.number(1, 3)) for n in size]
        pads = [0] * 4 if whole else [self.number(0, k - 1) for k in (*kernel, *kernel)]
        zero_point = self.zero_point(dtype_of(x))
        acc = self.emit("SumPool", x, kernel_shape=kernel, strides=[1, 1], pads=pads, x_zero_point=zero_point)
        self.requantize(acc, (1, shape_of(acc)[1], 1, 1), SPREAD[dtype_of(x)] * math.prod(kernel))

    def gate(self) -> None:
        """A product with a value for each channel or with an equal."""
        x = self.pick(self.pool)
        shape = shape_of(x)
        fitting = [v for v in self.pool if len(shape_of(v)) == len(shape) and broadcasts(shape_of(v), shape)]
        other = self.pick(fitting)
        zeros = {"a_zero_point": self.zero_point(dtype_of(x)), "b_zero_point": self.zero_point(dtype_of(other))}
        acc = self.emit("Mul", x, other, **zeros)
        channels = (1, shape_of(acc)[1], 1, 1) if len(shape) == 4 else (shape_of(acc)[-1],)
        self.requantize(acc, channels, SPREAD[dtype_of(x)] * SPREAD[dtype_of(other)], narrow=False)

    # --- layers that round elementwise --------------------------------------------------------------------------------

    def table_of(self, x: ir.Value) -> ir.Value:
        """A table for the tensor, or one for each channel."""
        if dtype_of(x) not in (S8, U8):
            return x
        to = (S8, S8, U8, S16)[self.number(0, 3)]
        shape = shape_of(x)
        rows = [shape[1]] if len(shape) > 1 and self.chance(4) else []
        info = np.iinfo(to)
        table = self.rng.integers(info.min, info.max, (*rows, 256), endpoint=True).astype(to)
        return self.emit("Lut", x, table, axis=1 if rows else 0)

    def table(self) -> None:
        """A table behind any value."""
        self.keep(self.table_of(self.pick(self.pool)))

    def residual_of(self, value: ir.Value) -> ir.Value:
        """An Add of the value and an equal, either way round."""
        equal = [v for v in self.pool if v is not value and shape_of(v) == shape_of(value)]
        if not equal:
            return self.keep(value)
        return self.add_of(value, self.pick(equal))

    def add_of(self, left: ir.Value, right: ir.Value, to: np.dtype | None = None) -> ir.Value:
        """Add (of bytes to bytes always), Max or Min."""
        op = "Add" if to else ("Add", "Add", "Add", "Max", "Min")[self.number(0, 4)]
        pair = [left, right] if self.chance(2) else [right, left]
        to = to or (S8, S8, S8, S8, S8, U8, S16)[self.number(0, 6)]
        shift = self.number(10, 14)
        attributes: dict[str, object] = {"shift": shift}
        for side, value in zip("ab", pair, strict=True):
            wide = dtype_of(value) == S16
            most = 2**14 if to == S16 or not wide else 2**8
            attributes[f"{side}_multiplier"] = self.number(-most, most)
            attributes[f"{side}_zero_point"] = self.zero_point(dtype_of(value))
        return self.keep(self.emit(op, *pair, **attributes, **self.clamp(to)))

    def add(self) -> None:
        """Two values that broadcast."""
        x = self.pick(self.pool)
        shape = shape_of(x)
        fitting = [v for v in self.pool if v is not x and broadcasts(shape_of(v), shape)]
        if fitting:
            self.add_of(x, self.pick(fitting))

    def rescale(self) -> None:
        """Another width."""
        x = self.pick(self.pool)
        to = (S8, U8, S16)[self.number(0, 2)]
        fraction, exponent = np.frexp(SPREAD[to] / SPREAD[dtype_of(x)] * self.rng.uniform(0.5, 1.5))
        scale = {"multiplier": int(fraction * 2**15), "shift": int(15 - exponent)}
        self.keep(self.emit("Rescale", x, x_zero_point=self.zero_point(dtype_of(x)), **scale, **self.clamp(to)))

    # --- layers that move ---------------------------------------------------------------------------------------------

    def concat(self) -> None:
        """Several values side by side, along any axis where they fit."""
        x = self.pick(self.pool)
        shape = shape_of(x)
        axis = self.number(0, len(shape) - 1) if self.chance(3) or len(shape) < 2 else 1
        cut = shape[:axis] + shape[axis + 1 :]
        fitting = [
            v for v in self.pool
            if dtype_of(v) == dtype_of(x) and len(shape_of(v)) == len(shape)
            and shape_of(v)[:axis] + shape_of(v)[axis + 1 :] == cut
        ]  # fmt: skip
        self.keep(self.emit("Concat", *[self.pick(fitting) for _ in range(self.number(2, 3))], axis=axis))

    def slice(self) -> None:
        """Parts of one or two axes, with steps, sometimes backwards."""
        x = self.pick(self.pool)
        shape = shape_of(x)
        axes = sorted({self.number(0, len(shape) - 1) for _ in range(2)} - {0}) or [len(shape) - 1]
        starts, ends, steps = [], [], []
        for axis in axes:
            n = shape[axis]
            start, step = self.number(0, n - 1), self.number(1, 3)
            backwards = self.chance(4)
            starts.append(start)
            ends.append(-(2**31) if backwards else n)
            steps.append(-step if backwards else step)
        self.keep(self.emit("Slice", x, *(np.array(v) for v in (starts, ends, axes, steps))))

    def split(self) -> None:
        """Two parts of an axis."""
        x = self.pick(self.pool)
        axes = [axis for axis, n in enumerate(shape_of(x)) if n > 1]
        if axes:
            axis = axes[-1] if 1 not in axes else 1
            n = shape_of(x)[axis]
            first = self.number(1, n - 1)
            for part in emit_all(self.builder, "Split", [x, np.array([first, n - first])], 2, axis=axis):
                self.keep(part)

    def transpose(self) -> None:
        """Axes in another order."""
        x = self.pick(self.pool)
        self.keep(self.emit("Transpose", x, perm=self.rng.permutation(len(shape_of(x))).tolist()))

    def pad(self) -> None:
        """Constant, mirrored or repeated borders."""
        choices = self.images(S8, U8)
        if choices:
            x = self.pick(choices)
            amounts = np.array([0, 0, self.number(0, 2), self.number(0, 2), 0, self.number(0, 1), 1, 0])
            mode = ("constant", "edge", "reflect")[self.number(0, 2)]
            if mode == "reflect" and min(shape_of(x)) < 3:
                mode = "edge"
            value = np.array(self.number(0, 100), dtype_of(x)) if mode == "constant" else None
            self.keep(self.emit("Pad", x, amounts, value, mode=mode))

    def resize(self) -> None:
        """Twice as large, nearest."""
        choices = self.images(S8, U8)
        if choices:
            modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            scales = np.array([1, 1, 2, self.number(1, 2)], np.float32)
            self.keep(self.emit("Resize", self.pick(choices), None, scales, **modes))

    def pool_max(self) -> None:
        """The largest of windows."""
        choices = [v for v in self.images(S8, U8) if min(shape_of(v)[2:]) > 2]
        if choices:
            k = self.number(2, 5)
            pads = [k // 2] * 4
            stride = self.number(1, 2)
            self.keep(
                self.emit("MaxPool", self.pick(choices), kernel_shape=[k, k], strides=[stride, stride], pads=pads)
            )


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Static shape."""
    assert value.shape is not None
    return tuple(int(n) for n in value.shape)  # type: ignore[arg-type]


def dtype_of(value: ir.Value) -> np.dtype:
    """As NumPy has it."""
    assert value.dtype is not None
    return np.dtype(value.dtype.numpy())


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether values of this shape broadcast to the other without growing it."""
    lead = len(to) - len(shape)
    return lead >= 0 and all(n in (1, m) for n, m in zip(shape, to[lead:], strict=True))


LAYERS: list[Callable[[RandomLayers], object]] = [
    *([RandomLayers.conv] * 4), *([RandomLayers.block] * 3), RandomLayers.transposed, *([RandomLayers.rows] * 2),
    RandomLayers.average, RandomLayers.gate, RandomLayers.table, *([RandomLayers.add] * 2), RandomLayers.rescale,
    *([RandomLayers.concat] * 3), *([RandomLayers.slice] * 2), RandomLayers.split, RandomLayers.transpose,
    RandomLayers.pad, RandomLayers.resize, RandomLayers.pool_max,
]  # fmt: skip
