"""From a file to a float graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeq.frontend.cache import cached
from edgeq.frontend.graph import FloatGraph
from edgeq.frontend.quiet import quiet_libraries


def load(
    path: str | os.PathLike[str], *, batch: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> FloatGraph:
    """Read an ONNX model (opset 13 or newer) and simplify it.

    Args:
        path: the .onnx file; external data beside it.
        batch: size of the leading dimension where it is dynamic; None means 1.
        shapes: full shapes by input name, for other dynamic dimensions: {"input": (1, 3, 224, 224)}.

    Returns:
        The float graph: static shapes, same inputs and outputs (names, order), same results up to float rounding.
        For models with QuantizeLinear / DequantizeLinear it computes in float and remembers the scales.

    Raises:
        ModelError: the file can't be read, is invalid, or has shapes that are not known.
        UnsupportedOpError: it holds an op that has no place in a float graph.
    """
    source = Path(path)

    def make() -> tuple[FloatGraph, bool]:
        from edgeq.frontend.pipeline import simplify
        from edgeq.frontend.reader import read, self_contained

        notes: list[str] = []
        model = simplify(read(source), batch=batch, shapes=shapes, notes=notes, source=str(source))
        return FloatGraph(model, str(source), notes), self_contained(source)

    with quiet_libraries():
        return cached(source, batch, shapes, make)
