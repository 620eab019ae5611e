"""Give every node a name of its own."""

from __future__ import annotations

import onnx_ir as ir


class NameNodes(ir.passes.InPlacePass):  # type: ignore[misc]
    """Nodes without a name, or with one that an earlier node has, are named after op and position.

    Policies and reports address layers by these names.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Name in place."""
        taken: set[str] = set()
        given = {node.name for node in model.graph if node.name}
        modified = False
        for index, node in enumerate(model.graph):
            if not node.name or node.name in taken:
                name, count = f"{node.name or node.op_type}_{index}", 0
                while name in taken or name in given:
                    count += 1
                    name = f"{node.name or node.op_type}_{index}_{count}"
                node.name = name
                modified = True
            taken.add(node.name)
        return ir.passes.PassResult(model, modified)
