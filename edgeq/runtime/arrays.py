"""From what a caller hands over to what the C runtime takes: names, shapes and dtypes checked, arrays dense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from edgeq.artifact.format import TensorInfo
from edgeq.errors import RunError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Inputs: TypeAlias = Array | Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True)
class Batch:
    """Inputs ready to run.

    Attributes:
        runs: how many runs they are for.
        arrays: one per model input, dense, [runs, *shape]; float32 or the tensor's dtype.
        is_merged: the samples came merged into the model's own leading axis, so outputs go back that way.
        is_float: some input was floating point.
    """

    runs: int
    arrays: list[Array]
    is_merged: bool
    is_float: bool


def prepare(inputs: Inputs, tensors: Sequence[TensorInfo], *, batched: bool) -> Batch:
    """Checks `inputs` against `tensors` and lays them out.

    Args:
        inputs: one array, {name: array} or a sequence in the order of the model's inputs.
        tensors: the model's inputs.
        batched: a leading sample axis is expected.

    Raises:
        RunError: a name, shape, dtype or number of samples that doesn't fit.
    """
    values = by_position(inputs, tensors)
    laid_out = [_lay_out(value, tensor, batched) for value, tensor in zip(values, tensors, strict=True)]
    counts = {runs for _, runs, _ in laid_out}
    if len(counts) > 1:
        listing = ", ".join(f"{t.name}: {runs}" for t, (_, runs, _) in zip(tensors, laid_out, strict=True))
        raise RunError("the inputs have different numbers of samples", why=listing)
    arrays = [array for array, _, _ in laid_out]
    is_float = any(array.dtype.kind == "f" for array in arrays) or not arrays
    return Batch(counts.pop() if counts else 1, arrays, any(merged for _, _, merged in laid_out), is_float)


def by_position(inputs: Inputs, tensors: Sequence[TensorInfo]) -> list[Any]:
    """The inputs in the model's order. Raises `RunError` where names or their number don't fit."""
    names = [tensor.name for tensor in tensors]
    if isinstance(inputs, Mapping):
        unknown = [name for name in inputs if name not in names]
        missing = [name for name in names if name not in inputs]
        if unknown or missing:
            why = "; ".join(
                text for text in (unknown and f"no input {unknown}", missing and f"{missing} missing") if text
            )
            raise RunError("the inputs' names don't fit the model", why=why, hint=f"its inputs are {names}")
        return [inputs[name] for name in names]
    values = [inputs] if isinstance(inputs, np.ndarray) else list(inputs)
    if len(values) != len(names):
        raise RunError(
            f"{len(values)} arrays for a model with {len(names)} inputs", hint=f"its inputs are {names}, in this order"
        )
    return values


def _lay_out(value: Any, tensor: TensorInfo, batched: bool) -> tuple[Array, int, bool]:
    """(array [runs, *shape], runs, merged)."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = np.asarray(array, dtype=np.float32, order="C")
        if np.isnan(array.min(initial=0.0)):  # minimum of anything with NaN is NaN; needs no array of its own
            raise RunError("an input holds NaN", where=tensor.name, why="NaN has no integer value")
    elif array.dtype == tensor.numpy_dtype:
        array = np.asarray(array, order="C")
    else:
        raise RunError(
            "an input has a dtype the model can't take",
            where=tensor.name,
            why=f"it is {array.dtype}, the model's input is {tensor.dtype}",
            hint=f"give real values as floats (they get quantized), or quantized values as {tensor.dtype}",
        )
    shape = tuple(tensor.shape)
    if not batched:
        if array.shape != shape:
            raise _shape_error(array, tensor, list(shape), "use run_batch for a leading sample axis")
        return array[np.newaxis], 1, False
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array, array.shape[0], False
    if shape and array.ndim == len(shape) and array.shape[1:] == shape[1:] and array.shape[0] % shape[0] == 0:
        runs = array.shape[0] // shape[0]
        return array.reshape((runs, *shape)), runs, True
    expected = ["N", *shape] if not shape or shape[0] != 1 else ["N", *shape[1:]]
    hint = f"N must be a multiple of {shape[0]}, or one more axis in front" if shape and shape[0] > 1 else None
    raise _shape_error(array, tensor, expected, hint)


def _shape_error(array: Array, tensor: TensorInfo, expected: Sequence[object], hint: str | None) -> RunError:
    wanted = "[" + ", ".join(map(str, expected)) + "]"
    return RunError(
        "an input has the wrong shape",
        where=tensor.name,
        why=f"it is {list(array.shape)}, the model takes {wanted}",
        hint=hint,
    )


def empty_outputs(tensors: Sequence[TensorInfo], runs: int, as_float: bool) -> list[Array]:
    """Arrays [runs, *shape] for the outputs, float32 or the tensor's dtype."""
    return [np.empty((runs, *t.shape), np.float32 if as_float else t.numpy_dtype) for t in tensors]


def name_outputs(
    arrays: Sequence[Array], tensors: Sequence[TensorInfo], *, batched: bool, is_merged: bool
) -> dict[str, Array]:
    """{output name: array}: [*shape] for one run, [N, *shape] or merged as the inputs were for batches."""
    named = {}
    for array, tensor in zip(arrays, tensors, strict=True):
        if not batched:
            named[tensor.name] = array[0]
        elif is_merged and tensor.shape:
            named[tensor.name] = array.reshape((array.shape[0] * tensor.shape[0], *tensor.shape[1:]))
        else:
            named[tensor.name] = array
    return named
