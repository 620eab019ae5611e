"""Masked softmax: which keys count is a tensor of its own, apart from the logits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.chain import Chain
from edgeq.frontend.editing import NodePass, constant, integer, is_op, only_use, replace_node, static_shape, supersede
from edgeq.frontend.graph import FLOAT_DOMAIN
from edgeq.frontend.masks import Keep, KeepFinder

#: Local function of the float graph: softmax over the last axis of the logits whose `keep` is 1; 0 for all others, also
#: where a row has none.
MASKED_SOFTMAX = "MaskedSoftmax"
#: What the function puts in the place of a logit that doesn't count.
_LOWEST = -1e9


class RecogniseMasks(NodePass):
    """`edgeq.float::MaskedSoftmax`(logits, keep) in place of logits with −10000, −3.4e38 or −∞ in them.

    Read from sums with a mask and from Where, whatever the mask is computed from: an integer or boolean input through
    comparisons, casts, arithmetic and data movement; constants (causal masks). Several masks are multiplied. Integer
    masks hold 0 and 1 by convention. Sums with anything else (a position bias) stay sums.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Visit every node, then add the function."""
        result = super().call(model)
        if result.modified:
            model.graph.opset_imports[FLOAT_DOMAIN] = 1
            function = _function(model.graph.opset_imports[""])
            model.functions[function.identifier()] = function
        return result

    def visit(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Look at one Softmax, or at the guard behind one."""
        if not is_op(node, "Softmax"):
            return False
        shape = static_shape(node.inputs[0])
        if shape is None or integer(node, "axis", -1) % len(shape) != len(shape) - 1:
            return False
        finder = KeepFinder(Chain(graph, node, node.inputs[0]))
        logits, keep = node.inputs[0], None
        while logits is not None and (logits is node.inputs[0] or only_use(logits) is not None):
            peeled = _peel(finder, logits)
            if peeled is None:
                break
            logits = peeled[0]
            keep = peeled[1] if keep is None else finder.both(keep, peeled[1])
        if keep is None or static_shape(logits) != shape:
            # A mask alone larger than the logits would make them larger: left to the ordinary ops.
            return False
        _drop_guard(graph, node)
        new = ir.node(MASKED_SOFTMAX, [logits, finder.value(keep)], domain=FLOAT_DOMAIN, name=node.name)
        replace_node(graph, node, [new])
        return True


def _peel(finder: KeepFinder, value: ir.Value) -> tuple[ir.Value, Keep] | None:
    """(logits, which of them count), if `value` is a sum with a mask or a choice by one."""
    maker = value.producer()
    if is_op(maker, "Add"):
        assert maker is not None
        for logits, mask in (maker.inputs, tuple(reversed(maker.inputs))):
            if logits is None or mask is None or constant(logits) is not None:
                continue
            keep = finder.of_addend(mask)
            if keep is not None:
                return logits, keep
    if is_op(maker, "Where"):
        assert maker is not None
        condition, yes, no = maker.inputs
        if condition is None or yes is None or no is None:
            return None
        if _is_lowest(no):
            keep = finder.of_condition(condition)
            return None if keep is None else (yes, keep)
        if _is_lowest(yes):
            keep = finder.of_condition(condition)
            return None if keep is None else (no, finder.inverse(keep))
    return None


def _is_lowest(value: ir.Value) -> bool:
    array = constant(value)
    return array is not None and array.size > 0 and bool((array <= KeepFinder.MASKED).all())


def _drop_guard(graph: ir.Graph, softmax: ir.Node) -> None:
    """Where(IsNaN(p), 0, p): exporters write it because rows without any key would be NaN; here they are 0 anyway."""
    output = softmax.outputs[0]
    readers = {use.node for use in output.uses()}
    guards = [reader for reader in readers if is_op(reader, "Where") and reader.inputs[2] is output]
    tests = [reader for reader in readers if is_op(reader, "IsNaN")]
    if len(readers) != 2 or len(guards) != 1 or len(tests) != 1:
        return
    zero = constant(guards[0].inputs[1])
    if guards[0].inputs[0] is not tests[0].outputs[0] or zero is None or zero.any():
        return
    if supersede(graph, guards[0], output, changed=True):
        graph.remove(tests[0], safe=True)


def _function(opset: int) -> ir.Function:
    x, keep = ir.Value(name="x"), ir.Value(name="keep")
    half = ir.node("Constant", [], attributes={"value": ir.tensor(np.array(0.5, np.float32))})
    lowest = ir.node("Constant", [], attributes={"value": ir.tensor(np.array(_LOWEST, np.float32))})
    counts = ir.node("Greater", [keep, half.outputs[0]])
    masked = ir.node("Where", [counts.outputs[0], x, lowest.outputs[0]])
    softmax = ir.node("Softmax", [masked.outputs[0]], attributes={"axis": -1})
    ones = ir.node("Cast", [counts.outputs[0]], attributes={"to": int(ir.DataType.FLOAT)})
    result = ir.node("Mul", [softmax.outputs[0], ones.outputs[0]])
    nodes = [half, lowest, counts, masked, softmax, ones, result]
    names = ("half", "lowest", "counts", "masked", "softmax", "ones", "y")
    for node, name in zip(nodes, names, strict=True):
        node.outputs[0].name = name
    graph = ir.Graph([x, keep], result.outputs, nodes=nodes, opset_imports={"": opset}, name=MASKED_SOFTMAX)
    return ir.Function(FLOAT_DOMAIN, MASKED_SOFTMAX, graph=graph, attributes=[])
