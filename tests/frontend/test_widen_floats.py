"""Half, bfloat16 and double precision become single precision."""

from __future__ import annotations

import numpy as np

from edgeq import frontend
from tests.frontend.models import model, ops, random_feeds, save, weights


def test_float_of_any_width_becomes_single(tmp_path):
    for dtype, name in ((np.float16, "float16"), (np.float64, "double")):
        text = f"g ({name}[1,8] x) => ({name}[1,5] y) {{ m = MatMul(x, w)  c = Cast<to=1>(m)  y = CastLike(c, m) }}"
        graph = frontend.load(save(model(text, opset=19, w=weights(8, 5).astype(dtype)), tmp_path))
        assert ops(graph) == {"MatMul": 1}
        feeds = random_feeds(graph)
        assert feeds["x"].dtype == np.float32
        np.testing.assert_allclose(graph.run(feeds)["y"], feeds["x"] @ weights(8, 5), rtol=1e-2, atol=1e-2)
