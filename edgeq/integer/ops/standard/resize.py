"""Resize, nearest neighbour, [N, C, H, W]: rows and columns picked by `interpolation.nearest_indices`."""

from __future__ import annotations

import numpy as np

from edgeq.integer.interpolation import COORDINATE_MODES, NEAREST_MODES, nearest_indices, nearest_is_exact
from edgeq.integer.ops.standard.common import Array, indices, standard
from edgeq.integer.registry import BYTE, Attribute, Call, Input, TensorType

F32 = np.dtype(np.float32)


def out_shape(shape: tuple[int, ...], scales: Array | None, sizes: Array | None) -> tuple[int, ...]:
    """Sizes as they are, or floor(length · scale)."""
    if sizes is not None and sizes.size:
        return tuple(int(n) for n in sizes)
    assert scales is not None
    return tuple(int(np.floor(n * float(s))) for n, s in zip(shape, scales, strict=True))


def infer(call: Call) -> list[TensorType]:
    """The wanted size; cases in which float32 runtimes would pick another pixel are refused."""
    x, a = call.type(0), call.attrs
    coordinates, nearest = a["coordinate_transformation_mode"], a["nearest_mode"]
    if a["mode"] != "nearest":
        raise call.fail(f"mode is {a['mode']!r}", "linear resizing is the op ResizeLinear of the domain edgeq")
    if coordinates not in COORDINATE_MODES or nearest not in NEAREST_MODES:
        raise call.fail(f"coordinate_transformation_mode {coordinates!r} or nearest_mode {nearest!r} is not supported")
    scales = call.constant(2) if call.has(2) else None
    sizes = call.constant(3) if call.has(3) else None
    given = [v for v in (scales, sizes) if v is not None and v.size]
    if len(given) != 1 or len(given[0]) != 4:
        raise call.fail("it needs either scales or sizes, 4 numbers")
    shape = out_shape(x.shape, scales, sizes)
    if shape[:2] != x.shape[:2] or min(shape) < 1:
        raise call.fail(f"{x} can't be resized to {list(shape)}: only rows and columns may change")
    if (
        scales is not None
        and scales.size
        and any(n != m * float(s) for n, m, s in zip(shape, x.shape, scales, strict=True))
    ):
        raise call.fail(f"scales {scales.tolist()} don't give whole sizes for {x}", "give sizes")
    if not all(nearest_is_exact(coordinates, nearest, x.shape[i], shape[i]) for i in (2, 3)):
        raise call.fail(
            f"{list(x.shape)} to {list(shape)} by {coordinates}, {nearest} falls between two pixels in float32",
            "use one Gather per axis at interpolation.nearest_indices(…)",
        )
    return [TensorType(x.dtype, shape)]


def reference(
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    mode: str,
    coordinate_transformation_mode: str,
    nearest_mode: str,
) -> Array:
    """Two NumPy takes."""
    shape = out_shape(x.shape, scales, sizes)
    rows, columns = (
        nearest_indices(coordinate_transformation_mode, nearest_mode, x.shape[i], shape[i]) for i in (2, 3)
    )
    return np.ascontiguousarray(x[:, :, rows[:, None], columns])


OP = standard(
    "Resize",
    (
        Input("x", BYTE, rank=4),
        Input("roi", (F32,), optional=True, constant=True),
        Input("scales", (F32,), rank=1, optional=True, constant=True),
        indices("sizes", optional=True),
    ),
    (
        Attribute("mode", "string", "nearest"),
        Attribute("coordinate_transformation_mode", "string", "half_pixel"),
        Attribute("nearest_mode", "string", "round_prefer_floor"),
    ),
    infer,
    reference,
)
