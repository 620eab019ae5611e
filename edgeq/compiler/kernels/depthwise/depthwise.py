"""Depthwise convolution (Conv / ConvS16 with group = C): every channel with its own kernel, epilogue fused.

    acc[n, oh, ow, c·M + m] = bias + Σ_{kh,kw} w[c·M + m, 0, kh, kw] · x[n, oh·sh + kh·dh, ow·sw + kw·dw, c]

over an image that already holds its padding; the zero point is folded into the bias (−zx · Σ w).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.base import DTYPE_BYTES, SLACK_BYTES, SYMMETRIC_LOWEST, Image, Operand
from edgeq.compiler.kernels.depthwise.plan import Geometry, Plan
from edgeq.compiler.kernels.depthwise.products import SUMS, Sums, product_of
from edgeq.compiler.kernels.epilogue.epilogue import (
    ChannelLayout,
    IntArray,
    isa_of,
    pack_parameters,
    parameter_words,
)
from edgeq.compiler.kernels.epilogue.words import words_for
from edgeq.compiler.kernels.windowed import WindowedSpec, accumulator_bounds
from edgeq.errors import CompileError

if TYPE_CHECKING:
    from edgeq.compiler.target import Target


@dataclass(frozen=True)
class DepthwiseSpec(WindowedSpec):
    """A depthwise convolution.

    The output's channels are a multiple M (the depth multiplier) of the input's.

    Attributes, behind those of WindowedSpec:
        x_zero_point: in stored units.
        lowest_weight: least weight that may come: -127, or -128, which some products can't multiply exactly.
        sums: which sums of a channel's weights fit 16 bits. `fitted` sets these two from a layer's weights.
        tile: rows and columns of outputs that are computed together; None: the cheapest by estimate.

    Raises:
        CompileError: channels or sizes of the images contradict each other.
    """

    family: ClassVar[str] = "depthwise"
    x_zero_point: int = 0
    lowest_weight: int = SYMMETRIC_LOWEST
    sums: Sums = "any"
    tile: tuple[int, int] | None = None

    def fitted(self, target: Target, constants: Mapping[str, np.ndarray]) -> DepthwiseSpec:
        """The same layer for just these constants, those of `pack`."""
        w = constants["w"]
        lowest = min(int(w.min(initial=0)), SYMMETRIC_LOWEST)
        product = product_of(target, self.x_dtype, possible_sums(w))
        spec = replace(self, lowest_weight=lowest, sums=product.sums)
        if product.sums != "taps" or not isa_of(target).finishes_words or "shift" not in constants:
            return spec
        start, low, high = self._start(constants)
        words = words_for(self.epilogue, start, constants["multiplier"], constants["shift"], low, high)
        return replace(spec, epilogue=replace(self.epilogue, words=words))

    def with_sums(self, sums: Sums) -> DepthwiseSpec:
        """The same layer by a product for these sums; only those of all taps are finished in 16 bits."""
        words = self.epilogue.words if sums == "taps" else ()
        return replace(self, sums=sums, epilogue=replace(self.epilogue, words=words))

    def _start(self, constants: Mapping[str, np.ndarray]) -> tuple[IntArray, IntArray, IntArray]:
        """By channel: what an accumulator starts with, and the interval that it ends in."""
        taps = constants["w"][:, 0].astype(np.int64)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        low, high = accumulator_bounds(taps.reshape(len(taps), -1), bias, self.x_dtype, self.x_zero_point)
        return bias - self.x_zero_point * taps.sum(axis=(1, 2)), low, high

    def __post_init__(self) -> None:
        rows, columns = self.needed
        if self.y.c % self.x.c or self.x.n != self.y.n or rows > self.x.h or columns > self.x.w:
            raise CompileError(
                "a depthwise convolution's images contradict each other",
                where=f"input {self.x}, output {self.y}",
                why=f"the output needs {rows}×{columns} padded pixels of the same batch, a multiple of the channels",
            )

    @property
    def multiplier_per_channel(self) -> int:
        """Output channels of each input channel (M)."""
        return self.y.c // self.x.c

    @property
    def channels_per_output(self) -> int:
        return 1

    def operands(self) -> list[Operand]:
        result = [Operand("x", "input"), Operand("weights", "weight"), Operand("params", "weight")]
        if self.epilogue.lut:
            result.append(Operand("table", "weight"))
        if self.epilogue.residual is not None:
            result.append(Operand("residual", "input"))
        return [*result, Operand("y", "output")]

    def plan(self, target: Target) -> Plan:
        """How the target computes it."""
        return _plan(self, target)

    def mix(self, target: Target) -> dict[str, Any] | None:
        from edgeq.compiler.kernels.peak.depthwise_peak import depthwise_entry

        return depthwise_entry(self)

    def tiles(self, target: Target) -> list[tuple[float, tuple[int, int]]]:
        """(estimated instructions per output row and register, tile) of all, the cheapest first."""
        product = product_of(target, self.x_dtype, self.sums).taking(self.lowest_weight)
        return [(cost, plan.tile) for cost, plan in Plan.ranked(self, product)]

    def tasks(self) -> int:
        geometry = Geometry.of(self, widest=1)
        return geometry.images * geometry.tasks_per_image

    def describe(self, target: Target) -> str:
        plan = self.plan(target)
        tile = f"{plan.tile_rows}x{plan.tile_columns}x{plan.chunks[0].width}"
        return f"depthwise_{self.x_dtype}{plan.product.weight_dtype}_{self.kh}x{self.kw}_{tile}"

    def stored_bits(self, target: Target) -> int:
        return 8 * DTYPE_BYTES[self.plan(target).product.weight_dtype]

    def layout(self, plan: Plan) -> ChannelLayout:
        """How the parameters lie."""
        return ChannelLayout(len(plan.lane_channels), plan.vectors, natural=bool(self.epilogue.words))

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Packed weights.

        Args:
            constants: w int8 [N, 1, kh, kw], bias int32 [N]; unless the form is `none` multiplier and shift, int32 [N]
                or one element; with a table `table`, 256 elements of the epilogue's dtype.

        Raises:
            CompileError: a constant has the wrong shape or range, or an accumulator could pass 32 bits.
        """
        plan = self.plan(target)
        w = np.asarray(constants["w"])
        shape = (self.y.c, 1, self.kh, self.kw)
        if w.shape != shape or w.dtype != np.int8:
            raise CompileError("depthwise weights don't fit", why=f"{w.dtype} {w.shape} instead of int8 {shape}")
        if w.min() < plan.product.lowest_weight:
            raise CompileError(
                "a weight is outside what this target multiplies exactly",
                why=f"{w.min()} is below {plan.product.lowest_weight}",
                hint="symmetric 8-bit weights lie in -127 … 127",
            )
        if SUMS.index(plan.product.sums) > SUMS.index(possible_sums(w)):
            raise CompileError(
                "the weights are too large for sums in 16 bits",
                why=f"the kernel was planned for {plan.product.sums} that fit",
                hint="DepthwiseSpec.fitted plans for a layer's weights",
            )
        taps = w[:, 0].astype(np.int64)
        start, low, high = self._start(constants)
        channels = np.maximum(plan.lane_channels, 0)
        lanes = {k: np.asarray(constants[k]).reshape(-1) for k in ("multiplier", "shift") if k in constants}
        lanes = {k: v[channels] if v.size > 1 else v for k, v in lanes.items()}
        result = {
            "weights": self._pack_weights(plan, target, taps),
            "params": pack_parameters(
                self.epilogue,
                target,
                self.layout(plan),
                start[channels],
                lanes.get("multiplier"),
                lanes.get("shift"),
                acc_low=low[channels],
                acc_high=high[channels],
            ),
        }
        if self.epilogue.lut:
            result["table"] = np.asarray(constants["table"]).reshape(-1)
        return result

    def _pack_weights(self, plan: Plan, target: Target, taps: np.ndarray) -> np.ndarray:
        """Blocks of chunks; in each, the plan's entries one after the other."""
        columns = taps.swapaxes(1, 2) if plan.geometry.swapped else taps
        group, kh = plan.product.group, plan.geometry.kh
        parts = []
        for channels, width in plan.block_channels:
            order = np.array(target.inner.ISA.order(width // plan.product.lanes)).reshape(-1, plan.product.lanes)
            chunk = np.where((channels >= 0)[:, None, None], columns[channels], 0)
            for entry in plan.entries:
                block = np.zeros((group, width), np.int64)
                for k in range(group):
                    row = entry.group * group + k - entry.row * plan.shift
                    if 0 <= row < kh:
                        block[k] = chunk[:, row, entry.column]
                parts.append(plan.product.pack_group(block, order))
        return np.concatenate(parts)

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand; images with the slack behind them."""
        plan, e = self.plan(target), self.epilogue
        known: dict[str, tuple[str, int]] = {
            "x": (self.x_dtype, _readable(self.x, self.x_dtype)),
            "weights": (plan.product.weight_dtype, weight_elements(self, plan)),
            "params": ("s32", parameter_words(e, target, self.layout(plan))),
            "table": (e.dtype, 256),
            "residual": (e.residual.dtype, _readable(e.residual.image, e.residual.dtype)) if e.residual else ("u8", 0),
            "y": (self.y_dtype, self.y.elements),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def build(self, target: Target) -> Any:
        """The PrimFunc `void f(int32 t0, int32 t1, x, weights, params, [table], [residual], y)`."""
        from edgeq.compiler.kernels.depthwise.emit import emit

        return emit(self, target)


@lru_cache(maxsize=4096)
def _plan(spec: DepthwiseSpec, target: Target) -> Plan:
    return Plan.of(spec, product_of(target, spec.x_dtype, spec.sums).taking(spec.lowest_weight))


def _readable(image: Image, dtype: str) -> int:
    """Elements of an image with the slack behind it."""
    return image.elements + SLACK_BYTES // DTYPE_BYTES[dtype]


def possible_sums(w: np.ndarray) -> Sums:
    """Which 16-bit sums of u8 · s8 products these weights, int8 [N, 1, kh, kw], keep exact."""
    taps = w[:, 0].astype(np.int16)
    column = taps.reshape(len(taps), -1, 1, 1)
    if narrow.safe_depth(column, 0, 255, (column.shape[1],)):
        return "taps"
    # A kernel may run along either axis, and its outputs' rows may share an arrangement one tap further down.
    neighbours = [(taps[:, :-1], taps[:, 1:]), (taps[:, :, :-1], taps[:, :, 1:])]
    for a, b in neighbours:
        pairs = np.stack([a.reshape(len(taps), -1), b.reshape(len(taps), -1)], -1)
        if not narrow.safe_depth(pairs[:, :, None, :], 0, 255, (1,)):
            return "any"
    return "pairs" if taps.size and np.abs(taps).max() <= 128 else "any"


def weight_elements(spec: DepthwiseSpec, plan: Plan) -> int:
    """Elements of the operand `weights`."""
    return sum(plan.block_elements(width) for _, width in plan.block_channels)
