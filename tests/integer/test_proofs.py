"""Interval proofs: bounds are reached by real inputs, and one step more is refused with the node's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeq.errors import CompileError
from edgeq.integer import IntegerGraph, prove, reference
from edgeq.integer.builder import GraphBuilder, emit
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.normalization import norm_constants, widths
from edgeq.integer.shift_exp import shift_gelu_constants, shiftmax_constants

S8, U8, S16, S32 = np.int8, np.uint8, np.int16, np.int32
TOP = 2**31 - 1


def one(op: str, inputs: list[Any], **attrs: Any) -> IntegerGraph:
    """A graph of one node 'n'; an input (dtype, shape) is a graph input, an array a constant."""
    builder = GraphBuilder()
    values = [builder.input(f"x{i}", *v) if isinstance(v, tuple) else v for i, v in enumerate(inputs)]
    builder.output(emit(builder, op, values, name="n", **attrs), "y")
    return builder.finish()


def weights(shape: list[int]) -> Any:
    return np.full(shape, -128, S8)


def bias(value: int, shape: list[int]) -> Any:
    return np.full(shape, value, S32)


def conv(op: str, dtype: type, rest: int) -> IntegerGraph:
    low = 128 * (128 if dtype == S8 else 32768) * 3 * 9
    return one(op, [(dtype, [1, 3, 4, 4]), weights([2, 3, 3, 3]), bias(TOP - low + rest, [1, 2, 1, 1])])


def conv_transpose(rest: int) -> IntegerGraph:
    return one(
        "ConvTranspose", [(S8, [1, 2, 4, 4]), weights([2, 1, 3, 3]), bias(TOP - 128 * 128 * 18 + rest, [1, 1, 1, 1])]
    )


def gemm(op: str, dtype: type, rest: int) -> IntegerGraph:
    low = 128 * (128 if dtype == S8 else 32768) * 5
    return one(op, [(dtype, [1, 5]), weights([5, 2]), bias(TOP - low + rest, [2])])


PRODUCTS: list[tuple[str, Callable[[int], IntegerGraph]]] = [
    ("Conv", lambda rest: conv("Conv", S8, rest)),
    ("ConvS16", lambda rest: conv("ConvS16", S16, rest)),
    ("ConvTranspose", conv_transpose),
    ("Gemm", lambda rest: gemm("Gemm", S8, rest)),
    ("GemmS16", lambda rest: gemm("GemmS16", S16, rest)),
]


@pytest.mark.parametrize(("op", "make"), PRODUCTS)
def test_products_reach_the_last_value_and_no_further(op: str, make: Callable[[int], IntegerGraph]) -> None:
    graph = make(0)
    assert prove(graph)["y"].most == TOP
    lowest = {
        str(v.name): np.full(v.shape.numpy(), np.iinfo(v.dtype.numpy()).min, v.dtype.numpy()) for v in graph.inputs
    }
    assert reference.run(graph, lowest)["y"].max() == TOP
    with pytest.raises(CompileError, match=rf"accumulator could overflow 32 bits\n  where: {op} 'n'\n.*{TOP + 1}"):
        prove(make(1))


def test_tighter_inputs_prove_more() -> None:
    builder = GraphBuilder()
    x = builder.input("x", S32, [1, 5])
    low = emit(builder, "Requantize", [x, bias(2**30, [1]), bias(40, [1])], low=-2, high=1, to=S8)
    acc = emit(builder, "Gemm", [low, weights([5, 2]), bias(TOP - 2 * 128 * 5, [2])])
    builder.output(acc, "y")
    assert prove(builder.finish())["y"].most == TOP


def test_matmul_sum_is_bounded_by_its_depth() -> None:
    depth = TOP // (255 * 255)
    attrs = {"a_zero_point": 127, "b_zero_point": 127}
    assert prove(one("MatMul", [(S8, [1, depth]), (S8, [depth, 1])], **attrs))["y"].most == 255 * 255 * depth
    with pytest.raises(CompileError, match=r"accumulator could overflow 32 bits\n  where: MatMul 'n'"):
        prove(one("MatMul", [(S8, [1, depth + 1]), (S8, [depth + 1, 1])], **attrs))


def test_mul_fits_always() -> None:
    assert prove(one("Mul", [(S16, [2]), (S16, [2])]))["y"].most == 2**30


def test_narrow_rounding_must_fit() -> None:
    def make(shift: int) -> IntegerGraph:
        constants = [bias(2**14, [1]), bias(shift, [1])]
        return one("RequantizeNarrow", [(S32, [2]), *constants], post_shift=0, to=S8)

    prove(make(0))
    with pytest.raises(
        CompileError, match=r"accumulator plus its rounding could overflow 32 bits\n  where: Requ.* 'n'"
    ):
        prove(make(1))
    with pytest.raises(CompileError, match="accumulator plus its rounding could overflow 32 bits"):
        prove(make(-1))


@pytest.mark.parametrize("op", ["Add", "Max", "Min"])
def test_pairs_must_fit(op: str) -> None:
    def make(multiplier: int, shift: int) -> IntegerGraph:
        attrs = {"a_multiplier": multiplier, "b_multiplier": 0, "shift": shift, "to": S16}
        return one(op, [(S16, [2]), (S16, [2])], **attrs)

    assert prove(make(65535, 0))["y"].least in (-32768, 0)
    with pytest.raises(CompileError, match=rf"rounding could overflow 32 bits\n  where: {op} 'n'"):
        prove(make(65535, 30))
    with pytest.raises(CompileError, match=rf"product with a_multiplier could overflow 32 bits\n  where: {op} 'n'"):
        prove(make(65537, 0))


def test_add_bounds_the_sum() -> None:
    attrs = {"a_multiplier": 40000, "b_multiplier": 40000, "shift": 0, "to": S16}
    with pytest.raises(CompileError, match=r"sum plus its rounding could overflow 32 bits\n  where: Add 'n'"):
        prove(one("Add", [(S16, [2]), (S16, [2])], **attrs))


def test_table_interpolation_must_fit() -> None:
    table = np.full([513], 32767, S16)
    prove(one("LutInterp", [(S16, [2]), table], shift=30, to=S16))  # 2^22 + 2^29: any legal table and shift fit
    assert prove(one("LutInterp", [(S16, [2]), table], shift=7, to=S16))["y"].most == 32767


def test_tables_bound_what_follows() -> None:
    table = np.arange(-128, 128).astype(S8) // 2
    found = prove(one("Lut", [(S8, [2]), table]))["y"]
    assert (found.least, found.most) == (-64, 63)


def test_pool_sums_must_fit() -> None:
    def pool(columns: int) -> IntegerGraph:
        return one("SumPool", [(S16, [1, 1, 256, 256])], kernel_shape=[256, columns])

    assert prove(pool(255))["y"].least == -32768 * 256 * 255
    prove(pool(256))  # exactly −2^31
    with pytest.raises(CompileError, match=r"sum over the window could overflow 32 bits\n  where: SumPool 'n'"):
        prove(one("SumPool", [(S16, [1, 1, 256, 257])], kernel_shape=[256, 257]))


def test_reduced_sums_must_fit() -> None:
    assert prove(one("ReduceSum", [(S16, [65536, 1])], axes=[0]))["y"].least == -(2**31)
    with pytest.raises(CompileError, match=r"the sum could overflow 32 bits\n  where: ReduceSum 'n'"):
        prove(one("ReduceSum", [(S16, [65537, 1])], axes=[0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_shift": 0, "limit": 65536}, "the shifted difference"),
        ({"multiplier": 2**31 - 1}, "the scaled difference"),
        ({"sum_bits": 24}, "the sum of powers"),
    ],
)
def test_softmax_constants_are_proven(change: dict[str, int], message: str) -> None:
    attrs = {**softmax_constants(0.1, 300, 8).attributes(), **change}
    with pytest.raises(CompileError, match=rf"{message} could overflow [\s\S]*Softmax 'n'"):
        prove(one("Softmax", [(S8, [1, 300])], to=U8, **attrs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": 15, "limit": 2**18}, "the difference plus its rounding"),
        ({"left": 0, "limit": 2**31 - 1}, "the shifted difference"),
        ({"sum_bits": 24}, "the sum of powers"),
    ],
)
def test_shiftmax_constants_are_proven(change: dict[str, int], message: str) -> None:
    attrs = {**shiftmax_constants(0.1, 300, 8).attributes(), **change}
    for op, inputs in (("Shiftmax", []), ("MaskedShiftmax", [(U8, [1, 300])])):
        with pytest.raises(CompileError, match=rf"{message} could overflow [\s\S]*{op} 'n'"):
            prove(one(op, [(S8, [1, 300]), *inputs], to=U8, **attrs))


def test_shift_gelu_grid_is_proven() -> None:
    attrs = {**shift_gelu_constants(0.1, 0.1, S16).attributes(), "to": S16}
    with pytest.raises(CompileError, match=r"the shifted magnitude could overflow 32 bits\n  where: ShiftGelu 'n'"):
        prove(one("ShiftGelu", [(S16, [2])], **{**attrs, "left": 15}))
    found = prove(one("ShiftGelu", [(S16, [2])], **attrs))["y"]
    assert found.least < 0
    assert found.most > 32000


def test_shift_gelu_magnitude_and_its_rounding() -> None:
    wide = {**shift_gelu_constants(0.1, 0.1, S16).attributes(), "left": 15, "pre_shift": 20, "to": S16}
    assert prove(one("ShiftGelu", [(S16, [2])], **wide))["y"].most > 0  # 2^30 + 2^19 fit
    assert prove(one("ShiftGeluPaper", [(S8, [2])], octave=9, multiplier=1, shift=0, to=S8))["y"].most == 127


def test_paper_gelu_always_fits() -> None:
    attrs = {"octave": 255, "multiplier": 32767, "shift": 30, "to": S16, "x_zero_point": -128}
    assert prove(one("ShiftGeluPaper", [(S8, [2])], **attrs))["y"].most == (255 * 127 * 32767 + 2**29) >> 30


@pytest.mark.parametrize(
    ("change", "gamma", "message"),
    [
        ({"row_bits": 27}, 1, "the inverse deviation"),
        ({"fraction_bits": 11}, 1, "the normalised element"),
        ({}, 2**15, "gamma could overflow"),
        ({"shift": 30}, 2**15 - 1, "the product with gamma plus beta and rounding"),
    ],
)
def test_norm_constants_are_proven(change: dict[str, int], gamma: int, message: str) -> None:
    row_bits, fraction_bits = widths(384)
    attrs = {"epsilon": 1, "row_bits": row_bits, "fraction_bits": fraction_bits, "shift": 0, "to": S16}
    factors, summands = bias(gamma, [384]), bias(2**30, [384])
    with pytest.raises(CompileError, match=rf"{message}[\s\S]*LayerNorm 'n'"):
        prove(one("LayerNorm", [(S8, [2, 384]), factors, summands], **{**attrs, **change}))
    if not change.get("shift"):
        with pytest.raises(CompileError, match=rf"{message}[\s\S]*RmsNorm 'n'"):
            prove(one("RmsNorm", [(S8, [2, 384]), factors], **{**attrs, **change}))


def test_norm_row_is_proven() -> None:
    attrs = {"epsilon": 1, "row_bits": 29, "fraction_bits": 12, "shift": 0, "to": S16}
    with pytest.raises(CompileError, match=r"the normalised row plus its rounding could overflow 32 bits"):
        prove(one("RmsNorm", [(S8, [2, 9]), bias(1, [9])], **attrs))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9, 192, 384, 768, 1024, 2**15])
def test_constants_of_every_row_length_are_proven(length: int) -> None:
    for gamma, beta, out_scale in ((1.0, 0.0, 0.03), (-3.0, 7.0, 1e-4)):
        c = norm_constants(np.full(length, gamma), np.full(length, beta), 1e-5, 0.01, out_scale)
        prove(one("LayerNorm", [(S16, [1, length]), c.gamma, c.beta], to=S16, **c.attributes()))
        c = norm_constants(np.full(length, gamma), None, 1e-5, 0.01, out_scale)
        prove(one("RmsNorm", [(S8, [1, length]), c.gamma], to=S8, x_zero_point=-128, **c.attributes()))


def test_embedding_is_bounded_by_its_rows() -> None:
    table = np.array([[1, -5], [3, 100]], S8)
    found = prove(one("Embedding", [table, (np.int64, [7])]))["y"]
    assert (found.low.tolist(), found.high.tolist()) == ([1, -5], [3, 100])


def test_scaled_embedding_is_bounded_by_its_rows() -> None:
    table, multiplier = np.array([[1, -5], [3, 100], [0, 127]], S8), np.array([4, 2, 32767], S16)
    call = one("ScaledEmbedding", [table, multiplier, (np.int64, [7])], shift=1, to=S8, zero_point=10)
    found = prove(call)["y"]
    assert (found.low.tolist(), found.high.tolist()) == ([10, 0], [13, 127])


def test_s16_products_are_bounded() -> None:
    depth = TOP // (32768 * 128)
    prove(one("MatMul", [(S16, [1, depth]), (S8, [depth, 1])]))
    with pytest.raises(CompileError, match=r"accumulator could overflow 32 bits\n  where: MatMul 'n'"):
        prove(one("MatMul", [(S16, [1, depth + 1]), (S8, [depth + 1, 1])]))


def test_padding_and_joining_widen() -> None:
    pads = np.array([1, 1], np.int64)
    table = np.zeros(256, S8)
    builder = GraphBuilder()
    x = emit(builder, "Lut", [builder.input("x", S8, [3]), table])
    padded = emit(builder, "Pad", [x, pads, np.array(-7, S8)])
    builder.output(emit(builder, "Concat", [padded, emit(builder, "Lut", [padded, table + np.int8(5)])], axis=0), "y")
    found = prove(builder.finish())["y"]
    assert (found.least, found.most) == (-7, 5)
