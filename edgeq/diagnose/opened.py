"""Networks cut open at every layer: each layer reads what it is given instead of what the one before it made.

One run then evaluates every layer on the float model's own values, rounded: the error of the layer alone, whatever the
layers in front of it do. The float network is opened with weights that can be exchanged, the integer network with its
integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import helper

from edgeq.integer import oracle
from edgeq.integer.graph import Quant
from edgeq.quantize.error.fakequant import float_weights, insert_weights
from edgeq.quantize.integerize import Integerized
from edgeq.quantize.integerize.emitter import on_grid
from edgeq.quantize.plan import S32, Plan
from edgeq.quantize.products import Product
from edgeq.quantize.session import Session, model_with_outputs
from edgeq.quantize.topology import is_float, name_of, shape_of

Array = NDArray[Any]
_GIVEN = "::given"


class OpenedFloat:
    """The float network, every layer on given inputs.

    Args:
        plan: of the network. products: its layers with weights.

    Attributes:
        made: names of the values that layers make, and that a run gives out and takes.
    """

    def __init__(self, plan: Plan, products: list[Product]) -> None:
        topology = plan.topology
        values = [v for layer in topology.layers for v in layer.outputs if is_float(v)]
        self.made = [name_of(value) for value in values]
        proto = model_with_outputs(topology.model, self.made)
        nodes = insert_weights(proto.graph, [(product, float_weights(product)) for product in products])
        replace_nodes(proto.graph, nodes)
        _read_given(proto.graph, set(self.made))
        for value in values:
            info = helper.make_tensor_value_info(name_of(value) + _GIVEN, onnx.TensorProto.FLOAT, shape_of(value))
            proto.graph.input.append(info)
        self._session = Session(proto, self.made)

    def run(
        self, feeds: Mapping[str, Array], given: Mapping[str, Array], weights: Mapping[str, Array]
    ) -> dict[str, Array]:
        """What every layer makes.

        Args:
            feeds: the network's inputs. given: for every value of `made`, what its readers read.
            weights: of `fakequant.real_weights`; the float model's own where they are left out.
        """
        inputs = {name + _GIVEN: given[name] for name in self.made}
        return dict(zip(self.made, self._session.run({**feeds, **inputs, **weights}), strict=True))


class IntegerTwin:
    """An integer graph that shows the integers of every value, run as a whole or opened at every layer.

    Args:
        built: from `integerize.build`. names: float values to look at.

    Attributes:
        quants: by name of a float value, of the integers that stand for it.
    """

    def __init__(self, built: Integerized, names: list[str]) -> None:
        self._graph = built.graph
        self._values = {name: built.operands[name].value for name in names if name in built.operands}
        self.quants: dict[str, Quant] = {name: built.operands[name].quant for name in self._values}
        # Accumulators stay joined to the product that makes them: nothing is rounded there.
        inputs = {value.name for value in built.graph.inputs}
        self._cut = {
            name: value
            for name, value in self._values.items()
            if value.name not in inputs and self.quants[name].dtype != S32
        }
        self._whole, self._opened = self._session(opened=False), self._session(opened=True)

    def _session(self, opened: bool) -> oracle.Session:
        proto = ir.serde.serialize_model(self._graph.model)
        if opened:
            cut = {str(value.name): value for value in self._cut.values()}
            _read_given(proto.graph, set(cut))
            for name, value in cut.items():
                assert value.dtype is not None
                info = helper.make_tensor_value_info(name + _GIVEN, int(value.dtype), shape_of(value))
                proto.graph.input.append(info)
        show(proto, self._values.values())
        return oracle.Session(proto.SerializeToString(), threads=1)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Integers by name of the float value, from the network's integer inputs."""
        return self._named(self._whole.run(inputs), inputs)

    def run_opened(self, inputs: Mapping[str, Array], floats: Mapping[str, Array]) -> dict[str, Array]:
        """The same with every layer reading the float network's values, rounded to its grid."""
        given = {
            str(value.name) + _GIVEN: on_grid(floats[name], self.quants[name]) for name, value in self._cut.items()
        }
        return self._named(self._opened.run({**inputs, **given}), inputs)

    def _named(self, found: Mapping[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
        known = {**inputs, **found}
        return {name: known[str(value.name)] for name, value in self._values.items()}


def show(proto: onnx.ModelProto, values: Iterable[ir.Value]) -> None:
    """Let a model give out more of its values."""
    present = {value.name for value in (*proto.graph.output, *proto.graph.input)}
    for value in {str(v.name): v for v in values}.values():
        if value.name not in present:
            assert value.dtype is not None
            info = helper.make_tensor_value_info(str(value.name), int(value.dtype), shape_of(value))
            proto.graph.output.append(info)


def _read_given(graph: onnx.GraphProto, names: set[str]) -> None:
    """Let every reader of the values read an input instead."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in names:
                node.input[position] = name + _GIVEN


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put copies of nodes in place of all a graph has."""
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
