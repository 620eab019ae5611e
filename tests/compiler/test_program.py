"""Strided views: what they say must be what NumPy's own views say."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.compiler.program import View, reshape_strides, row_major, strides_in_order


def elements_of(view: View, memory: np.ndarray) -> np.ndarray:
    """The view's elements, read from flat memory."""
    strided = np.lib.stride_tricks.as_strided
    item = memory.itemsize
    return strided(memory[view.offset :], view.shape, [s * item for s in view.strides])


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@st.composite
def shape_pairs(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes with equally many elements."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=6))
    pair = []
    for _ in range(2):
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=3)))
        edges = [0, *cuts, len(factors)]
        pair.append(tuple(math.prod(factors[a:b]) for a, b in itertools.pairwise(edges)))
    return pair[0], pair[1]


@given(shape_pairs(), st.randoms(use_true_random=False))
def test_a_reshape_without_copy_shows_the_same_elements(pair, random):
    source, target = pair
    order = list(range(len(source)))
    random.shuffle(order)
    view = View(0, "s32", source, strides_in_order(source, tuple(order)))
    memory = np.arange(math.prod(source))
    reshaped = view.reshape(target)
    want = elements_of(view, memory).reshape(target)
    if reshaped is None:
        assert order != sorted(order), "a dense view can always be reshaped"
    else:
        np.testing.assert_array_equal(elements_of(reshaped, memory), want)


@given(SHAPES)
def test_dense_strides_can_always_be_reshaped(shape):
    assert reshape_strides(shape, row_major(shape), (math.prod(shape),)) is not None


def test_channels_last_pixels_merge_without_a_copy():
    view = View(0, "s8", (1, 85, 52, 52), strides_in_order((1, 85, 52, 52), (0, 2, 3, 1)))
    merged = view.reshape((1, 85, 2704))
    assert merged is not None
    assert merged.strides[1:] == (1, 85)
    assert view.reshape((1, 85 * 2704)) is None


def test_narrow_permute_and_broadcast_agree_with_numpy():
    memory = np.arange(2 * 3 * 4 * 5)
    view = View(0, "s32", (2, 3, 4, 5), row_major((2, 3, 4, 5)))
    array = memory.reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(elements_of(view.narrow(3, 1, 2, 2), memory), array[..., 1:5:2])
    np.testing.assert_array_equal(elements_of(view.narrow(1, 2, 3, -1), memory), array[:, ::-1])
    np.testing.assert_array_equal(elements_of(view.permute((0, 2, 3, 1)), memory), array.transpose(0, 2, 3, 1))
    small = View(0, "s32", (3, 1), (1, 1))
    np.testing.assert_array_equal(
        elements_of(small.broadcast_to((2, 3, 4)), memory), np.broadcast_to(memory[:3, None], (2, 3, 4))
    )


def test_an_image_needs_contiguous_channels():
    shape = (1, 8, 4, 5)
    assert View(0, "s8", shape, row_major(shape)).image() is None
    image = View(0, "s8", shape, strides_in_order(shape, (0, 2, 3, 1))).image()
    assert image is not None
    assert (image.row_stride, image.pixel_stride) == (40, 8)
    assert View(0, "s8", (1, 1, 4, 5), row_major((1, 1, 4, 5))).image() is not None
