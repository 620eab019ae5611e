"""Which layers' kernels a choice may change: those that are fused with one another, or read and write one type."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.quantize.topology import Layer, Topology, is_movement, is_selection, name_of


def around(topology: Topology, layers: Iterable[Layer]) -> frozenset[str]:
    """Names of layers, of those that make what they read and of those that read what they make.

    Layers that only move values are looked through, and count as well: a copy has its name from them.
    """
    found: set[str] = set()
    for layer in layers:
        found.add(layer.name)
        for value in layer.inputs:
            _before(topology, topology.producer.get(name_of(value)), found)
        for value in layer.outputs:
            for reader in topology.readers(value):
                _behind(topology, reader, found)
    return frozenset(found)


def _before(topology: Topology, layer: Layer | None, found: set[str]) -> None:
    if layer is None:
        return
    found.add(layer.name)
    if _moves(layer):
        for value in layer.inputs:
            _before(topology, topology.producer.get(name_of(value)), found)


def _behind(topology: Topology, layer: Layer, found: set[str]) -> None:
    found.add(layer.name)
    if _moves(layer):
        for value in layer.outputs:
            for reader in topology.readers(value):
                _behind(topology, reader, found)


def _moves(layer: Layer) -> bool:
    return is_movement(layer) or is_selection(layer) or layer.op == "Concat"
