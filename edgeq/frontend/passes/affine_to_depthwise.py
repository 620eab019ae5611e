"""A scale and shift per channel that nothing could take in is a depthwise 1×1 convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeq.frontend.editing import initializer, make_node, replace_node, static_shape
from edgeq.frontend.regions import Region, find_regions


class AffineToDepthwise(ir.passes.InPlacePass):  # type: ignore[misc]
    """Affine regions of images (rank 4, constants along axis 1) become Conv with one group per channel."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Replace one region at a time: an exit may be the next region's base."""
        modified = False
        while (region := next((r for r in find_regions(model.graph) if _per_channel(r)), None)) is not None:
            self._replace(model.graph, region)
            modified = True
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _replace(graph: ir.Graph, region: Region) -> None:
        # f is affine: two points tell its scale and shift exactly.
        at = region.function()([0.0, 1.0])
        shift, scale = at[:, 0], at[:, 1] - at[:, 0]
        last, shape = region.exit.producer(), static_shape(region.base)
        assert last is not None
        weight = initializer(graph, f"{last.name}.weight", scale.astype(np.float32).reshape(-1, 1, 1, 1))
        bias = initializer(graph, f"{last.name}.bias", shift.astype(np.float32))
        attributes: dict[str, object] = {
            "group": len(scale), "kernel_shape": [1, 1], "strides": [1, 1], "pads": [0] * 4, "dilations": [1, 1],
        }  # fmt: skip
        conv = make_node(
            "Conv", [region.base, weight, bias], name=last.name, shape=shape, dtype=region.base.dtype,
            attributes=attributes,
        )  # fmt: skip
        replace_node(graph, last, [conv])


def _per_channel(region: Region) -> bool:
    shape = static_shape(region.base)
    return shape is not None and len(shape) == 4 and region.is_affine() and region.function().axis == 1
