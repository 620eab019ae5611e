"""Dense convolution and matrix product: s8 weights on u8, s8 or s16 activations, as an implicit matrix product.

Covers k×k, pointwise, grouped and fully connected layers (an image of height 1 whose pixels are the rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.base import SYMMETRIC_LOWEST, Operand
from edgeq.compiler.kernels.dense.plan import Choice, Plan, Window, count_tasks, make_plan, rank_choices
from edgeq.compiler.kernels.dense.weights import Storage, check_weights, fit, pack_weights, products_for
from edgeq.compiler.kernels.epilogue.epilogue import (
    ChannelLayout,
    IntArray,
    dense_operands,
    isa_of,
    pack_parameters,
    parameter_words,
)
from edgeq.compiler.kernels.epilogue.words import words_for
from edgeq.compiler.kernels.peak.peak import mix_entry
from edgeq.compiler.kernels.windowed import WindowedSpec, accumulator_bounds
from edgeq.errors import CompileError

if TYPE_CHECKING:
    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.target import Target

_STORED_BIAS = 128  # what inverting the top bit of a byte adds or takes


@dataclass(frozen=True)
class ConvSpec(WindowedSpec):
    """y[n, oy, ox, m] = epilogue(bias[m] + Σ w[m, c, i, j] · (x[n, oy·sh + i·dh, ox·sw + j·dw, c] − x_zero_point)).

    Attributes, behind those of WindowedSpec:
        groups: divides x.c and y.c.
        x_zero_point: in stored units.
        lowest_weight: least weight that may come: -127, or -128, which some products can't multiply exactly.
        depth: groups of K whose products the weights keep inside 16 bits (isa/narrow.py); 0: not known, or not one.
        centred: these are sums of centred activations (`Product.centred_form`).
        steps: how weights are arranged (isa/x86/pairing.py); (): they aren't.
        bits: of a stored weight: 8, 4, 2 or 1. `fitted` sets these five from a layer's weights.
        choice: product and register tile, one of `choices`; None: the cheapest by estimate.
    """

    family: ClassVar[str] = "conv"
    groups: int = 1
    x_zero_point: int = 0
    lowest_weight: int = SYMMETRIC_LOWEST
    depth: int = 0
    centred: bool = False
    steps: tuple[int, ...] = ()
    bits: int = 8
    choice: Choice | None = None

    def fitted(self, target: Target, w: np.ndarray, storage: Storage = "auto") -> ConvSpec:
        """The same layer for just these weights, int8 [N, C/groups, kh, kw]: see conv_weights.fit."""
        return fit(self, target, w, storage)

    def products(self, target: Target) -> list[Product]:
        """What can multiply this layer, exactly."""
        return products_for(self, target)

    def in_words(self, target: Target, constants: Mapping[str, np.ndarray]) -> ConvSpec | None:
        """The same layer with sums and epilogue of 16 bits, where that is exact for these constants of `pack`."""
        product = getattr(target.inner, "WHOLE", None)
        if product is None or product.x_dtype != self.x_dtype or self.groups > 1 or self.bits < 8:
            return None
        w = np.asarray(constants["w"])
        if "shift" not in constants or product.misfit(w.reshape(len(w), 1, 1, -1)) is not None:
            return None
        taps, bias = w.reshape(len(w), -1).astype(np.int64), np.asarray(constants["bias"], np.int64).reshape(-1)
        low, high = accumulator_bounds(taps, bias, self.x_dtype, self.x_zero_point)
        start = bias - self.x_zero_point * taps.sum(1)
        words = words_for(self.epilogue, start, constants["multiplier"], constants["shift"], low, high)
        return replace(self, epilogue=replace(self.epilogue, words=words), depth=0, steps=()) if words else None

    @property
    def window(self) -> Window:
        return Window(self.kh, self.kw, self.stride_h, self.stride_w, self.dilation_h, self.dilation_w)

    @property
    def channels_per_output(self) -> int:
        return self.x.c // self.groups

    def plan(self, target: Target) -> Plan:
        """How the work is cut up."""
        self.check()
        return _plan(self, target)

    def cost(self, target: Target) -> float:
        """Estimated time of one run, in the unit of Product.step_cost."""
        return self.plan(target).cost

    def mix(self, target: Target) -> dict[str, Any] | None:
        product = self.plan(target).product
        if self.epilogue.words:  # as if a window of all of K were widened once
            product = next(p for p in target.inner.PRODUCTS[self.x_dtype] if p.bounded).with_depth(narrow.LONGEST)
        return mix_entry(product, target, self.macs)

    def choices(self, target: Target) -> list[tuple[float, Choice]]:
        """(estimated time, product and tile) of all that compute this layer, the cheapest first."""
        self.check()
        residual = self.epilogue.residual.image if self.epilogue.residual else None
        return rank_choices(self.x, self.y, residual, self.window, self.groups, self.products(target))

    def layout(self, target: Target) -> ChannelLayout:
        """How the channels of one group lie in registers."""
        plan = self.plan(target)
        return ChannelLayout(
            plan.out_channels, plan.tiling.vectors, natural=self.epilogue.form == "none" or bool(self.epilogue.words)
        )

    def check(self) -> None:
        """Raises CompileError where the numbers contradict each other."""
        x, y = self.x, self.y
        height, width = self.needed
        problems = [
            (x.c % self.groups or y.c % self.groups, f"{self.groups} groups over {x.c} -> {y.c} channels"),
            (x.n != y.n, f"batch {x.n} -> {y.n}"),
            (height > x.h, f"height {x.h} is too small for {y.h}"),
            (width > x.w, f"width {x.w} is too small for {y.w}"),
            (self.x_dtype not in ("u8", "s8", "s16"), f"activations of {self.x_dtype}"),
        ]
        why = [text for wrong, text in problems if wrong]
        if why:
            raise CompileError("a convolution contradicts itself", why=", ".join(why))

    def operands(self) -> list[Operand]:
        return dense_operands(self.epilogue)

    def tasks(self) -> int:
        return count_tasks(self.x, self.y, self.window, self.groups)

    def describe(self, target: Target) -> str:
        plan = self.plan(target)
        tiling, product = plan.tiling, plan.product
        columns = tiling.vectors * isa_of(target).lanes
        depth = "" if not product.bounded else f"d{product.depth}" if product.depth else "arranged"
        depth = "whole" if self.epilogue.words else depth
        return f"conv{self.kh}x{self.kw}_{self.x_dtype}s{product.bits}{depth}_{tiling.tile_h * tiling.tile_w}x{columns}"

    def scratch_bytes(self, target: Target) -> int:
        return 2 * (self.staged_words(target) + self.table_words(target))

    def staged_words(self, target: Target) -> int:
        """s16 words of scratch for widened activations."""
        staged = self.plan(target).staged_elements
        return -(-staged // 32) * 32 + 32 if staged else 0

    def table_words(self, target: Target) -> int:
        """s16 words of scratch, behind those, for a tile's bytes on their way through the table."""
        if not self.epilogue.lut or self.maps_blocks(target):
            return 0
        tiling = self.plan(target).tiling
        tile_bytes = tiling.tile_h * tiling.tile_w * tiling.vectors * isa_of(target).lanes
        return -(-tile_bytes // target.vector_bytes) * target.vector_bytes // 2

    def maps_blocks(self, target: Target) -> bool:
        """Whether the table is applied to stored blocks of channels, not to a tile's bytes on their way."""
        return _maps_blocks(self, self.plan(target), target)

    def stored_bits(self, target: Target) -> int:
        return self.bits

    def weight_bytes(self, target: Target) -> int:
        """Size of the operand `w`."""
        plan = self.plan(target)
        return plan.groups * plan.block_bytes(plan.registers)

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands.

        Args:
            constants: w int8 [N, C/groups, kh, kw]; bias int32 [N]; unless the form is `none` multiplier and shift
                int32 [N] or one element; with a table `table`, 256 elements of the epilogue's dtype.

        Raises:
            CompileError: a constant has the wrong shape or range, or an accumulator could overflow.
        """
        plan, isa = self.plan(target), isa_of(target)
        w = np.asarray(constants["w"])
        shape = (self.y.c, self.x.c // self.groups, self.kh, self.kw)
        if w.shape != shape or w.dtype != np.int8:
            raise CompileError("convolution weights don't fit", why=f"{w.dtype} {w.shape} instead of int8 {shape}")
        check_weights(w, plan)
        layout = self.layout(target)
        packed = [
            pack_weights(part, plan, layout, isa) for part in w.reshape(self.groups, plan.out_channels, *shape[1:])
        ]
        result = {"w": np.concatenate(packed), "params": self._pack_params(target, constants, w.astype(np.int64))}
        if self.epilogue.lut:
            result["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return result

    def _pack_params(self, target: Target, constants: dict[str, np.ndarray], w: IntArray) -> IntArray:
        product, layout = self.plan(target).product, self.layout(target)
        taps = w.reshape(self.y.c, -1)
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        low, high = accumulator_bounds(taps, bias, self.x_dtype, self.x_zero_point)
        offset = self.x_zero_point
        if product.flips:
            offset += _STORED_BIAS if self.x_dtype == "s8" else -_STORED_BIAS
        offset -= product.x_offset
        start = bias - offset * taps.sum(1)
        optional = [constants.get(name) for name in ("multiplier", "shift")]
        spread = [None if v is None else np.broadcast_to(np.asarray(v).reshape(-1), (self.y.c,)) for v in optional]
        parts = []
        for group in range(self.groups):
            own = slice(group * layout.channels, (group + 1) * layout.channels)
            m, s = [None if v is None else v[own] for v in spread]
            parts.append(
                pack_parameters(self.epilogue, target, layout, start[own], m, s, acc_low=low[own], acc_high=high[own])
            )
        return np.concatenate(parts)

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand."""
        e, layout = self.epilogue, self.layout(target)
        known = {
            "x": (self.x_dtype, self.x.elements),
            "w": ("s8", self.weight_bytes(target)),
            "params": ("s32", self.groups * parameter_words(e, target, layout)),
            "table": (e.dtype, 256),
            "residual": (e.residual.dtype, e.residual.image.elements) if e.residual else ("u8", 0),
            "y": (self.y_dtype, self.y.elements),
            "scratch": ("s16", max(1, self.scratch_bytes(target) // 2)),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.dense.emit import emit_conv

        return emit_conv(self, target)


@lru_cache(maxsize=4096)
def _plan(spec: ConvSpec, target: Target) -> Plan:
    residual = spec.epilogue.residual.image if spec.epilogue.residual else None
    given = (spec.x, spec.y, residual, spec.window, spec.groups, spec.products(target), spec.choice)
    plan = make_plan(*given)
    if spec.epilogue.lut and residual is None and not _maps_blocks(spec, plan, target):
        return make_plan(*given, keeps_channels=True)
    return plan


def _maps_blocks(spec: ConvSpec, plan: Plan, target: Target) -> bool:
    """Where tasks share out a block's channels, each must have whole registers of bytes, and all the same number."""
    if not spec.epilogue.lut or spec.epilogue.residual is not None or plan.groups > 1:
        return False
    splits, step = plan.tiling.column_splits, plan.tiling.vectors * isa_of(target).lanes
    blocks = plan.out_channels // step
    share = blocks // splits * step
    return splits == 1 or (share * splits == plan.out_channels and share % target.vector_bytes == 0)
