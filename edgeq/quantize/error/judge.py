"""Is one way to quantize better than another? The final output's error on calibration samples says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeq.integer import oracle
from edgeq.integer.arithmetic import dequantize
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize.error.fakequant import FakeQuantized, Weights
from edgeq.quantize.error.simulate import largest_error
from edgeq.quantize.plan import Plan
from edgeq.quantize.promote import activations_of, final_outputs
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.samples.data import CalibrationData
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Topology, name_of

Array = NDArray[Any]

#: One sample in HELD_OUT is kept for judging where there are enough; what is fitted to samples flatters itself on them.
HELD_OUT, ENOUGH = 4, 16
#: Most samples to fit on, fewest and most to judge on, and activations to spend on one judgement.
FITTED, JUDGED, JUDGED_MANY, ACTIVATIONS = 192, 4, 64, 200_000_000
#: Activations to spend on comparing integer graphs themselves: their executor is slow.
ACTIVATIONS_EXACT = 100_000_000


def split(data: CalibrationData) -> tuple[list[dict[str, Array]], list[dict[str, Array]]]:
    """Samples to fit on and samples to judge on; the same ones where there are too few for both."""
    feeds = list(data.feeds(FITTED))
    if len(feeds) < ENOUGH:
        return feeds, feeds
    held = feeds[HELD_OUT - 1 :: HELD_OUT]
    return [feed for index, feed in enumerate(feeds) if index % HELD_OUT != HELD_OUT - 1], held


class Judge:
    """Compares quantizations of one network with the float network.

    Args:
        topology: of the float network. samples: feeds. threads: samples run at a time.
    """

    def __init__(self, topology: Topology, samples: list[dict[str, Array]], threads: int | None = None) -> None:
        activations = max(1, activations_of(topology))
        self.samples = samples[: max(JUDGED, min(JUDGED_MANY, ACTIVATIONS // activations))]
        self._few = max(JUDGED, ACTIVATIONS_EXACT // activations)
        self._threads = threads
        self.outputs = final_outputs(topology)
        self.reference = self._float(topology, self.outputs)
        self._given_out = [name_of(value) for value in topology.graph.outputs]
        self._given = self._float(topology, self._given_out)

    def _float(self, topology: Topology, names: list[str]) -> list[list[Array]]:
        session = Session(model_with_outputs(topology.model, names), names)
        return list(map_ordered(session.run, self.samples, self._threads))

    def error(self, plan: Plan) -> float:
        """Normalised squared error of the final output (in front of a softmax), on the twin in floating point."""
        return self.trial(plan)({})

    def trial(self, plan: Plan) -> Callable[[Weights], float]:
        """The error of a plan as a function of weights by layer name that replace its own: one session for all."""
        network = FakeQuantized(plan, self.outputs)
        return lambda weights: largest_error(self.reference, network.run(self.samples, weights, self._threads))

    def exact_error(self, graph: IntegerGraph) -> float:
        """The same on the integer graph itself and fewer samples; of the graph's own outputs where it has no values of
        the final ones' names."""
        known = {str(value.name) for node in graph.model.graph for value in node.outputs}
        same = known.issuperset(self.outputs)
        names, reference = (self.outputs, self.reference) if same else (self._given_out, self._given)
        session = oracle.Session(_giving_out(graph, names), threads=1)
        quants = [graph.quant(name) for name in names]

        def run(feeds: dict[str, Array]) -> list[Array]:
            found = session.run(quantize_inputs(graph, feeds))
            pairs = zip(names, quants, strict=True)
            return [np.asarray(dequantize(found[name], quant.scale, quant.zero_point)) for name, quant in pairs]

        few = slice(self._few)
        return largest_error(reference[few], list(map_ordered(run, self.samples[few], self._threads)))


def _giving_out(graph: IntegerGraph, names: list[str]) -> bytes:
    """The bytes of a graph that gives out more values."""
    proto = onnx.load_model_from_string(graph.to_bytes())
    present = {output.name for output in proto.graph.output}
    known = {info.name: info for info in proto.graph.value_info}
    proto.graph.output.extend(known.get(n) or onnx.ValueInfoProto(name=n) for n in names if n not in present)
    return bytes(proto.SerializeToString())
