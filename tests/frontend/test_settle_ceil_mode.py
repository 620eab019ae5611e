"""Pools whose last window starts behind the image."""

from __future__ import annotations

import numpy as np

from tests.frontend.models import check, model


def test_shapes_behind_a_dropped_window(tmp_path):
    """The size that the runtime really makes goes on into Shape arithmetic and further pools."""
    text = """g (float[1,2,8,8] x) => (float[1,k] y) {
        p = MaxPool<kernel_shape=[3,3], strides=[3,3], pads=[1,1,1,1], ceil_mode=1>(x)
        q = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(p)  s = Shape(q)
        d = ReduceProd<axes=[0]>(s)  t = Concat<axis=0>(one, d)  y = Reshape(q, t) }"""
    graph = check(model(text, one=np.array([1])), tmp_path)
    assert tuple(graph.outputs[0].shape) == (1, 8)
