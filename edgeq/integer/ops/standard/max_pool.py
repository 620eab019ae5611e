"""MaxPool over [N, C, H, W]; padding never wins. ceil_mode is written as pads at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.ops.convolution import check_geometry
from edgeq.integer.ops.standard.common import Array, standard
from edgeq.integer.products import out_size, windows
from edgeq.integer.registry import BYTE, Attribute, Call, Input, TensorType


def infer(call: Call) -> list[TensorType]:
    """[N, C, OH, OW]."""
    check_geometry(call)
    x, a = call.type(0), call.attrs
    kernel, pads = a["kernel_shape"], a["pads"]
    if len(kernel) != 2 or min(kernel) < 1:
        raise call.fail(f"kernel_shape {list(kernel)} must be 2 numbers of at least 1")
    if a["ceil_mode"] or a["auto_pad"] != "NOTSET" or a["storage_order"]:
        raise call.fail("ceil_mode, auto_pad and storage_order are not taken", "write them as explicit pads")
    if any(pads[i] >= kernel[i % 2] for i in range(4)):
        raise call.fail(f"pads {list(pads)} must be smaller than the kernel {list(kernel)}")
    size = [
        out_size(x.shape[2 + i], kernel[i], a["strides"][i], a["dilations"][i], pads[i] + pads[2 + i]) for i in (0, 1)
    ]
    if min(size) < 1:
        raise call.fail(f"the window is larger than the padded image: output {size}")
    return [TensorType(x.dtype, (*x.shape[:2], *size))]


def reference(
    x: Array,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    ceil_mode: int = 0,
    auto_pad: str = "NOTSET",
    storage_order: int = 0,
) -> Array:
    """Padded with the lowest value, then the largest of the window."""
    around = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    image = np.pad(x, around, constant_values=np.iinfo(x.dtype).min)
    taps = windows(image, kernel_shape, strides, dilations)
    result: Array = taps[:, :, 0, 0].copy()
    for i in range(kernel_shape[0]):
        for j in range(kernel_shape[1]):
            np.maximum(result, taps[:, :, i, j], out=result)
    return result


OP = standard(
    "MaxPool",
    (Input("x", BYTE, rank=4),),
    (
        Attribute("kernel_shape", "ints"),
        Attribute("strides", "ints", (1, 1)),
        Attribute("pads", "ints", (0, 0, 0, 0)),
        Attribute("dilations", "ints", (1, 1)),
        Attribute("ceil_mode", default=0),
        Attribute("auto_pad", "string", "NOTSET"),
        Attribute("storage_order", default=0),
    ),
    infer,
    reference,
)
