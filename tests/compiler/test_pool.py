"""Pooling kernels against plain loops over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Image
from edgeq.compiler.kernels.epilogue.epilogue import reference
from edgeq.compiler.kernels.nest import image_strides
from edgeq.compiler.kernels.spatial.pool import MaxPoolSpec, SumPoolSpec, Window
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, constants_for, epilogues, noise, strided


def view(flat: np.ndarray, image: Image) -> np.ndarray:
    return strided(flat, (image.n, image.h, image.w, image.c), image_strides(image))


def windows(x: np.ndarray, window: Window, oh: int, ow: int) -> Any:
    """(oy, ox, pixels [n, taps, c]) of every window, clipped."""
    for oy in range(oh):
        for ox in range(ow):
            rows = [oy * window.stride_h - window.pad_top + k * window.dilation_h for k in range(window.kh)]
            columns = [ox * window.stride_w - window.pad_left + k * window.dilation_w for k in range(window.kw)]
            rows, columns = ([i for i in r if 0 <= i < n] for r, n in ((rows, x.shape[1]), (columns, x.shape[2])))
            yield oy, ox, x[:, rows][:, :, columns].reshape(x.shape[0], -1, x.shape[3])


def check_max(spec: MaxPoolSpec, name: str, seed: int = 0, splits: bool = True) -> None:
    rng = np.random.default_rng(seed)
    x, y = noise(rng, spec.x.elements, spec.dtype), noise(rng, spec.y.elements, spec.dtype)
    wanted = y.copy()
    for oy, ox, pixels in windows(view(x, spec.x), spec.window, spec.y.h, spec.y.w):
        view(wanted, spec.y)[:, oy, ox] = pixels.max(axis=1, initial=DTYPE_RANGE[spec.dtype][0])
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


def check_sum(
    x_image: Image, y_image: Image, window: Window, dtype: str, zero: int, scale_strides: tuple[int, ...],
    epilogue: Epilogue, name: str, seed: int = 0, splits: bool = True,
) -> SumPoolSpec:  # fmt: skip
    rng = np.random.default_rng(seed)
    shape = (y_image.n, y_image.h, y_image.w, y_image.c)
    entries = 1 + sum((n - 1) * s for n, s in zip(shape, scale_strides, strict=True))
    constants = constants_for(rng, epilogue, entries, accumulator=window.kh * window.kw * 255)
    spec = SumPoolSpec.of(x_image, y_image, window, dtype, zero, scale_strides, epilogue, constants)
    x, y = noise(rng, x_image.elements, dtype), noise(rng, y_image.elements, epilogue.dtype)
    acc = np.zeros(shape, np.int64)
    for oy, ox, pixels in windows(view(x, x_image), window, y_image.h, y_image.w):
        acc[:, oy, ox] = (pixels.astype(np.int64) - zero).sum(axis=1)
    wanted = y.copy()
    if epilogue.form == "none":
        view(wanted, y_image)[...] = acc
    else:
        spread = [strided(np.ascontiguousarray(constants[k]), shape, scale_strides) for k in ("multiplier", "shift")]
        flat = [v.reshape(-1) for v in (acc, *spread)]
        view(wanted, y_image)[...] = reference(epilogue, *flat, constants.get("table")).reshape(shape)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, constants, cuts)["y"]
    np.testing.assert_array_equal(got, wanted)
    return spec


def image(n: int, h: int, w: int, c: int, pixel: int = 0, row: int = 0) -> Image:
    pixel = max(pixel, c)
    row = max(row, w * pixel)
    return Image(n, h, w, c, h * row, row, pixel)


MAX_CASES = [
    (image(1, 9, 11, 24), image(1, 4, 5, 24), Window(3, 3, 2, 2), "u8"),
    (image(2, 8, 8, 70, pixel=80), image(2, 4, 4, 70, pixel=75), Window(2, 2, 2, 2), "u8"),
    (image(1, 7, 7, 20), image(1, 7, 7, 20), Window(13, 13, 1, 1, 6, 6), "u8"),
    (image(1, 7, 6, 5, pixel=8, row=50), image(1, 7, 6, 5), Window(5, 5, 1, 1, 2, 2), "s8"),
    (image(1, 9, 9, 18), image(1, 5, 5, 18), Window(3, 3, 2, 2, 2, 2, 2, 2), "s16"),
    # Windows without a pixel: between two taps, in front of the image and behind it.
    (image(1, 1, 3, 20), image(1, 1, 3, 20), Window(2, 2, 1, 1, 1, 0, 2, 1), "u8"),
    (image(1, 3, 1, 20), image(1, 3, 2, 20), Window(4, 4, 1, 1, 1, 3, 1, 2), "s8"),
    (image(1, 4, 4, 3), image(1, 5, 5, 3), Window(2, 2, 2, 2, 2, 3), "s16"),
]


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize("case", MAX_CASES)
def test_max(name: str, case: tuple) -> None:
    check_max(MaxPoolSpec(*case), name)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
def test_sums_of_windows_without_a_pixel(name: str) -> None:
    for x, window in ((image(1, 4, 5, 20), Window(2, 1, 2, 3, 3, 2)), (image(2, 1, 1, 9), Window(1, 2, 1, 1, 2, 0))):
        check_sum(x, image(x.n, 6, 4, x.c), window, "u8", 7, (0, 0, 0, 0), average(), name)


@st.composite
def geometries(draw: st.DrawFn, dilated: bool) -> tuple[Image, Image, Window]:
    """A window, an image it fits, and the output; views with gaps."""
    axes = []
    for _ in range(2):
        taps, stride = draw(st.integers(1, 6)), draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 3)) if dilated else 1
        reach = (taps - 1) * dilation
        pad = draw(st.integers(0, taps - 1)) if dilation == 1 else 0
        size = draw(st.integers(max(1, reach + 1 - pad), reach + 9))
        last = draw(st.integers(0, taps - 1)) if dilation == 1 else 0
        axes.append((taps, stride, dilation, pad, size, (size + pad + last - reach - 1) // stride + 1))
    (kh, sh, dh, pt, h, oh), (kw, sw, dw, pl, w, ow) = axes
    oh, ow = max(oh, 1), max(ow, 1)
    n, c = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 8, 16, 17, 40, 100]))
    gap = st.sampled_from([0, 0, 3])
    images = []
    for height, width in ((h, w), (oh, ow)):
        pixel = c + draw(gap)
        images.append(image(n, height, width, c, pixel, width * pixel + draw(gap)))
    return images[0], images[1], Window(kh, kw, sh, sw, pt, pl, dh, dw)


@settings(max_examples=15, deadline=None)
@given(geometries(True), st.sampled_from(["u8", "s8", "s16"]), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_max(geometry: tuple, dtype: str, name: str, seed: int) -> None:
    check_max(MaxPoolSpec(*geometry, dtype), name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(geometries(True), st.sampled_from(["u8", "s8", "s16"]), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_max_full(geometry: tuple, dtype: str, name: str, seed: int) -> None:
    check_max(MaxPoolSpec(*geometry, dtype), name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(geometries(True), st.sampled_from(["u8", "s8", "s16"]), st.integers(0, 99))
def test_any_max_full_arm(geometry: tuple, dtype: str, seed: int) -> None:
    check_max(MaxPoolSpec(*geometry, dtype), "arm-neon", seed, splits=False)


def average(form: str = "single", dtype: str = "u8") -> Epilogue:
    low, high = DTYPE_RANGE[dtype]
    return Epilogue(
        form, dtype, 128 if dtype == "u8" else 0, low, high, 2 if form == "narrow" else 0, per_channel=False
    )


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
def test_global_average(name: str) -> None:
    spec = check_sum(image(1, 7, 7, 1280), image(1, 1, 1, 1280), Window(7, 7), "u8", 3, (0, 0, 0, 0), average(), name)
    assert spec.tasks() == 16


@pytest.mark.parametrize("name", NATIVE)
@pytest.mark.parametrize(("scale_strides", "walk"), [((0, 0, 0, 1), "lanes"), ((0, 5, 1, 0), "classes")])
def test_average_with_padding(name: str, scale_strides: tuple[int, ...], walk: str) -> None:
    args = image(2, 9, 9, 20), image(2, 5, 5, 20), Window(3, 3, 2, 2, 1, 1), "s8", -7, scale_strides
    assert check_sum(*args, average("narrow"), name).scales.walk == walk


def draw_sum(data: st.DataObject) -> tuple:
    x, y, window = data.draw(geometries(False))
    dtype = data.draw(st.sampled_from(["u8", "s8", "s16"]))
    zero = 0 if dtype == "s16" else data.draw(st.integers(*DTYPE_RANGE[dtype]))
    strides = data.draw(st.sampled_from([(0, 0, 0, 0), (0, 0, 0, 1), (0, y.w, 1, 0)]))
    return x, y, window, dtype, zero, strides


@settings(max_examples=15, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_sum(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    check_sum(*draw_sum(data), epilogue, name, seed)


@pytest.mark.full
@settings(max_examples=250, deadline=None)
@given(st.data(), epilogues(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_sum_full(data: st.DataObject, epilogue: Epilogue, name: str, seed: int) -> None:
    check_sum(*draw_sum(data), epilogue, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=60, deadline=None)
@given(st.data(), epilogues(), st.integers(0, 99))
def test_any_sum_full_arm(data: st.DataObject, epilogue: Epilogue, seed: int) -> None:
    check_sum(*draw_sum(data), epilogue, "arm-neon", seed, splits=False)


def test_errors() -> None:
    with pytest.raises(CompileError, match="don't belong together"):
        MaxPoolSpec(image(1, 4, 4, 3), image(1, 2, 2, 4), Window(2, 2, 2, 2), "u8")
    constants = {"multiplier": np.array([2**30, 2**30 + 1] * 6), "shift": np.array([33] * 12)}
    with pytest.raises(CompileError, match="vary over channels and positions"):
        SumPoolSpec.of(image(1, 2, 2, 3), image(1, 2, 2, 3), Window(1, 1), "u8", 0, (0, 6, 3, 1), average(), constants)
