"""Which tensors share one scale, as a union-find over value names.

Two kinds of groups: `scales` joins everything that should have the same scale and zero point; `types` joins what must
also have the same integer type, that is everything but the ops that exist for int8 only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from edgeq.quantize.topology import Layer, Topology, is_float, is_movement, is_selection, name_of, resize_mode


class UnionFind:
    """Disjoint sets of names; the representative of a set is the name that was seen first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}
        self._order = {name: i for i, name in enumerate(self._parent)}

    def find(self, name: str) -> str:
        """Representative of the set a name is in."""
        root = name
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[name] != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def unite(self, a: str, b: str) -> None:
        """Join the sets of two names."""
        a, b = self.find(a), self.find(b)
        if a != b:
            first, second = (a, b) if self._order[a] < self._order[b] else (b, a)
            self._parent[second] = first

    def __contains__(self, name: str) -> bool:
        return name in self._parent

    def groups(self) -> dict[str, list[str]]:
        """Members by representative, in the order the names were given."""
        result: dict[str, list[str]] = {}
        for name in self._parent:
            result.setdefault(self.find(name), []).append(name)
        return result


@dataclass(frozen=True)
class Given:
    """The grid of a value as the model says it; low and high where its integers use a part of the type's range."""

    scale: float
    zero_point: int
    dtype: str
    low: int | None
    high: int | None

    @classmethod
    def of(cls, value: ir.Value) -> Given:
        """From the metadata the front end writes."""
        props = value.metadata_props
        low, high = (int(props[key]) if key in props else None for key in ("edgeq.low", "edgeq.high"))
        dtype = props.get("edgeq.dtype", "int8")
        return cls(float(props["edgeq.scale"]), int(props["edgeq.zero_point"]), dtype, low, high)


class Ties:
    """Scale and type groups of a float graph, Concat left open (see `plan`)."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        names = [name_of(value) for value in topology.values()]
        self.scales = UnionFind(names)
        self.types = UnionFind(names)
        self.given = {
            name_of(value): Given.of(value) for value in topology.values() if value.metadata_props.get("edgeq.scale")
        }
        for layer in topology.layers:
            if is_tied(layer):
                source = name_of(layer.inputs[0])
                for value in layer.outputs:
                    self.tie(source, name_of(value), same_type=not is_selection(layer))

    def tie(self, a: str, b: str, *, same_type: bool = True) -> bool:
        """Let two values share one scale, unless the model gives them different ones. Returns whether they now do."""
        if a not in self.scales or b not in self.scales or self._conflict(a, b):
            return False
        self.scales.unite(a, b)
        if same_type:
            self.types.unite(a, b)
        return True

    def _conflict(self, a: str, b: str) -> bool:
        groups = {self.scales.find(a), self.scales.find(b)}
        found = {given for name, given in self.given.items() if self.scales.find(name) in groups}
        return len(found) > 1

    def is_root(self, name: str) -> bool:
        """Whether a value is rounded when it is made: its producer computes, or changes the scale."""
        layer = self.topology.producer.get(name)
        if layer is None:
            return True
        if not (is_tied(layer) or layer.op == "Concat"):
            return True
        group = self.scales.find(name)
        return any(self.scales.find(name_of(value)) != group for value in layer.inputs if is_float(value))


def is_tied(layer: Layer) -> bool:
    """Whether the layer's outputs normally share the scale of its first input."""
    if not layer.inputs or not is_float(layer.inputs[0]):
        return False
    linear_resize = layer.op == "Resize" and resize_mode(layer.node) == "linear"
    return is_movement(layer) or is_selection(layer) or linear_resize
