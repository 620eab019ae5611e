"""How dense convolutions are cut up: tiles that go on in the next row, blocks, and weights that are fetched ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.isa.x86.arrangement import DEPTHS, SHORT
from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.dense.blocks import DIRECT_BYTES, Work, direct_blocks
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.plan import Plan
from edgeq.compiler.target import load_target
from tests.support.convolutions import check, epilogues, stored_dtype

EPILOGUE = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)


def padded(n: int, h: int, w: int, c: int, border: int = 1) -> Image:
    """An image inside a larger one."""
    row = (w + 2 * border) * c
    return Image(n, h, w, c, row, c, (h + 2 * border) * row)


def pointwise(y: Image, channels: int, stride: int = 1) -> ConvSpec:
    x = Image.dense(y.n, (y.h - 1) * stride + 1, (y.w - 1) * stride + 1, channels)
    return ConvSpec(x, y, "u8", 1, 1, EPILOGUE, stride, stride)


def test_tiles_go_on_in_the_next_row_of_a_padded_output() -> None:
    plan = pointwise(padded(1, 7, 7, 64), 256).plan(load_target("x86-avx2"))
    assert plan.folded
    assert plan.pixels == (1, 1, 49)
    assert plan.tiling.tile_h == 1


def test_dense_images_are_one_row_without_that() -> None:
    plan = pointwise(Image.dense(1, 7, 7, 64), 256).plan(load_target("x86-avx2"))
    assert not plan.folded
    assert plan.pixels == (1, 1, 49)


def test_products_in_an_order_of_their_own_have_one_pointer_for_all_rows() -> None:
    """With a stride the pixels of x have no even step; then only products that read K as it lies are folded."""
    target = load_target("x86-avx2")
    spec = pointwise(Image.dense(1, 7, 7, 64), 256, stride=2)
    w = np.clip(np.random.default_rng(0).normal(size=(64, 256, 1, 1)) * 20, -63, 63).astype(np.int8)
    for cost, choice in spec.fitted(target, w).choices(target):
        plan = replace(spec.fitted(target, w), choice=choice).plan(target)
        assert cost > 0
        assert not (plan.folded and plan.product.whole)


def folding(target: str, kernel: int, stride: int, epilogue: Epilogue = EPILOGUE) -> tuple[ConvSpec, np.ndarray]:
    """A layer with two images and a padded output, in a form that folds, and its weights."""
    y = padded(2, 3, 5, 24)
    x = Image.dense(2, 2 * stride + kernel, 4 * stride + kernel, 32)
    if epilogue.residual is not None:
        epilogue = replace(epilogue, residual=replace(epilogue.residual, image=padded(2, 3, 5, 24, 2)))
    spec = ConvSpec(x, y, stored_dtype(target), kernel, kernel, epilogue, stride, stride)  # type: ignore[arg-type]
    w = np.random.default_rng(kernel).integers(-7, 8, (24, 32, kernel, kernel)).astype(np.int8)
    fitted = spec.fitted(load_target(target), w)
    found = [choice for _, choice in fitted.choices(load_target(target)) if choice.folded]
    return replace(fitted, choice=found[0]), w


@pytest.mark.parametrize("target", ["x86-avx2", "x86-vnni"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 2)])
def test_folded_tiles_compute_the_same(target: str, kernel: int, stride: int) -> None:
    spec, w = folding(target, kernel, stride)
    check(spec, target, weights=w)


@pytest.mark.parametrize("case", ["table", "residual", "table-residual"])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_tiles_with_every_epilogue(case: str, stride: int) -> None:
    spec, w = folding("x86-avx2", 1, stride, epilogues("u8")[case])
    check(spec, "x86-avx2", weights=w)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["arm-neon", "arm-dotprod"])
@pytest.mark.parametrize("stride", [1, 2])
def test_folded_tiles_on_arm(target: str, stride: int) -> None:
    spec, w = folding(target, 1, stride)
    check(spec, target, weights=w)


@settings(max_examples=60)
@given(
    tiles=st.integers(1, 900),
    channels=st.integers(1, 70),
    tasks=st.integers(1, 64),
    reads=st.integers(100, 60_000),
)
def test_blocks_stay_in_caches_and_leave_something_for_each_task(
    tiles: int, channels: int, tasks: int, reads: int
) -> None:
    work = Work(1, 1, 5 * tiles, 1, 5, lambda high, wide: high * wide * reads, channels, channels * 4096, 1e6, tasks)
    blocks = direct_blocks(work)
    wide = blocks.width // 5
    assert blocks.height == 1
    assert blocks.width % 5 == 0
    assert wide == 1 or wide * reads <= DIRECT_BYTES
    assert 1 <= blocks.splits <= channels
    units = -(-tiles // wide) * blocks.splits
    assert units >= min(tasks, tiles * channels) * 0.5


def test_weights_are_fetched_ahead_where_there_are_many() -> None:
    target = load_target("x86-avx2")

    def plan(h: int, n: int, channels: int) -> Plan:
        return replace(pointwise(Image.dense(1, h, h, n), channels), depth=8).plan(target)

    many = plan(7, 512, 2048)
    tiles = many.tiling.block_w // many.tiling.tile_w
    assert many.fetched_lines * tiles * 64 >= many.block_bytes(many.tiling.vectors)
    assert plan(56, 16, 64).fetched_lines == 0
    assert plan(1, 1000, 2048).fetched_lines == 0


def test_large_sets_need_long_k_and_small_weights() -> None:
    target = load_target("x86-avx2")
    rng = np.random.default_rng(1)

    def sizes(channels: int, largest: float) -> tuple[int, ...]:
        w = np.clip(rng.normal(size=(32, channels, 1, 1)) * largest / 3.2, -largest, largest).astype(np.int8)
        return pointwise(Image.dense(1, 14, 14, 32), channels).fitted(target, w).steps[4:]

    assert sizes(1024, 63) == DEPTHS
    assert sizes(64, 63) == SHORT
    assert sizes(1024, 127) == SHORT
