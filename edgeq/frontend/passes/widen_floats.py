"""Turn half, bfloat16 and double precision models into single precision ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.editing import is_op

_OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


class WidenFloats(ir.passes.InPlacePass):  # type: ignore[misc]
    """float16, bfloat16 and float64 become float32, in values, initializers and attributes.

    The quantizer measures ranges in float32. Casts between float dtypes become casts to the same dtype,
    which the clean-up removes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Convert in place."""
        modified = False
        for value in model.graph.inputs:
            modified |= _widen_type(value)
        for value in tuple(model.graph.initializers.values()):
            if value.const_value is not None and value.const_value.dtype in _OTHER_FLOATS:
                array = value.const_value.numpy().astype(np.float32)
                value.const_value = ir.tensor(array, name=value.name)
                value.type = ir.TensorType(ir.DataType.FLOAT)
                modified = True
        for node in model.graph:
            modified |= _widen_attributes(node)
            for value in node.outputs:
                modified |= _widen_type(value)
        return ir.passes.PassResult(model, modified)


def _widen_type(value: ir.Value) -> bool:
    if value.dtype not in _OTHER_FLOATS:
        return False
    value.type = ir.TensorType(ir.DataType.FLOAT)
    return True


def _widen_attributes(node: ir.Node) -> bool:
    modified = False
    for name, attribute in tuple(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in _OTHER_FLOATS:
            tensor = ir.tensor(attribute.as_tensor().numpy().astype(np.float32))
            node.attributes[name] = ir.AttrTensor(name, tensor)
            modified = True
    # `to` of Cast and `dtype` of random and EyeLike-like ops name a dtype by number.
    for name in ("to", "dtype", "output_dtype"):
        if name not in node.attributes or is_op(node, "QuantizeLinear"):
            continue
        if node.attributes[name].as_int() in {int(dtype) for dtype in _OTHER_FLOATS}:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
            modified = True
    return modified
