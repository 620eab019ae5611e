"""Depthwise kernels against NumPy on every target: shapes, epilogues, strided views, splits; plans and messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.depthwise.plan import Plan
from edgeq.compiler.kernels.depthwise.products import product_of
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError, TargetError
from tests.support.layers import Layer

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm-neon", "arm-dotprod"]
EVERY = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in EMULATED)]


def depthwise(size: tuple[int, int], channels: int, multiplier: int = 1, **rest: object) -> Layer:
    """A depthwise layer."""
    return Layer(size, channels, channels * multiplier, channels, depthwise=True, **rest)  # type: ignore[arg-type]


def check(layer: Layer, target_name: str, splits: tuple[int, ...] = ()) -> None:
    """Zero differing values."""
    result = layer.run(load_target(target_name), splits)
    np.testing.assert_array_equal(result, layer.expected)
    assert len(np.unique(layer.expected)) > min(4, layer.expected.size // 8), "the layer says nothing"


# One layer per way through the generator.
LAYERS = {
    "3x3": depthwise((6, 7), 96, gap=5),
    "3x3 stride 2": depthwise((5, 9), 32, strides=(2, 2), batch=2),
    "5x5": depthwise((7, 3), 40, kernel=(5, 5), relu=True),
    "mixed strides and dilations": depthwise((5, 4), 20, kernel=(3, 2), strides=(1, 3), dilations=(2, 3)),
    "rows shared over dilation": depthwise((6, 4), 16, strides=(2, 1), dilations=(2, 1), gap=1),
    "flattened rows": depthwise((5, 13), 8),
    "one row, turned": depthwise((3, 21), 24, kernel=(1, 7)),
    "looped taps": depthwise((3, 2), 40, kernel=(25, 5)),
    "per-channel affine": depthwise((3, 5), 70, kernel=(1, 1), form="single"),
    "depth multiplier": depthwise((4, 4), 5, multiplier=3, gap=2),
    "large depth multiplier": depthwise((3, 3), 2, multiplier=34),
    "single channel": depthwise((4, 6), 1, kernel=(3, 3)),
    "s16 activations": depthwise((4, 5), 56, x_dtype="s16", form="single", dtype="s16"),
    "s16 to s8": depthwise((4, 5), 24, x_dtype="s16", gap=3),
    "raw accumulators": depthwise((4, 5), 44, form="none", gap=3),
    "table": depthwise((3, 4), 40, lut=True),
    "residual": depthwise((5, 4), 40, residual=True, gap=4),
    "flattened residual": depthwise((5, 9), 16, residual=True, lut=True),
    "extreme values": depthwise((6, 6), 32, kernel=(5, 5), form="single", extreme=True),
    "weights of -128": depthwise((6, 5), 40, form="single", extreme=True, lowest_weight=-128),
    "7 bits": depthwise((6, 7), 104, bits=7, gap=3),
    "7 bits, extreme": depthwise((6, 5), 40, form="single", extreme=True, bits=7),
    "7 bits, stride 2": depthwise((5, 9), 48, strides=(2, 2), bits=7),
    "6 bits": depthwise((6, 7), 72, bits=6, residual=True),
    "5 bits, 5x5": depthwise((7, 5), 40, kernel=(5, 5), bits=5, batch=2),
    "4 bits": depthwise((6, 7), 104, bits=4, gap=5),
    "4 bits, extreme": depthwise((6, 5), 40, form="single", extreme=True, bits=4),
    "4 bits, stride 2": depthwise((5, 9), 56, strides=(2, 2), bits=4, lut=True),
    "4 bits, raw": depthwise((4, 5), 44, form="none", bits=4, gap=3),
    "4 bits, flattened rows": depthwise((5, 13), 8, bits=4),
    "4 bits, looped taps": depthwise((3, 2), 40, kernel=(25, 5), bits=2),
    "4 bits, depth multiplier": depthwise((4, 4), 5, multiplier=3, bits=4),
    "4 bits, turned": depthwise((3, 21), 24, kernel=(1, 7), bits=4),
}


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("name", LAYERS)
def test_bits(name: str, target: str) -> None:
    check(LAYERS[name], target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize(
    "name",
    [
        "3x3", "5x5", "flattened rows", "looped taps", "depth multiplier", "s16 activations", "residual",
        "weights of -128",
    ],
)  # fmt: skip
def test_bits_on_arm(name: str, target: str) -> None:
    check(LAYERS[name], target)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("name", LAYERS)
def test_bits_on_arm_everywhere(name: str, target: str) -> None:
    check(LAYERS[name], target)


@pytest.mark.full
@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize("channels", [*range(1, 35), 63, 64, 65, 100, 129])
def test_every_number_of_channels(channels: int, target: str) -> None:
    """Tails of every length, none writes beside its view."""
    check(depthwise((3, 5), channels, gap=channels % 3), target)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_task_splits_change_nothing(target: str, strides: tuple[int, int]) -> None:
    layer = depthwise((21, 3), 24, strides=strides, batch=2)
    tasks = layer.spec(load_target(target)).tasks()
    assert tasks == 12
    check(layer, target, tuple(range(1, tasks)))
    check(layer, target, (5,))


@pytest.mark.parametrize("name", LAYERS)
def test_plans_cover_every_channel_once(name: str) -> None:
    for target in map(load_target, [*NATIVE, *EMULATED]):
        spec = LAYERS[name].spec(target)
        assert isinstance(spec, DepthwiseSpec)
        plan = spec.plan(target)
        stored = np.zeros(plan.geometry.channels, int)
        for chunks in plan.chunks:
            for k in range(chunks.count):
                start = chunks.first + k * chunks.step
                stored[start : start + chunks.valid] += 1
        assert (stored == 1).all()
        assert plan.geometry.task_rows % plan.tile_rows == 0
        channels = plan.lane_channels[plan.lane_channels >= 0]
        assert set(channels) == set(range(spec.y.c))


def test_tasks_are_the_same_on_every_target() -> None:
    for layer in LAYERS.values():
        assert len({layer.spec(load_target(t)).tasks() for t in [*NATIVE, *EMULATED]}) == 1


def plan_of(layer: Layer, target: str) -> Plan:
    spec = layer.spec(load_target(target))
    assert isinstance(spec, DepthwiseSpec)
    return spec.plan(load_target(target))


def test_plans_take_the_short_cuts() -> None:
    """Narrow pixels become one row, kernels of one row are turned, neighbouring output rows share their input."""
    flat = plan_of(depthwise((8, 16), 8), "x86-vnni")
    assert (flat.geometry.columns, flat.geometry.channels, flat.geometry.flat) == (1, 128, True)
    assert not plan_of(depthwise((8, 16), 8, gap=1), "x86-vnni").geometry.flat
    assert not plan_of(depthwise((8, 16), 8, strides=(2, 2)), "x86-vnni").geometry.flat
    turned = plan_of(depthwise((1, 16), 32, kernel=(1, 9)), "arm-neon")
    assert (turned.geometry.kh, turned.geometry.kw, turned.geometry.rows) == (9, 1, 16)
    sliding = plan_of(depthwise((14, 14), 64), "x86-avx2")
    assert (sliding.tile, sliding.sliding) == ((2, 14), True)
    assert not plan_of(depthwise((14, 14), 64, lut=True), "x86-avx2").sliding  # a table takes many outputs at once
    assert not plan_of(depthwise((14, 14), 64), "arm-neon").sliding
    assert not plan_of(depthwise((3, 3), 64, kernel=(25, 25)), "x86-vnni").unrolled


def test_kernel_names_say_what_they_are() -> None:
    layer = depthwise((14, 14), 64)
    target = load_target("x86-vnni")
    assert layer.spec(target).symbol(target).startswith("depthwise_u8s8_3x3_1x14x64__avx512vnni_")


# --- messages ---------------------------------------------------------------------------------------------------------

RAW = Epilogue("none", "s32", 0, -(2**31), 2**31 - 1)


def small(channels: int = 4) -> DepthwiseSpec:
    x, y = Image.dense(1, 5, 5, channels), Image.dense(1, 3, 3, channels)
    return DepthwiseSpec(x, y, "s8", 3, 3, RAW)


def constants(spec: DepthwiseSpec, weight: int = 1) -> dict[str, np.ndarray]:
    w = np.full((spec.y.c, 1, spec.kh, spec.kw), weight, np.int8)
    return {"w": w, "bias": np.zeros(spec.y.c, np.int32)}


@pytest.mark.parametrize(
    ("y", "why"),
    [
        (Image.dense(1, 4, 3, 4), "6×5 padded pixels"),
        (Image.dense(1, 3, 4, 4), "5×6 padded pixels"),
        (Image.dense(1, 3, 3, 6), "multiple"),
        (Image.dense(2, 3, 3, 4), "batch"),
    ],
)
def test_contradicting_images(y: Image, why: str) -> None:
    with pytest.raises(CompileError, match=why):
        replace(small(), y=y)


def test_wrong_weights() -> None:
    spec, target = small(), load_target("arm-neon")
    wrong = constants(spec) | {"w": np.zeros((4, 3, 3), np.int8)}
    with pytest.raises(CompileError, match=r"int8 \(4, 3, 3\) instead of int8 \(4, 1, 3, 3\)"):
        spec.pack(target, wrong)
    with pytest.raises(CompileError, match="-128 is below -127"):
        spec.pack(target, constants(spec, -128))


def test_accumulators_that_could_overflow() -> None:
    spec, target = small(), load_target("x86-avx2")
    spec = replace(spec, x_dtype="u8")
    spec.pack(target, constants(spec, -128))
    huge = constants(spec, 127) | {"bias": np.full(4, 2**31 - 1, np.int32)}
    with pytest.raises(CompileError, match="an accumulator could pass 32 bits"):
        spec.pack(target, huge)


def test_target_without_the_product(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no depthwise product for s8 activations"):
        product_of(load_target("x86-avx2"), "s8")
    known = load_target("arm-neon")
    with pytest.raises(TargetError, match=r"has no depthwise\.py"):
        product_of(Target("bare", tmp_path, known.spec), "s8")


def _spec_of(bits: int, channels: int = 32) -> tuple[DepthwiseSpec, np.ndarray]:
    layer = depthwise((5, 5), channels, bits=bits)
    spec = layer.spec(load_target("x86-avx2"))
    assert isinstance(spec, DepthwiseSpec)
    return spec, layer.constants["w"]


def test_sums_come_from_the_weights() -> None:
    target = load_target("x86-avx2")
    spec = DepthwiseSpec(Image.dense(1, 5, 5, 8), Image.dense(1, 3, 3, 8), "u8", 3, 3, RAW)
    w = np.zeros((8, 1, 3, 3), np.int8)
    w[:, 0, 0, 0], w[:, 0, 2, 2] = 64, 64
    assert spec.fitted(target, {"w": w}).sums == "taps"
    w[5, 0, 1, 1] = 1  # 129 altogether, but no two neighbours pass 128
    assert spec.fitted(target, {"w": w}).sums == "pairs"
    w[5, 0, 1, 2] = 65
    assert spec.fitted(target, {"w": w}).sums == "any"
    assert spec.fitted(load_target("x86-vnni"), {"w": w * 0}).sums == "any"  # nothing to gain there


# Shifts, biases and clamps, and the steps that finish sums of 16 bits. Sums of 9 taps of 7 · 255 stay below 2^14.
WORDS = {
    "no shift": (0, 0, 1000, "", {}),
    "saturated": (0, 0, 29000, "", {"alternate": True}),
    "right": (0, 3, 1000, "right", {}),
    "left by one": (-1, 0, 1000, "factor", {}),
    "left": (-3, 0, 1000, "low high factor", {}),
    "both": (-1, 16, 1000, "factor right", {}),
    "both limited": (-6, 16, 1000, "low high factor right", {}),
    "no bias of 16 bits": (0, 0, 40000, None, {}),
    "a shift of a saturated sum": (0, 1, 29000, None, {"alternate": True}),
    "limits that a small multiplier shows": (-6, 0, 1000, None, {"multiplier": 7776, "post_shift": 6}),
    "single": (30, 40, 1000, None, {"form": "single", "multiplier": 2**30}),
}


@pytest.mark.parametrize("case", WORDS)
@pytest.mark.parametrize("target", ["x86-avx2", "x86-sse4"])
def test_sums_of_16_bits_are_finished_there(case: str, target: str) -> None:
    least, most, bias, steps, options = WORDS[case]
    form, multiplier = options.get("form", "narrow"), options.get("multiplier", 2**15 - 1)
    layer = depthwise((4, 5), 56, bits=4, form=form, post_shift=options.get("post_shift", 0), left=max(0, -least))
    numbers = layer.constants
    signs = np.where(np.arange(9) % 2, -7, 7).astype(np.int8).reshape(3, 3)
    numbers["w"] = np.tile(signs, (56, 1, 1, 1)) if "alternate" in options else np.clip(numbers["w"], -7, 7)
    numbers["multiplier"] = np.full(56, multiplier, np.int32)
    numbers["shift"] = np.where(np.arange(56) % 2, most, least).astype(np.int32)
    numbers["bias"] = np.where(np.arange(56) % 3, bias, -bias).astype(np.int32)
    spec = layer.spec(load_target(target))
    assert isinstance(spec, DepthwiseSpec)
    assert spec.sums == "taps"
    assert spec.epilogue.words == (() if steps is None else ("bias", *steps.split(), "multiplier"))
    np.testing.assert_array_equal(layer.run(load_target(target), (1,)), layer.expected)


def test_steps_that_were_not_planned_for() -> None:
    target = load_target("x86-avx2")
    spec, w = _spec_of(4)
    constants = {"w": w, "bias": np.zeros(32, np.int32), "multiplier": np.full(32, 2**14), "shift": np.zeros(32, int)}
    planned = replace(spec, epilogue=replace(spec.epilogue, words=("bias", "multiplier")))
    planned.pack(target, constants)
    with pytest.raises(CompileError, match=r"doesn't fit 16 bits as it was planned\n  why: shifts 1 … 1"):
        planned.pack(target, constants | {"shift": np.ones(32, int)})


@pytest.mark.parametrize("bits", [7, 4])
def test_weights_that_were_not_planned_for(bits: int) -> None:
    target = load_target("x86-avx2")
    spec, w = _spec_of(bits)
    ones = np.ones(w.shape[0], np.int32)
    constants = {"w": np.full_like(w, 90), "bias": ones, "multiplier": ones * 2**14, "shift": ones}
    with pytest.raises(CompileError, match="too large for sums in 16 bits"):
        spec.pack(target, constants)
