"""Register tiles and products of depthwise convolutions and of products of two computed tensors, as candidates.

The first is the estimated best, and stays without a choice of its own: kernels of layers that were never tuned keep
their names.
"""

from __future__ import annotations

from dataclasses import replace

from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.depthwise.products import SUMS
from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
from edgeq.compiler.lower.select.choice import (
    MOST_TRIED,
    WORTH_TRYING,
    Candidate,
    digest_of,
    epilogue_work,
    window_name,
)
from edgeq.compiler.target import Target

_OTHERS_TRIED = 3  # tiles of products that a target has for less friendly weights: their estimates have another unit


def depthwise_candidates(spec: DepthwiseSpec, target: Target) -> tuple[Candidate, ...]:
    """Tiles of the product that the weights allow, then a few of those for any weights; the default first."""
    found: list[Candidate] = []
    for sums in reversed(SUMS[: SUMS.index(spec.sums) + 1]):
        other = spec.with_sums(sums)
        if other.plan(target).product.sums != sums:
            continue  # the same product serves these, too
        ranked = other.tiles(target)
        limit, most = ranked[0][0] * WORTH_TRYING, MOST_TRIED if not found else _OTHERS_TRIED
        for cost, tile in [entry for entry in ranked if entry[0] <= limit][:most]:
            form = replace(other, tile=tile) if found else spec
            found.append(Candidate(f"depthwise {sums} {tile[0]}x{tile[1]}", form, cost))
    return tuple(found)


def depthwise_key(spec: DepthwiseSpec) -> str:
    """Readable name of a layer's shape with a digest of all that may change its time."""
    work = (
        spec.x, spec.y, spec.x_dtype, spec.kh, spec.kw, spec.stride_h, spec.stride_w, spec.dilation_h, spec.dilation_w,
        spec.lowest_weight, spec.sums, *epilogue_work(spec.epilogue),
    )  # fmt: skip
    return f"depthwise {window_name(spec)} {spec.x_dtype} {digest_of(work)}"


def matmul_candidates(spec: MatMulSpec, target: Target) -> tuple[Candidate, ...]:
    """Products and tiles, the default first."""
    ranked = spec.choices(target)
    limit = ranked[0][0] * WORTH_TRYING
    found: list[Candidate] = []
    for cost, choice in [entry for entry in ranked if entry[0] <= limit][:MOST_TRIED]:
        label = f"matmul {choice.product} {choice.rows}x{choice.vectors}"
        found.append(Candidate(label, replace(spec, choice=choice) if found else spec, cost))
    return tuple(found)


def matmul_key(spec: MatMulSpec) -> str:
    """Readable name of a product's shape with a digest of all that may change its time."""
    work = (
        spec.batch, spec.a_batch, spec.b_batch, spec.y_batch, spec.m, spec.k, spec.n, spec.a_m, spec.b_k, spec.b_n,
        spec.y_m, spec.a_dtype, spec.b_dtype, spec.probability_bits, spec.b_extent, *epilogue_work(spec.epilogue),
    )  # fmt: skip
    batch = "x".join(map(str, spec.batch))
    return f"matmul {batch} {spec.m}x{spec.k}x{spec.n} {spec.a_dtype}{spec.b_dtype} {digest_of(work)}"
