"""Windows written out in numbers."""

from __future__ import annotations

import pytest

from tests.frontend.models import check, model, weights


def numbers(node, name):
    return list(node.attributes[name].as_ints())


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("size", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 4, 1), (9, 5, 3)])
def test_auto_pad_of_conv(tmp_path, mode, size, kernel, stride):
    text = f"""g (float[1,2,{size},{size}] x) => (float[1,3,h,w] y) {{
        y = Conv<auto_pad="{mode}", strides=[{stride},{stride}]>(x, w) }}"""
    (node,) = check(model(text, w=weights(3, 2, kernel, kernel)), tmp_path).nodes
    assert "auto_pad" not in node.attributes
    assert numbers(node, "kernel_shape") == [kernel, kernel]
    assert len(numbers(node, "pads")) == 4


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_auto_pad_of_pools(tmp_path, op, mode):
    text = f"""g (float[1,2,8,7] x) => (float[1,2,h,w] y) {{
        y = {op}<auto_pad="{mode}", kernel_shape=[3,2], strides=[2,2]>(x) }}"""
    (node,) = check(model(text), tmp_path).nodes
    assert "auto_pad" not in node.attributes


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (5, 3)])
def test_auto_pad_of_transposed_conv(tmp_path, mode, kernel, stride):
    text = f"""g (float[1,2,5,5] x) => (float[1,3,h,w] y) {{
        y = ConvTranspose<auto_pad="{mode}", strides=[{stride},{stride}]>(x, w) }}"""
    (node,) = check(model(text, w=weights(2, 3, kernel, kernel)), tmp_path).nodes
    assert "auto_pad" not in node.attributes


@pytest.mark.parametrize("size", [9, 10, 11])
def test_output_shape_of_transposed_conv(tmp_path, size):
    text = f"""g (float[1,2,5,5] x) => (float[1,3,{size},{size}] y) {{
        y = ConvTranspose<output_shape=[{size},{size}], strides=[2,2]>(x, w) }}"""
    (node,) = check(model(text, w=weights(2, 3, 3, 3)), tmp_path).nodes
    assert "output_shape" not in node.attributes


def test_defaults_are_written_out(tmp_path):
    proto = model("g (float[1,4,5,5] x) => (float[1,6,3,3] y) { y = Conv(x, w) }", w=weights(6, 4, 3, 3))
    (node,) = check(proto, tmp_path).nodes
    assert numbers(node, "strides") == [1, 1]
    assert numbers(node, "dilations") == [1, 1]
    assert numbers(node, "pads") == [0, 0, 0, 0]
    assert numbers(node, "kernel_shape") == [3, 3]
    assert node.attributes["group"].as_int() == 1


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("size", "kernel", "stride", "pads"), [(6, 3, 2, 0), (7, 3, 2, 0), (8, 3, 3, 1), (5, 2, 2, 0)])
def test_ceil_mode_becomes_padding(tmp_path, op, size, kernel, stride, pads):
    text = f"""g (float[1,2,{size},{size}] x) => (float[1,2,h,w] y) {{
        y = {op}<kernel_shape=[{kernel},{kernel}], strides=[{stride},{stride}], pads=[{pads},{pads},{pads},{pads}],
                 ceil_mode=1>(x) }}"""
    (node,) = check(model(text), tmp_path).nodes
    assert "ceil_mode" not in node.attributes


def test_ceil_mode_stays_where_padding_counts(tmp_path):
    text = """g (float[1,2,6,6] x) => (float[1,2,3,3] y) {
        y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1, count_include_pad=1>(x) }"""
    (node,) = check(model(text, opset=19), tmp_path).nodes
    assert node.attributes["ceil_mode"].as_int() == 1
