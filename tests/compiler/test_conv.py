"""Dense convolutions: generated code against plain NumPy on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Image, Residual
from edgeq.compiler.kernels.conv import ConvSpec
from edgeq.compiler.kernels.epilogue import NUMPY_DTYPE, reference
from edgeq.compiler.target import load_target
from tests.support.kernel_runner import run_kernel

NATIVE = ["x86-avx2", "x86-vnni"]
EMULATED = ["arm", "arm-dotprod"]
FILL = 77


def stored_dtype(name: str) -> str:
    """How int8 activations are stored on a target."""
    return "u8" if load_target(name).stores_u8 else "s8"


def narrow(dtype: str, **changes: Any) -> Epilogue:
    """A plain 8-bit epilogue."""
    low, high = DTYPE_RANGE[dtype]
    fields = {"zero_point": low + 100, "low": low, "high": high, "post_shift": 6} | changes
    return Epilogue("narrow", dtype, **fields)  # type: ignore[arg-type]


def view(buffer: np.ndarray, image: Image) -> np.ndarray:
    """NHWC view of a flat buffer."""
    strides = [s * buffer.itemsize for s in (image.image_stride, image.row_stride, image.pixel_stride, 1)]
    return np.lib.stride_tricks.as_strided(buffer, (image.n, image.h, image.w, image.c), strides)


def convolve(spec: ConvSpec, x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Accumulators int64 [n, oh, ow, N] by definition: one tap after the other."""
    x = x.astype(np.int64) - spec.x_zero_point
    y, per_group = spec.y, spec.x.c // spec.groups
    acc = np.zeros((y.n, y.h, y.w, y.c), np.int64) + bias
    for i in range(spec.kh):
        for j in range(spec.kw):
            top, left = i * spec.dilation_h, j * spec.dilation_w
            taken = x[:, top :: spec.stride_h, left :: spec.stride_w][:, : y.h, : y.w]
            for g in range(spec.groups):
                ins = slice(g * per_group, (g + 1) * per_group)
                outs = slice(g * (y.c // spec.groups), (g + 1) * (y.c // spec.groups))
                acc[..., outs] += taken[..., ins] @ w[outs, :, i, j].astype(np.int64).T
    return acc


def make_constants(rng: np.random.Generator, spec: ConvSpec) -> dict[str, np.ndarray]:
    """Weights over the whole range (extremes included) and requantize constants that use the output's range."""
    n, taps = spec.y.c, (spec.x.c // spec.groups) * spec.kh * spec.kw
    w = rng.integers(-127, 127, (n, spec.x.c // spec.groups, spec.kh, spec.kw), endpoint=True).astype(np.int8)
    w[0], w[-1] = 127, -127
    constants = {"w": w, "bias": rng.integers(-5000, 5000, n).astype(np.int32)}
    spread = 74 * 74 * np.sqrt(taps) * (256 if spec.x_dtype == "s16" else 1)
    wanted = {"u8": 60, "s8": 60, "s16": 15000, "s32": 1}[spec.epilogue.dtype]
    fraction, exponent = np.frexp(wanted / spread * rng.uniform(0.5, 1, n))
    if spec.epilogue.form == "narrow":
        constants["multiplier"] = (fraction * 2**15).astype(np.int32)
        constants["shift"] = (-exponent - spec.epilogue.post_shift).clip(0).astype(np.int32)
    elif spec.epilogue.form == "single":
        constants["multiplier"] = (fraction * 2**31).astype(np.int64).astype(np.int32)
        constants["shift"] = (31 - exponent).astype(np.int32)
    if spec.epilogue.lut:
        limits = DTYPE_RANGE[spec.epilogue.dtype]
        constants["table"] = rng.integers(*limits, 256, endpoint=True).astype(NUMPY_DTYPE[spec.epilogue.dtype])
    return constants


def check(spec: ConvSpec, target: str, seed: int = 0) -> None:
    """One kernel on random and extreme data: all bits right, nothing written outside the view, any split the same."""
    rng = np.random.default_rng(seed)
    constants = make_constants(rng, spec)
    low, high = DTYPE_RANGE[spec.x_dtype]
    x = rng.integers(low, high, spec.x.elements, endpoint=True).astype(NUMPY_DTYPE[spec.x_dtype])
    x[: x.size // 8], x[-(x.size // 8) :] = high, low
    e = spec.epilogue
    dtype = np.int32 if e.form == "none" else NUMPY_DTYPE[e.dtype]
    operands: dict[str, np.ndarray] = {"x": x, "y": np.full(spec.y.elements, FILL, dtype)}
    other = None
    if e.residual:
        data = rng.integers(*DTYPE_RANGE[e.residual.dtype], e.residual.image.elements, endpoint=True)
        operands["residual"] = data.astype(NUMPY_DTYPE[e.residual.dtype])
        other = view(operands["residual"], e.residual.image)
    tasks = spec.tasks()
    splits = tuple(sorted({tasks // 3, tasks // 2})) if tasks > 1 else ()
    got = run_kernel(spec, load_target(target), operands, constants, splits)["y"]
    acc = convolve(spec, view(x, spec.x), constants["w"], constants["bias"])
    expected = np.full(spec.y.elements, FILL, dtype)
    view(expected, spec.y)[...] = reference(
        e, acc, constants.get("multiplier"), constants.get("shift"), constants.get("table"), other
    )
    np.testing.assert_array_equal(got, expected)


def conv(
    target: str,
    x: tuple[int, int, int, int],
    n: int,
    k: tuple[int, int] = (1, 1),
    *,
    stride: int = 1,
    dilation: int = 1,
    x_dtype: str | None = None,
    x_gap: int = 0,
    y_gap: int = 0,
    epilogue: Epilogue | None = None,
    zero_point: int = 3,
    **fields: Any,
) -> ConvSpec:
    """A spec from an input shape (n, h, w, c) that contains its padding; gaps are other channels between pixels."""
    batch, h, w, c = x
    oh = (h - (k[0] - 1) * dilation - 1) // stride + 1
    ow = (w - (k[1] - 1) * dilation - 1) // stride + 1
    x_dtype = x_dtype or stored_dtype(target)

    def image(height: int, width: int, channels: int, gap: int) -> Image:
        pixel = channels + gap
        row = width * pixel + (5 if gap else 0)
        return Image(batch, height, width, channels, height * row + (7 if gap else 0), row, pixel)

    y = image(oh, ow, n, y_gap)
    epilogue = epilogue or narrow(stored_dtype(target))
    return ConvSpec(
        image(h, w, c, x_gap),
        y,
        x_dtype,  # type: ignore[arg-type]
        *k,
        epilogue,
        stride,
        stride,
        dilation,
        dilation,
        x_zero_point=0 if x_dtype == "s16" else zero_point,
        **fields,
    )


SHAPES: dict[str, dict[str, Any]] = {
    "pointwise": {"x": (1, 5, 9, 24), "n": 40},
    "pointwise-batch": {"x": (3, 1, 1, 33), "n": 17},
    "vector-matrix": {"x": (1, 1, 1, 130), "n": 201},
    "first-layer": {"x": (1, 12, 12, 3), "n": 16, "k": (3, 3), "stride": 2},
    "one-channel": {"x": (1, 14, 8, 1), "n": 12, "k": (10, 4), "stride": 2},
    "3x3": {"x": (1, 10, 9, 16), "n": 16, "k": (3, 3)},
    "3x3-odd": {"x": (2, 8, 8, 5), "n": 19, "k": (3, 3)},
    "dilated": {"x": (1, 11, 11, 8), "n": 9, "k": (3, 3), "dilation": 2},
    "grouped": {"x": (1, 6, 7, 24), "n": 36, "k": (3, 3), "groups": 3},
    "gaps": {"x": (2, 6, 7, 12), "n": 20, "k": (3, 2), "x_gap": 3, "y_gap": 5},
    "pointwise-gaps": {"x": (1, 4, 13, 12), "n": 33, "x_gap": 1, "y_gap": 2},
    "strided-pointwise": {"x": (1, 9, 9, 10), "n": 8, "stride": 2},
}


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_natively(shape: str, target: str) -> None:
    check(conv(target, **SHAPES[shape]), target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("shape", ["pointwise", "vector-matrix", "first-layer", "3x3-odd", "gaps"])
def test_shapes_on_arm(shape: str, target: str) -> None:
    check(conv(target, **SHAPES[shape]), target)


def _epilogues(dtype: str) -> dict[str, Epilogue]:
    image = Image.dense(1, 7, 7, 26)
    add = Residual(image, dtype, 3, 5, 9000, 11000, 14, 2, *DTYPE_RANGE[dtype])  # type: ignore[arg-type]
    return {
        "raw": Epilogue("none", "s32", 0, 0, 0),
        "single-s16": Epilogue("single", "s16", 0, -32768, 32767),
        "table": narrow(dtype, lut=True),
        "residual": narrow(dtype, residual=add),
        "table-residual": narrow(dtype, lut=True, residual=add),
    }


def check_epilogue(case: str, target: str, x_dtype: str | None = None) -> None:
    epilogue = _epilogues(stored_dtype(target))[case]
    check(conv(target, (1, 9, 9, 11), 26, (3, 3), epilogue=epilogue, x_dtype=x_dtype), target)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("case", ["raw", "single-s16", "table", "residual", "table-residual"])
def test_epilogues_natively(case: str, target: str) -> None:
    check_epilogue(case, target)


@pytest.mark.emulated
@pytest.mark.parametrize("case", ["raw", "table-residual"])
def test_epilogues_on_arm(case: str) -> None:
    check_epilogue(case, "arm")


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("dtype", ["u8", "s8", "s16"])
def test_every_activation_dtype(dtype: str, target: str) -> None:
    check(conv(target, (1, 7, 8, 13), 21, (3, 3), x_dtype=dtype), target)
    check(conv(target, (1, 1, 19, 30), 10, x_dtype=dtype), target)


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("dtype", ["u8", "s16"])
def test_other_activation_dtypes_on_arm(dtype: str, target: str) -> None:
    check(conv(target, (1, 7, 8, 13), 21, (3, 3), x_dtype=dtype), target)
