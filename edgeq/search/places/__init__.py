"""What else than weights may be chosen: each kind of place says where in a planned network it is."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from edgeq.errors import UsageError
from edgeq.quantize.plan import Plan
from edgeq.search.places import activations, gelu, nonlinear, requantize, sides, softmax, tables
from edgeq.search.space import SCALE, WEIGHTS, Place

Finder = Callable[[Plan], list[Place]]

#: By the name that `--space` takes; the order is that of the policy.
FINDERS: dict[str, Finder] = {
    activations.KIND: activations.find,
    sides.KIND: sides.find,
    tables.KIND: tables.find,
    softmax.KIND: softmax.find,
    gelu.KIND: gelu.find,
    nonlinear.KIND: nonlinear.find,
    requantize.KIND: requantize.find,
}
KINDS = (WEIGHTS, SCALE, *FINDERS)
ALL = "all"
#: What is searched unasked. Interpolated tables buy hardly any accuracy for what they cost; scales that are powers of
#: two cost more of it than a bit less.
DEFAULT_KINDS = (WEIGHTS, activations.KIND, sides.KIND, tables.KIND, softmax.KIND, gelu.KIND, requantize.KIND)


def find_places(plan: Plan, kinds: Sequence[str]) -> list[Place]:
    """Places of some kinds in a planned network, weights apart.

    Raises:
        UsageError: unknown kind.
    """
    wanted = parse_kinds(kinds)
    return [place for kind, find in FINDERS.items() if kind in wanted for place in find(plan)]


def parse_kinds(names: Sequence[str]) -> tuple[str, ...]:
    """Kinds by name; all: every one.

    Raises:
        UsageError: there is no such kind.
    """
    for name in names:
        if name not in (*KINDS, ALL):
            near = difflib.get_close_matches(name, KINDS, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UsageError(
                f"nothing called {name!r} can be searched",
                where="--space",
                hint=f"{hint}{ALL}, or some of {', '.join(KINDS)}",
            )
    return KINDS if ALL in names else tuple(kind for kind in KINDS if kind in names)
