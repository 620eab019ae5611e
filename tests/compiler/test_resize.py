"""ResizeLinear kernels against the op's reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import Image
from edgeq.compiler.kernels.nest import image_strides
from edgeq.compiler.kernels.spatial.resize import ResizeLinearSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.interpolation import COORDINATE_MODES
from edgeq.integer.ops.resize_linear import reference
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, noise, strided


def image(n: int, h: int, w: int, c: int, gap: int = 0) -> Image:
    pixel = c + gap
    return Image(n, h, w, c, h * w * pixel + 2 * gap, w * pixel, pixel)


def view(flat: np.ndarray, form: Image) -> np.ndarray:
    return strided(flat, (form.n, form.h, form.w, form.c), image_strides(form))


def check(spec: ResizeLinearSpec, name: str, seed: int = 0, splits: bool = True) -> None:
    rng = np.random.default_rng(seed)
    x, y = noise(rng, spec.x.elements, spec.dtype), noise(rng, spec.y.elements, spec.dtype)
    planes = view(x, spec.x).transpose(0, 3, 1, 2)
    wanted = y.copy()
    result = reference(planes, out_h=spec.y.h, out_w=spec.y.w, mode=spec.mode)
    view(wanted, spec.y)[...] = result.transpose(0, 2, 3, 1)
    cuts = (spec.tasks() // 2,) if splits else ()
    got = run_kernel(spec, load_target(name), {"x": x, "y": y}, splits=cuts)["y"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", [*NATIVE, pytest.param("arm-neon", marks=pytest.mark.emulated)])
@pytest.mark.parametrize("dtype", ["u8", "s8", "s16"])
def test_doubling(name: str, dtype: str) -> None:
    check(ResizeLinearSpec(image(2, 4, 5, 37), image(2, 8, 10, 37, 3), "half_pixel", dtype), name)


@st.composite
def resizes(draw: st.DrawFn) -> ResizeLinearSpec:
    sizes = st.integers(1, 9)
    n, c, gap = draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 16, 21, 40])), draw(st.sampled_from([0, 5]))
    x, y = (image(n, draw(sizes), draw(sizes), c, gap) for _ in range(2))
    return ResizeLinearSpec(x, y, draw(st.sampled_from(COORDINATE_MODES)), draw(st.sampled_from(["u8", "s8", "s16"])))


@settings(max_examples=12, deadline=None)
@given(resizes(), st.sampled_from(NATIVE))
def test_any(spec: ResizeLinearSpec, name: str) -> None:
    check(spec, name)


@pytest.mark.full
@settings(max_examples=200, deadline=None)
@given(resizes(), st.sampled_from(NATIVE), st.integers(0, 99))
def test_any_full(spec: ResizeLinearSpec, name: str, seed: int) -> None:
    check(spec, name, seed)


@pytest.mark.full
@pytest.mark.emulated
@settings(max_examples=50, deadline=None)
@given(resizes(), st.integers(0, 99))
def test_any_full_arm(spec: ResizeLinearSpec, seed: int) -> None:
    check(spec, "arm-neon", seed, splits=False)


def test_errors() -> None:
    with pytest.raises(CompileError, match="don't belong together"):
        ResizeLinearSpec(image(1, 2, 2, 3), image(1, 4, 4, 4), "half_pixel", "u8")
    with pytest.raises(CompileError, match="unknown coordinate mode"):
        ResizeLinearSpec(image(1, 2, 2, 3), image(1, 4, 4, 3), "half", "u8")
