"""Which program of an artifact takes inputs of some shape, and how shorter ones are padded for it.

The same rules as `edgeq_program_for` of the C runtime: the program with just these shapes, else, where the artifact
says that padding is exact, the smallest one into which all inputs fit. Outputs are cut back to the caller's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.artifact.format import ModelImage, TensorInfo
from edgeq.errors import RunError
from edgeq.runtime.arrays import Array, Inputs, by_position

Axes = tuple[frozenset[int], ...]


@dataclass(frozen=True)
class Choice:
    """What to run.

    Attributes:
        program: place in the variant.
        inputs: for it, padded where needed.
        cuts: per output: axis → elements to keep; empty where nothing was padded.
    """

    program: int
    inputs: Inputs
    cuts: tuple[dict[int, int], ...] = ()


def choose(inputs: Inputs, programs: Sequence[ModelImage], *, batched: bool) -> Choice:
    """The program for these inputs.

    Args:
        inputs: as `Model.run` takes them, or `Model.run_batch` if `batched`.
        programs: of one variant.

    Raises:
        RunError: names or numbers don't fit, or no program takes inputs of these shapes.
    """
    if len(programs) == 1:
        return Choice(0, inputs)
    arrays = [np.asarray(value) for value in by_position(inputs, programs[0].inputs)]
    for index, program in enumerate(programs):
        if all(_is_exact(a, t, batched) for a, t in zip(arrays, program.inputs, strict=True)):
            return Choice(index, arrays)
    free = varying_axes([program.inputs for program in programs])
    fitting = [i for i, program in enumerate(programs) if _fits(arrays, program.inputs, free, batched)]
    if not fitting or not programs[0].pads:
        raise _no_program(arrays, programs, bool(fitting))
    index = min(fitting, key=lambda i: sum(t.count for t in programs[i].inputs))
    return _padded(index, arrays, programs, free)


def varying_axes(tensors: Sequence[Sequence[TensorInfo]]) -> Axes:
    """Per tensor, the axes that differ between programs: `tensors` is [program][tensor]."""
    return tuple(
        frozenset(axis for axis, sizes in enumerate(zip(*(t.shape for t in same), strict=True)) if len(set(sizes)) > 1)
        for same in zip(*tensors, strict=True)
    )


def _offset(array: Array, tensor: TensorInfo, batched: bool) -> int | None:
    """How many axes lie in front of the tensor's; None if the ranks don't fit. Merged samples take axis 0's place."""
    extra = array.ndim - len(tensor.shape)
    return extra if extra == 0 or (batched and extra == 1) else None


def _is_exact(array: Array, tensor: TensorInfo, batched: bool) -> bool:
    offset = _offset(array, tensor, batched)
    if offset is None:
        return False
    given, shape = tuple(map(int, array.shape[offset:])), tuple(tensor.shape)
    if batched and offset == 0 and shape:
        return given[1:] == shape[1:] and given[0] % shape[0] == 0
    return given == shape


def _fits(arrays: Sequence[Array], tensors: Sequence[TensorInfo], free: Axes, batched: bool) -> bool:
    for array, tensor, axes in zip(arrays, tensors, free, strict=True):
        offset = _offset(array, tensor, batched)
        if offset is None:
            return False
        for axis, size in enumerate(tensor.shape):
            given = array.shape[offset + axis]
            merged = batched and offset == 0 and axis == 0 and given % size == 0
            if not (1 <= given <= size if axis in axes else given == size or merged):
                return False
    return True


def _padded(index: int, arrays: Sequence[Array], programs: Sequence[ModelImage], free: Axes) -> Choice:
    lengths: dict[int, set[int]] = {}
    padded = []
    for array, tensor, axes in zip(arrays, programs[index].inputs, free, strict=True):
        offset = array.ndim - len(tensor.shape)
        widths = [(0, 0)] * array.ndim
        for axis in axes:
            given, size = array.shape[offset + axis], tensor.shape[axis]
            lengths.setdefault(size, set()).add(given)
            widths[offset + axis] = (0, size - given)
        # Integers of a quantized input are padded with what stands for the real zero.
        zero = 0 if array.dtype.kind == "f" else tensor.zero_point
        padded.append(np.pad(array, widths, constant_values=zero))
    if any(len(given) > 1 for given in lengths.values()):
        raise RunError(
            "the inputs have different lengths",
            why=", ".join(f"{t.name}: {list(a.shape)}" for a, t in zip(arrays, programs[0].inputs, strict=True)),
            hint="they belong to one sequence: give all of them with the same length",
        )
    cut = {size: given.copy().pop() for size, given in lengths.items()}
    outputs = programs[index].outputs
    axes_out = varying_axes([program.outputs for program in programs])
    cuts = tuple({a: cut[t.shape[a]] for a in axes} for t, axes in zip(outputs, axes_out, strict=True))
    return Choice(index, padded, cuts)


def cut_outputs(
    outputs: dict[str, Array], tensors: Sequence[TensorInfo], cuts: Sequence[dict[int, int]]
) -> dict[str, Array]:
    """The parts of the outputs that belong to the caller's elements."""
    result = dict(outputs)
    for tensor, axes in zip(tensors, cuts, strict=True):
        array = outputs[tensor.name]
        offset = array.ndim - len(tensor.shape)
        keep = [slice(None)] * array.ndim
        for axis, length in axes.items():
            keep[offset + axis] = slice(length)
        result[tensor.name] = array[tuple(keep)]
    return result


def _no_program(arrays: Sequence[Array], programs: Sequence[ModelImage], would_fit: bool) -> RunError:
    given = ", ".join(f"{t.name} {list(a.shape)}" for a, t in zip(arrays, programs[0].inputs, strict=True))
    known = "; ".join(", ".join(str(list(t.shape)) for t in program.inputs) for program in programs)
    why = f"it was given {given}; its programs take {known}"
    if would_fit:
        why += "; padding to a longer one would change this model's outputs: it has no attention mask that hides it"
    return RunError("no program of the model takes inputs of these shapes", why=why, hint="give one of these shapes")
