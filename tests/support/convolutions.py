"""Convolutions to be tested: specs from shapes, random constants, the definition in NumPy, a check of a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue, Image, KernelSpec, Residual
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE, reference
from edgeq.compiler.target import load_target
from tests.support.kernel_runner import run_kernel

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
    limit = min(127, (2**31 - 2**27) // (taps * 2**15)) if spec.x_dtype == "s16" else 127  # 32 bits hold the sum
    w = rng.integers(-limit, limit, (n, spec.x.c // spec.groups, spec.kh, spec.kw), endpoint=True).astype(np.int8)
    w[0], w[-1] = limit, -limit
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


def check(
    spec: ConvSpec,
    target: str,
    seed: int = 0,
    weights: np.ndarray | None = None,
    *,
    kernel: KernelSpec | None = None,
    divisor: int = 1,
) -> None:
    """One kernel on random and extreme data: all bits right, nothing written outside the view, any split the same.

    Args:
        spec: what is to be computed.
        weights: instead of random ones, which are divided by `divisor`.
        kernel: what computes it; by default `spec` itself.
    """
    kernel, rng = kernel or spec, np.random.default_rng(seed)
    constants = make_constants(rng, spec)
    constants["w"] = constants["w"] // np.int8(divisor) if weights is None else weights
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
    tasks = kernel.tasks()
    splits = tuple(sorted({tasks // 3, tasks // 2})) if tasks > 1 else ()
    got = run_kernel(kernel, load_target(target), operands, constants, splits)["y"]
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


def epilogues(dtype: str) -> dict[str, Epilogue]:
    """Every kind of epilogue, for outputs of 7×7×26."""
    image = Image.dense(1, 7, 7, 26)
    add = Residual(image, dtype, 3, 5, 9000, 11000, 14, 2, *DTYPE_RANGE[dtype])  # type: ignore[arg-type]
    return {
        "raw": Epilogue("none", "s32", 0, 0, 0),
        "single-s16": Epilogue("single", "s16", 0, -32768, 32767),
        "table": narrow(dtype, lut=True),
        "residual": narrow(dtype, residual=add),
        "table-residual": narrow(dtype, lut=True, residual=add),
    }
