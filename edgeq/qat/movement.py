"""Ops that move or select values, on torch tensors of any type: the same for the float graph and the integer graph."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from edgeq.integer.interpolation import nearest_indices
from edgeq.qat.node import Form, Node, Tensor


def _reshape(node: Node) -> Tensor:
    shape = node.ints(1)
    return node.x.reshape([node.x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _flatten(node: Node) -> Tensor:
    axis = int(node.attrs.get("axis", 1))
    axis += node.x.dim() if axis < 0 else 0
    return node.x.reshape(math.prod(node.x.shape[:axis]), -1)


def _squeeze(node: Node) -> Tensor:
    axes = node.ints(1) if node.has(1) else [axis for axis, size in enumerate(node.x.shape) if size == 1]
    dropped = {axis % node.x.dim() for axis in axes}
    return node.x.reshape([size for axis, size in enumerate(node.x.shape) if axis not in dropped])


def _unsqueeze(node: Node) -> Tensor:
    axes = node.ints(1)
    rank = node.x.dim() + len(axes)
    result = node.x
    for axis in sorted(axis % rank for axis in axes):
        result = result.unsqueeze(axis)
    return result


def _transpose(node: Node) -> Tensor:
    return node.x.permute([int(axis) for axis in node.attrs.get("perm") or reversed(range(node.x.dim()))])


def _concat(node: Node) -> Tensor:
    return torch.cat([value for value in node.inputs if value is not None], dim=int(node.attrs["axis"]))


def _slice(node: Node) -> Tensor:
    starts, ends = node.ints(1), node.ints(2)
    axes = node.ints(3) if node.has(3) else list(range(len(starts)))
    steps = node.ints(4) if node.has(4) else [1] * len(starts)
    result = node.x
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picked = range(result.shape[axis])[slice(start, None if step < 0 and end < -result.shape[axis] else end, step)]
        result = result.index_select(axis, torch.tensor(list(picked), device=result.device))
    return result


def _split(node: Node) -> tuple[Tensor, ...]:
    axis = int(node.attrs.get("axis", 0))
    size = node.x.shape[axis]
    # Without sizes all parts but the last are equal.
    return torch.split(node.x, node.ints(1) if node.has(1) else -(-size // node.outputs), dim=axis)


def _gather(node: Node) -> Tensor:
    axis, indices = int(node.attrs.get("axis", 0)) % node.x.dim(), node.tensor(1).long()
    size = node.x.shape[axis]
    flat = torch.where(indices < 0, indices + size, indices).reshape(-1)
    found = node.x.index_select(axis, flat)
    return found.reshape(*node.x.shape[:axis], *indices.shape, *node.x.shape[axis + 1 :])


def _expand(node: Node) -> Tensor:
    return node.x.expand(np.broadcast_shapes(tuple(node.x.shape), tuple(node.ints(1))))


def _pad(node: Node) -> Tensor:
    mode, rank = str(node.attrs.get("mode", "constant")), node.x.dim()
    pads = node.ints(1)
    axes = [axis % rank for axis in node.ints(3)] if node.has(3) else list(range(rank))
    before, after = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    if mode == "constant":
        constant = node.constants[2] if node.has(2) else None
        value = 0.0 if constant is None else float(constant.reshape(()))
        order = [count for axis in reversed(range(rank)) for count in (before.get(axis, 0), after.get(axis, 0))]
        return functional.pad(node.x, order, value=value)
    result = node.x
    for axis in axes:
        positions = np.arange(-before[axis], result.shape[axis] + after[axis])
        last = result.shape[axis] - 1
        inside = np.abs(positions) if mode == "reflect" else np.maximum(positions, 0)
        inside = last - np.abs(last - inside) if mode == "reflect" else np.minimum(inside, last)
        result = result.index_select(axis, torch.tensor(inside, device=result.device))
    return result


def _resize(node: Node) -> Tensor:
    sizes = node.ints(3) if node.has(3) else None
    result = node.x
    for axis in range(2, result.dim()):
        before = result.shape[axis]
        if sizes is None:
            scales = node.constants[2]
            assert scales is not None
            after = math.floor(before * float(scales.reshape(-1)[axis]))
        else:
            after = sizes[axis]
        picked = nearest_indices(
            str(node.attrs.get("coordinate_transformation_mode", "half_pixel")),
            str(node.attrs.get("nearest_mode", "round_prefer_floor")),
            before,
            after,
        )
        result = result.index_select(axis, torch.tensor(np.asarray(picked), device=result.device))
    return result


def _depth_to_space(node: Node) -> Tensor:
    n, c, h, w = node.x.shape
    b = int(node.attrs["blocksize"])
    if str(node.attrs.get("mode", "DCR")) == "DCR":
        split = node.x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        split = node.x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(n, c // b**2, h * b, w * b)


def _space_to_depth(node: Node) -> Tensor:
    n, c, h, w = node.x.shape
    b = int(node.attrs["blocksize"])
    split = node.x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4)
    return split.reshape(n, c * b**2, h // b, w // b)


def _max_pool(node: Node) -> Tensor:
    floats = node.x if node.x.is_floating_point() else node.x.double()
    top, left, bottom, right = node.attrs.get("pads") or (0, 0, 0, 0)
    padded = functional.pad(floats, [left, right, top, bottom], value=-math.inf)
    found = functional.max_pool2d(
        padded,
        list(node.attrs["kernel_shape"]),
        list(node.attrs.get("strides") or (1, 1)),
        dilation=list(node.attrs.get("dilations") or (1, 1)),
    )
    return found.to(node.x.dtype)


def _global_max_pool(node: Node) -> Tensor:
    return node.x.amax((2, 3), keepdim=True)


def _reduce_max(node: Node) -> Tensor:
    axes = node.ints(1) if node.has(1) else list(range(node.x.dim()))
    return node.x.amax(axes, keepdim=bool(node.attrs.get("keepdims", 1)))


def _arg_max(node: Node) -> Tensor:
    axis = int(node.attrs.get("axis", 0))
    if int(node.attrs.get("select_last_index", 0)):
        last = node.x.shape[axis] - 1
        return last - node.x.flip(axis).argmax(axis, keepdim=bool(node.attrs.get("keepdims", 1)))
    return node.x.argmax(axis, keepdim=bool(node.attrs.get("keepdims", 1)))


MOVEMENT: dict[str, Form] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Identity": lambda node: node.x,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "MaxPool": _max_pool,
    "GlobalMaxPool": _global_max_pool,
    "ReduceMax": _reduce_max,
    "ArgMax": _arg_max,
}
