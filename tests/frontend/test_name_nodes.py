"""Every node has a name of its own."""

from __future__ import annotations

import numpy as np

from edgeq import frontend
from tests.frontend.models import check, model, save

X = "g (float[1,3,4,4] x)"
Y = "(float[1,3,4,4] y)"
I64 = np.int64


def test_names_survive_the_rules(tmp_path):
    text = f"{X} => (float[1,48] y) {{ r = Relu(x)  a = Flatten(r)  y = Reshape(a, flat) }}"
    proto = model(text, flat=np.array([1, 48], I64))
    for node, name in zip(proto.graph.node, ("act", "flatten", "head"), strict=True):
        node.name = name
    graph = check(proto, tmp_path)
    assert [node.name for node in graph.nodes] in (["act", "head"], ["act", "flatten"])


def test_nodes_get_names_of_their_own(tmp_path):
    proto = model(f"{X} => {Y} {{ a = Relu(x)  b = Softmax(a)  c = Relu(b)  d = Softmax(c)  y = Relu(d) }}")
    for node, name in zip(proto.graph.node, ("same", "same", "", "Relu_2", ""), strict=True):
        node.name = name
    names = [node.name for node in frontend.load(save(proto, tmp_path)).nodes]
    assert len(set(names)) == 5
    assert names[0] == "same"
    assert all(names)
