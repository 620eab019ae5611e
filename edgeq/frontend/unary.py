"""A function of one tensor, evaluated on chosen points: what tables are built from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeq.frontend.arrays import Array, Float64
from edgeq.frontend.elementwise import EVALUATORS


@dataclass(frozen=True)
class Step:
    """One op of the body: reads named values and constants, writes one named value."""

    op: str
    operands: tuple[str | Array | None, ...]
    attributes: dict[str, object] = field(default_factory=dict)
    result: str = ""


@dataclass(frozen=True)
class UnaryFunction:
    """y = f(x) elementwise, in float64, with constants that are scalars or vary along one axis of x.

    Attributes:
        input: name of x inside `steps`.
        output: name of y inside `steps`.
        steps: the ops, in order.
        rank: rank of x in the graph; the constants are shaped against it.
        axis: the axis along which constants vary, None if all are scalars.
        channels: size of that axis, None if all constants are scalars.
    """

    input: str
    output: str
    steps: tuple[Step, ...]
    rank: int
    axis: int | None
    channels: int | None

    def __call__(self, points: npt.ArrayLike) -> Float64:
        """f at the given points.

        Args:
            points: float64 [P], the same points for every channel, or [channels, P].

        Returns:
            float64 [P] where `channels` is None, else [channels, P]. Where f is undefined the value is NaN or
            infinite as IEEE 754 has it; no warning is given.
        """
        given = np.asarray(points, np.float64)
        if self.axis is None or self.channels is None:
            with np.errstate(all="ignore"):
                return np.broadcast_to(self._run(given, scalars=True), given.shape).astype(np.float64)
        spread = np.broadcast_to(given, (self.channels, given.shape[-1])).T
        # Points lie on an axis of their own in front, channels where the graph has them, so that the constants
        # broadcast as they do in the graph.
        shape = [1] * (self.rank + 1)
        shape[0], shape[self.axis + 1] = spread.shape
        with np.errstate(all="ignore"):
            result = self._run(spread.reshape(shape), scalars=False)
        per_channel: Float64 = np.broadcast_to(result, shape).reshape(spread.shape).T.astype(np.float64)
        return per_channel

    def _run(self, x: Float64, *, scalars: bool) -> Array:
        values: dict[str, Array] = {self.input: x}
        for step in self.steps:
            operands = [self._operand(operand, values, scalars) for operand in step.operands]
            values[step.result] = EVALUATORS[step.op](operands, step.attributes)
        return values[self.output]

    @staticmethod
    def _operand(operand: str | Array | None, values: dict[str, Array], scalars: bool) -> Array | None:
        if operand is None:
            return None
        if isinstance(operand, str):
            return values[operand]
        wide = operand.astype(np.float64) if operand.dtype.kind == "f" else operand
        return wide.reshape(()) if scalars else wide


def operand_axis(shapes: Sequence[tuple[int, ...]], x_shape: tuple[int, ...]) -> tuple[bool, int | None]:
    """Along which axis of x the constants of these shapes vary.

    Args:
        shapes: shapes of the constant operands.
        x_shape: shape of x.

    Returns:
        (True, axis or None) if all are scalars or vary along one and the same channel axis (axis 1 or the last one,
        never the batch), (False, None) if the function isn't a per-channel one.
    """
    rank, axis = len(x_shape), None
    for shape in shapes:
        if all(dim == 1 for dim in shape):
            if len(shape) > rank:
                return False, None
            continue
        aligned = (1,) * (rank - len(shape)) + shape
        varying = [k for k, dim in enumerate(aligned) if dim != 1]
        if len(aligned) != rank or len(varying) != 1 or varying[0] not in (1, rank - 1) or varying[0] == 0:
            return False, None
        if aligned[varying[0]] != x_shape[varying[0]] or axis not in (None, varying[0]):
            return False, None
        axis = varying[0]
    return True, axis
