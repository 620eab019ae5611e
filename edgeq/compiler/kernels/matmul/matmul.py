"""MatMul of two computed tensors, batched, with its Requantize (or s32 out).

b is packed at run time, one block of columns at a time, into the layout that the dense kernels' inner products read;
a task is one block of columns of one matrix of the batch, so nothing is packed twice.

Two ways through the same loops:

- *words*: b − b_zero_point is packed as s16; products of s16 need no corrections (a staged byte loses its zero point
  too);
- *bytes*: products of bytes read a and b with the top bit as the instruction wants it, which moves their zero points to
  za' and zb'. Then Σ (a − za)(b − zb) = Σ a'b' − za'·Σ_k b' − zb'·Σ_k a' + K·za'·zb': a term by column, one by row.

Where a clamp keeps b's numbers small, products that sum in 16 bits for a while are exact: with 7 bits for one step of
any bytes. Where a is a softmax's output, any few of a row add up to little more than one (`probabilities.mass`): b of 8
bits without −128 then allows two steps, b of 7 bits whole rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, TVM_DTYPE, DType, Epilogue, KernelSpec, Operand
from edgeq.compiler.kernels.epilogue.epilogue import ChannelLayout, pack_parameters, parameter_words
from edgeq.compiler.kernels.nest import Nest
from edgeq.compiler.kernels.peak.peak import mix_entry
from edgeq.errors import CompileError
from edgeq.integer.ops.probabilities import mass

if TYPE_CHECKING:
    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.target import Target

_STORED_BIAS = 128  # what inverting the top bit of a byte adds or takes
READ_BEHIND = 64  # bytes that a product may read behind a row
COLUMNS_PER_TASK = 64  # of every target: a multiple of each one's blocks


@dataclass(frozen=True)
class MatMulPlan:
    """How one product is cut up on one target.

    Attributes:
        product: what multiplies; its weights are b, packed.
        words: b is packed as s16 without its zero point.
        vectors: registers of a block of columns; rows: of a register tile; groups: product steps over K.
        a_offset, b_offset: za' and zb' of the module's text; 0 where nothing is to be corrected.
    """

    product: Product
    words: bool
    vectors: int
    rows: int
    groups: int
    a_offset: int
    b_offset: int

    @property
    def columns(self) -> int:
        """Columns of a full block."""
        return self.vectors * self.product.lanes

    @property
    def panel_elements(self) -> int:
        """Elements of a task's packed columns, a multiple of 64."""
        return self.groups * self.product.group * COLUMNS_PER_TASK

    @property
    def stage_elements(self) -> int:
        """s16 elements of a tile's staged rows of a."""
        step = -(-self.groups * self.product.group // 32) * 32
        return self.rows * step if self.product.stages else 0


@dataclass(frozen=True)
class Choice:
    """What a plan is free to choose: product (its number among those that are exact), rows and registers of a tile."""

    product: int
    rows: int
    vectors: int


@dataclass(frozen=True)
class MatMulSpec(KernelSpec):
    """Σ over k of (a[…, m, k] − za)·(b[…, k, n] − zb), requantized.

    Operands: `a`, `b`, `params` (, `ones`) (, `table`), `scratch`, `y`.

    Attributes:
        batch: leading extents of the output; a_batch, b_batch, y_batch: strides over them, 0 broadcasts.
        m, k, n: extents; a_m, b_k, b_n, y_m: strides. a's k and y's n are contiguous, and one of b's two axes is.
        a_dtype: s8, u8 or s16 as stored; b_dtype: s8 or u8. Zero points in stored units, s16 has none.
        epilogue: no residual; its multipliers are one for all, or by output column.
        probability_bits: a's rows are probabilities in Q(probability_bits), zero point taken off; 0: not known to be.
        b_extent: largest magnitude of b as s8.
        choice: product and register tile, one of `choices`; None: the cheapest by estimate.
    """

    family: ClassVar[str] = "matmul"
    batch: tuple[int, ...]
    a_batch: tuple[int, ...]
    b_batch: tuple[int, ...]
    y_batch: tuple[int, ...]
    m: int
    k: int
    n: int
    a_m: int
    b_k: int
    b_n: int
    y_m: int
    a_dtype: DType
    b_dtype: DType
    a_zero_point: int
    b_zero_point: int
    epilogue: Epilogue
    probability_bits: int = 0
    b_extent: int = 128
    choice: Choice | None = None

    def __post_init__(self) -> None:
        narrow = ("s8", "u8")
        wide_zero = self.a_dtype == "s16" and self.a_zero_point
        if self.a_dtype not in (*narrow, "s16") or self.b_dtype not in narrow or wide_zero:
            raise CompileError(
                "a matrix product's inputs have an impossible form",
                why=f"{self.a_dtype} with zero point {self.a_zero_point}, {self.b_dtype}",
            )
        if 1 not in (self.b_k, self.b_n) and min(self.k, self.n) > 1:
            raise CompileError("a matrix product's right side has no contiguous axis", why="the lowering copies such")

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        k: int,
        a_strides: Sequence[int],
        b_strides: Sequence[int],
        y_strides: Sequence[int],
        a_dtype: DType,
        b_dtype: DType,
        a_zero_point: int,
        b_zero_point: int,
        epilogue: Epilogue,
        *,
        probability_bits: int = 0,
        b_extent: int = 128,
    ) -> MatMulSpec:
        """The spec for an output of `shape` [..., m, n].

        Args:
            a_strides: of a seen as [..., m, k]; b_strides: of b as [..., k, n]; y_strides: of y. All of y's rank, batch
                strides 0 where an input is broadcast.
            probability_bits, b_extent: see the class.

        Raises:
            CompileError: a's k or y's n isn't contiguous, or neither of b's axes is.
        """
        nest = Nest.of(shape[:-2], a_strides[:-2], b_strides[:-2], y_strides[:-2])
        (a_m, a_k), (b_k, b_n), (y_m, y_n) = a_strides[-2:], b_strides[-2:], y_strides[-2:]
        if (a_k != 1 and k > 1) or (y_n != 1 and shape[-1] > 1):
            raise CompileError("a matrix product's rows aren't contiguous", why="the lowering copies such")
        a, b, y = nest.strides
        return cls(
            batch=nest.shape, a_batch=a, b_batch=b, y_batch=y, m=shape[-2], k=k, n=shape[-1],
            a_m=a_m, b_k=b_k, b_n=b_n, y_m=y_m, a_dtype=a_dtype, b_dtype=b_dtype,
            a_zero_point=a_zero_point, b_zero_point=b_zero_point, epilogue=epilogue,
            probability_bits=probability_bits, b_extent=b_extent,
        )  # fmt: skip

    @property
    def along_k(self) -> bool:
        """b's columns are contiguous in memory (b is a transposed view, as in Q·Kᵀ), its rows aren't."""
        return self.b_n != 1 and (self.b_k == 1 or self.k == 1)

    @property
    def macs(self) -> int:
        """Multiplications of one run."""
        return prod(self.batch) * self.m * self.k * self.n

    def mix(self, target: Target) -> dict[str, Any] | None:
        plan = self.plan(target)
        return mix_entry(plan.product, target, self.macs, word_weights=plan.words)

    def plan(self, target: Target) -> MatMulPlan:
        """How the work is cut up."""
        return _plan(self, target)

    def choices(self, target: Target) -> list[tuple[float, Choice]]:
        """(estimated time, product and tile) of all that compute this product, the cheapest first."""
        return _ranked(self, target)

    def extents(self) -> tuple[int, int, int]:
        """Elements of a, b and y from the first to the last one touched."""
        sides = (
            (self.a_batch, (self.m, self.a_m), (self.k, 1)),
            (self.b_batch, (self.k, self.b_k), (self.n, self.b_n)),
            (self.y_batch, (self.m, self.y_m), (self.n, 1)),
        )
        a, b, y = (
            1 + sum((e - 1) * s for e, s in [*zip(self.batch, lead, strict=True), *rest]) for lead, *rest in sides
        )
        return a, b, y

    def tasks(self) -> int:
        return prod(self.batch) * -(-self.n // COLUMNS_PER_TASK)

    def operands(self) -> list[Operand]:
        table = [Operand("table", "weight")] if self.epilogue.lut else []
        inputs = [Operand("a", "input"), Operand("b", "input")]
        weights = [Operand("params", "weight"), Operand("ones", "weight"), *table]
        return [*inputs, *weights, Operand("scratch", "scratch"), Operand("y", "output")]

    def layout(self, target: Target) -> ChannelLayout:
        """How columns lie in registers: those of one block where all have one multiplier, else all of them."""
        plan = self.plan(target)
        channels = self.n if self.epilogue.per_channel else plan.columns
        return ChannelLayout(channels, plan.vectors, natural=self.epilogue.form == "none")

    def scratch_bytes(self, target: Target) -> int:
        plan = self.plan(target)
        if plan.words:
            return 2 * (plan.panel_elements + plan.stage_elements) + READ_BEHIND
        return plan.panel_elements + (4 * COLUMNS_PER_TASK if plan.a_offset else 0) + READ_BEHIND

    def describe(self, target: Target) -> str:
        plan = self.plan(target)
        return f"matmul_{self.a_dtype}{self.b_dtype}_{plan.rows}x{plan.columns}"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`params`, `ones`, `table` from multiplier, shift (as in the graph), table (stored units).

        Raises:
            CompileError: a sum could pass 32 bits.
        """
        plan = self.plan(target)
        corners = [
            self.k * (a - self.a_zero_point) * (b - self.b_zero_point)
            for a in DTYPE_RANGE[self.a_dtype]
            for b in DTYPE_RANGE[self.b_dtype]
        ]
        layout = self.layout(target)
        scales = [constants.get(name) for name in ("multiplier", "shift")]
        spread = [None if v is None else np.broadcast_to(np.asarray(v).reshape(-1), (layout.channels,)) for v in scales]
        params = pack_parameters(
            self.epilogue, target, layout, np.zeros(1, np.int64), *spread, acc_low=min(corners), acc_high=max(corners)
        )
        one = 1
        if plan.product.flips:
            one += -_STORED_BIAS if self.a_dtype == "s8" else _STORED_BIAS
        ones = np.full(plan.groups * plan.product.group + READ_BEHIND, one, TVM_DTYPE[self.a_dtype])
        extra = {"table": np.ascontiguousarray(constants["table"])} if self.epilogue.lut else {}
        return {"params": params, "ones": ones, **extra}

    def parameters(self, target: Target) -> list[tuple[str, str, int]]:
        """(name, dtype, elements) of every operand."""
        plan, e = self.plan(target), self.epilogue
        a, b, y = self.extents()
        element = 2 if plan.words else 1
        known = {
            "a": (self.a_dtype, a),
            "b": (self.b_dtype, b),
            "params": ("s32", parameter_words(e, target, self.layout(target))),
            "ones": (self.a_dtype, plan.groups * plan.product.group + READ_BEHIND),
            "table": (e.dtype, 256),
            "scratch": ("s16" if plan.words else "s8", self.scratch_bytes(target) // element),
            "y": ("s32" if e.form == "none" else e.dtype, y),
        }
        return [(operand.name, *known[operand.name]) for operand in self.operands()]

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels.matmul import emit as matmul_emit

        return matmul_emit.emit_matmul(self, target)


def _tiles(spec: MatMulSpec, product: Product) -> Iterator[tuple[float, int, int]]:
    """(cost, rows, vectors) of every register tile; blocks of columns divide a task's columns evenly."""
    groups = -(-spec.k // product.group)
    registers = -(-min(spec.n, COLUMNS_PER_TASK) // product.lanes)
    for vectors in (1, 2, 4):
        if vectors > min(product.widest, 1 << (registers - 1).bit_length()):
            continue
        for rows in range(1, min(spec.m, product.registers) + 1):
            if not product.fits(rows, vectors):
                break
            cost = 0.0
            for height, many in ((rows, spec.m // rows), (spec.m % rows, 1)):
                for width, times in ((vectors, registers // vectors), (registers % vectors, 1)):
                    if height and width:
                        step, edge = product.step_cost(height, width), product.tile_cost(height, width)
                        cost += many * times * (step * groups + edge)
            yield cost, rows, vectors


def _plan_for(spec: MatMulSpec, product: Product, choice: Choice) -> MatMulPlan:
    groups = -(-spec.k // product.group)
    a_offset = b_offset = 0
    if not product.words:
        a_offset, b_offset = spec.a_zero_point, spec.b_zero_point
        if product.flips:
            a_offset += _STORED_BIAS if spec.a_dtype == "s8" else -_STORED_BIAS
        b_offset -= _STORED_BIAS if spec.b_dtype == "u8" else 0
    chosen = product.with_word_weights() if product.words else product
    return MatMulPlan(chosen, product.words, choice.vectors, choice.rows, groups, a_offset, b_offset)


def _any_bytes(count: int) -> int:
    """What this many bytes add up to at most."""
    return DTYPE_RANGE["u8"][1] * count


def _products(spec: MatMulSpec, target: Target) -> list[Product]:
    """Those that are exact, in the target's order."""
    # A computed side may hold every byte, so products that need a bound on their weights are out unless a clamp gives
    # one, or a's sums have one.
    whole = [p for p in target.inner.PRODUCTS[spec.a_dtype] if not p.bounded]
    if spec.a_dtype == "u8":
        likely = spec.probability_bits and spec.a_zero_point == 0
        bound = partial(mass, spec.probability_bits) if likely else _any_bytes
        for p in target.inner.PRODUCTS["u8"]:
            if p.bounded and not p.flips:
                depth = p.depth_of_mass(bound, spec.b_extent, p.depths(-(-spec.k // p.group)))
                whole += [p.with_depth(depth)] if depth else []
    return [p for p in whole if p.words or p.lowest_weight == DTYPE_RANGE["s8"][0]]


@lru_cache(maxsize=4096)
def _ranked(spec: MatMulSpec, target: Target) -> list[tuple[float, Choice]]:
    found = [
        (cost, Choice(number, rows, vectors))
        for number, product in enumerate(_products(spec, target))
        for cost, rows, vectors in _tiles(spec, product)
    ]
    return sorted(found, key=lambda entry: entry[0])


@lru_cache(maxsize=4096)
def _plan(spec: MatMulSpec, target: Target) -> MatMulPlan:
    ranked = _ranked(spec, target)
    picked = next(choice for _, choice in ranked if spec.choice in (None, choice))
    return _plan_for(spec, _products(spec, target)[picked.product], picked)
