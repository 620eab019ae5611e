"""Write kernel, strides, pads and dilations of windowed ops out in numbers."""

from __future__ import annotations

import onnx_ir as ir

from edgeq.frontend.editing import NodePass, integer, ints, is_op, static_shape, text

_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


class ExplicitWindows(NodePass):
    """auto_pad, output_shape and, where padding can say the same, ceil_mode are gone; defaults are written out."""

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one node. Sizes follow the formulas of the ONNX operator specification."""
        if not is_op(node, *_WINDOWED):
            return False
        x, y = static_shape(node.inputs[0]), static_shape(node.outputs[0])
        kernel = _kernel(node)
        if x is None or y is None or kernel is None or len(kernel) != len(x) - 2:
            return False
        before = {name: node.attributes[name] for name in node.attributes}
        rank = len(kernel)
        strides, dilations = ints(node, "strides", [1] * rank), ints(node, "dilations", [1] * rank)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = _pads(node, x[2:], y[2:], reach, strides)
        values = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        if is_op(node, "Conv", "ConvTranspose"):
            node.attributes["group"] = ir.AttrInt64("group", integer(node, "group", 1))
        if is_op(node, "ConvTranspose"):
            values["output_padding"] = ints(node, "output_padding", [0] * rank)
        if not is_op(node, "LpPool", "AveragePool") or any(d != 1 for d in dilations):
            # AveragePool has no dilations before opset 19: leave the default unsaid.
            values["dilations"] = dilations
        for name, numbers in values.items():
            node.attributes[name] = ir.AttrInt64s(name, numbers)
        for name in ("auto_pad", "output_shape"):
            node.attributes.pop(name, None)
        if integer(node, "ceil_mode", 0) and _ceil_is_padding(node, x[2:], y[2:], reach, strides):
            node.attributes.pop("ceil_mode")
        return before != {name: node.attributes[name] for name in node.attributes}


def _kernel(node: ir.Node) -> list[int] | None:
    if "kernel_shape" in node.attributes:
        return ints(node, "kernel_shape", [])
    weight = static_shape(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if weight is None else list(weight[2:])


def _pads(node: ir.Node, x: tuple[int, ...], y: tuple[int, ...], reach: list[int], strides: list[int]) -> list[int]:
    mode = text(node, "auto_pad", "NOTSET")
    given = ints(node, "pads", [0] * (2 * len(x)))
    transposed = is_op(node, "ConvTranspose")
    if mode in ("NOTSET", "VALID") and not (transposed and "output_shape" in node.attributes):
        return [0] * (2 * len(x)) if mode == "VALID" else given
    if transposed:
        extra = ints(node, "output_padding", [0] * len(x))
        total = [s * (i - 1) + e + r - o for i, o, r, s, e in zip(x, y, reach, strides, extra, strict=True)]
        # An output larger than the windows reach is what output_padding is for.
        padding = [e + max(0, -t) for e, t in zip(extra, total, strict=True)]
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", padding)
    else:
        total = [(o - 1) * s + r - i for i, o, r, s in zip(x, y, reach, strides, strict=True)]
    total = [max(0, t) for t in total]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if mode == "SAME_UPPER" else large + small


def _ceil_is_padding(
    node: ir.Node, x: tuple[int, ...], y: tuple[int, ...], reach: list[int], strides: list[int]
) -> bool:
    """Move what ceil_mode adds into the end pads; False where padding counts and so would change the average."""
    if not is_op(node, "MaxPool") and integer(node, "count_include_pad", 0):
        return False
    rank, pads = len(x), ints(node, "pads", [])
    ends = [max(pads[rank + k], (y[k] - 1) * strides[k] + reach[k] - x[k] - pads[k]) for k in range(rank)]
    if any(end >= r for end, r in zip(ends, reach, strict=True)):
        return False
    node.attributes["pads"] = ir.AttrInt64s("pads", pads[:rank] + ends)
    return True
