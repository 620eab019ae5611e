"""QONNX: Quant, BipolarQuant and Trunc become the standard ops that say the same.

QONNX (github.com/fastmachinelearning/qonnx, its page of custom ops) keeps a tensor in real numbers and puts its grid
into one node. With scale s, zero point z and integers limited to [low, high],

    Quant(x) = s · (clip(round(x/s + z), low, high) − z)
    BipolarQuant(x) = s where x >= 0, else −s
    Trunc(x) = s · (round((x/s + z) / 2^(in bits − out bits)) − z)

which is what QuantizeLinear, Clip and DequantizeLinear say of activations, and DequantizeLinear of integers of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeq.errors import UnsupportedOpError
from edgeq.frontend.arrays import Array, Float64
from edgeq.frontend.editing import NodePass, constant_input, describe, initializer, integer, text

#: The domain's name today, and the one of files from before 2021.
DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")
_OPS = ("Quant", "BipolarQuant", "Trunc")
#: Activations have 8 bits, or 16 where they must.
_WIDEST = 16

_ROUNDING: dict[str, Callable[[Float64], Float64]] = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "ROUND_TO_ZERO": np.trunc,
    "DOWN": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}
#: Of activations: the integer arithmetic rounds to the nearest, as all of these do but for ties.
_NEAREST = ("ROUND", "HALF_EVEN", "HALF_UP", "HALF_DOWN")


def uses_qonnx(model: ir.Model) -> bool:
    """Whether a model has ops of QONNX."""
    return any(node.domain in DOMAINS for node in model.graph)


@dataclass(frozen=True)
class _Grid:
    """Scale and zero point as they broadcast against the tensor, and the integers in use."""

    scale: Float64
    zero_point: Float64
    low: int
    high: int

    def dtype(self, node: ir.Node) -> np.dtype[np.generic]:
        """The narrowest ONNX type that holds the integers and the zero points."""
        lowest = min(self.low, int(self.zero_point.min()))
        highest = max(self.high, int(self.zero_point.max()))
        for name in ("int8", "uint8", "int16", "uint16"):
            limits = np.iinfo(name)
            if limits.min <= lowest and highest <= limits.max:
                return np.dtype(name)
        raise _refused(node, f"integers from {lowest} to {highest} take more than {_WIDEST} bits")


class LowerQonnx(NodePass):
    """Replace the ops of QONNX; constants among their operands must be initializers.

    Raises:
        UnsupportedOpError: an op, a rounding mode, a width or a computed scale that has no standard form; with the
            node's name and what to change.
    """

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node."""
        if node.domain not in DOMAINS:
            return False
        if node.op_type not in _OPS:
            raise _refused(node, f"of this domain only {', '.join(_OPS)} are read")
        {"Quant": _quant, "BipolarQuant": _bipolar, "Trunc": _trunc}[node.op_type](graph, node)
        return True


def _quant(graph: ir.Graph, node: ir.Node) -> None:
    bits = _whole(node, 3, "bit width")
    signed, narrow = bool(integer(node, "signed", 1)), bool(integer(node, "narrow", 0))
    if bits < 1:
        raise _refused(node, f"a bit width of {bits}")
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow
    grid = _Grid(_scale(node), _zero_point(node), low, high)
    mode = text(node, "rounding_mode", "ROUND").upper()
    if mode not in _ROUNDING:
        raise _refused(node, f"the rounding mode {mode!r} is unknown", f"known are {', '.join(_ROUNDING)}")
    x = constant_input(node, 0)
    if x is not None:
        integers = np.clip(_ROUNDING[mode](x / grid.scale + grid.zero_point), grid.low, grid.high)
        _replace(graph, node, [_dequantized(graph, node, grid, integers)])
        return
    if mode not in _NEAREST:
        raise _refused(
            node,
            f"it rounds activations by {mode}; the integer arithmetic rounds them to the nearest",
            "export with rounding mode ROUND",
        )
    _replace(graph, node, _pair(graph, node, node.inputs[0], grid))


