"""What a dense layer's actual weights allow a kernel to do, and how they are packed. No tvm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgeq.compiler.isa import narrow
from edgeq.compiler.kernels.base import SYMMETRIC_LOWEST
from edgeq.compiler.kernels.dense.plan import Plan, Runs, runs_of
from edgeq.compiler.kernels.epilogue.epilogue import ChannelLayout, IntArray
from edgeq.errors import CompileError

if TYPE_CHECKING:
    from edgeq.compiler.isa.base import Isa
    from edgeq.compiler.isa.products import Product
    from edgeq.compiler.kernels.dense.conv import ConvSpec
    from edgeq.compiler.target import Target

Storage = Literal["auto", "fast", "small"]
DEEP = 8  # groups that share 16-bit sums as they lie: no order makes that much better


def products_for(spec: ConvSpec, target: Target) -> list[Product]:
    """The target's products that are exact for the spec's weights, in the form that they allow.

    Raises:
        CompileError: there is none.
    """
    if spec.epilogue.words:
        return [target.inner.WHOLE]
    found = [p for p in target.inner.PRODUCTS[spec.x_dtype] if p.lowest_weight <= spec.lowest_weight]
    found = [q for p in found if (q := p.planned(spec.depth, spec.steps)) is not None]
    if spec.centred:
        found = [p.centred_form() or p for p in found]
    if not found:
        raise CompileError(
            f"no product of {spec.x_dtype} activations is exact for weights of {spec.lowest_weight}",
            where=str(target.folder / "inner.py"),
            hint="PRODUCTS needs one with this lowest_weight",
        )
    if spec.bits == 8:
        return found
    found = [p.with_bits(spec.bits) for p in found if spec.bits in p.packings]
    if not found:
        raise CompileError(
            f"no product of {spec.x_dtype} activations expands weights of {spec.bits} bits",
            where=str(target.folder / "inner.py"),
            hint="compile with --weights fast: each weight is then a byte",
        )
    return found


def fit(spec: ConvSpec, target: Target, w: IntArray, storage: Storage = "auto") -> ConvSpec:
    """The spec for a layer with just these weights: their lowest value, their sums, the bits they are stored in.

    Args:
        w: int8 [N, C/groups, kh, kw].
        storage: `fast`: a byte each; `small`: as few bits as the target can expand; `auto`: small where that is free.
    """
    lowest = min(int(w.min(initial=0)), SYMMETRIC_LOWEST)
    spec = replace(spec, lowest_weight=lowest, depth=0, centred=False, steps=(), bits=8)
    bits = 8 if storage == "fast" else _stored_bits(spec, target, w)
    for product in target.inner.PRODUCTS[spec.x_dtype]:
        if product.bounded and product.lowest_weight <= lowest:
            runs = runs_of(spec.x, spec.window, spec.groups, product)
            if product.packings:
                spec = _deepened(spec, product.with_bits(bits), runs, w)
            elif spec.groups == 1 and spec.y.n * spec.y.h * spec.y.w > 1 and spec.depth < DEEP and bits == 8:
                spec = replace(spec, steps=product.steps_for(arranged(w, runs, product.group)))
    if bits == 8:
        return spec
    small = replace(spec, bits=bits)
    return small if storage == "small" or _small_is_cheap(small) else spec


def _deepened(spec: ConvSpec, product: Product, runs: Runs, w: IntArray) -> ConvSpec:
    """The spec with the longest window these weights allow; centred where only that makes it so long."""
    weights, depths = arranged(w, runs, product.group), product.depths(runs.groups)
    depth, centred = product.safe_depth(weights, depths), product.centred_form()
    longer = centred.safe_depth(weights, [d for d in depths if d > depth]) if centred else 0
    return replace(spec, depth=longer or depth, centred=longer > 0)


def _stored_bits(spec: ConvSpec, target: Target, w: IntArray) -> int:
    """Fewest bits in which the target's products for this layer can read its weights."""
    products = [p for p in target.inner.PRODUCTS[spec.x_dtype] if p.lowest_weight <= spec.lowest_weight]
    needed = narrow.least_bits(w)
    for bits in (1, 2, 4):
        if bits < needed:
            continue
        for product in products:
            padded = runs_of(spec.x, spec.window, spec.groups, product).length % product.group
            if bits in product.packings and not (bits == 1 and padded):  # one bit can't say 0, which padding is
                return bits
    return 8


FEW_ROWS = 4  # so few uses of a weight that reading it is what takes the time


def _small_is_cheap(spec: ConvSpec) -> bool:
    """Whether each weight is read for so few pixels that memory is the limit."""
    return spec.y.n * spec.y.h * spec.y.w <= FEW_ROWS


def arranged(w: IntArray, runs: Runs, group: int) -> IntArray:
    """int8 [N, C, kh, kw] -> int8 [N, runs, groups, group] as the loop walks them, padded with zeros."""
    count = runs.rows * runs.columns
    padded = np.zeros((w.shape[0], count, runs.groups * group), np.int8)
    padded[:, :, : runs.length] = w.transpose(0, 2, 3, 1).reshape(w.shape[0], count, runs.length)
    return padded.reshape(w.shape[0], count, runs.groups, group)


def check_weights(w: IntArray, plan: Plan) -> None:
    """Proves that the plan's product is exact for these weights.

    Raises:
        CompileError: it isn't.
    """
    product = plan.product
    if w.size and w.min() < product.lowest_weight:
        raise CompileError(
            "a weight is outside what this target multiplies exactly",
            why=f"{w.min()} is below {product.lowest_weight}",
            hint="symmetric 8-bit weights lie in -127 … 127",
        )
    if narrow.least_bits(w) > product.bits:
        raise CompileError(
            f"a weight doesn't fit the {product.bits} bits that were planned for it",
            why=f"weights lie in {w.min()} … {w.max()}",
            hint="ConvSpec.fitted plans for a layer's weights",
        )
    why = product.misfit(arranged(w, plan.runs, product.group)) if product.bounded else None
    if why is not None:
        hint = "ConvSpec.fitted plans for a layer's weights"
        raise CompileError("the weights are too large for sums in 16 bits", why=why, hint=hint)


def pack_weights(w: IntArray, plan: Plan, layout: ChannelLayout, isa: Isa) -> IntArray:
    """One group's weights int8 [N, C, kh, kw] -> bytes: block, run, K group, register, lane, element."""
    product, lanes = plan.product, isa.lanes
    parts = arranged(w, plan.runs, product.group)
    padded = np.zeros((layout.positions(isa), *parts.shape[1:]), np.int8)
    padded[: w.shape[0]] = parts
    ordered = padded[layout.channel_of(isa)]
    if product.whole:
        return product.pack_layer(parts, ordered, layout.blocks(isa), plan.runs.places(product.group))
    blocks = []
    for start, vectors in layout.blocks(isa):
        block = ordered[start : start + vectors * lanes]
        block = block.reshape(vectors, lanes, *parts.shape[1:]).transpose(2, 3, 0, 1, 4)
        blocks += [product.pack(np.ascontiguousarray(run)).reshape(-1) for run in block]
    return np.concatenate(blocks)
