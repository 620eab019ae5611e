"""Ops of the float graph in torch, differentiable: what gradients flow through. Values come from the integer graph."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from edgeq.qat.movement import MOVEMENT
from edgeq.qat.node import Form, Node, Tensor


def _conv(node: Node) -> Tensor:
    a = node.attrs
    top, left, bottom, right = a.get("pads") or (0, 0, 0, 0)
    return functional.conv2d(
        functional.pad(node.x, [left, right, top, bottom]),
        node.tensor(1),
        node.inputs[2] if node.has(2) else None,
        list(a.get("strides") or (1, 1)),
        0,
        list(a.get("dilations") or (1, 1)),
        int(a.get("group", 1)),
    )


def _conv_transpose(node: Node) -> Tensor:
    a = node.attrs
    top, left, bottom, right = a.get("pads") or (0, 0, 0, 0)
    result = functional.conv_transpose2d(
        node.x,
        node.tensor(1),
        None,
        list(a.get("strides") or (1, 1)),
        0,
        0,
        int(a.get("group", 1)),
        list(a.get("dilations") or (1, 1)),
    )
    more = [int(count) for count in a.get("output_padding") or (0, 0)]
    result = functional.pad(result, [0, more[1], 0, more[0]])
    result = result[..., top : result.shape[-2] - bottom, left : result.shape[-1] - right]
    return result + node.tensor(2).reshape(1, -1, 1, 1) if node.has(2) else result


def _average_pool(node: Node) -> Tensor:
    a, kernel = node.attrs, [int(size) for size in node.attrs["kernel_shape"]]
    top, left, bottom, right = a.get("pads") or (0, 0, 0, 0)
    strides = list(a.get("strides") or (1, 1))

    def pooled(x: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(x, [left, right, top, bottom]), kernel, strides)

    if a.get("count_include_pad", 0) or not any((top, left, bottom, right)):
        return pooled(node.x)
    return pooled(node.x) / pooled(torch.ones_like(node.x))


def _mean(node: Node) -> Tensor:
    axes = node.ints(1) if node.has(1) else list(range(node.x.dim()))
    return node.x.mean(axes, keepdim=bool(node.attrs.get("keepdims", 1)))


def _sum(node: Node) -> Tensor:
    axes = node.ints(1) if node.has(1) else list(range(node.x.dim()))
    return node.x.sum(axes, keepdim=bool(node.attrs.get("keepdims", 1)))


def _softmax(node: Node) -> Tensor:
    axis = int(node.attrs.get("axis", -1))
    if not node.has(1):
        return node.x.softmax(axis)
    kept = node.tensor(1).expand(node.x.shape) != 0
    # A row without any key comes out 0.
    return torch.where(kept, node.x, torch.full_like(node.x, -1e9)).softmax(axis) * kept


def _layer_norm(node: Node) -> Tensor:
    shape = [node.x.shape[-1]]
    beta = node.inputs[2] if node.has(2) else None
    return functional.layer_norm(node.x, shape, node.tensor(1), beta, float(node.attrs.get("epsilon", 1e-5)))


def _rms_norm(node: Node) -> Tensor:
    square = node.x.square().mean(-1, keepdim=True) + float(node.attrs.get("epsilon", 1e-5))
    return node.x * square.rsqrt() * node.tensor(1)


def _resize(node: Node) -> Tensor:
    if str(node.attrs.get("mode", "nearest")) == "nearest":
        found = MOVEMENT["Resize"](node)
        assert isinstance(found, Tensor)
        return found
    sizes = node.ints(3) if node.has(3) else None
    if sizes is None:
        scales = node.constants[2]
        assert scales is not None
        sizes = [math.floor(n * float(s)) for n, s in zip(node.x.shape, scales.reshape(-1), strict=True)]
    corners = str(node.attrs.get("coordinate_transformation_mode", "half_pixel")) == "align_corners"
    return functional.interpolate(node.x, sizes[2:], mode="bilinear", align_corners=corners)


def _extremum(node: Node) -> Tensor:
    values = [value for value in node.inputs if value is not None]
    result = values[0]
    for value in values[1:]:
        result = torch.maximum(result, value)
    return result


def _least(node: Node) -> Tensor:
    values = [value for value in node.inputs if value is not None]
    result = values[0]
    for value in values[1:]:
        result = torch.minimum(result, value)
    return result


#: By op type; clamps (Relu, Clip), functions of one tensor and casts are the module's own.
FLOAT: dict[str, Form] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": lambda node: node.x @ node.tensor(1),
    "Add": lambda node: node.x + node.tensor(1),
    "Sub": lambda node: node.x - node.tensor(1),
    "Mul": lambda node: node.x * node.tensor(1),
    "Div": lambda node: node.x / node.tensor(1),
    "Max": _extremum,
    "Min": _least,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda node: node.x.mean((2, 3), keepdim=True),
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Softmax": _softmax,
    "MaskedSoftmax": _softmax,
    "LayerNormalization": _layer_norm,
    "RmsNormalization": _rms_norm,
    **MOVEMENT,
    "Resize": _resize,
}
