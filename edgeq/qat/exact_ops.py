"""Products, requantization and elementwise ops of the integer dialect in torch: int64, the same bits as the reference.

Sums of products run in float64, which holds every integer below 2^53 and so every partial sum of a proven 32-bit
accumulator; whatever algorithm a library picks, the rounded result is the integer.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeq.integer.interpolation import WEIGHT_BITS, axis_weights
from edgeq.integer.ops.div import FAR
from edgeq.integer.ops.resize_linear import ONE
from edgeq.qat.exact_rows import ROWS, finish, round_shift
from edgeq.qat.movement import MOVEMENT
from edgeq.qat.node import Form, Node, Tensor


def _whole(value: Tensor) -> Tensor:
    return value.round().long()


def _conv(node: Node) -> Tensor:
    a = node.attrs
    top, left, bottom, right = a["pads"]
    x = functional.pad((node.x - int(a.get("x_zero_point", 0))).double(), [left, right, top, bottom])
    acc = functional.conv2d(
        x, node.tensor(1).double(), None, list(a["strides"]), 0, list(a["dilations"]), int(a["group"])
    )
    return _whole(acc) + node.tensor(2)


def _conv_transpose(node: Node) -> Tensor:
    a = node.attrs
    top, left, bottom, right = a["pads"]
    acc = functional.conv_transpose2d(
        (node.x - int(a["x_zero_point"])).double(),
        node.tensor(1).double(),
        None,
        list(a["strides"]),
        0,
        0,
        int(a["group"]),
        list(a["dilations"]),
    )
    more = [int(count) for count in a["output_padding"]]
    acc = functional.pad(acc, [0, more[1], 0, more[0]])
    return _whole(acc[..., top : acc.shape[-2] - bottom, left : acc.shape[-1] - right]) + node.tensor(2)


def _gemm(node: Node) -> Tensor:
    x = node.x - int(node.attrs.get("x_zero_point", 0))
    return _whole(x.double() @ node.tensor(1).double()) + node.tensor(2)


def _matmul(node: Node) -> Tensor:
    a, b = node.x - int(node.attrs["a_zero_point"]), node.tensor(1) - int(node.attrs["b_zero_point"])
    return _whole(a.double() @ b.double())


def _requantize(node: Node) -> Tensor:
    return finish(round_shift(node.x * node.tensor(1), node.tensor(2)), node.attrs)


def _requantize_narrow(node: Node) -> Tensor:
    right = node.tensor(2).clamp(min=0)
    a = round_shift(node.x << (right - node.tensor(2)), right).clamp(-32768, 32767)
    t = round_shift(a * node.tensor(1), 15)
    return finish(round_shift(t, int(node.attrs["post_shift"])), node.attrs)


def _rescale(node: Node) -> Tensor:
    a = node.attrs
    return finish(round_shift((node.x - int(a["x_zero_point"])) * int(a["multiplier"]), int(a["shift"])), a)


def _sides(node: Node) -> tuple[Tensor, Tensor]:
    a = node.attrs
    left, right = node.x - int(a["a_zero_point"]), node.tensor(1) - int(a["b_zero_point"])
    return left * int(a["a_multiplier"]), right * int(a["b_multiplier"])


def _add(node: Node) -> Tensor:
    a, b = _sides(node)
    return finish(round_shift(a + b, int(node.attrs["shift"])), node.attrs)


def _max(node: Node) -> Tensor:
    a, b = (round_shift(side, int(node.attrs["shift"])) for side in _sides(node))
    return finish(torch.maximum(a, b), node.attrs)


def _min(node: Node) -> Tensor:
    a, b = (round_shift(side, int(node.attrs["shift"])) for side in _sides(node))
    return finish(torch.minimum(a, b), node.attrs)


def _mul(node: Node) -> Tensor:
    return (node.x - int(node.attrs["a_zero_point"])) * (node.tensor(1) - int(node.attrs["b_zero_point"]))


def _div(node: Node) -> Tensor:
    a = node.attrs
    n = (node.x - int(a["a_zero_point"])) * int(a["multiplier"])
    d = (node.tensor(1) - int(a["b_zero_point"])) << int(a["shift"])
    n, d = torch.where(d < 0, -n, n), d.abs()
    quotient = torch.div(2 * n + d, (2 * d).clamp(min=1), rounding_mode="floor")
    return finish(torch.where(d == 0, n.sign() * FAR, quotient), a)


def _lut(node: Node) -> Tensor:
    index, table = node.x - int(node.attrs["lowest"]), node.tensor(1)
    if table.dim() == 1:
        return table[index]
    axis = int(node.attrs["axis"]) % index.dim()
    shape = [-1 if i == axis else 1 for i in range(index.dim())]
    rows = torch.arange(table.shape[0], device=index.device).reshape(shape)
    return table.reshape(-1)[rows * table.shape[1] + index]


def _lut_interp(node: Node) -> Tensor:
    position, table = node.x + 32768, node.tensor(1)
    j, f = position >> 7, position & 127
    return finish(round_shift(table[j] * (128 - f) + table[j + 1] * f, int(node.attrs["shift"])), node.attrs)


def _sum_pool(node: Node) -> Tensor:
    a = node.attrs
    top, left, bottom, right = a["pads"]
    x = functional.pad((node.x - int(a["x_zero_point"])).double(), [left, right, top, bottom])
    kernel = [int(size) for size in a["kernel_shape"]]
    ones = torch.ones((x.shape[1], 1, *kernel), dtype=x.dtype, device=x.device)
    return _whole(functional.conv2d(x, ones, None, list(a["strides"]), groups=x.shape[1]))


def _reduce_sum(node: Node) -> Tensor:
    a = node.attrs
    return (node.x - int(a["x_zero_point"])).sum(list(a["axes"]), keepdim=bool(a["keepdims"]))


def _embedding(node: Node) -> Tensor:
    table, indices = node.x, node.tensor(1)
    return table[indices.clamp(0, table.shape[0] - 1)]


def _scaled_embedding(node: Node) -> Tensor:
    table, multiplier = node.x, node.tensor(1)
    rows = node.tensor(2).clamp(0, table.shape[0] - 1)
    factors = multiplier[rows].reshape([*rows.shape, *[1] * (table.dim() - 1)])
    return finish(round_shift(table[rows] * factors, int(node.attrs["shift"])), node.attrs)


def _to_mask(node: Node) -> Tensor:
    return (node.x != 0).long()


def _resize_linear(node: Node) -> Tensor:
    a, x = node.attrs, node.x
    mode = str(a["mode"])
    rows, columns = axis_weights(mode, x.shape[2], int(a["out_h"])), axis_weights(mode, x.shape[3], int(a["out_w"]))

    def picked(value: Tensor, axis: int, taps: object) -> Tensor:
        return value.index_select(axis, torch.as_tensor(taps, dtype=torch.int64, device=x.device))

    across = torch.as_tensor(columns.weight, dtype=torch.int64, device=x.device)
    down = torch.as_tensor(rows.weight, dtype=torch.int64, device=x.device)[:, None]
    lines = picked(x, 3, columns.first) * (ONE - across) + picked(x, 3, columns.second) * across
    mixed = picked(lines, 2, rows.first) * (ONE - down) + picked(lines, 2, rows.second) * down
    return round_shift(mixed, 2 * WEIGHT_BITS)


#: By op of the domain `edgeq`.
EXACT: dict[str, Form] = {
    "Conv": _conv,
    "ConvS16": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GemmS16": _gemm,
    "MatMul": _matmul,
    "Requantize": _requantize,
    "RequantizeNarrow": _requantize_narrow,
    "Rescale": _rescale,
    "Add": _add,
    "Max": _max,
    "Min": _min,
    "Mul": _mul,
    "Div": _div,
    "Lut": _lut,
    "LutInterp": _lut_interp,
    "SumPool": _sum_pool,
    "ReduceSum": _reduce_sum,
    "Embedding": _embedding,
    "ScaledEmbedding": _scaled_embedding,
    "ToMask": _to_mask,
    "ResizeLinear": _resize_linear,
    **ROWS,
}


def form_of(domain: str, op: str) -> Form | None:
    """The torch form of an op of an integer graph, None where there is none."""
    return (EXACT if domain else MOVEMENT).get(op)
