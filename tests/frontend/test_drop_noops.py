"""Data movement that moves nothing, constants that fold, stock rules."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.models import check, model, ops

X = "g (float[1,3,4,4] x)"
Y = "(float[1,3,4,4] y)"
I64 = np.int64


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(r)",
        "y = Dropout(r)",
        "y = Cast<to=1>(r)",
        "y = Reshape(r, same)",
        "y = Expand(r, ones)",
        "y = Slice(r, zero, many, one)",
        "y = Pad(r, nothing)",
        "y = Concat<axis=1>(r)",
        "y = Transpose<perm=[0,1,2,3]>(r)",
        'y = Resize<mode="nearest">(r, , unit)',
        "a = Unsqueeze(r, zero)  y = Squeeze(a, zero)",
        "a = Transpose<perm=[0,2,3,1]>(r)  y = Transpose<perm=[0,3,1,2]>(a)",
        "a = Reshape(r, flat)  y = Reshape(a, same)",
        "a = Flatten(r)  y = Reshape(a, same)",
        "a = Add(r, z)  b = Mul(a, u)  c = Sub(b, z)  y = Div(c, u)",
    ],
)
def test_gone(tmp_path, body):
    constants = {
        "same": np.array([1, 3, 4, 4], I64), "ones": np.array([1, 1, 1, 1], I64), "zero": np.array([0], I64),
        "many": np.array([1 << 40], I64), "one": np.array([2], I64), "nothing": np.zeros(8, I64),
        "unit": np.ones(4, np.float32), "flat": np.array([1, 48], I64), "z": np.float32(0), "u": np.float32(1),
    }  # fmt: skip
    used = {name: array for name, array in constants.items() if f" {name}" in body}
    graph = check(model(f"{X} => {Y} {{ r = Relu(x)  {body} }}", **used), tmp_path)
    assert ops(graph) == {"Relu": 1}
    assert graph.outputs[0].name == "y"


def test_an_input_that_is_the_output(tmp_path):
    graph = check(model(f"{X} => {Y} {{ y = Identity(x) }}"), tmp_path)
    assert ops(graph) == {"Identity": 1}


def test_one_value_under_two_output_names(tmp_path):
    text = f"{X} => (float[1,3,4,4] y, float[1,3,4,4] z) {{ r = Relu(x)  y = Identity(r)  z = Identity(r) }}"
    graph = check(model(text), tmp_path)
    assert [value.name for value in graph.outputs] == ["y", "z"]


def test_a_reversing_slice_stays(tmp_path):
    proto = model(
        f"{X} => {Y} {{ y = Slice(x, start, end, axis, step) }}",
        start=np.array([-1]), end=np.array([-100]), axis=np.array([3]), step=np.array([-1]),
    )  # fmt: skip
    assert ops(check(proto, tmp_path)) == {"Slice": 1}


def test_a_transpose_of_single_pixels_is_a_reshape(tmp_path):
    text = "g (float[1,8,1,1] x) => (float[1,1,1,8] y) { r = Relu(x)  y = Transpose<perm=[0,2,3,1]>(r) }"
    assert ops(check(model(text), tmp_path)) == {"Relu": 1, "Reshape": 1}


def test_targets_of_reshapes_are_written_out(tmp_path):
    text = "g (float[n,3,4,4] x) => (float[n,k] y) { y = Reshape(x, t) }"
    graph = check(model(text, t=np.array([0, -1], I64)), tmp_path, batch=2)
    assert graph.nodes[0].inputs[1].const_value.numpy().tolist() == [2, 48]
