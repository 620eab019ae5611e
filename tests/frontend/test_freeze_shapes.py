"""Dynamic dimensions, --batch and --shape."""

from __future__ import annotations

import pytest

from edgeq import frontend
from edgeq.errors import ModelError
from tests.frontend.models import check, model, save, weights

DYNAMIC = "g (float[n,3,h,w] x) => (float[n,3,h,w] y) { y = Relu(x) }"


def refused(proto, tmp_path, match: str, **options: object) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        frontend.load(save(proto, tmp_path), **options)
    assert caught.value.where
    return caught.value


def shape(graph: frontend.FloatGraph, index: int = 0) -> tuple[int, ...]:
    return tuple(graph.inputs[index].shape)


def test_a_dynamic_batch_is_one(tmp_path):
    graph = check(model("g (float[n,4] x) => (float[n,5] y) { y = MatMul(x, w) }", w=weights(4, 5)), tmp_path)
    assert shape(graph) == (1, 4)
    assert tuple(graph.outputs[0].shape) == (1, 5)


def test_batch(tmp_path):
    graph = check(model("g (float[n,4] x) => (float[n,5] y) { y = MatMul(x, w) }", w=weights(4, 5)), tmp_path, batch=3)
    assert shape(graph) == (3, 4)


def test_shape(tmp_path):
    assert shape(check(model(DYNAMIC), tmp_path, shapes={"x": (2, 3, 5, 7)})) == (2, 3, 5, 7)
    assert shape(check(model(DYNAMIC), tmp_path, batch=2, shapes={"x": (2, 3, 5, 7)})) == (2, 3, 5, 7)


def test_one_symbol_one_size(tmp_path):
    text = "g (float[n,s,4] x, float[n,s,4] z) => (float[n,s,4] y) { y = Add(x, z) }"
    graph = check(model(text), tmp_path, shapes={"z": (2, 6, 4)})
    assert (shape(graph, 0), shape(graph, 1)) == ((2, 6, 4), (2, 6, 4))


def test_unnamed_batch(tmp_path):
    proto = model("g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    assert shape(check(proto, tmp_path)) == (1, 4)


def test_shapes_said_in_the_file_are_forgotten(tmp_path):
    text = "g (float[n,4] x) => (float[n,4] y) <float[n,4] r> { r = Relu(x)  y = Neg(r) }"
    graph = check(model(text), tmp_path, batch=2)
    assert [tuple(value.shape) for value in graph.values()] == [(2, 4)] * 3


def test_open_dimensions_are_named(tmp_path):
    error = refused(model(DYNAMIC), tmp_path, "Input 'x' has dimensions that are not known: h, w")
    assert "--shape x=1x3xhxw" in (error.hint or "")


def test_unknown_name(tmp_path):
    error = refused(model(DYNAMIC), tmp_path, "The model has no input 'X'", shapes={"X": (1, 3, 4, 4)})
    assert error.why == "its inputs are x"
    proto = model(DYNAMIC.replace(" x)", " images)").replace("(x)", "(images)"))
    assert "did you mean 'images'?" in str(refused(proto, tmp_path, "no input", shapes={"image": (1, 3, 4, 4)}))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shapes": {"x": (1, 3, 4)}}, "--shape x=1x3x4 has 3 dimensions"),
        ({"shapes": {"x": (1, 4, 4, 4)}}, "contradicts the model(.|\n)*dimension 1 is 3"),
        ({"shapes": {"x": (1, 3, 0, 4)}}, "is not positive"),
        ({"batch": 0}, "The batch size 0 is not positive"),
        ({"batch": 2, "shapes": {"x": (3, 3, 4, 4)}}, "--batch 2 contradicts --shape"),
    ],
)
def test_contradictions(tmp_path, options, match):
    refused(model(DYNAMIC), tmp_path, match, **options)


def test_symbols_that_contradict(tmp_path):
    text = "g (float[n,s,4] x, float[n,s,4] z) => (float[n,s,4] y) { y = Add(x, z) }"
    refused(model(text), tmp_path, "contradicts the model", shapes={"x": (1, 6, 4), "z": (1, 7, 4)})


def test_a_fixed_batch(tmp_path):
    proto = model("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    refused(proto, tmp_path, "The model can't take batch 2", batch=2)
    assert shape(frontend.load(save(proto, tmp_path), batch=1)) == (1, 4)
