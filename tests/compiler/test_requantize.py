"""Lone requantize and elementwise products against the epilogue's NumPy reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import reference
from edgeq.compiler.kernels.epilogue.requantize import MulSpec, RequantizeSpec, Scales
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, constants_for, epilogues, extent, noise, shapes, strided, strides_for


def finish(epilogue: Epilogue, acc: np.ndarray, scale_strides: tuple[int, ...], constants: dict) -> np.ndarray:
    """The reference with multipliers gathered element by element."""
    if epilogue.form == "none":
        return acc.astype(np.int32)
    spread = [
        strided(np.ascontiguousarray(constants[n]), acc.shape, scale_strides).reshape(-1)
        for n in ("multiplier", "shift")
    ]
    return reference(epilogue, acc.reshape(-1), *spread, constants.get("table")).reshape(acc.shape)


def check_requantize(shape, x_strides, scale_strides, y_strides, epilogue, name, seed=0, splits=True) -> RequantizeSpec:
    rng = np.random.default_rng(seed)
    constants = constants_for(rng, epilogue, extent(shape, scale_strides))
    spec = RequantizeSpec.of(shape, x_strides, scale_strides, y_strides, epilogue, constants)
    x = noise(rng, extent(shape, x_strides), "s32") >> rng.choice([0, 7, 12, 20], extent(shape, x_strides))
    if epilogue.form == "narrow":
        x = np.clip(x, -(2**31), 2**31 - 1 - 2**30)  # the op's proof: rounding must not overflow
    y = noise(rng, extent(shape, y_strides), epilogue.dtype)
    wanted = y.copy()
    view = strided(x.astype(np.int32), shape, x_strides)
    strided(wanted, shape, y_strides)[...] = finish(epilogue, view, scale_strides, constants)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x.astype(np.int32), "y": y}, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def check_mul(shape, strides, scale_strides, dtypes, zeros, epilogue, name, seed=0, splits=True) -> MulSpec:
    rng = np.random.default_rng(seed)
    constants = constants_for(rng, epilogue, extent(shape, scale_strides), accumulator=2**16)
    spec = MulSpec.of(shape, *strides[:2], scale_strides, strides[2], epilogue, constants, *dtypes, *zeros)
    a, b = (noise(rng, extent(shape, s), d) for s, d in zip(strides, dtypes, strict=False))
    y = noise(rng, extent(shape, strides[2]), epilogue.dtype)
    left, right = (strided(v, shape, s).astype(np.int64) - z for v, s, z in zip((a, b), strides, zeros, strict=False))
    wanted = y.copy()
    strided(wanted, shape, strides[2])[...] = finish(epilogue, left * right, scale_strides, constants)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"a": a, "b": b, "y": y}, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def simple(form: str = "single", dtype: str = "u8", lut: bool = False) -> Epilogue:
    low, high = DTYPE_RANGE[dtype]
    return Epilogue(
        form, dtype, 0 if dtype == "s16" else (low + high) // 2, low, high, 3 if form == "narrow" else 0, lut=lut
    )


SCALES = [("one", (0, 0, 0)), ("lanes", (0, 0, 1)), ("classes", (5, 1, 0)), ("classes", (1, 0, 0))]


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize(("walk", "scale_strides"), SCALES)
@pytest.mark.parametrize("form", ["narrow", "single"])
def test_scale_walks(name: str, walk: str, scale_strides: tuple[int, ...], form: str) -> None:
    spec = check_requantize((3, 5, 24), (120, 24, 1), scale_strides, (150, 30, 1), simple(form), name)
    assert spec.scales.walk == walk


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize(
    ("form", "dtype", "lut"), [("single", "s16", False), ("none", "s32", False), ("narrow", "u8", True)]
)
def test_mul(name: str, form: str, dtype: str, lut: bool) -> None:
    epilogue = simple(form, dtype, lut)
    dense = ((120, 24, 1), (120, 24, 1), (120, 24, 1))
    check_mul((3, 5, 24), dense, (0, 0, 0), ("u8", "u8"), (128, 3), epilogue, name)
    check_mul((3, 5, 24), (dense[0], (24, 0, 1), dense[2]), (0, 0, 0), ("s16", "s8"), (0, -128), epilogue, name)


@st.composite
def spread(draw: st.DrawFn) -> tuple:
    shape = draw(shapes(3))
    scale_strides = draw(st.one_of(st.just((0,) * len(shape)), strides_for(shape, broadcast=True)))
    return shape, draw(strides_for(shape, broadcast=True, permute=True)), scale_strides, draw(strides_for(shape))


@settings(max_examples=20, deadline=None)
@given(spread(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_requantize(views: tuple, epilogue: Epilogue, name: str, seed: int) -> None:
    check_requantize(*views, epilogue, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(spread(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_requantize_full(views: tuple, epilogue: Epilogue, name: str, seed: int) -> None:
    check_requantize(*views, epilogue, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(spread(), epilogues(), st.integers(0, 99))
def test_requantize_full_arm(views: tuple, epilogue: Epilogue, seed: int) -> None:
    check_requantize(*views, epilogue, "arm-neon", seed, splits=False)


def draw_mul(data: st.DataObject) -> tuple:
    shape, a, scales, y = data.draw(spread())
    b = data.draw(strides_for(shape, broadcast=True))
    dtypes = tuple(data.draw(st.sampled_from(["u8", "s8", "s16"])) for _ in range(2))
    zeros = tuple(0 if d == "s16" else data.draw(st.integers(*DTYPE_RANGE[d])) for d in dtypes)
    return shape, (a, b, y), scales, dtypes, zeros


@settings(max_examples=15, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_mul(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    check_mul(*draw_mul(data), epilogue, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_mul_full(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    check_mul(*draw_mul(data), epilogue, name, seed)


def test_errors() -> None:
    constants = {"multiplier": np.array([2**30, 2**30 + 1]), "shift": np.array([33, 33])}
    epilogue = simple()
    spec = RequantizeSpec.of((3, 2), (2, 1), (0, 1), (2, 1), epilogue, constants)
    classes = replace(spec, scales=Scales("classes", 2, 3))
    with pytest.raises(CompileError, match="changed after the kernel was chosen"):
        classes.pack(load_target("arm-neon"), constants)
    with pytest.raises(CompileError, match="impossible form"):
        MulSpec.of((4,), (1,), (1,), (0,), (1,), epilogue, {}, "s16", "s8", 3, 0)
