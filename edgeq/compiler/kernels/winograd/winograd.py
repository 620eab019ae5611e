"""3×3 convolution with stride 1 by Winograd's minimal filtering, exact to the bit for full 8-bit weights.

2.25 (m = 2) or 4 (m = 4) times fewer multiplications than the direct form; what makes it exact, and when it is, stands
in transforms.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from edgeq.compiler.kernels.base import DType, Epilogue, Image, KernelSpec, Operand
from edgeq.compiler.kernels.dense.plan import Window, count_tasks
from edgeq.compiler.kernels.epilogue.epilogue import (
    ChannelLayout,
    IntArray,
    dense_operands,
    isa_of,
    pack_parameters,
    parameter_words,
)
from edgeq.compiler.kernels.peak.peak import mix_entry
from edgeq.compiler.kernels.windowed import accumulator_bounds
from edgeq.compiler.kernels.winograd.plan import WinogradPlan, make_plan
from edgeq.compiler.kernels.winograd.transforms import TRANSFORMS
from edgeq.errors import CompileError
from edgeq.integer.arithmetic import narrow_rounding

if TYPE_CHECKING:
    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.target import Target

MIN_CHANNELS = 8  # a vector of channels is transformed at a time


@dataclass(frozen=True)
class WinogradSpec(KernelSpec):
    """y[n, oy, ox, k] = epilogue(bias[k] + Σ w[k, c, i, j] · (x[n, oy + i, ox + j, c] − x_zero_point)), i, j < 3.

    Attributes:
        x: the input with its padding in it, y.h + 2 pixels high or more.
        y: the output, any strides, at least m × m pixels.
        x_dtype: as stored: u8 or s8.
        m: outputs of a tile along one axis.
        stored: weights lie transformed in memory (4 or 8 times as many bytes); else they are transformed while running.
        x_zero_point: in stored units.
    """

    family: ClassVar[str] = "winograd"
    x: Image
    y: Image
    x_dtype: DType
    m: Literal[2, 4]
    epilogue: Epilogue
    stored: bool = False
    x_zero_point: int = 0

    @property
    def macs(self) -> int:
        """Multiplications of the direct form."""
        return self.y.n * self.y.h * self.y.w * self.y.c * self.x.c * 9

    def plan(self, target: Target) -> WinogradPlan:
        """How the work is cut up."""
        self.check()
        return _plan(self, target)

    def layout(self, target: Target) -> ChannelLayout:
        """How output channels lie in registers."""
        return ChannelLayout(self.y.c, self.plan(target).vectors, natural=self.epilogue.form == "none")

    def cost(self, target: Target) -> float:
        """Estimated cycles of one run."""
        return self.plan(target).cost()

    def mix(self, target: Target) -> dict[str, Any] | None:
        plan = self.plan(target)
        tiles = plan.images * plan.tiles_h * plan.tiles_w
        performed = tiles * plan.transform.positions * plan.channels * plan.out_channels
        return mix_entry(plan.product, target, performed, word_weights=True)

    def check(self) -> None:
        """Raises CompileError where the numbers contradict each other."""
        x, y = self.x, self.y
        problems = [
            (x.n != y.n, f"batch {x.n} -> {y.n}"),
            (y.h + 2 > x.h or y.w + 2 > x.w, f"an input of {x.h}×{x.w} is too small for {y.h}×{y.w}"),
            (y.h < self.m or y.w < self.m, f"{y.h}×{y.w} outputs hold no tile of {self.m}×{self.m}"),
            (x.c < MIN_CHANNELS, f"{x.c} input channels are fewer than {MIN_CHANNELS}"),
            (self.x_dtype not in ("u8", "s8"), f"activations of {self.x_dtype}"),
        ]
        why = [text for wrong, text in problems if wrong]
        if why:
            raise CompileError("a Winograd convolution contradicts itself", why=", ".join(why))

    def operands(self) -> list[Operand]:
        return dense_operands(self.epilogue)

    def tasks(self) -> int:
        return count_tasks(self.x, self.y, Window(3, 3, 1, 1, 1, 1), 1)

    def describe(self, target: Target) -> str:
        plan = self.plan(target)
        form = "" if self.stored else "w"
        return f"winograd{self.m}{form}_{self.x_dtype}s8_{plan.rows}x{plan.columns}"

    def scratch_bytes(self, target: Target) -> int:
        plan = self.plan(target)
        waiting = self.m**2 * plan.columns if self.epilogue.lut else 0
        return 2 * plan.bytes_start + -(-waiting // target.vector_bytes) * target.vector_bytes

    def stored_bits(self, target: Target) -> int:
        return 16 if self.stored else 8

    def weight_elements(self, target: Target) -> int:
        """Elements of the operand `w`: s16 where transforms are stored, else s8."""
        plan, isa = self.plan(target), isa_of(target)
        positions = plan.transform.positions if self.stored else 9
        return self.layout(target).positions(isa) * plan.groups * plan.product.group * positions

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Weight operands.

        Args:
            constants: w int8 [N, C, 3, 3]; bias int32 [N]; unless the form is `none` multiplier and shift int32 [N] or
                one element; with a table `table`, 256 elements of the epilogue's dtype.

        Raises:
            CompileError: a constant has the wrong shape or range, or this transform would not be exact.
        """
        w = np.asarray(constants["w"])
        shape = (self.y.c, self.x.c, 3, 3)
        if w.shape != shape or w.dtype != np.int8:
            raise CompileError("convolution weights don't fit", why=f"{w.dtype} {w.shape} instead of int8 {shape}")
        bias = np.asarray(constants["bias"], np.int64).reshape(-1)
        optional = [constants.get(name) for name in ("multiplier", "shift")]
        multiplier, shift = (
            None if v is None else np.broadcast_to(np.asarray(v).reshape(-1), (self.y.c,)) for v in optional
        )
        taps = w.astype(np.int64).reshape(self.y.c, -1)
        low, high = accumulator_bounds(taps, bias, self.x_dtype, self.x_zero_point)
        if not is_exact(self.m, self.epilogue, low, high, shift):
            raise CompileError(
                f"F({self.m}×{self.m}, 3×3) is not exact for these weights",
                why=f"accumulators reach {low.min()} … {high.max()}, its limit is {TRANSFORMS[self.m].exact_limit}",
                hint="take a smaller tile or the direct form",
            )
        layout = self.layout(target)
        params = pack_parameters(
            self.epilogue,
            target,
            layout,
            bias - self.x_zero_point * taps.sum(1),
            multiplier,
            shift,
            acc_low=low,
            acc_high=high,
        )
        own = layout.positions(isa_of(target))
        params[:own] = (params[:own].astype(np.int64) * TRANSFORMS[self.m].start).astype(np.uint32).view(np.int32)
        result = {"w": pack_weights(w, self.plan(target), layout, target), "params": params}
        if self.epilogue.lut:
            result["table"] = np.ascontiguousarray(constants["table"]).reshape(256)
        return result

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand."""
        e = self.epilogue
        known = {
            "x": (self.x_dtype, self.x.elements),
            "w": ("s16" if self.stored else "s8", self.weight_elements(target)),
            "params": ("s32", parameter_words(e, target, self.layout(target))),
            "table": (e.dtype, 256),
            "residual": (e.residual.dtype, e.residual.image.elements) if e.residual else ("u8", 0),
            "y": ("s32" if e.form == "none" else e.dtype, self.y.elements),
            "scratch": ("s16", self.scratch_bytes(target) // 2),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.winograd.emit import emit_winograd

        return emit_winograd(self, target)


@lru_cache(maxsize=4096)
def _plan(spec: WinogradSpec, target: Target) -> WinogradPlan:
    product = word_product(target)
    if product is None:
        raise CompileError("this target multiplies no s16", where=str(target.folder / "inner.py"))
    return make_plan(spec.m, spec.x, spec.y, product, spec.tasks(), spec.stored)


def word_product(target: Target) -> Product | None:
    """The target's product of s16 by s16 that keeps one register of sums for each register of columns."""
    found: list[Product] = [p for p in target.inner.PRODUCTS.get("s16", ()) if p.spread == 1]
    return found[0].with_word_weights() if found else None


