"""From a torch module to a float graph, in memory: torch.export, then the same passes as for a file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir

from edgeq.errors import ModelError, ToolError, UsageError
from edgeq.frontend.graph import FloatGraph
from edgeq.frontend.quiet import quiet_libraries

_MODULE, _PROGRAM = ("torch.nn.modules.module", "Module"), ("torch.export.exported_program", "ExportedProgram")


def is_torch(model: object) -> bool:
    """Whether `model` is a torch module or an exported program; torch itself is not imported for the answer."""
    return _is_a(model, _MODULE) or _is_a(model, _PROGRAM)


def _is_a(model: object, kind: tuple[str, str]) -> bool:
    return any((base.__module__, base.__qualname__) == kind for base in type(model).__mro__)


def load_module(module: Any, example_inputs: Any = None) -> FloatGraph:
    """Export a torch module (evaluation mode, the shapes of the example) and simplify it.

    Args:
        module: torch.nn.Module, or a torch.export.ExportedProgram, which brings its own shapes.
        example_inputs: a tensor, a tuple of them, or a dict by argument name: they give shapes and dtypes.

    Returns:
        The float graph, the same as through `torch.onnx.export(…, dynamo=True)` and `load`. Inputs are named after the
        arguments of `forward`. The module is left as it was.

    Raises:
        UsageError: no example inputs. ToolError: torch can't export (onnxscript missing).
        ModelError: torch refuses to export the module, or the graph can't be simplified.
        UnsupportedOpError: as `load`.
    """
    name = type(module).__name__
    from edgeq.frontend.pipeline import simplify

    if example_inputs is None and not _is_a(module, _PROGRAM):
        raise UsageError(
            "a torch module needs example inputs",
            where=name,
            why="its shapes are not known before it has run once",
            hint="give example_inputs=, a tensor or a tuple of tensors with a batch of 1",
        )
    source, notes = f"torch module {name}", [f"exported from torch module {name} in evaluation mode"]
    with quiet_libraries(), _quiet_torch():
        proto = _export(module, example_inputs, source)
        model = simplify(ir.from_proto(proto), batch=None, shapes=None, notes=notes, source=source)
    return FloatGraph(model, source, notes)


def _export(module: Any, example_inputs: Any, source: str) -> Any:
    try:
        import onnxscript  # noqa: F401  # torch misses it only after seconds of tracing
        import torch
    except ImportError as error:
        raise ToolError(
            "torch modules can't be exported here", where=source, why=str(error), hint="pip install torch onnxscript"
        ) from error
    by_name = isinstance(example_inputs, Mapping)
    given = () if example_inputs is None or by_name else example_inputs
    args = tuple(given) if isinstance(given, list | tuple) else (given,)
    with _evaluating(module):
        try:
            program = torch.onnx.export(
                module, args, kwargs=dict(example_inputs) if by_name else None, dynamo=True, verbose=False
            )
        except Exception as error:  # anything a model's own code can raise
            raise ModelError(
                "torch can't export the module",
                where=source,
                why=_reason(error),
                hint="torch.export.export(module, example_inputs) shows where it stops",
            ) from error
    if program is None:
        raise ModelError("torch can't export the module", where=source, why="the exporter returned nothing")
    return program.model_proto


def _reason(error: BaseException) -> str:
    """The innermost cause: exporters wrap it several times, with pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """Evaluation mode inside the block; every part's own mode is given back."""
    if not _is_a(module, _MODULE):
        yield
        return
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet_torch() -> Iterator[None]:
    """torch logs its own graphs when it fails; what matters of it is in the exception."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
