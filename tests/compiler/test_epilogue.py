"""Epilogues: emitted code against the NumPy reference, on every target; packing and its proofs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Image, KernelSpec, Operand, Residual
from edgeq.compiler.kernels.epilogue.epilogue import (
    NUMPY_DTYPE,
    ChannelLayout,
    isa_of,
    pack_parameters,
    parameter_words,
    reference,
    residual_constants,
)
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import run_kernel

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm-neon", "arm-dotprod"]
BOUND = 2**31 - 2**29 - 1  # narrow adds up to 2^29, less where all are shifted to the left


@dataclass(frozen=True)
class FinishSpec(KernelSpec):
    """Accumulators in memory, [pixels, positions] in the layout's order -> [pixels, channels + gap]."""

    family: ClassVar[str] = "finish"
    pixels: int
    gap: int
    layout: ChannelLayout
    epilogue: Epilogue

    def operands(self) -> list[Operand]:
        optional = [Operand("table", "weight")] if self.epilogue.lut else []
        optional += [Operand("residual", "input")] if self.epilogue.residual else []
        return [Operand("acc", "input"), Operand("params", "weight"), *optional, Operand("y", "output")]

    def tasks(self) -> int:
        return self.pixels

    def describe(self, target: Target) -> str:
        return "finish"

    def pack(self, target: Target, constants: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        c = constants
        bound = {"acc_low": -(BOUND >> self.epilogue.left), "acc_high": BOUND >> self.epilogue.left}
        params = pack_parameters(
            self.epilogue, target, self.layout, c["bias"], c.get("multiplier"), c.get("shift"), **bound
        )
        return {"params": params} | ({"table": c["table"]} if self.epilogue.lut else {})

    def build(self, target: Target) -> Any:
        from edgeq.compiler.kernels import tir
        from edgeq.compiler.kernels.epilogue.emit import EpilogueEmitter

        isa, e, stride = isa_of(target), self.epilogue, self.layout.channels + self.gap
        positions = self.layout.positions(isa)
        sizes = {"acc": positions * self.pixels, "params": parameter_words(e, target, self.layout), "table": 256}
        dtypes = {"acc": "s32", "params": "s32", "table": e.dtype, "y": e.dtype if e.form != "none" else "s32"}
        dtypes |= {"residual": e.residual.dtype} if e.residual else {}
        names = [o.name for o in self.operands()]
        parameters = [(n, dtypes[n], sizes.get(n, self.pixels * stride)) for n in names]
        with tir.kernel(self.symbol(target), parameters) as (out, t0, t1, buffers):
            named = dict(zip(names, buffers, strict=True))
            emitter = EpilogueEmitter(
                e, target, self.layout, named["params"], table=named.get("table"), residual=named.get("residual")
            )
            with tir.T.serial(t0, t1) as pixel:
                for start, vectors in self.layout.blocks(isa):
                    registers = [
                        b + tir.vload(named["acc"], pixel * positions + start + v * isa.lanes, isa.lanes)
                        for v, b in enumerate(emitter.bias(start, vectors))
                    ]
                    place = pixel * stride + start
                    count = min(self.layout.channels - start, vectors * isa.lanes)
                    emitter.write(registers, start, named["y"], place, count, residual_index=place)
        return out[0]


def _accumulators(rng: np.random.Generator, pixels: int, channels: int, bias: np.ndarray, bound: int) -> np.ndarray:
    scale = 2.0 ** rng.uniform(2, 31, (pixels, channels))
    acc = np.clip(rng.standard_normal((pixels, channels)) * scale, -bound, bound).astype(np.int64)
    acc[0], acc[1], acc[2] = -bound, bound, 0
    return acc - bias  # the bias comes back in the kernel


def _constants(rng: np.random.Generator, e: Epilogue, channels: int) -> dict[str, np.ndarray]:
    constants = {"bias": rng.integers(-(2**30), 2**30, channels)}
    if e.form == "narrow":
        constants |= {
            "multiplier": rng.integers(1, 2**15, channels),
            "shift": rng.integers(-e.left, 31 - e.left, channels),
        }
    elif e.form == "single":
        constants |= {"multiplier": rng.integers(2**30, 2**31, channels), "shift": rng.integers(2, 63, channels)}
    if e.lut:
        constants["table"] = rng.integers(*DTYPE_RANGE[e.dtype], 256, endpoint=True).astype(NUMPY_DTYPE[e.dtype])
    return constants


def check(e: Epilogue, name: str, channels: int, vectors: int, natural: bool, seed: int = 0, gap: int = 3) -> None:
    """Runs one epilogue on random and extreme accumulators; not a bit may differ, nor a byte outside be touched."""
    rng, target, pixels = np.random.default_rng(seed), load_target(name), 9
    isa, layout = isa_of(target), ChannelLayout(channels, vectors, natural)
    image = Image.dense(1, 1, pixels, channels + gap)
    e = replace(e, residual=replace(e.residual, image=image)) if e.residual else e
    constants = _constants(rng, e, channels)
    acc = _accumulators(rng, pixels, channels, constants["bias"], BOUND >> e.left)
    finished = acc + constants["bias"]
    dtype = NUMPY_DTYPE[e.dtype] if e.form != "none" else np.int32
    operands: dict[str, np.ndarray] = {
        "acc": np.stack([layout.spread(isa, row, 7) for row in acc]).astype(np.int64).astype(np.int32),
        "y": np.full((pixels, channels + gap), 77, dtype),
    }
    other = None
    if e.residual:
        other = rng.integers(*DTYPE_RANGE[e.residual.dtype], (pixels, channels + gap), endpoint=True)
        operands["residual"] = other.astype(NUMPY_DTYPE[e.residual.dtype])
        other = other[:, :channels]
    got = run_kernel(FinishSpec(pixels, gap, layout, e), target, operands, constants, splits=(4,))["y"]
    expected = reference(
        e, finished, constants.get("multiplier"), constants.get("shift"), constants.get("table"), other
    )
    np.testing.assert_array_equal(got[:, :channels], expected)
    assert (got[:, channels:] == 77).all()


IMAGE = Image.dense(1, 1, 1, 1)
NARROW_U8 = Epilogue("narrow", "u8", 128, 0, 255, post_shift=6)
NARROW_S8 = Epilogue("narrow", "s8", -3, -3, 90, post_shift=5)
SINGLE_U8 = Epilogue("single", "u8", 3, 3, 250)
SINGLE_S16 = Epilogue("single", "s16", 0, -32768, 32767)
SUM_U8 = Residual(IMAGE, "u8", 128, 120, 12345, -20011, 14, 131, 0, 255)
SUM_S8 = replace(SUM_U8, dtype="s8", b_zero_point=-8, zero_point=5, low=-4, high=127)
SUM_S16 = Residual(IMAGE, "s16", 0, 0, 9000, 12000, 15, 0, -32768, 32767)
CASES = {
    "none": Epilogue("none", "s32", 0, 0, 0),
    "narrow-u8": NARROW_U8,
    "narrow-s8": NARROW_S8,
    "narrow-no-post-shift": Epilogue("narrow", "u8", 0, 0, 255, post_shift=0),
    "narrow-left-u8": Epilogue("narrow", "u8", 7, 3, 255, left=6),
    "narrow-left-s8": replace(NARROW_S8, post_shift=0, left=3),
    "single-u8": SINGLE_U8,
    "single-s8": Epilogue("single", "s8", 5, -128, 127),
    "single-s16": SINGLE_S16,
    "single-s16-clamp": Epilogue("single", "s16", 100, -32768, 3000),
    "table-u8": replace(NARROW_U8, lut=True),
    "table-s8": replace(NARROW_S8, lut=True, low=-128, high=127),
    "residual-u8": replace(NARROW_U8, residual=SUM_U8),
    "residual-s8": replace(NARROW_S8, residual=SUM_S8),
    "residual-s16": replace(SINGLE_S16, residual=SUM_S16),
    "residual-no-fold": replace(NARROW_U8, residual=replace(SUM_U8, shift=24, a_multiplier=30000)),
    "residual-s16-no-fold": replace(
        SINGLE_S16, residual=replace(SUM_S16, a_multiplier=30000, b_multiplier=30000, shift=17, zero_point=9000)
    ),
    "table-and-residual": replace(NARROW_U8, lut=True, residual=SUM_U8),
    "table-and-residual-s8": replace(NARROW_S8, lut=True, residual=replace(SUM_S8, low=-9, high=99)),
}


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", CASES)
def test_every_form_natively(case: str, target: str) -> None:
    check(CASES[case], target, channels=43, vectors=3, natural=False)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", ["none", "narrow-u8", "single-s16", "residual-u8"])
def test_natural_order(case: str, target: str) -> None:
    check(CASES[case], target, channels=40, vectors=2, natural=True)


@pytest.mark.emulated
@pytest.mark.parametrize("case", ["none", "narrow-s8", "narrow-left-s8", "single-s16", "table-and-residual-s8"])
def test_arm(case: str) -> None:
    check(CASES[case], "arm-neon", channels=29, vectors=4, natural=False)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("case", CASES)
def test_every_form_on_arm(case: str, target: str) -> None:
    check(CASES[case], target, channels=29, vectors=4, natural=False)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels", [1, 2, 7, 8, 16, 31, 33, 64, 65])
def test_channel_counts(case: str, target: str, channels: int) -> None:
    check(CASES[case], target, channels, vectors=1 + channels % 4, natural=channels % 2 == 0, seed=channels)


def test_one_multiplier_for_all_channels() -> None:
    target, layout = load_target("x86-avx2"), ChannelLayout(9, 2)
    many = pack_parameters(
        NARROW_U8, target, layout, np.arange(9), np.full(9, 2**14), np.full(9, 3), acc_low=0, acc_high=9
    )
    one = pack_parameters(
        NARROW_U8, target, layout, np.arange(9), np.array([2**14]), np.array([3]), acc_low=0, acc_high=9
    )
    assert many.dtype == np.int32
    np.testing.assert_array_equal(many, one)


def _pack(e: Epilogue, m: int = 2**14, s: int = 8, low: int = -100, high: int = 100, channels: int = 4) -> np.ndarray:
    return pack_parameters(
        e,
        load_target("x86-avx2"),
        ChannelLayout(channels, 2),
        np.zeros(channels),
        np.array([m]),
        np.array([s]),
        acc_low=low,
        acc_high=high,
        where="conv7",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"high": 2**31, "s": 0},
            r"accumulator could pass 32 bits\n  where: conv7\n  why: its interval is -100 … 2147483648",
        ),
        ({"low": -(2**31) - 1}, "accumulator could pass 32 bits"),
        ({"high": 2**31 - 2, "s": 8}, "its interval is -100 … 2147483774"),  # narrow's rounding term counts
        ({"m": 2**15}, r"outside the narrow form\n  where: conv7\n  why: multipliers 32768"),
        ({"s": 31}, r"shifts 31 … 31 \(allowed 0 … 30\)"),
        ({"s": -1}, r"shifts -1 … -1 \(allowed 0 … 30\)"),
        ({"s": 25, "left": 6}, r"shifts 25 … 25 \(allowed -6 … 24\)"),
        ({"s": 1, "left": 6, "high": 2**25}, "its interval is -6400 … 2147483712"),  # all move to the left
    ],
)
def test_constants_are_checked(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(CompileError, match=message):
        _pack(replace(NARROW_U8, left=arguments.pop("left", 0)), **arguments)


@pytest.mark.parametrize(
    "broken",
    [
        replace(NARROW_U8, high=256),
        replace(NARROW_U8, low=9, high=3),
        replace(NARROW_U8, zero_point=-1),
        replace(NARROW_U8, post_shift=7),
        replace(NARROW_U8, left=7),
        replace(NARROW_U8, dtype="s16"),
        replace(SINGLE_S16, lut=True),
    ],
)
def test_contradictions_are_named(broken: Epilogue) -> None:
    with pytest.raises(CompileError, match="the epilogue contradicts itself\n  where: conv7"):
        _pack(broken, m=2**14 if broken.form == "narrow" else 2**30)


def test_missing_constants() -> None:
    with pytest.raises(CompileError, match="requantize constants are missing"):
        pack_parameters(
            NARROW_U8, load_target("arm-neon"), ChannelLayout(4, 2), np.zeros(4), acc_low=0, acc_high=0, where="conv7"
        )


def test_residual_overflow() -> None:
    wide = replace(SUM_S16, a_multiplier=32767, b_multiplier=32767, shift=30)
    with pytest.raises(CompileError, match="residual add could pass 32 bits\n  where: add1"):
        residual_constants(SINGLE_S16, wide, "add1")


def test_residual_zero_point_folds_where_it_fits() -> None:
    constant, zero_point = residual_constants(NARROW_U8, SUM_U8)
    assert zero_point == 0
    assert constant == (1 << 13) - 128 * 12345 + 120 * 20011 + (131 << 14)
    assert residual_constants(NARROW_U8, replace(SUM_U8, shift=24))[1] == 131
