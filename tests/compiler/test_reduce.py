"""Reductions and ArgMax against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import reference
from edgeq.compiler.kernels.spatial.reduce import ArgMaxSpec, ReduceSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, constants_for, epilogues, extent, noise, shapes, strided, strides_for


def kept_of(shape: tuple[int, ...], axes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple, tuple]:
    kept = [d for d in range(len(shape)) if d not in axes]
    return tuple(shape[d] for d in kept), tuple(strides[d] for d in kept)


def check_sum(
    shape, axes, x_strides, y_strides, scale_strides, dtype, zero, epilogue, name, seed=0, splits=True
) -> ReduceSpec:
    rng = np.random.default_rng(seed)
    outer, y_kept = kept_of(shape, axes, y_strides)
    _, scale_kept = kept_of(shape, axes, scale_strides)
    count = int(np.prod([shape[a] for a in axes], initial=1))
    constants = constants_for(rng, epilogue, extent(outer, scale_kept), accumulator=count * 255)
    spec = ReduceSpec.sums(shape, axes, x_strides, y_strides, scale_strides, dtype, zero, epilogue, constants)
    x, y = noise(rng, extent(shape, x_strides), dtype), noise(rng, extent(outer, y_kept), epilogue.dtype)
    acc = (strided(x, shape, x_strides).astype(np.int64) - zero).sum(axis=axes)
    wanted = y.copy()
    if epilogue.form == "none":
        result = acc
    else:
        spread = [strided(np.ascontiguousarray(constants[k]), outer, scale_kept) for k in ("multiplier", "shift")]
        flat = [np.asarray(v).reshape(-1) for v in (acc, *spread)]
        result = reference(epilogue, *flat, constants.get("table")).reshape(outer)
    strided(wanted, outer, y_kept)[...] = result
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def check_max(shape, axes, x_strides, y_strides, dtype, name, seed=0, splits=True) -> ReduceSpec:
    rng = np.random.default_rng(seed)
    outer, y_kept = kept_of(shape, axes, y_strides)
    spec = ReduceSpec.maxima(shape, axes, x_strides, y_strides, dtype)
    x, y = noise(rng, extent(shape, x_strides), dtype), noise(rng, extent(outer, y_kept), dtype)
    wanted = y.copy()
    strided(wanted, outer, y_kept)[...] = strided(x, shape, x_strides).max(axis=axes)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def check_argmax(shape, axis, x_strides, y_strides, dtype, last, name, seed=0, splits=True) -> None:
    rng = np.random.default_rng(seed)
    outer, y_kept = kept_of(shape, (axis,), y_strides)
    spec = ArgMaxSpec.of(shape, axis, x_strides, y_strides, dtype, last)
    x = noise(rng, extent(shape, x_strides), dtype)
    x = (x >> rng.choice([0, 5])).astype(x.dtype)  # ties
    y = noise(rng, extent(outer, y_kept), "s64")
    wanted, view = y.copy(), strided(x, shape, x_strides)
    found = shape[axis] - 1 - np.flip(view, axis).argmax(axis) if last else view.argmax(axis)
    strided(wanted, outer, y_kept)[...] = found
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


def simple(form: str = "single", dtype: str = "u8") -> Epilogue:
    low, high = DTYPE_RANGE[dtype]
    return Epilogue(form, dtype, 0, low, high)


ALL = [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("axes", "scale_strides", "across"),
    [((1, 2), (0, 0, 0, 1), True), ((3,), (0, 0, 0, 0), False), ((1,), (0,) * 4, True)],
)
def test_sum(name: str, axes: tuple[int, ...], scale_strides: tuple[int, ...], across: bool) -> None:
    shape, dense = (2, 5, 6, 40), (1200, 240, 40, 1)
    kept = tuple(1 if d in axes else n for d, n in enumerate(shape))
    y_strides = tuple(int(np.prod(kept[d + 1 :])) for d in range(4))
    spec = check_sum(shape, axes, dense, y_strides, scale_strides, "u8", 77, simple(), name)
    assert spec.across == across
    check_max(shape, axes, dense, y_strides, "s8", name)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("last", [False, True])
def test_argmax(name: str, last: bool) -> None:
    check_argmax((3, 50), 1, (50, 1), (1, 0), "u8", last, name)
    check_argmax((2, 5, 7), 1, (35, 1, 5), (7, 0, 1), "s16", last, name)


def draw_reduction(data: st.DataObject) -> tuple:
    shape = data.draw(shapes(4))
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    x = data.draw(strides_for(shape, permute=True))
    kept = tuple(1 if d in axes else n for d, n in enumerate(shape))
    return shape, axes, x, data.draw(strides_for(kept, permute=True)), kept


@settings(max_examples=20, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_sum(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    run_any_sum(data, epilogue, name, seed)


def run_any_sum(data: st.DataObject, epilogue: Epilogue, name: str, seed: int, splits: bool = True) -> None:
    *geometry, kept = draw_reduction(data)
    scale = data.draw(st.one_of(st.just((0,) * len(kept)), strides_for(kept, broadcast=True)))
    dtype = data.draw(st.sampled_from(["u8", "s8", "s16"]))
    zero = 0 if dtype == "s16" else data.draw(st.integers(*DTYPE_RANGE[dtype]))
    check_sum(*geometry, scale, dtype, zero, epilogue, name, seed, splits)


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(["u8", "s8", "s16", "s32"]), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_max(data: st.DataObject, dtype: str, name: str, seed: int) -> None:
    check_max(*draw_reduction(data)[:4], dtype, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_sum_full(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    run_any_sum(data, epilogue, name, seed)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["u8", "s8", "s16", "s32"]), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_max_full(data: st.DataObject, dtype: str, name: str, seed: int) -> None:
    check_max(*draw_reduction(data)[:4], dtype, name, seed)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["u8", "s8", "s16", "s32"]), st.booleans(), st.sampled_from(NATIVE))
def test_any_argmax_full(data: st.DataObject, dtype: str, last: bool, name: str) -> None:
    shape = data.draw(shapes(3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    kept = tuple(1 if d == axis else n for d, n in enumerate(shape))
    strides = data.draw(strides_for(shape, permute=True)), data.draw(strides_for(kept))
    check_argmax(shape, axis, *strides, dtype, last, name)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), epilogues(), st.integers(0, 99))
def test_any_sum_full_arm(data: st.DataObject, epilogue: Epilogue, seed: int) -> None:
    run_any_sum(data, epilogue, "arm-neon", seed, splits=False)


def test_errors() -> None:
    with pytest.raises(CompileError, match="axes don't fit"):
        ReduceSpec.maxima((2, 3), (2,), (3, 1), (3, 1), "u8")
    with pytest.raises(CompileError, match="axes don't fit"):
        ReduceSpec.maxima((2, 3), (1, -1), (3, 1), (3, 1), "u8")
    with pytest.raises(CompileError, match="reduction contradicts itself"):
        ReduceSpec("sum", (2,), (3,), (0,), (1,), (3,), (1,), "u8")
    wide = ReduceSpec.sums((2**24,), (0,), (1,), (1,), (0,), "u8", 0, Epilogue("none", "s32", 0, 0, 0), {})
    with pytest.raises(CompileError, match="could pass 32 bits"):
        wide.pack(load_target("arm-neon"), {})
