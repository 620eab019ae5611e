"""Random one-op graphs for conformance: every op with random shapes, attributes and extreme values.

`CASES[op](choice)` returns a `Case`; `choice` decides everything: hypothesis can shrink (`HypothesisChoice`), a seed
can drive long sweeps and other executors (`RandomChoice`). `merged(op, choices)` puts many cases into one graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.integer.builder import GraphBuilder, emit_all
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.interpolation import COORDINATE_MODES, NEAREST_MODES, nearest_is_exact
from edgeq.integer.normalization import norm_constants
from edgeq.integer.shift_exp import shift_gelu_constants, shiftmax_constants
from edgeq.integer.shift_gelu_paper import shift_gelu_paper_constants
from tests.integer.choice import Array, Case, Choice, HypothesisChoice, Maker, RandomChoice

__all__ = ["CASES", "Case", "Choice", "HypothesisChoice", "RandomChoice", "merged"]

S8, U8, S16, S32 = np.int8, np.uint8, np.int16, np.int32
FULL_BIAS = 2**30
CASES: dict[str, Callable[[Choice], Case]] = {}
_MAKE: dict[str, Callable[[Maker], Case]] = {}


def case(op: str) -> Callable[[Callable[[Maker], Case]], Callable[[Maker], Case]]:
    """Enter a generator into CASES."""

    def enter(function: Callable[[Maker], Case]) -> Callable[[Maker], Case]:
        CASES[op] = lambda choice: function(Maker(choice))
        _MAKE[op] = function
        return function

    return enter


def merged(op: str, choices: Mapping[int, Choice]) -> Case:
    """One graph of many cases side by side; the names of case `key` begin with `c<key>_`."""
    builder, inputs = GraphBuilder(), {}
    for key, choice in choices.items():
        inputs |= _MAKE[op](Maker(choice, builder, f"c{key}_")).inputs
    return Case(builder, inputs)


def _conv(m: Maker, op: str, dtype: Any, zero_points: bool) -> Case:
    group, per_in, per_out = m.pick(1, 1, 2, 3), m.number(1, 4), m.number(1, 4)
    size = [m.number(1, 8), m.number(1, 8)]
    kernel, geometry = m.geometry(*size)
    x = m.input(dtype, [m.number(1, 2), group * per_in, *size])
    w = m.array(S8, [group * per_out, per_in, *kernel])
    bias = m.array(S32, [1, group * per_out, 1, 1], -FULL_BIAS, FULL_BIAS)
    extra = {"x_zero_point": m.zero_point(dtype)} if zero_points else {}
    return m.done(m.emit(op, [x, w, bias], group=group, **geometry, **extra))


@case("Conv")
def conv(m: Maker) -> Case:
    return _conv(m, "Conv", S8, True)


@case("ConvS16")
def conv_s16(m: Maker) -> Case:
    return _conv(m, "ConvS16", S16, False)


@case("ConvTranspose")
def conv_transpose(m: Maker) -> Case:
    group, per_in, per_out = m.pick(1, 1, 2, 3), m.number(1, 3), m.number(1, 3)
    strides, dilations = [m.number(1, 3) for _ in range(2)], [m.number(1, 2) for _ in range(2)]
    size, kernel = [m.number(1, 5) for _ in range(2)], [m.number(1, 4) for _ in range(2)]
    extra = [m.number(0, max(strides[i], dilations[i]) - 1) for i in (0, 1)]
    length = [(size[i] - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 + extra[i] for i in (0, 1)]
    before = [min(m.number(0, 3), length[i] - 1) for i in (0, 1)]
    after = [min(m.number(0, 3), length[i] - 1 - before[i]) for i in (0, 1)]
    x = m.input(S8, [m.number(1, 2), group * per_in, *size])
    w = m.array(S8, [group * per_in, per_out, *kernel])
    bias = m.array(S32, [1, group * per_out, 1, 1], -FULL_BIAS, FULL_BIAS)
    attrs = {"strides": strides, "dilations": dilations, "pads": [*before, *after], "output_padding": extra}
    return m.done(m.emit("ConvTranspose", [x, w, bias], group=group, x_zero_point=m.zero_point(S8), **attrs))


def _gemm(m: Maker, op: str, dtype: Any, zero_points: bool) -> Case:
    lead, depth, outputs = m.shape(1, 3), m.number(1, 70), m.number(1, 20)
    x = m.input(dtype, [*lead, depth])
    bias = m.array(S32, [outputs], -FULL_BIAS, FULL_BIAS)
    extra = {"x_zero_point": m.zero_point(dtype)} if zero_points else {}
    return m.done(m.emit(op, [x, m.array(S8, [depth, outputs]), bias], **extra))


@case("Gemm")
def gemm(m: Maker) -> Case:
    return _gemm(m, "Gemm", S8, True)


@case("GemmS16")
def gemm_s16(m: Maker) -> Case:
    return _gemm(m, "GemmS16", S16, False)


@case("MatMul")
def matmul(m: Maker) -> Case:
    lead = [m.number(1, 3) for _ in range(m.number(0, 2))]
    rows, depth, columns = m.number(1, 6), m.number(1, 40), m.number(1, 6)
    other = [n if m.number(0, 1) else 1 for n in lead]
    kind = m.pick(S8, U8, S16)
    a, b = m.input(kind, [*lead, rows, depth], "a"), m.input(S8, [*other, depth, columns], "b")
    return m.done(m.emit("MatMul", [a, b], a_zero_point=m.zero_point(kind), b_zero_point=m.zero_point(S8)))


def _per_channel(m: Maker, shape: Sequence[int]) -> list[int]:
    return m.pick([1, shape[1], 1, 1], [1], [shape[3]], [1, 1, shape[2], shape[3]], [shape[1], 1, 1], shape)


@case("Requantize")
def requantize(m: Maker) -> Case:
    shape = [m.number(1, 5) for _ in range(4)]
    multiplier = m.array(S32, _per_channel(m, shape), 2**30, 2**31 - 1)
    shift = m.array(S32, _per_channel(m, shape), *m.pick((2, 62), (33, 45), (62, 62), (2, 2)))
    return m.done(m.emit("Requantize", [m.input(S32, shape), multiplier, shift], **m.clamp(S8, U8, S16)))


@case("RequantizeNarrow")
def requantize_narrow(m: Maker) -> Case:
    shape = [m.number(1, 5) for _ in range(4)]
    multiplier = m.array(S32, _per_channel(m, shape), 1, 2**15 - 1)
    left = m.pick(0, 0, m.number(1, 6))
    shift = m.array(S32, _per_channel(m, shape), -left, 30 - left)
    # A product: |acc| <= 2^30, so that the rounding added to it is proven to fit, or 2^14 for shifts to the left.
    dtype = S8 if left else S16
    x = m.emit("Mul", [m.input(dtype, shape, "a"), m.input(dtype, shape, "b")])
    attrs = {"post_shift": m.number(0, 6), **m.clamp(S8, U8)}
    return m.done(m.emit("RequantizeNarrow", [x, multiplier, shift], **attrs))


@case("Rescale")
def rescale(m: Maker) -> Case:
    dtype = m.pick(S8, U8, S16)
    multiplier = int(m.pick(1, 2**31 - 1, m.number(1, 2**15), m.number(1, 2**31 - 1)))
    attrs = {"multiplier": multiplier, "shift": m.number(0, 62), "x_zero_point": m.zero_point(dtype)}
    return m.done(m.emit("Rescale", [m.input(dtype, m.shape())], **attrs, **m.clamp(S8, U8, S16)))


def _pair_inputs(m: Maker) -> tuple[list[Any], dict[str, Any]]:
    shapes = m.broadcast_pair()
    kinds = [m.pick(S8, U8, S16) for _ in range(2)]
    inputs = [m.input(kinds[i], shapes[i], "ab"[i]) for i in range(2)]
    return inputs, {f"{'ab'[i]}_zero_point": m.zero_point(kinds[i]) for i in range(2)}


def _pair(m: Maker, op: str) -> Case:
    inputs, zero_points = _pair_inputs(m)
    multipliers = {f"{side}_multiplier": m.number(-(2**14), 2**14) for side in "ab"}
    return m.done(m.emit(op, inputs, shift=m.number(0, 30), **zero_points, **multipliers, **m.clamp(S8, U8, S16)))


@case("Add")
def add(m: Maker) -> Case:
    return _pair(m, "Add")


@case("Max")
def maximum(m: Maker) -> Case:
    return _pair(m, "Max")


@case("Min")
def minimum(m: Maker) -> Case:
    return _pair(m, "Min")


@case("Mul")
def mul(m: Maker) -> Case:
    inputs, zero_points = _pair_inputs(m)
    return m.done(m.emit("Mul", inputs, **zero_points))


@case("Div")
def div(m: Maker) -> Case:
    inputs, zero_points = _pair_inputs(m)
    attrs = {"multiplier": m.number(1, 2**15 - 1), "shift": m.number(0, 30)}
    return m.done(m.emit("Div", inputs, **attrs, **zero_points, **m.clamp(S8, U8, S16)))


@case("Lut")
def lut(m: Maker) -> Case:
    shape, dtype = m.shape(), m.pick(S8, U8)
    axis = m.number(-len(shape), len(shape) - 1)
    rows = m.pick([], [shape[axis]])
    table = m.array(m.pick(S8, U8, S16), [*rows, 256])
    return m.done(m.emit("Lut", [m.input(dtype, shape), table], axis=axis))


@case("LutInterp")
def lut_interp(m: Maker) -> Case:
    table = m.array(S16, [513])
    return m.done(m.emit("LutInterp", [m.input(S16, m.shape()), table], shift=m.number(0, 30), **m.clamp(S8, U8, S16)))


@case("SumPool")
def sum_pool(m: Maker) -> Case:
    size, dtype = [m.number(1, 8), m.number(1, 8)], m.pick(S8, U8, S16)
    kernel, geometry = m.geometry(*size)
    del geometry["dilations"]
    kernel = [min(kernel[i], size[i]) for i in (0, 1)]
    x = m.input(dtype, [m.number(1, 2), m.number(1, 5), *size])
    return m.done(m.emit("SumPool", [x], kernel_shape=kernel, x_zero_point=m.zero_point(dtype), **geometry))


@case("ReduceSum")
def reduce_sum(m: Maker) -> Case:
    shape, dtype = m.shape(), m.pick(S8, U8, S16)
    axes = [a - m.pick(0, len(shape)) for a in range(len(shape)) if m.number(0, 1)] or [-1]
    attrs = {"axes": axes, "keepdims": m.number(0, 1), "x_zero_point": m.zero_point(dtype)}
    return m.done(m.emit("ReduceSum", [m.input(dtype, shape)], **attrs))


def _probabilities(m: Maker, op: str, constants: Callable[[float, int, int], Any]) -> Case:
    shape, dtype = [*m.shape(1, 3), m.pick(1, 2, 7, 64, 65, 300)], m.pick(S8, U8, S16, S32)
    axis = m.number(-len(shape), len(shape) - 1)
    scale = 2.0 ** (m.number(-80, 60) / 10) / (1 if np.dtype(dtype).itemsize == 1 else 2**7)
    if dtype == S32:
        scale /= 2 ** m.number(0, 10)
    to = m.pick(S8, U8, S16)
    attributes = constants(scale, shape[axis], 15 if to == S16 else 8).attributes()
    inputs = [m.input(dtype, shape)]
    if op.startswith("Masked"):
        whole = [n if m.number(0, 1) else 1 for n in shape]
        inputs.append(m.input(m.pick(S8, U8), whole[m.pick(0, 0, 1) :], "mask", 0, m.pick(1, 1, 127)))
    zero_point = {S8: -128, U8: 0, S16: 0}[to]
    return m.done(m.emit(op, inputs, axis=axis, to=to, zero_point=zero_point, **attributes))


@case("Softmax")
def softmax(m: Maker) -> Case:
    return _probabilities(m, "Softmax", softmax_constants)


@case("MaskedSoftmax")
def masked_softmax(m: Maker) -> Case:
    return _probabilities(m, "MaskedSoftmax", softmax_constants)


@case("Shiftmax")
def shiftmax(m: Maker) -> Case:
    return _probabilities(m, "Shiftmax", shiftmax_constants)


@case("MaskedShiftmax")
def masked_shiftmax(m: Maker) -> Case:
    return _probabilities(m, "MaskedShiftmax", shiftmax_constants)


@case("ShiftGelu")
def shift_gelu(m: Maker) -> Case:
    dtype, to = m.pick(S8, U8, S16), m.pick(S8, U8, S16)
    scale, out_scale = (2.0 ** (m.number(-150, 60) / 10) for _ in range(2))
    attributes = shift_gelu_constants(scale, max(out_scale, scale / 2**14), dtype).attributes()
    return m.done(
        m.emit("ShiftGelu", [m.input(dtype, m.shape())], x_zero_point=m.zero_point(dtype), **attributes, **m.clamp(to))
    )


@case("ShiftGeluPaper")
def shift_gelu_paper(m: Maker) -> Case:
    dtype, to = m.pick(S8, U8), m.pick(S8, U8, S16)
    scale = 2.0 ** (m.number(-85, 30) / 10)
    attributes = shift_gelu_paper_constants(scale, scale * 2.0 ** (m.number(-60, 30) / 10)).attributes()
    x = m.input(dtype, [*m.shape(0, 2), m.pick(1, 2, 7, 64, 65)])
    return m.done(m.emit("ShiftGeluPaper", [x], x_zero_point=m.zero_point(dtype), **attributes, **m.clamp(to)))


@case("Embedding")
def embedding(m: Maker) -> Case:
    rows = m.number(1, 6)
    indices = m.input(m.pick(np.int64, S32), m.shape(0, 3), "indices", *m.pick((-2, rows + 1), (None, None)))
    return m.done(m.emit("Embedding", [m.array(m.pick(S8, U8, S16), [rows, *m.shape(0, 2)]), indices]))


@case("ScaledEmbedding")
def scaled_embedding(m: Maker) -> Case:
    rows = m.number(1, 6)
    indices = m.input(m.pick(np.int64, S32), m.shape(0, 3), "indices", *m.pick((-2, rows + 1), (None, None)))
    multiplier = m.array(S16, [rows], 0, 2**15 - 1)
    inputs = [m.array(S8, [rows, *m.shape(0, 2)]), multiplier, indices]
    return m.done(m.emit("ScaledEmbedding", inputs, shift=m.number(0, 30), **m.clamp(m.pick(S8, U8, S16))))


@case("ToMask")
def to_mask(m: Maker) -> Case:
    return m.done(m.emit("ToMask", [m.input(m.pick(S8, U8, S16, S32, np.int64), m.shape())], to=m.pick(S8, U8)))


def _norm(m: Maker, op: str) -> Case:
    shape, dtype, to = [*m.shape(0, 2), m.pick(1, 2, 3, 7, 64, 65, 300)], m.pick(S8, U8, S16), m.pick(S8, U8, S16)
    rng = m.choice.rng()
    gamma, beta = rng.normal(1, 1, shape[-1]), rng.normal(0, m.pick(0, 1, 30), shape[-1])
    scale, out_scale = (2.0 ** (m.number(-80, 20) / 10) for _ in range(2))
    epsilon = m.pick(0.0, 1e-12, 1e-5, 1.0, 1e9)
    c = norm_constants(gamma, beta if op == "LayerNorm" else None, epsilon, scale, out_scale)
    inputs = [c.gamma, c.beta] if op == "LayerNorm" else [c.gamma]
    extra = {} if op == "LayerNorm" else {"x_zero_point": m.zero_point(dtype)}
    return m.done(m.emit(op, [m.input(dtype, shape), *inputs], **c.attributes(), **extra, **m.clamp(to)))


@case("LayerNorm")
def layer_norm(m: Maker) -> Case:
    return _norm(m, "LayerNorm")


@case("RmsNorm")
def rms_norm(m: Maker) -> Case:
    return _norm(m, "RmsNorm")


@case("ResizeLinear")
def resize_linear(m: Maker) -> Case:
    x = m.input(m.pick(S8, U8, S16), [m.number(1, 2), m.number(1, 3), m.number(1, 7), m.number(1, 7)])
    attrs = {"out_h": m.number(1, 15), "out_w": m.number(1, 15), "mode": m.pick(*COORDINATE_MODES)}
    return m.done(m.emit("ResizeLinear", [x], **attrs))


def _i64(*values: int) -> Array:
    return np.array(values, np.int64)


@case("Identity")
def identity(m: Maker) -> Case:
    return m.done(m.emit("Identity", [m.input(m.pick(S8, U8, S16, S32), m.shape())]))


@case("Reshape")
def reshape(m: Maker) -> Case:
    shape = m.shape(2, 4)
    wanted = m.pick(_i64(-1), _i64(0, -1), _i64(int(np.prod(shape)), 1), _i64(1, -1, shape[-1]))
    return m.done(m.emit("Reshape", [m.input(m.pick(S8, U8, S16, S32), shape), wanted]))


@case("Flatten")
def flatten(m: Maker) -> Case:
    shape = m.shape(1, 4)
    return m.done(m.emit("Flatten", [m.input(m.pick(S8, U8, S16), shape)], axis=m.number(-len(shape), len(shape))))


@case("Squeeze")
def squeeze(m: Maker) -> Case:
    shape = [1, *m.shape(1, 3), 1]
    axes = m.pick([], [_i64(0)], [_i64(-1, 0)])
    return m.done(m.emit("Squeeze", [m.input(m.pick(S8, U8, S16), shape), *axes]))


@case("Unsqueeze")
def unsqueeze(m: Maker) -> Case:
    return m.done(m.emit("Unsqueeze", [m.input(m.pick(S8, S16), m.shape(1, 3)), m.pick(_i64(0), _i64(-1), _i64(0, 2))]))


@case("Transpose")
def transpose(m: Maker) -> Case:
    shape = m.shape()
    attrs = m.pick({}, {"perm": m.choice.rng().permutation(len(shape)).tolist()})
    return m.done(m.emit("Transpose", [m.input(m.pick(S8, U8, S16, S32), shape)], **attrs))


@case("Concat")
def concat(m: Maker) -> Case:
    shape, dtype = m.shape(), m.pick(S8, U8, S16)
    axis = m.number(-len(shape), len(shape) - 1)
    inputs = []
    for i in range(m.number(1, 4)):
        shape[axis] = m.number(1, 4)
        inputs.append(m.input(dtype, shape, f"x{i}"))
    return m.done(m.emit("Concat", inputs, axis=axis))


@case("Slice")
def slice_(m: Maker) -> Case:
    shape = [m.number(4, 7) for _ in range(3)]
    x = m.input(m.pick(S8, U8, S16), shape)
    parts = m.pick(
        [_i64(1), _i64(3)],
        [_i64(-3, 0), _i64(2**40, 2), _i64(0, -1)],
        [_i64(0, 1), _i64(4, 100), _i64(2, 1), _i64(3, 2)],
        [_i64(-1), _i64(-(2**31)), _i64(1), _i64(-1)],
        [_i64(3), _i64(0), _i64(2), _i64(-2)],
    )
    return m.done(m.emit("Slice", [x, *parts]))


@case("Split")
def split(m: Maker) -> Case:
    shape = m.shape(2, 4)
    axis = m.number(-len(shape), len(shape) - 1)
    sizes = [m.number(1, 4) for _ in range(m.number(1, 4))]
    shape[axis] = sum(sizes)
    count = len(sizes)
    x = m.input(m.pick(S8, U8, S16), shape)
    if -(-shape[axis] // count) * (count - 1) < shape[axis] and m.number(0, 1):
        return m.done(*emit_all(m.builder, "Split", [x], count, axis=axis, num_outputs=count))
    return m.done(*emit_all(m.builder, "Split", [x, _i64(*sizes)], count, axis=axis))


@case("Pad")
def pad(m: Maker) -> Case:
    shape, dtype, mode = [m.number(3, 6) for _ in range(4)], m.pick(S8, U8), m.pick("constant", "reflect", "edge")
    axes = m.pick([], [_i64(2, -1)])
    pads = _i64(*(m.number(0, 2) for _ in range(2 * (2 if axes else 4))))
    value = m.array(dtype, []) if mode == "constant" and m.number(0, 1) else None
    return m.done(m.emit("Pad", [m.input(dtype, shape), pads, value, *axes], mode=mode))


@case("Gather")
def gather(m: Maker) -> Case:
    shape = m.shape()
    axis = m.number(-len(shape), len(shape) - 1)
    indices = m.array(m.pick(np.int64, S32), m.pick([], [3], [2, 2]), -shape[axis], shape[axis] - 1)
    return m.done(m.emit("Gather", [m.input(m.pick(S8, U8, S16), shape), indices], axis=axis))


@case("Expand")
def expand(m: Maker) -> Case:
    whole = m.shape()
    shape = [n if m.number(0, 1) else 1 for n in whole]
    return m.done(m.emit("Expand", [m.input(m.pick(S8, S16, S32), shape), _i64(*m.pick(whole, [2, *whole], [1]))]))


@case("Resize")
def resize(m: Maker) -> Case:
    while True:
        size, wanted = ([m.number(1, 9), m.number(1, 9)] for _ in range(2))
        coordinates, nearest = m.pick(*COORDINATE_MODES), m.pick(*NEAREST_MODES)
        if m.number(0, 1):
            wanted = [n * m.number(1, 4) for n in size]
        if all(nearest_is_exact(coordinates, nearest, size[i], wanted[i]) for i in (0, 1)):
            break
    shape = [m.number(1, 2), m.number(1, 3)]
    x = m.input(m.pick(S8, U8), [*shape, *size])
    whole = all(w % n == 0 for w, n in zip(wanted, size, strict=True))
    if whole and m.number(0, 1):
        target = [np.array([1, 1, *(w / n for w, n in zip(wanted, size, strict=True))], np.float32)]
    else:
        target = [None, _i64(*shape, *wanted)]
    attrs = {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    return m.done(m.emit("Resize", [x, None, *target], **attrs))


@case("DepthToSpace")
def depth_to_space(m: Maker) -> Case:
    b = m.number(1, 3)
    x = m.input(m.pick(S8, U8), [m.number(1, 2), m.number(1, 3) * b * b, m.number(1, 4), m.number(1, 4)])
    return m.done(m.emit("DepthToSpace", [x], blocksize=b, mode=m.pick("DCR", "CRD")))


@case("SpaceToDepth")
def space_to_depth(m: Maker) -> Case:
    b = m.number(1, 3)
    x = m.input(m.pick(S8, U8), [m.number(1, 2), m.number(1, 3), m.number(1, 4) * b, m.number(1, 4) * b])
    return m.done(m.emit("SpaceToDepth", [x], blocksize=b))


@case("MaxPool")
def max_pool(m: Maker) -> Case:
    size = [m.number(1, 8), m.number(1, 8)]
    kernel, geometry = m.geometry(*size)
    geometry["pads"] = [min(p, kernel[i % 2] - 1) for i, p in enumerate(geometry["pads"])]
    for i in (0, 1):
        room = size[i] + geometry["pads"][i] + geometry["pads"][2 + i]
        if room < geometry["dilations"][i] * (kernel[i] - 1) + 1:
            geometry["dilations"][i], kernel[i] = 1, 1
            geometry["pads"][i] = geometry["pads"][2 + i] = 0
    x = m.input(m.pick(S8, U8), [m.number(1, 2), m.number(1, 4), *size])
    return m.done(m.emit("MaxPool", [x], kernel_shape=kernel, **geometry))


@case("ReduceMax")
def reduce_max(m: Maker) -> Case:
    shape = m.shape()
    axes = [a - m.pick(0, len(shape)) for a in range(len(shape)) if m.number(0, 1)] or [-1]
    return m.done(m.emit("ReduceMax", [m.input(m.pick(S8, U8, S32), shape), _i64(*axes)], keepdims=m.number(0, 1)))


@case("ArgMax")
def arg_max(m: Maker) -> Case:
    shape = m.shape()
    attrs = {"axis": m.number(-len(shape), len(shape) - 1), "keepdims": m.number(0, 1)}
    x = m.input(m.pick(S8, U8, S32), shape)
    return m.done(m.emit("ArgMax", [x], select_last_index=m.number(0, 1), **attrs))
