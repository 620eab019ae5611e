"""Products of a depthwise convolution: how an instruction set multiplies a few taps of many channels and adds them up.

A depthwise kernel works on a *chunk* of consecutive channels. It loads the taps of one image column (the rows under
each other), asks the product to arrange a group of them, and lets it multiply the arranged group with the weights of
every output that the column belongs to. `targets/<name>/depthwise.py` names the product for each activation dtype, so
that a new CPU needs no edit here.

Nothing at module level imports tvm: `pack` runs in the compiler's main process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from edgeq.compiler.kernels.base import SYMMETRIC_LOWEST, DType
from edgeq.errors import TargetError

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

Expr = Any  # tvm.ir.PrimExpr
# Which weights a layer has, from the most to the least demanding: any; pairs of taps next to each other fit 16-bit
# sums; all taps of a channel do.
Sums = Literal["any", "pairs", "taps"]
SUMS: tuple[Sums, ...] = ("any", "pairs", "taps")
LANE_BYTES = 16  # unpack and zip instructions work within 128-bit lanes


class WordSums:
    """Products whose sums are s32 registers in the epilogue's order from the start."""

    @property
    def slides(self) -> bool:
        return False

    def start(self, biases: list[Expr], width: int) -> list[Expr]:
        return biases

    def finish(self, sums: list[Expr], biases: list[Expr]) -> list[Expr]:
        return sums


