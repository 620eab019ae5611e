"""How good an integer graph is as a whole: error and agreement of its final output, on calibration samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeq.diagnose.opened import show
from edgeq.integer import oracle
from edgeq.integer.arithmetic import dequantize
from edgeq.quantize.error.simulate import largest_error
from edgeq.quantize.integerize import Integerized
from edgeq.quantize.promote import activations_of, final_outputs
from edgeq.quantize.report import agreement, quantize_inputs
from edgeq.quantize.session import Session, map_ordered, model_with_outputs
from edgeq.quantize.topology import Topology

Array = NDArray[Any]
#: Fewest and most samples, and activations to spend on one integer graph: its executor is slow.
SAMPLES, SAMPLES_MANY, ACTIVATIONS = 4, 64, 60_000_000


@dataclass(frozen=True)
class Outcome:
    """Integer against float.

    Attributes:
        error: normalised squared error of the final output (in front of a softmax); of several the largest.
        agreement: part of the samples with the float model's choice; None where there are no classes.
    """

    error: float
    agreement: float | None


class Referee:
    """Compares integer graphs of one network with the float network.

    Args:
        topology: of the float network. samples: feeds; as many are used as the network's size allows.
        threads: samples run at a time.
    """

    def __init__(self, topology: Topology, samples: Sequence[dict[str, Array]], threads: int | None = None) -> None:
        affordable = ACTIVATIONS // max(1, activations_of(topology))
        self.samples = list(samples)[: max(SAMPLES, min(SAMPLES_MANY, affordable))]
        self._threads = threads
        names = final_outputs(topology)
        session = Session(model_with_outputs(topology.model, names), names)
        self._reference = list(map_ordered(session.run, self.samples, threads))

    def judge(self, built: Integerized, topology: Topology) -> Outcome:
        """Run an integer graph.

        Args:
            built: the graph. topology: of the float graph it was made from, which may be a rewritten one.
        """
        operands = [built.operands[name] for name in final_outputs(topology)]
        proto = ir.serde.serialize_model(built.graph.model)
        show(proto, [operand.value for operand in operands])
        session = oracle.Session(proto.SerializeToString(), threads=1)

        def run(feeds: dict[str, Array]) -> list[Array]:
            inputs = quantize_inputs(built.graph, feeds)
            found = {**inputs, **session.run(inputs)}
            return [dequantize(found[str(o.value.name)], o.quant.scale, o.quant.zero_point) for o in operands]

        results = list(map_ordered(run, self.samples, self._threads))
        agree = agreement([row[0] for row in self._reference], [row[0] for row in results])
        return Outcome(largest_error(self._reference, results), agree)
