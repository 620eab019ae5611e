"""Random data and strided views for kernel tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE, Epilogue
from edgeq.compiler.kernels.epilogue.epilogue import NUMPY_DTYPE

IntArray = np.ndarray[Any, np.dtype[Any]]
NATIVE = ["x86-avx2", "x86-vnni"]


def noise(rng: np.random.Generator, elements: int, dtype: str) -> IntArray:
    """Uniform values of a dtype, with its extremes over-represented."""
    low, high = DTYPE_RANGE[dtype]
    values = rng.integers(low, high, elements, dtype=np.int64, endpoint=True)
    extreme = rng.random(elements)
    values[extreme < 0.05], values[extreme > 0.95] = low, high
    return values.astype(NUMPY_DTYPE[dtype])


def extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Elements from the first to the last one a view touches."""
    return 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


def strided(flat: IntArray, shape: tuple[int, ...], strides: tuple[int, ...]) -> IntArray:
    """A view with strides in elements."""
    return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])


@st.composite
def shapes(draw: st.DrawFn, dims: int = 4) -> tuple[int, ...]:
    """A small shape that meets vector widths and their neighbours."""
    sizes = st.sampled_from([1, 2, 3, 5, 8, 15, 16, 17, 24, 33, 65])
    shape = draw(st.lists(sizes, min_size=1, max_size=dims))
    while int(np.prod(shape)) > 20000:
        shape = shape[1:]
    return tuple(shape)


@st.composite
def strides_for(
    draw: st.DrawFn, shape: tuple[int, ...], broadcast: bool = False, permute: bool = False
) -> tuple[int, ...]:
    """Strides of a possibly padded, broadcast or permuted operand."""
    order = list(range(len(shape)))[::-1]
    if permute and draw(st.integers(0, 4)) == 0:
        order = draw(st.permutations(order))
    strides, step = [0] * len(shape), 1
    for d in order:
        if broadcast and draw(st.integers(0, 3)) == 0:
            continue
        strides[d] = step
        step *= shape[d] + draw(st.sampled_from([0, 0, 0, 1, 7]))
    return tuple(strides)


@st.composite
def epilogues(draw: st.DrawFn, forms: tuple[str, ...] = ("narrow", "single", "single", "none")) -> Epilogue:
    """Any epilogue without residual."""
    form = draw(st.sampled_from(forms))
    if form == "none":
        return Epilogue("none", "s32", 0, *DTYPE_RANGE["s32"])
    dtype = draw(st.sampled_from(["u8", "s8"] if form == "narrow" else ["u8", "s8", "s16"]))
    low, high = DTYPE_RANGE[dtype]
    zero = draw(st.sampled_from([low, high, 0, draw(st.integers(low, high))]))
    post_shift = draw(st.integers(0, 6)) if form == "narrow" else 0
    lut = dtype != "s16" and draw(st.integers(0, 3)) == 0
    if draw(st.booleans()):
        low, high = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    return Epilogue(form, dtype, zero, low, high, post_shift, lut=lut)  # type: ignore[arg-type]


def constants_for(
    rng: np.random.Generator, epilogue: Epilogue, count: int, accumulator: int = 2**31
) -> dict[str, IntArray]:
    """Multipliers and shifts that bring accumulators of that size into and around the output's range."""
    constants: dict[str, IntArray] = {}
    bits = accumulator.bit_length()
    distinct = int(rng.integers(1, 5))
    pick = rng.integers(0, distinct, count)
    if epilogue.form == "single":
        constants = {
            "multiplier": rng.integers(2**30, 2**31, distinct)[pick].astype(np.int32),
            "shift": rng.integers(max(2, bits), 31 + bits, distinct)[pick].astype(np.int32),
        }
    elif epilogue.form == "narrow":
        constants = {
            "multiplier": rng.integers(2**9, 2**15, distinct)[pick].astype(np.int32),
            "shift": rng.integers(0, min(31, bits), distinct)[pick].astype(np.int32),
        }
    if epilogue.lut:
        constants["table"] = noise(rng, 256, epilogue.dtype)
    return constants
