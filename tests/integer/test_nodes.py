"""Nodes that are not valid: each is refused with the node's name and the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.errors import ModelError, UnsupportedOpError
from edgeq.integer.builder import GraphBuilder, emit, emit_all

S8, U8, S16, S32 = np.int8, np.uint8, np.int16, np.int32
IMAGE = (S8, [1, 4, 6, 6])
W = np.ones([2, 4, 3, 3], S8)
B = np.zeros([1, 2, 1, 1], S32)
M, S = np.full([1], 2**30, S32), np.full([1], 40, S32)
ADD = {"a_multiplier": 1, "b_multiplier": 1, "shift": 0, "to": S8}
NORM = {"epsilon": 1, "row_bits": 20, "fraction_bits": 9, "shift": 5, "to": S8}
SHIFTMAX = {"limit": 9, "left": 0, "pre_shift": 0, "octave": 1024, "sum_bits": 20, "out_bits": 8, "to": U8}
SHIFT_GELU = {"left": 0, "pre_shift": 0, "octave": 1024, "head": 8, "multiplier": 1, "shift": 0, "to": S8}
PAPER = {"octave": 9, "multiplier": 1, "shift": 0, "to": S8}
SCALED = {"shift": 3, "to": S8}
G = np.ones(2, S32)
SOFTMAX = {"limit": 10, "pre_shift": 0, "multiplier": 1, "shift": 0, "sum_bits": 20, "out_bits": 8, "to": U8}


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


CASES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("Conv", [IMAGE, W], {}, "input bias is missing"),
    ("Conv", [IMAGE, W, None], {}, "input bias is missing"),
    ("Conv", [IMAGE, W, B, B], {}, "takes at most 3 inputs"),
    ("Conv", [(U8, [1, 4, 6, 6]), W, B], {}, "input x is uint8[1, 4, 6, 6], it must be int8"),
    ("Conv", [(S8, [4, 6, 6]), W, B], {}, "its rank must be 4"),
    ("Conv", [IMAGE, (S8, [2, 4, 3, 3]), B], {}, "input w must be constant"),
    ("Conv", [IMAGE, W, B], {"strides": [0, 1]}, "strides [0, 1] must be 2 numbers of at least 1"),
    ("Conv", [IMAGE, W, B], {"pads": [1, 1]}, "pads [1, 1] must be 4 numbers"),
    ("Conv", [IMAGE, W, B], {"group": 0}, "group 0 must be at least 1"),
    ("Conv", [IMAGE, W, B], {"group": 2}, "don't go together"),
    ("Conv", [IMAGE, W, np.zeros([2], S32).reshape(1, 1, 1, 2)], {}, "bias is int32[1, 1, 1, 2], it must be"),
    ("Conv", [IMAGE, W, B], {"x_zero_point": 200}, "x_zero_point 200 is outside [-128, 127]"),
    ("Conv", [IMAGE, W, B], {"dilations": [3, 3]}, "kernel is larger than the padded image"),
    ("Conv", [IMAGE, W, B], {"stride": 1}, "Conv has no attribute stride"),
    ("Conv", [IMAGE, W, B], {"group": 1.5}, "attribute group is not a valid int"),
    ("Conv", [IMAGE, W, B], {"pads": 3}, "attribute pads is not a valid ints"),
    ("ConvTranspose", [IMAGE, W, B], {}, "4 channels in, weights [2, 4, 3, 3]"),
    ("ConvTranspose", [IMAGE, np.ones([4, 2, 3, 3], S8), B], {"output_padding": [1, 0]}, "below the larger of stride"),
    ("ConvTranspose", [IMAGE, np.ones([4, 2, 3, 3], S8), B], {"pads": [4, 4, 4, 4]}, "the pads leave no output"),
    (
        "Gemm",
        [(S8, [2, 3]), np.ones([4, 2], S8), np.zeros(2, S32)],
        {},
        "the last axis of x (rank 2 or more) must be 4",
    ),
    ("Gemm", [(S8, [2, 4]), np.ones([4, 2], S8), np.zeros(3, S32)], {}, "bias is int32[3], it must be [2]"),
    ("MatMul", [(S8, [2, 4]), (S8, [3, 2])], {}, "can't be multiplied as matrices"),
    ("MatMul", [(S8, [2, 2, 4]), (S8, [3, 4, 2])], {}, "leading axes"),
    ("Requantize", [(S32, [2]), M, S], {}, "Requantize needs the attribute low"),
    ("Requantize", [(S32, [2]), M, S], {"to": S32}, "to is int32, it must be"),
    ("Requantize", [(S32, [2]), M, S], {"to": "float32"}, "float32"),
    ("Requantize", [(S32, [2]), M, S], {"to": S8, "low": 5, "high": 4}, "low 5 and high 4 must be ordered"),
    ("Requantize", [(S32, [2]), M, S], {"to": S16, "zero_point": 1}, "zero_point 1 is outside [0, 0]"),
    ("Requantize", [(S32, [2]), M - 1, S], {"to": S8}, "multiplier must be in"),
    ("Requantize", [(S32, [2]), M, S + 30], {"to": S8}, "shift must be in [2, 62]"),
    ("Requantize", [(S32, [1]), np.full([3], 2**30, S32), S], {"to": S8}, "doesn't broadcast to int32[1]"),
    ("Requantize", [(S32, [2]), np.full([3], 2**30, S32), S], {"to": S8}, "doesn't broadcast to int32[2]"),
    ("RequantizeNarrow", [(S32, [2]), M, S], {"to": S8, "post_shift": 6}, "multiplier must be in [1, 32767]"),
    (
        "RequantizeNarrow",
        [(S32, [2]), (M >> 16).repeat(2), np.array([-6, 25], np.int32)],
        {"to": S8, "post_shift": 0},
        r"shifts must lie within 30, found [-6, 25]",
    ),
    ("RequantizeNarrow", [(S32, [2]), M >> 16, S - 20], {"to": S8, "post_shift": 7}, "post_shift 7 is outside [0, 6]"),
    ("RequantizeNarrow", [(S32, [2]), M >> 16, S - 20], {"to": S16, "post_shift": 6}, "to is int16"),
    ("Rescale", [(S8, [2])], {"multiplier": 0, "shift": 1, "to": S8}, "multiplier 0 is outside"),
    ("Rescale", [(S16, [2])], {"multiplier": 1, "shift": 1, "to": S8, "x_zero_point": 1}, "x_zero_point 1 is outside"),
    ("Add", [(S8, [2]), (S8, [3])], ADD, "shapes [2], [3] don't broadcast"),
    ("Max", [(S8, [2]), (S32, [2])], ADD, "input b is int32[2]"),
    ("Min", [(S8, [2]), (S8, [2])], {**ADD, "shift": 31}, "shift 31 is outside [0, 30]"),
    ("Mul", [(U8, [2]), (S8, [2])], {"a_zero_point": -1}, "a_zero_point -1 is outside [0, 255]"),
    ("Div", [(S8, [2]), (S8, [2])], {"multiplier": 2**15, "shift": 1, "to": S8}, "multiplier 32768 is outside"),
    ("Lut", [(S8, [2, 3]), np.zeros([2, 256], S8)], {}, "table is int8[2, 256], it must be [256] or [3, 256]"),
    ("Lut", [(S8, [2, 3]), np.zeros([3, 256], S8)], {"axis": 2}, "axis 2 is not an axis"),
    ("Lut", [(S8, [2, 3]), np.zeros([256], S8)], {"lowest": 0}, "lowest 0 is not the lowest value of int8"),
    ("LutInterp", [(S16, [2]), np.zeros([512], S16)], {"shift": 7, "to": S16}, "it must be [513]"),
    ("SumPool", [IMAGE], {"kernel_shape": [2]}, "kernel_shape [2] must be 2 numbers"),
    ("SumPool", [IMAGE], {"kernel_shape": [7, 7]}, "window is larger"),
    ("ReduceSum", [IMAGE], {"axes": [1, -3]}, "axes [1, -3] are not different axes"),
    ("ReduceSum", [IMAGE], {"axes": [4]}, "axes [4] are not different axes"),
    ("ReduceSum", [IMAGE], {"axes": [1], "keepdims": 2}, "keepdims 2 is outside"),
    ("Softmax", [(S8, [2])], {**SOFTMAX, "axis": 1}, "axis 1 is not an axis"),
    ("Softmax", [(S8, [2])], {**SOFTMAX, "sum_bits": 25}, "sum_bits 25 is outside"),
    ("MaskedSoftmax", [(S8, [2, 3]), (U8, [3, 3])], SOFTMAX, "mask is uint8[3, 3], it doesn't broadcast to int8[2, 3]"),
    ("MaskedSoftmax", [(S8, [3]), (U8, [2, 3])], SOFTMAX, "it doesn't broadcast to int8[3]"),
    ("MaskedSoftmax", [(S8, [3]), (np.int64, [3])], SOFTMAX, "input mask is int64[3], it must be int8 or uint8"),
    ("MaskedShiftmax", [(S8, [3])], SHIFTMAX, "input mask is missing"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "axis": 1}, "axis 1 is not an axis"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "limit": 0}, "limit 0 is outside"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "left": 16}, "left 16 is outside [0, 15]"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "pre_shift": 21}, "pre_shift 21 is outside [0, 20]"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "octave": 1023}, "octave 1023 is outside [1024, 2047]"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "sum_bits": 15}, "sum_bits 15 is outside [16, 24]"),
    ("Shiftmax", [(S8, [2])], {**SHIFTMAX, "out_bits": 16}, "out_bits 16 is outside [8, 15]"),
    ("ShiftGelu", [(S16, [2])], SHIFT_GELU, "head 8 is outside [15, 15]"),
    ("ShiftGelu", [(S8, [2])], {**SHIFT_GELU, "multiplier": 2**15}, "multiplier 32768 is outside"),
    ("ShiftGelu", [(S8, [2])], {**SHIFT_GELU, "shift": 31}, "shift 31 is outside"),
    ("ShiftGelu", [(U8, [2])], {**SHIFT_GELU, "x_zero_point": -1}, "x_zero_point -1 is outside"),
    ("ShiftGeluPaper", [(S16, [2])], PAPER, "input x is int16[2]"),
    ("ShiftGeluPaper", [(S8, [])], PAPER, "it has no axis of a token's elements"),
    ("ShiftGeluPaper", [(S8, [2])], {**PAPER, "octave": 256}, "octave 256 is outside [1, 255]"),
    ("ShiftGeluPaper", [(S8, [2])], {**PAPER, "multiplier": 0}, "multiplier 0 is outside"),
    ("ShiftGeluPaper", [(S8, [2])], {**PAPER, "shift": -1}, "shift -1 is outside"),
    ("LayerNorm", [(S8, []), G, G], NORM, "its last axis must have 1 to 32768 elements"),
    ("LayerNorm", [(S8, [2**15 + 1]), G, G], NORM, "its last axis must have 1 to 32768 elements"),
    ("LayerNorm", [(S8, [3]), G, G], NORM, "gamma is int32[2], it must be [3]"),
    ("LayerNorm", [(S8, [2]), G, np.ones(1, S32)], NORM, "beta is int32[1], it must be [2]"),
    ("LayerNorm", [(S8, [2]), G], NORM, "input beta is missing"),
    ("LayerNorm", [(S32, [2]), G, G], NORM, "input x is int32[2]"),
    ("LayerNorm", [(S8, [2]), (S32, [2]), G], NORM, "input gamma must be constant"),
    ("LayerNorm", [(S8, [2]), G, G], {**NORM, "epsilon": -1}, "epsilon -1 is outside"),
    ("LayerNorm", [(S8, [2]), G, G], {**NORM, "row_bits": 30}, "row_bits 30 is outside"),
    ("LayerNorm", [(S8, [2]), G, G], {**NORM, "fraction_bits": 21}, "fraction_bits 21 is outside [0, 20]"),
    ("LayerNorm", [(S8, [2]), G, G], {**NORM, "shift": 31}, "shift 31 is outside"),
    ("RmsNorm", [(S16, [2]), G], {**NORM, "x_zero_point": 1}, "x_zero_point 1 is outside [0, 0]"),
    ("RmsNorm", [(S8, [3]), G], NORM, "gamma is int32[2], it must be [3]"),
    ("Embedding", [np.zeros([0, 2], S8), (S32, [2])], {}, "it has no rows"),
    ("Embedding", [np.array(1, S8), (S32, [2])], {}, "it has no rows"),
    ("Embedding", [(S8, [2]), (S32, [2])], {}, "input table must be constant"),
    ("Embedding", [np.zeros([3], S8), (S16, [2])], {}, "input indices is int16[2], it must be int32 or int64"),
    ("ScaledEmbedding", [np.zeros([0, 2], S8), np.zeros(0, S16), (S32, [2])], SCALED, "it has no rows"),
    ("ScaledEmbedding", [np.zeros([3], S8), np.zeros(2, S16), (S32, [2])], SCALED, "it must be [3]: one for each row"),
    ("ScaledEmbedding", [np.zeros([1], S8), np.array([-3], S16), (S32, [2])], SCALED, "a multiplier is -3"),
    ("ScaledEmbedding", [np.zeros([1], S16), np.ones(1, S16), (S32, [2])], SCALED, "input table is int16[1]"),
    (
        "ScaledEmbedding",
        [np.zeros([1], S8), np.ones(1, S16), (S32, [2])],
        {**SCALED, "shift": 31},
        "shift 31 is outside",
    ),
    ("ToMask", [(S32, [2])], {"to": S16}, "to is int16, it must be int8 or uint8"),
    ("MatMul", [(S16, [2, 4]), (S8, [4, 2])], {"a_zero_point": 1}, "a_zero_point 1 is outside [0, 0]"),
    ("MatMul", [(S8, [2, 4]), (S16, [4, 2])], {}, "input b is int16[4, 2], it must be int8"),
    ("ResizeLinear", [IMAGE], {"out_h": 3, "out_w": 3, "mode": "cubic"}, "mode 'cubic' must be one of"),
    ("ResizeLinear", [IMAGE], {"out_h": 3, "out_w": 3, "mode": 3}, "attribute mode is not a valid string"),
    ("ResizeLinear", [IMAGE], {"out_h": 3, "out_w": 0}, "out_w 0 is outside"),
    ("ResizeLinear", [(S8, [1, 1, 1, 2**15 + 1])], {"out_h": 3, "out_w": 3}, "rows and columns must be between"),
    ("Reshape", [IMAGE, i64(5, -1)], {}, "can't be reshaped to [5, -1]"),
    ("Reshape", [IMAGE, (np.int64, [2])], {}, "input shape must be constant"),
    ("Flatten", [IMAGE], {"axis": 5}, "axis 5 doesn't fit"),
    ("Squeeze", [IMAGE, i64(1)], {}, "are not all of length 1"),
    ("Unsqueeze", [IMAGE, i64(0, 0)], {}, "axes [0, 0] repeat"),
    ("Transpose", [IMAGE], {"perm": [0, 1, 2, 2]}, "is not an order of the axes"),
    ("Concat", [IMAGE, (S8, [1, 4, 5, 6])], {"axis": 1}, "can't be joined along axis 1"),
    ("Concat", [IMAGE, IMAGE], {"axis": 4}, "axis 4 is not an axis of a tensor of rank 4"),
    ("Slice", [IMAGE, i64(0), i64(1, 2)], {}, "must have one length"),
    ("Slice", [IMAGE, i64(0), i64(1), i64(1), i64(0)], {}, "a step is 0"),
    ("Slice", [IMAGE, i64(3), i64(3)], {}, "nothing of int8[1, 4, 6, 6] is left"),
    ("Pad", [IMAGE, i64(1, 1)], {}, "pads [1, 1] must be 8 numbers"),
    ("Pad", [IMAGE, i64(1, -1), None, i64(1)], {}, "none negative"),
    ("Pad", [IMAGE, i64(1, 1), None, i64(1)], {"mode": "wrap"}, "mode 'wrap' must be"),
    ("Pad", [IMAGE, i64(4, 1), None, i64(1)], {"mode": "reflect"}, "can't be reflected"),
    ("Pad", [IMAGE, i64(1, 1), np.array(1, U8), i64(1)], {}, "constant_value is uint8[], it must be a scalar of int8"),
    ("Gather", [IMAGE, i64(4)], {"axis": 1}, "indices [4, 4] leave axis 1"),
    ("Expand", [IMAGE, i64(5)], {}, "doesn't broadcast to [5]"),
    ("Resize", [IMAGE, None, None, i64(1, 4, 9, 9)], {"mode": "linear"}, "is the op ResizeLinear"),
    ("Resize", [IMAGE, None, None, i64(1, 4, 9, 9)], {"nearest_mode": "odd"}, "nearest_mode 'odd' is not supported"),
    ("Resize", [IMAGE], {}, "either scales or sizes"),
    ("Resize", [IMAGE, None, None, i64(1, 8, 9, 9)], {}, "only rows and columns may change"),
    ("Resize", [IMAGE, None, np.array([1, 1, 1.3, 1], np.float32)], {}, "don't give whole sizes"),
    ("DepthToSpace", [IMAGE], {"blocksize": 3}, "4 channels are no multiple of blocksize 3 squared"),
    ("DepthToSpace", [IMAGE], {"blocksize": 2, "mode": "X"}, "mode 'X' must be DCR or CRD"),
    ("SpaceToDepth", [IMAGE], {"blocksize": 4}, "can't be cut into blocks"),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "ceil_mode": 1}, "explicit pads"),
    ("MaxPool", [IMAGE], {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]}, "must be smaller than the kernel"),
    ("MaxPool", [IMAGE], {"kernel_shape": [7, 7]}, "window is larger"),
    ("MaxPool", [IMAGE], {"kernel_shape": [7]}, "kernel_shape [7] must be 2 numbers"),
    ("ReduceMax", [IMAGE, i64(7)], {}, "are not different axes"),
    ("ArgMax", [IMAGE], {"axis": 7}, "axis 7 is not an axis"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), CASES)
def test_invalid_nodes(op: str, inputs: list[Any], attrs: dict[str, Any], message: str) -> None:
    builder = GraphBuilder()
    values = [builder.input(f"x{i}", *v) if isinstance(v, tuple) else v for i, v in enumerate(inputs)]
    with pytest.raises(ModelError) as caught:
        emit(builder, op, values, name="layer7", **attrs)
    assert message in str(caught.value)
    assert "layer7" in str(caught.value)


def test_nearest_sizes_between_pixels_point_to_gather() -> None:
    from edgeq.integer.interpolation import nearest_is_exact

    pair = next((n, m) for n in range(1, 60) for m in range(1, 60) if not nearest_is_exact("asymmetric", "floor", n, m))
    builder = GraphBuilder()
    x = builder.input("x", S8, [1, 1, 1, pair[0]])
    attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    with pytest.raises(ModelError, match="use one Gather per axis"):
        emit(builder, "Resize", [x, None, None, i64(1, 1, 1, pair[1])], **attrs)


def test_split_counts() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S8, [5])
    with pytest.raises(ModelError, match="either the input split or the attribute num_outputs"):
        emit_all(builder, "Split", [x], 2)
    with pytest.raises(ModelError, match=r"can't be split into \[2, 2\]"):
        emit_all(builder, "Split", [x, i64(2, 2)], 2)
    with pytest.raises(ModelError, match="3 outputs for 2 parts"):
        emit_all(builder, "Split", [x, i64(2, 3)], 3)


def test_unknown_op() -> None:
    with pytest.raises(UnsupportedOpError, match=r"ONNX op Relu has no integer form\n  where: r1"):
        emit(GraphBuilder(), "Relu", [], name="r1")
