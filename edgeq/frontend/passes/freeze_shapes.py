"""Give every graph input a static shape, and forget the shapes that were computed for other ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgeq.errors import ModelError


class FreezeShapes(ir.passes.InPlacePass):  # type: ignore[misc]
    """Bind the dynamic dimensions of the inputs.

    A dynamic leading dimension is the batch. A symbol that several inputs share is bound once for all of them.

    Args:
        batch: the leading dimension where it is dynamic; None means 1.
        shapes: full shapes by input name.

    Raises:
        ModelError: unknown input name, wrong rank, a value that contradicts the model, or a dimension left open.
    """

    def __init__(self, batch: int | None, shapes: Mapping[str, Sequence[int]] | None) -> None:
        super().__init__()
        self.batch = batch
        self.shapes = {name: tuple(int(dim) for dim in shape) for name, shape in (shapes or {}).items()}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Bind, then clear the shape of every node output (they are inferred again from the new inputs)."""
        inputs = list(model.graph.inputs)
        self._check_arguments(inputs)
        symbols: dict[str, int] = {}
        for value in inputs:
            self._bind_given(value, symbols)
        self._bind_batch(inputs, symbols)
        for value in inputs:
            self._finish(value, symbols)
        for node in model.graph:
            for output in node.outputs:
                output.shape = None
        return ir.passes.PassResult(model, True)

    def _check_arguments(self, inputs: Sequence[ir.Value]) -> None:
        names = [value.name or "" for value in inputs]
        for name in self.shapes:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise ModelError(
                    f"The model has no input '{name}'",
                    where="--shape",
                    why=f"its inputs are {', '.join(names)}",
                    hint=f"did you mean '{near[0]}'?" if near else None,
                )
        for name, shape in self.shapes.items():
            if any(dim < 1 for dim in shape):
                raise ModelError(
                    f"A dimension in --shape {name}={_times(shape)} is not positive",
                    where=f"input '{name}'",
                    hint="every dimension must be at least 1",
                )
        if self.batch is not None and self.batch < 1:
            raise ModelError(f"The batch size {self.batch} is not positive", where="--batch")

    def _bind_given(self, value: ir.Value, symbols: dict[str, int]) -> None:
        given = self.shapes.get(value.name or "")
        if given is None:
            return
        where = f"input '{value.name}', declared {_declared(value)}"
        if len(given) != len(value.shape):
            raise ModelError(f"--shape {value.name}={_times(given)} has {len(given)} dimensions", where=where)
        for axis, (dim, number) in enumerate(zip(value.shape, given, strict=True)):
            symbol = None if isinstance(dim, int) else dim.value
            bound = dim if isinstance(dim, int) else symbols.get(symbol or "", number)
            if bound != number:
                raise ModelError(
                    f"--shape {value.name}={_times(given)} contradicts the model",
                    where=where,
                    why=f"dimension {axis} is {bound}",
                    hint="only dynamic dimensions can be chosen",
                )
            if symbol:
                symbols[symbol] = number

    def _bind_batch(self, inputs: Sequence[ir.Value], symbols: dict[str, int]) -> None:
        leading = [value.shape[0] for value in inputs if len(value.shape)]
        dynamic = [dim for dim in leading if not isinstance(dim, int)]
        given = {shape[0] for shape in self.shapes.values() if shape}
        if self.batch is not None and not dynamic and any(dim != self.batch for dim in leading):
            raise ModelError(
                f"The model can't take batch {self.batch}",
                where=", ".join(f"input '{value.name}' {_declared(value)}" for value in inputs),
                why="its leading dimension is fixed in the file",
                hint="export the model with a dynamic batch dimension",
            )
        if self.batch is not None and given - {self.batch}:
            raise ModelError(
                f"--batch {self.batch} contradicts --shape",
                where=", ".join(f"{name}={_times(shape)}" for name, shape in self.shapes.items()),
                hint="leave one of the two out",
            )
        for dim in dynamic:
            if dim.value:
                symbols.setdefault(dim.value, self.batch or 1)

    def _finish(self, value: ir.Value, symbols: Mapping[str, int]) -> None:
        given = self.shapes.get(value.name or "")
        dims: list[int | str] = []
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int):
                dims.append(dim)
            elif given is not None:
                dims.append(given[axis])
            elif axis == 0 and not dim.value:
                dims.append(self.batch or 1)
            else:
                dims.append(symbols.get(dim.value or "", dim.value or "?"))
        named = [str(dim) for dim in dims if not isinstance(dim, int)]
        if named or any(isinstance(dim, int) and dim < 1 for dim in dims):
            raise ModelError(
                f"Input '{value.name}' has dimensions that are not known: {', '.join(named) or 'zero'}",
                where=f"input '{value.name}', declared {_declared(value)}",
                why="edge targets need static shapes",
                hint=f"give them with --shape {value.name}={'x'.join(str(dim) for dim in dims)}",
            )
        value.shape = ir.Shape(dims)


def _times(shape: Sequence[int]) -> str:
    return "x".join(str(dim) for dim in shape)


def _declared(value: ir.Value) -> str:
    return "[" + ", ".join(str(dim) if isinstance(dim, int) else dim.value or "?" for dim in value.shape) + "]"
