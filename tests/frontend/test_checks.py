"""Ops and graphs that have no place in a float graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeq import frontend
from edgeq.errors import ModelError, UnsupportedOpError
from tests.frontend.models import check, model, ops, save, weights


def refused(proto, tmp_path, match: str, **options: object) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        frontend.load(save(proto, tmp_path), **options)
    assert caught.value.where
    return caught.value


def test_unknown_domain(tmp_path):
    proto = model("g (float[1,4] x) => (float[1,4] y) { y = com.acme.Magic(x) }", domains=', "com.acme": 1')
    proto.graph.node[0].name = "trick"
    error = refused(proto, tmp_path, r"com\.acme\.Magic 'trick' belongs to the domain 'com\.acme'")
    assert isinstance(error, UnsupportedOpError)
    assert "supported are Abs Add" in (error.hint or "")


def test_functions_of_the_file_are_inlined(tmp_path):
    proto = model("g (float[1,4] x) => (float[1,4] y) { y = own.Twice(x) }", domains=', "own": 1')
    text = '<domain: "own", opset_import: ["": 17]> Twice (a) => (b) { b = Add(a, a) }'
    proto.functions.append(onnx.parser.parse_function(text))
    graph = check(proto, tmp_path)
    assert ops(graph) == {"Unary": 1}
    assert not [key for key in graph.model.functions if key[0] == "own"]


def test_misspelt_op(tmp_path):
    proto = model("g (float[1,4] x) => (float[1,4] y) { y = Relu(x) }")
    proto.graph.node[0].op_type = "Relo"
    refused(proto, tmp_path, r"Relo(.|\n)*")


def test_if_that_depends_on_the_input(tmp_path):
    text = """g (float[1,4] x, bool c) => (float[1,4] y) {
        y = If (c) <then_branch = t () => (float[1,4] a) { a = Relu(x) },
                    else_branch = e () => (float[1,4] b) { b = Neg(x) }> }"""
    error = refused(model(text), tmp_path, "If '.*' is control flow")
    assert isinstance(error, UnsupportedOpError)


def test_if_that_folds(tmp_path):
    text = """g (float[1,4] x) => (float[1,4] y) {
        y = If (c) <then_branch = t () => (float[1,4] a) { a = Relu(x) },
                    else_branch = e () => (float[1,4] b) { b = Neg(x) }> }"""
    assert ops(check(model(text, c=np.bool_(True)), tmp_path)) == {"Relu": 1}


def test_loop(tmp_path):
    text = """g (float[1,4] x, int64 n) => (float[1,4] y) {
        y = Loop (n, t, x) <body = b (int64 i, bool ci, float[1,4] a) => (bool co, float[1,4] z) {
            co = Identity(ci)  z = Add(a, a) }> }"""
    refused(model(text, t=np.bool_(True)), tmp_path, "Loop '.*' is control flow")


def test_random_numbers(tmp_path):
    text = "g (float[1,4] x) => (float[1,4] y) { r = RandomNormalLike(x)  y = Add(x, r) }"
    refused(model(text), tmp_path, "RandomNormalLike '.*' draws random numbers")


def test_sequences(tmp_path):
    text = "g (float[2,4] x, int64 i) => (float[1,4] y) { s = SplitToSequence(x)  y = SequenceAt(s, i) }"
    refused(model(text), tmp_path, "makes a SequenceType, not a tensor")


def test_shapes_that_depend_on_values(tmp_path):
    text = "g (float[1,4] x) => (int64[2,n] y) { y = NonZero(x) }"
    refused(model(text), tmp_path, r"The output shape of NonZero '.*' can't be computed(.|\n)*depends on the values")


def test_shapes_that_dont_fit(tmp_path):
    text = "g (float[n,4] x) => (float[m,8] y) { y = Reshape(x, s) }"
    proto = model(text, s=np.array([3, 8], np.int64))
    error = refused(proto, tmp_path, r"Reshape '.*' can't turn \[5, 4\] into \[3, 8\]", batch=5)
    assert "--batch" in (error.hint or "")


def test_operands_that_dont_fit(tmp_path):
    text = "g (float[n,4] x) => (float[n,7] y) { y = MatMul(x, w) }"
    refused(model(text, w=weights(5, 7)), tmp_path, "can't be computed(.|\n)*Incompatible dimensions")


def test_empty_tensors(tmp_path):
    text = "g (float[1,3,4,4] x) => (float[a,b,c,d] y) { y = MaxPool<kernel_shape=[9,9]>(x) }"
    refused(model(text), tmp_path, "MaxPool")


def test_three_spatial_dimensions(tmp_path):
    text = "g (float[1,2,4,4,4] x) => (float[1,3,4,4,4] y) { y = Conv(x, w) }"
    refused(model(text, w=weights(3, 2, 1, 1, 1)), tmp_path, "Conv '.*' works on 3 spatial dimensions")


def test_nothing_but_the_error_is_said(tmp_path, capfd, recwarn):
    text = "g (float[n,4] x) => (float[n,7] y) { y = MatMul(x, w) }"
    refused(model(text, w=weights(5, 7)), tmp_path, "can't be computed")
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