def _bipolar(graph: ir.Graph, node: ir.Node) -> None:
    grid = _Grid(_scale(node), np.zeros(()), -1, 1)
    x = constant_input(node, 0)
    if x is not None:
        _replace(graph, node, [_dequantized(graph, node, grid, np.where(x >= 0, 1.0, -1.0))])
        return
    name = _name(node)
    if grid.scale.size != 1:
        raise _refused(node, "activations have one scale per tensor")
    zero, *ends = (
        initializer(graph, f"{name}.{key}", np.array(value, np.float32))
        for key, value in (("zero", 0.0), ("high", grid.scale.reshape(())), ("low", -grid.scale.reshape(())))
    )
    positive = ir.node("GreaterOrEqual", [node.inputs[0], zero], name=f"{name}.positive")
    chosen = ir.node("Where", [positive.outputs[0], *ends], name=f"{name}.sign")
    _replace(graph, node, [positive, chosen, *_pair(graph, node, chosen.outputs[0], grid)])


def _trunc(graph: ir.Graph, node: ir.Node) -> None:
    """Drop the lowest bits: x/s is divided by a power of two and rounded, the result has the scale of x."""
    if len(node.inputs) > 5:
        raise _refused(node, "it has an output scale of its own (version 2)", "export with version 1 of Trunc")
    before, after = _whole(node, 3, "input bit width"), _whole(node, 4, "output bit width")
    scale, zero_point = _scale(node), _zero_point(node)
    mode = text(node, "rounding_mode", "FLOOR").upper()
    if scale.size != 1 or zero_point.any() or not 1 <= after <= before:
        raise _refused(
            node, f"a zero point of 0, one scale and fewer bits than the input ({before}) are supported, not {after}"
        )
    name, step = _name(node), float(scale.reshape(())) * 2.0 ** (before - after)
    rounding = {"FLOOR": "Floor", "CEIL": "Ceil"}.get(mode, "Round" if mode in _NEAREST else "")
    if not rounding:
        raise _refused(node, f"the rounding mode {mode!r}", f"supported are FLOOR, CEIL, {', '.join(_NEAREST)}")
    factors = [
        initializer(graph, f"{name}.{key}", np.array(value, np.float32))
        for key, value in (("step", 1.0 / step), ("scale", scale.reshape(())))
    ]
    steps = ir.node("Mul", [node.inputs[0], factors[0]], name=f"{name}.steps")
    rounded = ir.node(rounding, [steps.outputs[0]], name=f"{name}.rounded")
    result = ir.node("Mul", [rounded.outputs[0], factors[1]], name=name)
    signed = integer(node, "signed", 1)
    low, high = (-(2 ** (after - 1)), 2 ** (after - 1) - 1) if signed else (0, 2**after - 1)
    pair = _pair(graph, node, result.outputs[0], _Grid(scale, zero_point, low, high))
    _replace(graph, node, [steps, rounded, result, *pair])


def _pair(graph: ir.Graph, node: ir.Node, x: ir.Value | None, grid: _Grid) -> list[ir.Node]:
    """QuantizeLinear, Clip where the integers use a part of the type, DequantizeLinear."""
    if grid.scale.size != 1 or grid.zero_point.size != 1:
        raise _refused(
            node,
            f"its scale has {grid.scale.size} entries; activations have one scale and one zero point per tensor",
            "export this activation's quantizer with a per-tensor scale",
        )
    name, dtype = _name(node), grid.dtype(node)
    scale = initializer(graph, f"{name}.scale", grid.scale.reshape(()).astype(np.float32))
    zero = initializer(graph, f"{name}.zero_point", grid.zero_point.reshape(()).astype(dtype))
    nodes = [ir.node("QuantizeLinear", [x, scale, zero], name=f"{name}.quantize")]
    limits = np.iinfo(dtype.name)
    if (grid.low, grid.high) != (limits.min, limits.max):
        ends = [
            initializer(graph, f"{name}.{key}", np.array(end, dtype))
            for key, end in (("low", grid.low), ("high", grid.high))
        ]
        nodes.append(ir.node("Clip", [nodes[-1].outputs[0], *ends], name=f"{name}.clip"))
    nodes.append(ir.node("DequantizeLinear", [nodes[-1].outputs[0], scale, zero], name=f"{name}.dequantize"))
    return nodes


