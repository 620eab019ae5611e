"""The lowering as a whole: import the inputs, lower group by group, hand over the outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeq.compiler.inplace import share_residuals
from edgeq.compiler.kernels.base import DTYPE_BYTES, TVM_DTYPE
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.lower.context import Lowering, graph_dtype, shape_of
from edgeq.compiler.lower.fuse import group_nodes
from edgeq.compiler.lower.place import place
from edgeq.compiler.lower.select import HANDLERS
from edgeq.compiler.program import Buffer, Program, Tensor, View, row_major
from edgeq.compiler.schedule import Schedule
from edgeq.compiler.sharing import share_kernels
from edgeq.compiler.target import Target
from edgeq.errors import CompileError
from edgeq.integer.graph import SCALE, IntegerGraph, Quant


def lower(
    graph: IntegerGraph,
    target: Target,
    max_threads: int = 4,
    storage: Storage = "auto",
    schedule: Schedule | None = None,
    fast_room: int = 0,
    lean: bool = False,
) -> Program:
    """Turns an integer graph into steps over buffers for one target.

    Args:
        storage: how the weights of dense layers are stored, see `conv_weights.fit`.
        schedule: measured choices of kernels; None: the estimates decide.
        fast_room: bytes of a second, fast memory.
        lean: less scratch memory, at the price of speed.

    Raises:
        CompileError: an op without a kernel, or a graph that isn't static and integer; names the node.
    """
    model_graph = graph.model.graph
    groups = group_nodes(model_graph)
    program = Program(max_threads=max_threads, alignment=target.alignment, fast_room=fast_room)
    ctx = Lowering(target, program, place(groups), storage, schedule, lean)
    for value in model_graph.inputs:
        _import(ctx, graph, value)
    for group in groups:
        handler = HANDLERS.get(group.op)
        if handler is None:
            raise CompileError(
                f"op {group.op} has no kernel",
                where=f"node {group.name!r}",
                hint="`edgeq inspect` lists the ops of the integer graph",
            )
        ctx.enter(group)
        handler(ctx, group)
    for value in model_graph.outputs:
        _export(ctx, graph, value)
    if target.bare_metal:
        share_residuals(ctx.program)
        share_kernels(ctx.program, target)
    return ctx.program


def _import(ctx: Lowering, graph: IntegerGraph, value: ir.Value) -> None:
    """An input buffer as the caller sees it, and a copy in the form that kernels read."""
    shape, dtype = shape_of(value), graph_dtype(value)
    count = int(View(0, dtype, shape, row_major(shape)).elements)
    ctx.program.buffers.append(Buffer(value.name or "input", count * DTYPE_BYTES[dtype], "input"))
    view = View(len(ctx.program.buffers) - 1, dtype, shape, row_major(shape))
    quant = quant_of(graph, value)
    ctx.program.inputs.append(Tensor(value.name or "input", view, quant.scale, quant.zero_point, dtype))
    ctx.group_name, ctx.group_ops = value.name or "input", ("Input",)
    if value in ctx.placement.raw or (ctx.readable(value, view) and not any(ctx.placement.halo.get(value, ()))):
        ctx.views[value] = view
        if value in ctx.placement.raw:
            ctx.program.touches[view.buffer] = []
    else:
        ctx.copy(view, ctx.output(value))


def _export(ctx: Lowering, graph: IntegerGraph, value: ir.Value) -> None:
    """The output as the caller sees it: row-major, int8 stored as int8, in a buffer of its own."""
    view = ctx.view(value)
    dtype = graph_dtype(value)
    whole = view.region == "arena" and view.dense and view.bias == 0
    if whole and ctx.program.buffers[view.buffer].role == "value":
        ctx.program.buffers[view.buffer].role = "output"
    elif not (whole and ctx.program.buffers[view.buffer].role == "output" and not _taken(ctx, view)):
        ctx.group_name, ctx.group_ops = value.name or "output", ("Output",)
        order = tuple(range(len(view.shape)))
        out = ctx.allocate(f"{value.name} output", view.shape, dtype, 0, order)
        ctx.program.buffers[out.buffer].role = "output"
        ctx.copy(replace(view, dtype=view.dtype), out)
        view = out
    quant = quant_of(graph, value)
    ctx.program.outputs.append(Tensor(value.name or "output", view, quant.scale, quant.zero_point, dtype))


def quant_of(graph: IntegerGraph, value: ir.Value) -> Quant:
    """Scale and zero point of one end of the graph; plain integers (ArgMax) count as scale 1."""
    if SCALE in value.metadata_props:
        return graph.quant(value)
    return Quant(np.dtype(TVM_DTYPE[graph_dtype(value)]), 1.0, 0)


def _taken(ctx: Lowering, view: View) -> bool:
    return any(t.view.buffer == view.buffer for t in ctx.program.outputs)
