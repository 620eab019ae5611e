"""Where values will live, decided before any kernel is chosen.

Two things let a producer write straight to where its consumer wants the data: a *halo* (the value is allocated with the
border that a padded convolution reads) and a *host* (the value is a slice of a concatenation's buffer). Rows of an
image that are read or written apart share the border of the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgeq.compiler.lower.fuse import Group, is_edgeq

Pads = tuple[int, int, int, int]  # top, left, bottom, right

CHANNELS, HEIGHT = 1, 2  # axes of an image
CONVOLUTIONS = {"Conv", "ConvS16"}
APART = "edgeq.apart"  # of a node: what it makes has memory of its own, and is copied where a Concat takes it in
# Ops without a kernel: their output is another view of their input.
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Identity", "Expand"}


@dataclass
class Placement:
    """The decisions, by value.

    Attributes:
        halo: border around a rank-4 value's H and W, filled with `border` (the value's zero point, graph units).
        host: (value that owns the memory, axis, start) of values that are slices of a concatenation.
        rows: (image, first row) of values that are rows of an image.
        raw: graph inputs that are read by rows only, so that each reader fetches its own rows.
        joined: images that are put together from rows, which nobody reads before.
    """

    halo: dict[ir.Value, Pads] = field(default_factory=dict)
    border: dict[ir.Value, int] = field(default_factory=dict)
    host: dict[ir.Value, tuple[ir.Value, int, int]] = field(default_factory=dict)
    rows: dict[ir.Value, tuple[ir.Value, int]] = field(default_factory=dict)
    raw: set[ir.Value] = field(default_factory=set)
    joined: set[ir.Value] = field(default_factory=set)

    def owner(self, value: ir.Value, pads: Pads) -> ir.Value | None:
        """The value in whose memory this one lies, border included; None where its border would be its neighbour."""
        while value in self.host or value in self.rows:
            if value in self.host:
                outer, axis, start = self.host[value]
            else:
                (outer, start), axis = self.rows[value], HEIGHT
            if axis == HEIGHT:
                end = start + _rows(value)
                if (pads[0] and start) or (pads[2] and end != _rows(outer)):
                    return None
            elif axis != CHANNELS:
                return None
            value = outer
        return value

    def root(self, value: ir.Value) -> ir.Value:
        """The value whose buffer holds this one."""
        while value in self.host:
            value = self.host[value][0]
        return value


def place(groups: list[Group]) -> Placement:
    """Decides hosts first, then halos on the hosts."""
    placement = Placement()
    made_by = {g.output: g for g in groups if len(g.nodes[-1].outputs) == 1}
    _find_rows(groups, placement)
    for group in groups:
        if group.op == "Concat" and not is_edgeq(group.main):
            _host(group, made_by, placement)
    placement.joined -= set(placement.host)  # one that is part of another has no memory of its own
    for group in groups:
        if group.op in CONVOLUTIONS and is_edgeq(group.main):
            _request_halo(group, made_by, placement)
    return placement


def _rows(value: ir.Value) -> int:
    assert value.shape is not None
    return int(value.shape[HEIGHT])


def _find_rows(groups: list[Group], placement: Placement) -> None:
    """Which values are rows of an image; those of a graph input that is read in no other way have their own memory."""
    for group in groups:
        start = first_row(group.main)
        if start is not None:
            source = group.main.inputs[0]
            assert source is not None
            placement.rows[group.output] = (source, start)
    for source in {source for source, _ in placement.rows.values()}:
        readers = {node.outputs[0] for node in source.consumers()}
        if source.is_graph_input() and not source.is_graph_output() and readers <= set(placement.rows):
            placement.raw.add(source)
            for reader in readers:
                del placement.rows[reader]


def first_row(node: ir.Node) -> int | None:
    """Where a Slice of consecutive rows of images begins; None for any other node."""
    if node.op_type != "Slice" or is_edgeq(node) or len(node.inputs) != 4:
        return None
    constants = [value.const_value for value in node.inputs[1:] if value is not None]
    if len(node.outputs[0].shape or ()) != 4 or len(constants) != 3 or None in constants:
        return None
    start, _, axes = (constant.numpy().reshape(-1).tolist() for constant in constants if constant is not None)
    return int(start[0]) if axes == [HEIGHT] and start[0] >= 0 else None


def _host(group: Group, made_by: dict[ir.Value, Group], placement: Placement) -> None:
    """Every input that some kernel makes, and that no other concatenation owns, is written in place."""
    output = group.output
    axis = group.main.attributes["axis"].as_int() % len(output.shape or ())
    start = 0
    if len(group.main.inputs) == 1:
        return  # asked for as a copy
    for value in group.main.inputs:
        assert value is not None
        assert value.shape is not None
        length = int(value.shape[axis])
        if _hostable(value, made_by) and value not in placement.host and not value.is_graph_output():
            placement.host[value] = (output, axis, start)
        start += length
    readers = [len(value.consumers()) for value in group.main.inputs if value is not None]
    if axis == HEIGHT and len(output.shape or ()) == 4 and set(readers) == {1}:
        placement.joined.add(output)


def is_kernel_made(value: ir.Value, made_by: dict[ir.Value, Group]) -> bool:
    """Whether a kernel writes the value, so that it can be told where to."""
    group = made_by.get(value)
    return group is not None and (is_edgeq(group.main) or group.op not in VIEWS)


def _hostable(value: ir.Value, made_by: dict[ir.Value, Group]) -> bool:
    return is_kernel_made(value, made_by) and not any(APART in node.metadata_props for node in made_by[value].nodes)


def _has_memory(value: ir.Value, made_by: dict[ir.Value, Group], placement: Placement) -> bool:
    """Whether the value is put somewhere as a whole, so that a border around it can be had."""
    group = made_by.get(value)
    fetched = group is not None and group.op == "Slice" and group.main.inputs[0] in placement.raw
    return fetched or value.is_graph_input() or is_kernel_made(value, made_by)


def _request_halo(group: Group, made_by: dict[ir.Value, Group], placement: Placement) -> None:
    value = group.main.inputs[0]
    assert value is not None
    pads = convolution_pads(group.main)
    if not any(pads):
        return
    owner = placement.owner(value, pads)
    if owner is None or not _has_memory(owner, made_by, placement) or len(owner.shape or ()) != 4:
        return
    zero = 0 if group.op == "ConvS16" else group.main.attributes.get_int("x_zero_point", 0)
    if placement.border.setdefault(owner, zero) != zero:
        return  # two consumers disagree about the border: the second one copies
    old = placement.halo.get(owner, (0, 0, 0, 0))
    placement.halo[owner] = tuple(max(a, b) for a, b in zip(old, pads, strict=True))  # type: ignore[assignment]


def convolution_pads(node: ir.Node) -> Pads:
    """ONNX `pads` of a 2-D convolution as (top, left, bottom, right)."""
    attribute = node.attributes.get("pads")
    if attribute is None:
        return (0, 0, 0, 0)
    top, left, bottom, right = (int(p) for p in attribute.as_ints())
    return (top, left, bottom, right)
