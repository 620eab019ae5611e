"""Rows of a table by computed numbers, none of which reads outside it; masks from any integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.elementwise.to_mask import ToMaskSpec
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE
from edgeq.compiler.kernels.movement.embedding import EmbeddingSpec
from edgeq.compiler.kernels.movement.scaled_embedding import ScaledEmbeddingSpec
from edgeq.compiler.target import load_target
from edgeq.errors import CompileError
from edgeq.integer.ops.scaled_embedding import reference
from tests.support.kernel_runner import run_kernel
from tests.support.views import NATIVE, noise, strided

ALL = [*NATIVE, *(pytest.param(name, marks=pytest.mark.emulated) for name in ("arm-neon", "arm-dotprod"))]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("dtype", "width"), [("u8", 384), ("s8", 3), ("s16", 75), ("u8", 1)])
def test_rows(name: str, dtype: str, width: int) -> None:
    """Numbers far outside the table count as its first or last row."""
    table = noise(np.random.default_rng(width), 11 * width, dtype)
    for index_dtype, far in (("s64", 2**62), ("s32", 2**31 - 1)):
        numbers = np.array([[0, 3, 10, 11], [-1, far, -far, 7]], NUMPY_DTYPE[index_dtype])
        spec = EmbeddingSpec((2, 4), (4, 1), (4 * width + 5, width), 11, width, dtype, index_dtype)
        y = np.zeros(8 * width + 5, NUMPY_DTYPE[dtype])
        arrays = {"table": table, "indices": numbers, "y": y}
        got = run_kernel(spec, load_target(name), arrays, splits=(spec.tasks() // 2,))["y"]
        wanted = table.reshape(11, width)[np.clip(numbers, 0, 10)]
        np.testing.assert_array_equal(strided(got, (2, 4, width), (4 * width + 5, width, 1)), wanted)
        assert (got[4 * width : 4 * width + 5] == 0).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("x_dtype", ["s64", "s32", "s16", "s8", "u8"])
def test_masks(name: str, x_dtype: str) -> None:
    x = np.array([0, 1, 128, 0, -1, 2**40, 2**32, 0], np.int64).astype(NUMPY_DTYPE[x_dtype])
    spec = ToMaskSpec((2, 4), (4, 1), (1, 2), x_dtype, "u8", 0, 128, 129)
    got = run_kernel(spec, load_target(name), {"x": x, "y": np.zeros(8, np.uint8)})["y"]
    np.testing.assert_array_equal(got.reshape(4, 2).T, np.where(x.reshape(2, 4) != 0, 129, 128))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_scaled_rows(name: str, bits: int) -> None:
    """Every storage, rows that are no whole blocks, every output type; numbers outside the table as above."""
    target, rng = load_target(name), np.random.default_rng(bits)
    for dtype, width, shift, zero_point in (
        ("u8", 384, 13, 128),
        ("s8", 75, 9, -3),
        ("s16", 17, 0, 0),
        ("u8", 1, 30, 0),
    ):
        if dtype == "u8" and not target.stores_u8:
            continue
        low, high = DTYPE_RANGE[dtype]
        table = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (11, width)).astype(np.int8)
        table = np.where(table < 0, -1, 1).astype(np.int8) if bits == 1 else table
        multiplier = rng.integers(0, 2**15, 11).astype(np.int16)
        numbers = np.array([[0, 3, 10, 11], [-1, 2**40, -(2**40), 7]], np.int64)
        spec = ScaledEmbeddingSpec(
            (2, 4), (4, 1), (4 * width + 5, width), 11, width, bits, "s64", dtype, shift, zero_point, low, high
        )  # fmt: skip
        constants = {"table": table, "multiplier": multiplier}
        assert spec.pack(target, constants)["table"].nbytes == 11 * -(-width // (16 * 8 // bits)) * 16
        arrays = {"indices": numbers, "y": np.zeros(8 * width + 5, NUMPY_DTYPE[dtype])}
        got = run_kernel(spec, target, arrays, constants, splits=(spec.tasks() // 2,))["y"]
        wanted = reference(
            table, multiplier, numbers, shift=shift, zero_point=zero_point, low=low, high=high, to=NUMPY_DTYPE[dtype]
        )
        np.testing.assert_array_equal(strided(got, (2, 4, width), (4 * width + 5, width, 1)), wanted)
        assert (got[4 * width : 4 * width + 5] == 0).all()


def test_errors() -> None:
    for rows, width, index in ((4, 4, "s16"), (0, 4, "s32"), (2**16, 2**15, "s64")):
        with pytest.raises(CompileError, match="embedding has an impossible form"):
            EmbeddingSpec((1,), (1,), (width,), rows, width, "s8", index)
    spec = ScaledEmbeddingSpec((1,), (1,), (3,), 2, 3, 2, "s32", "s8", 0, 0, -128, 127)
    with pytest.raises(CompileError, match=r"a number doesn't fit the 2 bits .*\n  why: the table holds 0 … 2"):
        spec.pack(load_target("x86-avx2"), {"table": np.array([0, 1, 2] * 2, np.int8), "multiplier": np.ones(2)})
    for change in ({"bits": 3}, {"shift": 31}, {"rows": 0}, {"index_dtype": "s8"}, {"width": 2**34}):
        with pytest.raises(CompileError, match="embedding has an impossible form"):
            replace(spec, **change)
