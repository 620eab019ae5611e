"""Copies, fills and gathers against NumPy's strided views: every walk, every target, any task split."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_BYTES, DType, Image
from edgeq.compiler.kernels.movement.copy import CopySpec, FillSpec, GatherSpec
from edgeq.compiler.kernels.nest import dense_strides
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import _shared as shared_library
from tests.support.kernel_runner import run_kernel

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm-neon"]
TYPES = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
RNG = np.random.default_rng(7)


def usable(name: str) -> Target:
    """The target; a machine without its instructions runs it in the emulator or not at all."""
    return load_target(name)


def noise(elements: int, dtype: type) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max, elements, dtype=dtype, endpoint=True)


def strided(flat: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])


def check_copy(target: Target, shape: tuple[int, ...], src: tuple[int, ...], dst: tuple[int, ...], width: int = 1,
               flip: bool = False, cut: bool = True) -> CopySpec:  # fmt: skip
    dtype: DType = {1: "s8", 2: "s16", 4: "s32", 8: "s64"}[width]
    spec = CopySpec.of(shape, src, dst, dtype, flip)
    extents = [1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) for strides in (src, dst)]
    x, y = noise(extents[0], TYPES[width]), noise(extents[1], TYPES[width])
    wanted = y.copy()
    strided(wanted, shape, dst)[...] = strided(x, shape, src) ^ (0x80 if flip else 0)
    splits = tuple(sorted({spec.tasks() // 3, spec.tasks() // 2})) if cut else ()
    got = run_kernel(spec, target, {"x": x, "y": y}, splits=splits)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def nchw_to_nhwc(n: int, c: int, h: int, w: int, row: int, pixel: int) -> tuple[tuple[int, ...], ...]:
    return (n, c, h, w), (c * h * w, h * w, w, 1), (h * row, 1, row, pixel)


CASES = [
    ("rows", ((3, 5, 20), (100, 20, 1), (150, 30, 1), 1)),
    ("rows", ((9000,), (1,), (1,), 1)),
    ("rows", ((37,), (1,), (1,), 4)),
    ("rows", ((4, 2, 4, 2, 3), (12, 0, 3, 0, 1), (48, 24, 6, 3, 1), 1)),  # nearest resize × 2
    ("zip", (*nchw_to_nhwc(1, 3, 33, 50, 156, 3), 1)),
    ("zip", (*nchw_to_nhwc(1, 3, 20, 24, 72, 3), 2)),
    ("unzip", ((2, 40, 3), (120, 3, 1), (120, 1, 40), 1)),
    ("unzip", ((1, 40, 2), (80, 2, 1), (80, 1, 40), 4)),
    ("tiles", (*nchw_to_nhwc(2, 24, 9, 7, 168, 24), 1)),
    ("tiles", (*nchw_to_nhwc(1, 5, 6, 3, 24, 8), 1)),
    ("tiles", ((33, 50), (1, 33), (60, 1), 2)),
    ("tiles", ((6, 70), (1, 8), (70, 1), 4)),
    ("tiles", ((5, 9), (1, 5), (9, 1), 8)),
    ("elements", ((5, 6, 7), (84, 14, 2), (42, 7, 1), 1)),
    ("elements", ((7, 5), (5, 1), (20, 4), 2)),
]


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize(("walk", "case"), CASES)
def test_copies(name: str, walk: str, case: tuple) -> None:
    shape, src, dst, width = case
    assert check_copy(usable(name), shape, src, dst, width).walk == walk
    if width == 1:
        check_copy(usable(name), shape, src, dst, width, flip=True)


@pytest.mark.emulated
@pytest.mark.parametrize("case", [c for _, c in CASES[:1] + CASES[4:9]])
def test_copies_arm(case: tuple) -> None:
    shape, src, dst, width = case
    check_copy(usable("arm-neon"), shape, src, dst, width, flip=width == 1, cut=False)


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    """A permuted, padded, possibly expanded copy."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 7, 16, 19, 33]), min_size=1, max_size=4)))
    source = draw(st.permutations(range(len(shape))))
    strides = [0] * len(shape)
    step = 1
    for d in source:
        if draw(st.integers(0, 6)) == 0:
            continue
        strides[d] = step
        step *= shape[d] + draw(st.sampled_from([0, 0, 1, 3]))
    sink = [0] * len(shape)
    step = draw(st.sampled_from([1, 1, 1, 2]))
    for d in draw(st.permutations(range(len(shape)))):
        sink[d] = step
        step *= shape[d] + draw(st.sampled_from([0, 0, 1, 3]))
    return shape, tuple(strides), tuple(sink), draw(st.sampled_from([1, 1, 2, 4, 8]))


@settings(max_examples=10, deadline=None)
@given(views(), st.booleans(), st.sampled_from(NATIVE))
def test_any_view(view: tuple, flip: bool, name: str) -> None:
    check_copy(usable(name), *view, flip=flip and view[3] == 1)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(views(), st.booleans(), st.sampled_from(NATIVE))
def test_any_view_full(view: tuple, flip: bool, name: str) -> None:
    check_copy(usable(name), *view, flip=flip and view[3] == 1)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(views(), st.booleans())
def test_any_view_full_arm(view: tuple, flip: bool) -> None:
    check_copy(usable("arm-neon"), *view, flip=flip and view[3] == 1, cut=False)