def _dequantized(graph: ir.Graph, node: ir.Node, grid: _Grid, integers: Float64) -> ir.Node:
    """A constant: DequantizeLinear of int8 where a scale lies along one axis, else the real numbers."""
    name, shape = _name(node), integers.shape
    source = node.inputs[0]
    base = source.name if source is not None and source.name else name
    axis = _axis(grid.scale, len(shape))
    fits = integers.min(initial=0) >= -128 and integers.max(initial=0) <= 127
    if axis is None or not fits or grid.zero_point.any():
        real = (integers - grid.zero_point) * grid.scale
        dense = initializer(graph, f"{base}.quantized", real.astype(np.float32))
        return ir.node("Identity", [dense], name=name)
    scale = grid.scale.reshape(-1) if grid.scale.size > 1 else grid.scale.reshape(())
    operands = [
        initializer(graph, f"{base}.integers", integers.astype(np.int8)),
        initializer(graph, f"{name}.scale", scale.astype(np.float32)),
    ]
    return ir.node("DequantizeLinear", operands, attributes={"axis": axis} if scale.ndim else {}, name=name)


def _axis(scale: Float64, rank: int) -> int | None:
    """The axis a scale lies along (0 for a single one), None if along several."""
    shape = (1,) * (rank - scale.ndim) + scale.shape
    along = [axis for axis, size in enumerate(shape) if size > 1]
    return None if len(along) > 1 else (along or [0])[0]


def _replace(graph: ir.Graph, node: ir.Node, new: list[ir.Node]) -> None:
    """Put nodes in the place of one; values are named after it, the last one takes over its output."""
    for made in new[:-1]:
        made.outputs[0].name = made.name
    output, last = node.outputs[0], new[-1].outputs[0]
    last.name, last.type, last.shape = output.name, ir.TensorType(ir.DataType.FLOAT), output.shape
    output.name = None
    graph.insert_before(node, new)
    output.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _name(node: ir.Node) -> str:
    return str(node.name or node.outputs[0].name or node.op_type)


def _scale(node: ir.Node) -> Float64:
    scale = _operand(node, 1, "scale")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise _refused(node, f"a scale must be finite and above 0, found {scale.min():g}")
    return scale


def _zero_point(node: ir.Node) -> Float64:
    zero_point = _operand(node, 2, "zero point")
    if not (np.isfinite(zero_point).all() and (zero_point == np.rint(zero_point)).all()):
        raise _refused(node, "a zero point that is not a whole number")
    return zero_point


def _whole(node: ir.Node, index: int, what: str) -> int:
    array = _operand(node, index, what)
    if array.size != 1 or not np.isfinite(array).all() or array.reshape(()) != np.rint(array.reshape(())):
        raise _refused(node, f"its {what} is not one whole number")
    return int(array.reshape(()))


def _operand(node: ir.Node, index: int, what: str) -> Float64:
    found: Array | None = constant_input(node, index)
    if found is None or found.size == 0:
        raise _refused(
            node, f"its {what} is computed, not constant", "export in evaluation mode, so that scales are constants"
        )
    return found.astype(np.float64)


def _refused(node: ir.Node, why: str, hint: str | None = None) -> UnsupportedOpError:
    return UnsupportedOpError(
        f"{describe(node)} can't be read",
        where=describe(node),
        why=why,
        hint=hint or "QCDQ (QuantizeLinear, Clip, DequantizeLinear) or QONNX as Brevitas exports them are read",
    )
