"""Layers of different sizes on one kernel, where flash is dear: which steps of a program share."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from edgeq.compiler.program import Bound, Program

if TYPE_CHECKING:
    from edgeq.compiler.kernels.shared import SharedSpec
    from edgeq.compiler.target import Target

WORTH_SHARING = 3  # kernels; the one that replaces them is about 1.3 times as large as each, and a tenth slower


def share_kernels(program: Program, target: Target) -> int:
    """Moves layers onto kernels for any size wherever that makes kernels fewer; returns how many layers moved.

    A kernel that knows its sizes is smaller and faster: below three that one could replace, they stay as they are.
    """
    groups: dict[str, list[tuple[int, SharedSpec]]] = defaultdict(list)
    for number, step in enumerate(program.steps):
        candidate = step.spec.shareable()
        if candidate is not None:
            groups[candidate.symbol(target)].append((number, candidate))
    moved = 0
    for members in groups.values():
        if len({program.steps[number].spec for number, _ in members}) < WORTH_SHARING:
            continue
        for number, candidate in members:
            step = program.steps[number]
            program.constants.append(np.array(candidate.sizes, np.int32))
            step.spec = candidate
            step.arguments.append(Bound("weights", len(program.constants) - 1, 0))
        moved += len(members)
    return moved
