"""Axes counted from the front."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.models import check, model, ops

X = "g (float[1,4,6,5] x)"


def only(graph):
    (node,) = graph.nodes
    return node


def numbers(node, index: int) -> list[int]:
    return node.inputs[index].const_value.numpy().tolist()


@pytest.mark.parametrize(
    ("body", "axis"),
    [
        ("y = Softmax(x)", 3),
        ("y = Softmax<axis=-2>(x)", 2),
        ("y = ArgMax<axis=-3>(x)", 1),
        ("y = ArgMax(x)", 0),
        ("y = Gather<axis=-1>(x, i)", 3),
        ("y = Concat<axis=-3>(x, x)", 1),
    ],
)
def test_one_axis(tmp_path, body, axis):
    dtype = "int64" if "ArgMax" in body else "float"
    constants = {"i": np.array([0, 2])} if "i)" in body else {}
    graph = check(model(f"{X} => ({dtype}[a,b,c,d] y) {{ {body} }}", **constants), tmp_path)
    assert only(graph).attributes["axis"].as_int() == axis


@pytest.mark.parametrize(("axes", "expected"), [([-1, -2], [2, 3]), ([3, 1], [1, 3]), (None, [0, 1, 2, 3])])
def test_reductions(tmp_path, axes, expected):
    said = "" if axes is None else f"<axes={axes}>"
    graph = check(model(f"{X} => (float[a,b,c,d] y) {{ y = ReduceMean{said}(x) }}"), tmp_path)
    assert numbers(only(graph), 1) == expected


def test_a_reduction_over_nothing_stays_as_it_is(tmp_path):
    text = f"{X} => (float[1,4,6,5] y) {{ y = ReduceSum<noop_with_empty_axes=1>(x) }}"
    assert ops(check(model(text), tmp_path)) == {"ReduceSum": 1}


def test_slice_without_axes(tmp_path):
    proto = model(f"{X} => (float[a,b,c,d] y) {{ y = Slice(x, s, e) }}", s=np.array([0, -3]), e=np.array([9, -1]))
    node = only(check(proto, tmp_path))
    assert [numbers(node, k) for k in range(1, 5)] == [[0, 1], [1, 3], [0, 1], [1, 1]]


def test_slice_backwards(tmp_path):
    proto = model(
        f"{X} => (float[a,b,c,d] y) {{ y = Slice(x, s, e, ax, st) }}",
        s=np.array([-1, 1]), e=np.array([-99, 99], np.int64), ax=np.array([-1, 2]), st=np.array([-2, 2]),
    )  # fmt: skip
    node = only(check(proto, tmp_path))
    assert [numbers(node, k) for k in range(1, 5)] == [[-1, 1], [-99, 6], [3, 2], [-2, 2]]


def test_pad_of_some_axes(tmp_path):
    proto = model(
        f"{X} => (float[a,b,c,d] y) {{ y = Pad(x, p, v, ax) }}", opset=18,
        p=np.array([1, 2, 3, 4]), v=np.float32(1.5), ax=np.array([-1, 1]),
    )  # fmt: skip
    node = only(check(proto, tmp_path))
    assert numbers(node, 1) == [0, 2, 0, 1, 0, 4, 0, 3]
    assert len(node.inputs) == 3