def test_equal_copies_share_a_kernel() -> None:
    a = CopySpec.of((1, 4, 5, 6), (120, 30, 6, 1), (120, 30, 6, 1))
    assert a == CopySpec.of((120,), (1,), (1,))
    assert CopySpec.of((4, 5), (1, 4), (5, 1)) == CopySpec.of((5, 4), (4, 1), (1, 5))


@pytest.mark.parametrize(("shape", "src"), [((5, 40), (-40, 1)), ((3, 20), (20, -1)), ((20, 18), (1, -20))])
def test_reversed_slice(shape: tuple[int, int], src: tuple[int, int]) -> None:
    """Negative strides: the operand points at the first element read."""
    spec = CopySpec.of(shape, src, (shape[1], 1))
    target = usable("host")
    start = -sum((n - 1) * min(s, 0) for n, s in zip(shape, src, strict=True))
    x, y = noise(start + 500, np.uint8), np.zeros(shape, np.uint8)
    function = getattr(shared_library(spec, target), spec.symbol(target))
    function(0, spec.tasks(), ctypes.c_void_p(x.ctypes.data + start), ctypes.c_void_p(y.ctypes.data))
    np.testing.assert_array_equal(y, strided(x[start:], shape, src))


def dense(n: int, h: int, w: int, c: int, row: int = 0, pixel: int = 0) -> Image:
    pixel = pixel or c
    row = row or w * pixel
    return Image(n, h, w, c, h * row, row, pixel)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize("image", [dense(2, 6, 7, 5), dense(1, 4, 6, 20, pixel=24), dense(1, 5, 5, 3, row=20)])
@pytest.mark.parametrize("border", [(1, 1, 1, 1), (0, 1, 0, 2), (2, 0, 1, 0)])
def test_border(name: str, image: Image, border: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = border
    for dtype, value in (("u8", 200), ("s16", -3)):
        y = noise(image.elements, np.uint8 if dtype == "u8" else np.uint16).view(
            np.uint8 if dtype == "u8" else np.int16
        )
        wanted = y.copy()
        view = strided(wanted, (image.n, image.h, image.w, image.c),
                       (image.image_stride, image.row_stride, image.pixel_stride, 1))  # fmt: skip
        inside = view[:, top : image.h - bottom, left : image.w - right].copy()
        view[...] = value
        view[:, top : image.h - bottom, left : image.w - right] = inside
        got = run_kernel(FillSpec.border(image, *border, value, dtype), usable(name), {"y": y})["y"]
        np.testing.assert_array_equal(got, wanted)


def test_region() -> None:
    y = noise(200, np.uint32).view(np.int32)
    wanted = y.copy()
    strided(wanted, (4, 9), (50, 1))[...] = -7
    got = run_kernel(FillSpec.region((4, 9), (50, 1), -7, "s32"), usable("x86-avx2"), {"y": y})["y"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize(("inner", "dtype"), [(1, np.uint8), (37, np.uint8), (150, np.uint8), (9, np.int16)])
def test_gather(name: str, inner: int, dtype: type) -> None:
    x = RNG.integers(0, 100, (3, 10, inner)).astype(dtype)
    index = np.array([9, 0, -1, 3, 3, -10, 2])
    spec = GatherSpec(3, 7, inner, 10, 10 * inner, inner, 7 * inner + 4, inner, x.itemsize)
    y = np.zeros(2 * (7 * inner + 4) + 7 * inner, dtype)
    got = run_kernel(spec, usable(name), {"x": x, "y": y}, {"index": index}, splits=(5,))["y"]
    view = strided(got, (3, 7, inner), (7 * inner + 4, inner, 1))
    np.testing.assert_array_equal(view, x[:, index])
    assert (got[7 * inner : 7 * inner + 4] == 0).all()


def test_errors() -> None:
    with pytest.raises(CompileError, match="impossible element size"):
        CopySpec((4,), (1,), (1,), 3)
    with pytest.raises(CompileError, match="impossible element size"):
        CopySpec((4,), (1,), (1,), 2, True)
    with pytest.raises(CompileError, match="images differ in size"):
        CopySpec.image(dense(1, 2, 3, 4), dense(1, 2, 3, 5))
    with pytest.raises(CompileError, match="border is larger"):
        FillSpec.border(dense(1, 4, 4, 1), 3, 0, 2, 0, 0, "u8")
    with pytest.raises(CompileError, match="no border"):
        FillSpec.border(dense(1, 4, 4, 1), 0, 0, 0, 0, 0, "u8")
    with pytest.raises(CompileError, match="don't fit its axis"):
        GatherSpec(1, 2, 1, 4, 4, 1, 2, 1).pack(load_target("arm-neon"), {"index": np.array([0, 4])})
    with pytest.raises(CompileError, match="inconsistent"):
        CopySpec.of((2, 3), (1,), (3, 1))
    with pytest.raises(CompileError, match="empty"):
        CopySpec.of((2, 0), (1, 1), (3, 1))


def test_image_copy_is_a_row_copy() -> None:
    source, sink = dense(1, 4, 5, 6), dense(1, 4, 5, 6, row=60, pixel=10)
    spec = CopySpec.image(source, sink)
    assert spec.walk == "rows"
    assert dense_strides((2, 3, 4)) == (12, 4, 1)
    assert DTYPE_BYTES["s8"] == spec.element_bytes