def is_exact(m: int, epilogue: Epilogue, low: IntArray, high: IntArray, shift: IntArray | None) -> bool:
    """Whether F(m×m, 3×3) recovers every accumulator.

    Args:
        low, high: interval of each channel's accumulator, bias included.
        shift: of a `narrow` requantize, whose rounding term is added before the accumulator is recovered.
    """
    half: IntArray | int = 0
    if epilogue.form == "narrow" and shift is not None:
        half = narrow_rounding(np.asarray(shift).reshape(-1))
    limit = TRANSFORMS[m].exact_limit
    return bool(np.min(low) >= -limit and np.max(np.asarray(high, np.int64) + half) < limit)


def pack_weights(w: IntArray, plan: WinogradPlan, layout: ChannelLayout, target: Target) -> IntArray:
    """int8 [N, C, 3, 3] -> elements in the order the loops read them.

    Stored: s16 [column block][position][group][register, lane, element]. Else s8 [column block][group][tap][…].
    """
    isa, product = isa_of(target), plan.product
    values = plan.transform.transform_weights(w) if plan.stored else w.astype(np.int64).reshape(*w.shape[:2], 9)
    dtype = np.int16 if plan.stored else np.int8
    padded = np.zeros((layout.positions(isa), plan.groups * product.group, values.shape[2]), dtype)
    padded[: w.shape[0], : w.shape[1]] = values
    ordered = padded[layout.channel_of(isa)]
    blocks = []
    for start, vectors in layout.blocks(isa):
        block = ordered[start : start + vectors * isa.lanes]
        block = block.reshape(vectors, isa.lanes, plan.groups, product.group, values.shape[2]).transpose(4, 2, 0, 1, 3)
        packed = np.stack([product.pack(np.ascontiguousarray(part)).reshape(plan.groups, -1) for part in block])
        blocks.append((packed if plan.stored else packed.transpose(1, 0, 2)).reshape(-1))
    return np.concatenate(blocks)
