"""Pools whose last window would start behind the image: say their real output size."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common as stock

from edgeq.frontend.editing import integer, ints, is_op, static_shape


class SettleCeilMode(ir.passes.InPlacePass):  # type: ignore[misc]
    """Replace ceil_mode by explicit pads where ONNX's shape inference and the runtimes disagree.

    ceil_mode rounds the number of windows up, but PyTorch and ONNX Runtime drop a window that would start in the
    padding behind the image; ONNX's shape inference counts it. It must be settled before shapes are inferred for
    good, since everything behind the pool depends on it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Settle one pool at a time: the next one's input size depends on it."""
        modified = False
        pools = [
            node for node in model.graph if is_op(node, "MaxPool", "AveragePool") and integer(node, "ceil_mode", 0)
        ]
        while pools:
            stock.ShapeInferencePass()(model)
            settled = next((node for node in pools if _settle(node)), None)
            for node in model.graph:
                for output in node.outputs:
                    output.shape = None
            if settled is None:
                break
            pools.remove(settled)
            modified = True
        return ir.passes.PassResult(model, modified)


def _settle(node: ir.Node) -> bool:
    shape, kernel = static_shape(node.inputs[0]), ints(node, "kernel_shape", [])
    if shape is None or "auto_pad" in node.attributes:
        return False
    rank = len(kernel)
    strides, dilations = ints(node, "strides", [1] * rank), ints(node, "dilations", [1] * rank)
    pads = ints(node, "pads", [0] * (2 * rank))
    ends, dropped = [], False
    for k in range(rank):
        reach = (kernel[k] - 1) * dilations[k] + 1
        count = -(-(shape[2 + k] + pads[k] + pads[rank + k] - reach) // strides[k]) + 1
        if (count - 1) * strides[k] >= shape[2 + k] + pads[k]:
            count, dropped = count - 1, True
        ends.append(max(pads[rank + k], (count - 1) * strides[k] + reach - shape[2 + k] - pads[k]))
    counted = is_op(node, "AveragePool") and integer(node, "count_include_pad", 0)
    if not dropped or (counted and ends != pads[rank:]):
        return False
    node.attributes["pads"] = ir.AttrInt64s("pads", pads[:rank] + ends)
    node.attributes.pop("ceil_mode")
    return True