class DepthwiseProduct(Protocol):
    """What the kernel generator asks of an instruction set.

    Attributes:
        group: taps, one below the other, that one step multiplies and adds.
        lanes: s32 lanes of an accumulator register.
        shares_rows: whether an arranged group serves outputs of several rows (its weights just move down inside it).
        registers: accumulators that fit into the register file beside operands and weights.
        widths: channels of a chunk that are possible, widest first.
        weight_dtype: how weights are stored.
        lowest_weight: least weight that is multiplied exactly.
        sums: what of a channel's weights must fit 16-bit sums for the product to be exact (narrow.py).
        slides: weights are operands in memory, so that a kernel may go over a row column by column (`_Tile.slide`).
    """

    @property
    def slides(self) -> bool: ...

    @property
    def sums(self) -> Sums: ...
    @property
    def group(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def shares_rows(self) -> bool: ...
    @property
    def registers(self) -> int: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def weight_dtype(self) -> DType: ...
    @property
    def lowest_weight(self) -> int: ...

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        """The same product, exact for weights from that one on."""
        ...

    def channels(self, width: int) -> np.ndarray:
        """Channel of a chunk at each place of the epilogue's order; where they differ, the store reorders."""
        ...

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Weights of one column's group as `accumulate` reads them.

        Args:
            taps: integers [group, channels], zeros where there is no tap.
            order: [registers, lanes], the channel that each s32 lane sums.

        Returns:
            flat array of weight_dtype, group × channels elements.
        """
        ...

    def start(self, biases: list[Expr], width: int) -> list[Expr]:
        """What the sums of a chunk's channels hold at first; `biases`: s32 registers in the epilogue's order."""
        ...

    def finish(self, sums: list[Expr], biases: list[Expr]) -> list[Expr]:
        """Finished s32 registers in the epilogue's order."""
        ...

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        """Loaded taps (vectors of `width` channels; None: no such row) -> operands of `accumulate`."""
        ...

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        """Adds the group's products; the packed group starts at element `index` of the buffer `weights`."""
        ...


def _unpack(lanes: int, element_bytes: int, high: bool) -> list[int]:
    """Shuffle lanes that interleave the low (high) halves of each 128-bit lane of two vectors of `lanes` elements."""
    per = LANE_BYTES // element_bytes
    start = per // 2 if high else 0
    return [
        source
        for block in range(0, lanes, per)
        for k in range(block + start, block + start + per // 2)
        for source in (k, lanes + k)
    ]


@dataclass(frozen=True)
class Interleaved(WordSums):
    """Taps interleaved channel by channel, then one instruction that sums neighbours into s32 lanes.

    Group 4 works on bytes (vpdpbusd, sdot), group 2 on s16 (pmaddwd). All outputs that a column belongs to share the
    arranging, and those of the next output row too: their weights are the same, one position further down.

    With as many registers as the group has taps, unpacks alone interleave them; fewer registers start from taps widened
    and joined by shifts, so that two registers always come in the epilogue's pack order.

    Attributes:
        dtype: activations as stored.
        group: 4 (bytes) or 2 (s16).
        lanes: s32 lanes of a register.
        dot: LLVM intrinsic.
        accumulates: the intrinsic takes the accumulator as first argument (else its result is added).
        weights_first: the weights are the first factor of the intrinsic.
        registers: accumulators to keep.
    """

    dtype: DType
    group: int
    lanes: int
    dot: str
    accumulates: bool
    weights_first: bool
    registers: int
    shares_rows: bool = True
    sums: Sums = "any"
    slides: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.lanes * k for k in (4, 2, 1) if k <= self.group)

    @property
    def weight_dtype(self) -> DType:
        return "s8" if self.group == 4 else "s16"

    @property
    def lowest_weight(self) -> int:
        return -128

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        return self

    def channels(self, width: int) -> np.ndarray:
        if width // self.lanes < 4 or self.lanes == 4:
            return np.arange(width)
        # Unpacks of bytes take eight channels of every 128-bit lane; what narrows registers in pairs takes 32 in a row.
        halves: np.ndarray = np.arange(width).reshape(-1, 2, 8).swapaxes(0, 1)
        return halves.reshape(-1)

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        dtype = np.int8 if self.group == 4 else np.int16
        by_lane: np.ndarray = taps[:, order].transpose(1, 2, 0).astype(dtype)
        return np.ascontiguousarray(by_lane).reshape(-1)

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        count = width // self.lanes
        element = 4 // self.group
        vectors = self._join([*taps, *[None] * (self.group - len(taps))], width, self.group // count)
        size = element * self.group // count  # bytes of one element of these vectors
        blocks = [vectors]
        while len(blocks[0]) > 1:
            lanes = self.lanes * 4 // size
            blocks = [half for block in blocks for half in self._interleave(block, size, lanes)]
            size *= 2
        name = f"{'uint8' if self.dtype == 'u8' else 'int8'}x{self.lanes * 4}" if self.group == 4 else None
        name = name or f"int16x{self.lanes * 2}"
        return [tir.hold(tir.reinterpret(name, block[0])) for block in blocks]

    def _join(self, taps: Sequence[Expr | None], width: int, step: int) -> list[Expr]:
        """`step` neighbouring taps side by side in elements wide enough for them."""
        from edgeq.compiler.kernels import tir

        bits = 32 // self.group
        wide = f"uint{bits * step}"
        vectors = []
        for start in range(0, self.group, step):
            joined = None
            for k, tap in enumerate(taps[start : start + step]):
                if tap is None:
                    continue
                value = self._element(tap, width)
                if step > 1:
                    value = tir.cast(f"{wide}x{width}", value)
                    value = value << tir.broadcast(tir.const(bits * k, wide), width) if k else value
                joined = value if joined is None else joined | value
            vectors.append(tir.broadcast(tir.const(0, wide), width) if joined is None else tir.bind(joined))
        return vectors

    def _element(self, tap: Expr, width: int) -> Expr:
        """The bits of one tap's channels as unsigned elements of the group's size."""
        from edgeq.compiler.kernels import tir

        if self.group == 4:
            return tap if self.dtype == "u8" else tir.reinterpret(f"uint8x{width}", tap)
        return tir.reinterpret(f"uint16x{width}", tap) if self.dtype == "s16" else tir.cast(f"uint16x{width}", tap)

    @staticmethod
    def _interleave(vectors: list[Expr], size: int, lanes: int) -> list[list[Expr]]:
        """Neighbouring vectors merged into elements of twice the size: all low halves, all high halves."""
        from edgeq.compiler.kernels import tir

        halves: list[list[Expr]] = []
        for high in (False, True):
            merged = []
            for a, b in zip(vectors[::2], vectors[1::2], strict=True):
                mixed = tir.shuffle([a, b], _unpack(lanes, size, high))
                merged.append(tir.bind(tir.reinterpret(f"uint{16 * size}x{lanes // 2}", mixed)))
            halves.append(merged)
        return halves

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        elements = self.lanes * self.group
        return [
            self._dot(acc, operand, tir.vload(weights, index + k * elements, elements))
            for k, (acc, operand) in enumerate(zip(accs, operands, strict=True))
        ]

    def _dot(self, acc: Expr, operand: Expr, factor: Expr) -> Expr:
        """acc plus one register's products."""
        from edgeq.compiler.kernels import tir

        pair = (factor, operand) if self.weights_first else (operand, factor)
        dtype = f"int32x{self.lanes}"
        if self.accumulates:
            return tir.bind(tir.intrin(dtype, self.dot, acc, *pair))
        return tir.bind(acc + tir.intrin(dtype, self.dot, *pair))


@dataclass(frozen=True)
class Widening(WordSums):
    """Neon without dot products: long multiplies lane by lane, channels stay in their order.

    Bytes: two products of s8 × [−127, 127] fit s16 (2 · 128 · 127 = 32512), so two taps share one widening addition;
    with weights of −128 each product is widened by itself. s16 activations multiply straight into s32.

    Attributes:
        dtype: activations as stored (s8 or s16).
        registers: accumulators to keep.
        pairs: bytes: two taps at a time.
        multiply: LLVM's long multiply without its type.
    """

    dtype: DType
    registers: int
    lanes: int = 4
    shares_rows: bool = False
    pairs: bool = True
    sums: Sums = "any"
    multiply: str = "llvm.aarch64.neon.smull"

    @property
    def group(self) -> int:
        return 2 if self.dtype == "s8" and self.pairs else 1

    @property
    def widths(self) -> tuple[int, ...]:
        return (16, 8) if self.dtype == "s8" else (16, 8, 4)

    @property
    def weight_dtype(self) -> DType:
        return self.dtype

    @property
    def lowest_weight(self) -> int:
        return SYMMETRIC_LOWEST if self.group == 2 else -128

    def taking(self, lowest_weight: int) -> DepthwiseProduct:
        return self if lowest_weight >= self.lowest_weight else replace(self, pairs=False)

    def channels(self, width: int) -> np.ndarray:
        return np.arange(width)

    def pack_group(self, taps: np.ndarray, order: np.ndarray) -> np.ndarray:
        return taps[:, order.reshape(-1)].astype(np.int8 if self.dtype == "s8" else np.int16).reshape(-1)

    def arrange(self, taps: Sequence[Expr | None], width: int) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        return [tir.bind(tap) for tap in taps if tap is not None]

    def accumulate(self, accs: list[Expr], operands: list[Expr], weights: Expr, index: Expr) -> list[Expr]:
        from edgeq.compiler.kernels import tir

        width = 4 * len(accs)
        factors = [tir.vload(weights, index + k * width, width) for k in range(len(operands))]
        step = 8 if self.dtype == "s8" else 4  # lanes of one long multiply
        result: list[Expr] = []
        for start in range(0, width, step):
            total = None
            for x, w in zip(operands, factors, strict=True):
                product = self._long_multiply(x, w, start, width)
                total = product if total is None else total + product
            if step == 4:
                result.append(tir.bind(accs[start // 4] + total))
                continue
            narrow = tir.bind(total)
            for half in range(2):
                wide = tir.cast("int32x4", tir.shuffle([narrow], range(4 * half, 4 * half + 4)))
                result.append(tir.bind(accs[start // 4 + half] + wide))
        return result

    def _long_multiply(self, x: Expr, w: Expr, start: int, width: int) -> Expr:
        from edgeq.compiler.kernels import tir

        dtype, step = ("int16x8", 8) if self.dtype == "s8" else ("int32x4", 4)
        parts = [v if width == step else tir.shuffle([v], range(start, start + step)) for v in (x, w)]
        return tir.intrin(dtype, f"{self.multiply}.{'v8i16' if self.dtype == 's8' else 'v4i32'}", *parts)


@lru_cache(maxsize=64)
def _target_module(target: Target) -> ModuleType:
    path = target.file("depthwise.py")
    spec = spec_from_file_location(f"edgeq_target_{target.name.replace('-', '_')}_depthwise", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TargetError(
            f"target {target.name!r} has no depthwise.py",
            where=str(target.folder),
            why="depthwise convolutions need to know the products of the instruction set",
            hint="see targets/arm-neon/depthwise.py",
        )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def product_of(target: Target, x_dtype: DType, sums: Sums = "any") -> DepthwiseProduct:
    """The target's product for this activation dtype: the first it names that is exact for weights with these sums.

    Raises:
        TargetError: the target has no depthwise.py, or no product for this dtype.
    """
    products: dict[str, DepthwiseProduct | tuple[DepthwiseProduct, ...]] = _target_module(target).PRODUCTS
    if x_dtype not in products:
        raise TargetError(
            f"target {target.name!r} has no depthwise product for {x_dtype} activations",
            where=str(target.folder / "depthwise.py"),
            why=f"it has products for {', '.join(sorted(products))}",
        )
    named = products[x_dtype]
    choices = named if isinstance(named, tuple) else (named,)
    return next(product for product in choices if SUMS.index(product.sums) <= SUMS.index(sums))
