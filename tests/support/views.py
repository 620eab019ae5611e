"""Random data and strided views for kernel tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from edgeq.compiler.kernels.base import DTYPE_RANGE
from edgeq.compiler.kernels.epilogue import NUMPY_DTYPE

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
