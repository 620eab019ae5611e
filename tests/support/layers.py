"""Random convolution layers in the integer graph's units, run as a target stores them: the same bits everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from edgeq.compiler.kernels.base import SYMMETRIC_LOWEST, DType, Epilogue, Image, KernelSpec, Residual
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE, reference
from edgeq.compiler.target import ACTIVATION_BIAS, Target
from tests.support.kernel_runner import run_kernel
from tests.support.views import noise, strided

IntArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layer:
    """A convolution over an image that holds its padding, with its epilogue.

    Attributes:
        size: height and width of the output.
        channels, outputs, groups: depthwise where groups = channels > 1 (or where `depthwise` says so).
        form, dtype: of the epilogue, in graph units.
        post_shift: of `narrow`.
        left: of `narrow`: how far shifts may go below 0.
        relu: clamp below at the zero point.
        gap: foreign channels beside every pixel of input and output, and foreign pixels at the end of rows.
        extreme: weights and activations only at the ends of their ranges.
        lowest_weight: -127, or -128, which some products must handle apart; for s8 activations.
        bits: of a weight; 8 of them are symmetric, fewer use every value of the width.
    """

    size: tuple[int, int]
    channels: int
    outputs: int
    groups: int = 1
    kernel: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    batch: int = 1
    x_dtype: DType = "s8"
    form: str = "narrow"
    dtype: DType = "s8"
    post_shift: int = 6
    relu: bool = False
    lut: bool = False
    residual: bool = False
    gap: int = 0
    extreme: bool = False
    depthwise: bool = False
    lowest_weight: int = SYMMETRIC_LOWEST
    bits: int = 8
    seed: int = 0
    left: int = 0

    # --- data in graph units ------------------------------------------------------------------------------------------

    @property
    def is_depthwise(self) -> bool:
        """Whether DepthwiseSpec computes it."""
        return self.depthwise or (self.groups == self.channels and self.channels > 1)

    @cached_property
    def x_zero_point(self) -> int:
        return 0 if self.x_dtype == "s16" else int(np.random.default_rng(self.seed).integers(-128, 128))

    @cached_property
    def constants(self) -> dict[str, IntArray]:
        """w, bias, multiplier, shift, table."""
        rng = np.random.default_rng(self.seed + 1)
        shape = (self.outputs, self.channels // self.groups, *self.kernel)
        taps = int(np.prod(shape[1:]))
        # The largest sum, with the rounding term of `narrow`, must fit 32 bits, or packing rightly refuses the layer.
        reach = 255 if self.x_dtype == "s8" else 32768
        most = min(127, ((2**31 - 2**29) >> self.left) // (reach * taps) - 1)
        least = self.lowest_weight if most == -SYMMETRIC_LOWEST else -most
        if self.bits < 8:
            most, least = min(most, 2 ** (self.bits - 1) - 1), max(least, -(2 ** (self.bits - 1)))
        w = rng.choice(np.array([least, most]), shape) if self.extreme else rng.integers(least, most + 1, shape)
        bias = rng.integers(-20000, 20000, self.outputs)
        spread = np.sqrt(taps) * 73 * (74 if self.x_dtype == "s8" else 19000)
        bits = 8 + (3 if self.dtype == "s16" else 0)  # what is left of the accumulator's spread
        if self.form == "narrow":
            multiplier = rng.integers(2**9, 2**15, self.outputs)
            base = int(np.log2(spread)) - bits - self.post_shift + 2
            shift = np.clip(base + rng.integers(0, 2, self.outputs), 0, 30 - self.left)
            if self.left:
                shift = np.where(rng.integers(0, 2, self.outputs), shift, -rng.integers(0, self.left + 1, self.outputs))
                shift[0] = -self.left
        else:
            multiplier = rng.integers(2**30, 2**31, self.outputs)
            shift = np.clip(31 + int(np.log2(spread)) - bits + 2 + rng.integers(0, 2, self.outputs), 2, 62)
        table = rng.integers(-128, 128, 256).astype(np.int8)
        numbers = {"w": w.astype(np.int8), "bias": bias, "multiplier": multiplier, "shift": shift}
        return {k: v if k == "w" else v.astype(np.int32) for k, v in numbers.items()} | {"table": table}

    @cached_property
    def x(self) -> IntArray:
        """The input with its padding, NHWC."""
        spans = [(self.size[i] - 1) * self.strides[i] + (self.kernel[i] - 1) * self.dilations[i] + 1 for i in (0, 1)]
        rng = np.random.default_rng(self.seed + 2)
        shape = (self.batch, *spans, self.channels)
        values = noise(rng, int(np.prod(shape)), self.x_dtype).reshape(shape)
        if self.extreme:
            info = np.iinfo(values.dtype)
            values = np.where(values < 0, info.min, info.max).astype(values.dtype)
        return values

    @cached_property
    def other(self) -> IntArray:
        """The second input of the residual add."""
        shape = (self.batch, *self.size, self.outputs)
        return noise(np.random.default_rng(self.seed + 3), int(np.prod(shape)), self.dtype).reshape(shape)

    def epilogue(self, bias: int, image: Image) -> Epilogue:
        """In stored units: `bias` is 128 where s8 is kept as u8."""
        if self.form == "none":
            return Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)
        shifted = bias if self.dtype == "s8" else 0
        info = np.iinfo(NUMPY_DTYPE[self.dtype])
        zero = 5 if self.dtype == "s8" else 0
        dtype: DType = "u8" if shifted else self.dtype
        low, high = int(info.min), int(info.max)
        residual = None
        if self.residual:
            zeros = (zero + shifted, -7 + shifted)
            residual = Residual(
                image, dtype, *zeros, a_multiplier=16384, b_multiplier=11111, shift=15, zero_point=3 + shifted,
                low=low + shifted, high=high + shifted,
            )  # fmt: skip
        return Epilogue(
            self.form, dtype, zero + shifted, (zero if self.relu else low) + shifted, high + shifted,
            self.post_shift if self.form == "narrow" else 0, True, self.lut, residual,
            left=self.left if self.form == "narrow" else 0,
        )  # fmt: skip

    # --- the answer ---------------------------------------------------------------------------------------------------

    def accumulators(self) -> IntArray:
        """Σ w·(x − zero point) + bias, NHWC int64, plain loops over taps."""
        x = self.x.astype(np.int64) - self.x_zero_point
        w, (rows, columns) = self.constants["w"].astype(np.int64), self.size
        grouped = x.reshape(*x.shape[:3], self.groups, -1)
        weights = w.reshape(self.groups, self.outputs // self.groups, -1, *self.kernel)
        acc = np.zeros((self.batch, rows, columns, self.groups, weights.shape[1]), np.int64)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                top, left = i * self.dilations[0], j * self.dilations[1]
                bottom = top + (rows - 1) * self.strides[0] + 1
                right = left + (columns - 1) * self.strides[1] + 1
                taps = grouped[:, top : bottom : self.strides[0], left : right : self.strides[1]]
                acc += np.einsum("nhwgc,gmc->nhwgm", taps, weights[..., i, j])
        return acc.reshape(self.batch, rows, columns, self.outputs) + self.constants["bias"]

    @cached_property
    def expected(self) -> IntArray:
        """The output in graph units, NHWC."""
        c = self.constants
        epilogue = self.epilogue(0, Image.dense(*self.other.shape))
        table = c["table"] if self.lut else None
        return reference(epilogue, self.accumulators(), c["multiplier"], c["shift"], table, self.other)

    # --- a run --------------------------------------------------------------------------------------------------------

    def spec(self, target: Target) -> KernelSpec:
        """The kernel as the target needs it."""
        bias = ACTIVATION_BIAS if target.stores_u8 else 0
        byte = self.x_dtype == "s8"
        common: dict[str, Any] = {
            "x": self._image(self.x.shape),
            "y": self._image(self.other.shape),
            "x_dtype": "u8" if byte and bias else self.x_dtype,
            "kh": self.kernel[0],
            "kw": self.kernel[1],
            "stride_h": self.strides[0],
            "stride_w": self.strides[1],
            "dilation_h": self.dilations[0],
            "dilation_w": self.dilations[1],
            "epilogue": self.epilogue(bias, self._image(self.other.shape)),
            "x_zero_point": self.x_zero_point + (bias if byte else 0),
            "lowest_weight": self.lowest_weight,
        }
        if self.is_depthwise:
            return DepthwiseSpec(**common).fitted(target, self.constants)
        return ConvSpec(**common, groups=self.groups)

    def run(self, target: Target, splits: tuple[int, ...] = (), spec: KernelSpec | None = None) -> IntArray:
        """The output in graph units, of `spec` or of another kernel; fails if a byte outside the output's
        view changes."""
        spec = spec or self.spec(target)
        stored = "s32" if self.form == "none" else self.dtype
        y_image = self._image(self.other.shape)
        rng = np.random.default_rng(self.seed + 4)
        before = noise(rng, y_image.elements, stored)
        operands = {"x": self._stored(target, self.x, self.x_dtype), "y": self._as_stored(target, before, stored)}
        if self.residual:
            operands["residual"] = self._stored(target, self.other, self.dtype)
        constants = dict(self.constants)
        if target.stores_u8:
            constants["table"] = (constants["table"].astype(np.int16) + ACTIVATION_BIAS).astype(np.uint8)
        after = self._from_stored(target, run_kernel(spec, target, operands, constants, splits)["y"], stored)
        result = self._view(after, self.other.shape).copy()
        self._view(after, self.other.shape)[:] = self._view(before, self.other.shape)
        assert (after == before).all(), f"{spec.symbol(target)} wrote outside its output"
        return result

    def _image(self, shape: tuple[int, ...]) -> Image:
        n, h, w, c = shape
        pixel = c + self.gap
        row = w * pixel + 3 * self.gap
        return Image(n, h, w, c, h * row + 5 * self.gap, row, pixel)

    def _view(self, flat: IntArray, shape: tuple[int, ...]) -> IntArray:
        image = self._image(shape)
        return strided(flat, (*shape,), (image.image_stride, image.row_stride, image.pixel_stride, 1))

    def _stored(self, target: Target, values: IntArray, dtype: str) -> IntArray:
        """A flat buffer with the values in their view and noise around."""
        flat = noise(np.random.default_rng(self.seed + 5), self._image(values.shape).elements, dtype)
        self._view(flat, values.shape)[:] = values
        return self._as_stored(target, flat, dtype)

    @staticmethod
    def _as_stored(target: Target, values: IntArray, dtype: str) -> IntArray:
        shifted = dtype == "s8" and target.stores_u8
        return (values.astype(np.int16) + ACTIVATION_BIAS).astype(np.uint8) if shifted else values.copy()

    @staticmethod
    def _from_stored(target: Target, values: IntArray, dtype: str) -> IntArray:
        shifted = dtype == "s8" and target.stores_u8
        return (values.astype(np.int16) - ACTIVATION_BIAS).astype(np.int8) if shifted else values
