"""What a graph must and must not contain, said in messages that name the node."""

from __future__ import annotations

import difflib
import math

import onnx
import onnx.defs
import onnx_ir as ir

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.frontend.editing import describe, is_op, static_shape

# The ops the toolchain takes from ONNX to an artifact (shape arithmetic that folds comes on top).
SUPPORTED_OPS = (
    "Abs Add ArgMax AveragePool BatchNormalization Cast Clip Concat Constant Conv ConvTranspose DepthToSpace "
    "DequantizeLinear Div Dropout Elu Erf Exp Expand Flatten Gather Gemm GlobalAveragePool GlobalMaxPool HardSigmoid "
    "HardSwish Identity LeakyRelu MatMul Max MaxPool Min Mul Neg Pad PRelu QuantizeLinear ReduceMax ReduceMean "
    "ReduceSum Relu Reshape Resize Sigmoid Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Transpose "
    "Unsqueeze and other elementwise functions of one tensor"
)
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def check_known_ops(model: ir.Model) -> None:
    """Every node is an op of the ONNX standard that its opset has.

    Raises:
        UnsupportedOpError: an op of another domain, or one that the opset doesn't have.
    """
    opset = model.graph.opset_imports.get("", 0)
    for node in model.graph.all_nodes():
        if node.domain != "":
            raise UnsupportedOpError(
                f"{describe(node)} belongs to the domain '{node.domain}'",
                where=describe(node),
                why="only ops of the ONNX standard, and functions the file itself defines, are read",
                hint=f"export the model with standard ops; supported are {SUPPORTED_OPS}",
            )
        if opset and not onnx.defs.has(node.op_type, opset, ""):
            near = difflib.get_close_matches(node.op_type, [s.name for s in onnx.defs.get_all_schemas()], 1)
            raise UnsupportedOpError(
                f"{describe(node)}: opset {opset} has no op '{node.op_type}'",
                where=describe(node),
                why=f"did you mean '{near[0]}'?" if near else None,
                hint=f"supported are {SUPPORTED_OPS}",
            )


def check_static_graph(model: ir.Model) -> None:
    """After folding: no control flow, no randomness, no sequences.

    Raises:
        UnsupportedOpError: naming the node.
    """
    for node in model.graph:
        if node.op_type in _CONTROL_FLOW:
            raise UnsupportedOpError(
                f"{describe(node)} is control flow that depends on the input",
                where=describe(node),
                why="an artifact runs the same ops for every input",
                hint="export the model with fixed shapes (torch: without dynamic axes but the batch), so that it folds",
            )
        if node.op_type in _RANDOM:
            raise UnsupportedOpError(
                f"{describe(node)} draws random numbers",
                where=describe(node),
                why="an integer graph has exactly one answer",
                hint="export the model in evaluation mode",
            )
        for output in node.outputs:
            if output.type is not None and not isinstance(output.type, ir.TensorType):
                raise UnsupportedOpError(
                    f"{describe(node)} makes a {type(output.type).__name__}, not a tensor",
                    where=describe(node),
                    hint="only dense tensors are supported",
                )


def check_static_shapes(model: ir.Model) -> None:
    """Every value has a known dtype and a static shape without zeros.

    Raises:
        ModelError: naming the first node whose output shape isn't known, with what ONNX says about it.
    """
    for node in model.graph:
        for output in node.outputs:
            if not output.name or not (output.uses() or output.is_graph_output()):
                continue
            shape = static_shape(output)
            if shape is None or output.dtype is None:
                raise ModelError(
                    f"The output shape of {describe(node)} can't be computed",
                    where=describe(node),
                    why=_inference_complaint(model) or "it depends on the values of an input",
                    hint="choose other sizes with --batch and --shape, or export with the sizes you need",
                )
            if min(shape, default=1) < 1:
                raise ModelError(
                    f"{describe(node)} makes an empty tensor {list(shape)}",
                    where=describe(node),
                    hint="choose larger input sizes with --shape",
                )
            _check_reshape(node, shape)


def _check_reshape(node: ir.Node, after: tuple[int, ...]) -> None:
    # Shape inference believes the target; a batch of 1 written into it is the usual mistake.
    before = static_shape(node.inputs[0]) if is_op(node, "Reshape") else None
    if before is not None and math.prod(before) != math.prod(after):
        raise ModelError(
            f"{describe(node)} can't turn {list(before)} into {list(after)}",
            where=describe(node),
            why="the sizes that were chosen don't fit a size written into the file",
            hint="choose other sizes with --batch and --shape",
        )


def _inference_complaint(model: ir.Model) -> str | None:
    """What onnx's strict shape inference says; used only once something is known to be wrong."""
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        return " ".join(str(error).split())[:500]
    return None
