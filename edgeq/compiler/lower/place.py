"""Where values will live, decided before any kernel is chosen.

Two things let a producer write straight to where its consumer wants the data: a *halo* (the value is allocated with the
border that a padded convolution reads) and a *host* (the value is a slice of a concatenation's buffer).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgeq.compiler.lower.fuse import Group, is_edgeq

Pads = tuple[int, int, int, int]  # top, left, bottom, right

CONVOLUTIONS = {"Conv", "ConvS16"}
# Ops without a kernel: their output is another view of their input.
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Identity", "Expand"}


@dataclass
class Placement:
    """The decisions, by value.

    Attributes:
        halo: border around a rank-4 value's H and W, filled with `border` (the value's zero point, graph units).
        host: (value that owns the memory, axis, start) of values that are slices of a concatenation.
    """

    halo: dict[ir.Value, Pads] = field(default_factory=dict)
    border: dict[ir.Value, int] = field(default_factory=dict)
    host: dict[ir.Value, tuple[ir.Value, int, int]] = field(default_factory=dict)

    def root(self, value: ir.Value) -> ir.Value:
        """The value whose buffer holds this one."""
        while value in self.host:
            value = self.host[value][0]
        return value


def place(groups: list[Group]) -> Placement:
    """Decides hosts first, then halos on the hosts."""
    placement = Placement()
    made_by = {g.output: g for g in groups if len(g.nodes[-1].outputs) == 1}
    for group in groups:
        if group.op == "Concat" and not is_edgeq(group.main):
            _host(group, made_by, placement)
    for group in groups:
        if group.op in CONVOLUTIONS and is_edgeq(group.main):
            _request_halo(group, made_by, placement)
    return placement


def _host(group: Group, made_by: dict[ir.Value, Group], placement: Placement) -> None:
    """Every input that some kernel makes, and that no other concatenation owns, is written in place."""
    output = group.output
    axis = group.main.attributes["axis"].as_int() % len(output.shape or ())
    start = 0
    for value in group.main.inputs:
        assert value is not None
        assert value.shape is not None
        length = int(value.shape[axis])
        if is_kernel_made(value, made_by) and value not in placement.host and not value.is_graph_output():
            placement.host[value] = (output, axis, start)
        start += length


def is_kernel_made(value: ir.Value, made_by: dict[ir.Value, Group]) -> bool:
    """Whether a kernel writes the value, so that it can be told where to."""
    group = made_by.get(value)
    return group is not None and (is_edgeq(group.main) or group.op not in VIEWS)


def _request_halo(group: Group, made_by: dict[ir.Value, Group], placement: Placement) -> None:
    value = group.main.inputs[0]
    assert value is not None
    pads = convolution_pads(group.main)
    if not any(pads):
        return
    owner = placement.root(value)
    if not (owner.is_graph_input() or is_kernel_made(owner, made_by)) or len(owner.shape or ()) != 4:
        return
    if any(axis != 1 for _, axis, _ in _chain(value, placement)):
        return  # slices along H or W would put the halo into their neighbour
    zero = 0 if group.op == "ConvS16" else group.main.attributes.get_int("x_zero_point", 0)
    if placement.border.setdefault(owner, zero) != zero:
        return  # two consumers disagree about the border: the second one copies
    old = placement.halo.get(owner, (0, 0, 0, 0))
    placement.halo[owner] = tuple(max(a, b) for a, b in zip(old, pads, strict=True))  # type: ignore[assignment]


def _chain(value: ir.Value, placement: Placement) -> list[tuple[ir.Value, int, int]]:
    links = []
    while value in placement.host:
        links.append(placement.host[value])
        value = placement.host[value][0]
    return links


def convolution_pads(node: ir.Node) -> Pads:
    """ONNX `pads` of a 2-D convolution as (top, left, bottom, right)."""
    attribute = node.attributes.get("pads")
    if attribute is None:
        return (0, 0, 0, 0)
    top, left, bottom, right = (int(p) for p in attribute.as_ints())
    return (top, left, bottom, right)
