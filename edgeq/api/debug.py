"""`debug` of the public functions: see `edgeq.diagnose`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import UsageError

if TYPE_CHECKING:
    from edgeq.api.result import Calibration
    from edgeq.diagnose import Diagnosis, FormatRow
    from edgeq.frontend.graph import FloatGraph
    from edgeq.quantize.samples.data import CalibrationData


def debug(
    model: str | Path | FloatGraph | Any,
    calib: Calibration | CalibrationData | None = None,
    *,
    target: str | None = "host",
    promote: bool = False,
    thorough: bool = False,
    formats: bool = False,
    example_inputs: Any = None,
    recipe: str = "fast",
    weight_bits: int | None = None,
    edge_bits: int | None = None,
    samples: int | None = None,
    preprocess: str | None = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    **more: Any,
) -> tuple[Diagnosis, list[FormatRow]]:
    """Find out which layers make the error of a quantized model, and what would help.

    Args:
        model, calib and the rest: as of `quantize`; without them everything is int8 with weights rounded to nearest.
        target: for the cost of remedies; None: bytes of constants only.
        promote: start with the 16-bit tensors that `quantize` would choose.
        thorough: try the remedies that take minutes. formats: compare number formats as well.

    Returns:
        the diagnosis, and the rows of the formats study (none where it wasn't asked for).

    Raises:
        UsageError: random data, a model that is quantized already. Others as of `quantize`.
    """
    from edgeq.api.graphs import calibration_data, float_graph
    from edgeq.compiler.target import load_target
    from edgeq.diagnose.diagnosis import debug as run
    from edgeq.diagnose.formats import compare_formats
    from edgeq.evaluate.models import kind_of
    from edgeq.quantize import QuantizeOptions
    from edgeq.quantize.promote import affordable_samples
    from edgeq.quantize.samples.lengths import split_shapes
    from edgeq.quantize.topology import Topology

    if isinstance(model, str | Path) and kind_of(model) != "float model":
        raise UsageError(
            "a diagnosis starts from a float model",
            where=str(model),
            why="it is quantized already",
            hint="give the model it was made from, or `edgeq compare` the two",
        )
    if calib is None:
        raise UsageError("a diagnosis needs calibration data", where="--calib", hint="give a few dozen typical inputs")
    options = QuantizeOptions.make(recipe=recipe, weight_bits=weight_bits, edge_bits=edge_bits, promote=promote, **more)
    graph = float_graph(model, example_inputs, batch, split_shapes(shapes)[0])
    data = calibration_data(graph, calib, samples, preprocess, seed)
    found = run(graph, data, options, target=load_target(target) if target else None, thorough=thorough)
    topology = Topology(graph)
    rows = compare_formats(topology, list(data.feeds(affordable_samples(topology)))) if formats else []
    return found, rows
