"""Which kernel computes which group: one file per family of ops, found through HANDLERS."""

from __future__ import annotations

from collections.abc import Callable

from edgeq.compiler.lower.context import Lowering
from edgeq.compiler.lower.fuse import Group
from edgeq.compiler.lower.select import (
    convolution,
    elementwise,
    embedding,
    matmul,
    movement,
    normalization,
    pooling,
    reduction,
    resize,
    shift_gelu,
    softmax,
)

Handler = Callable[[Lowering, Group], None]

# Op type -> what lowers it. Ops of the integer dialect and standard ops on integers share no names.
HANDLERS: dict[str, Handler] = {
    **convolution.HANDLERS,
    **elementwise.HANDLERS,
    **embedding.HANDLERS,
    **matmul.HANDLERS,
    **movement.HANDLERS,
    **normalization.HANDLERS,
    **pooling.HANDLERS,
    **reduction.HANDLERS,
    **resize.HANDLERS,
    **shift_gelu.HANDLERS,
    **softmax.HANDLERS,
}
