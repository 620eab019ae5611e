"""What is inside a file: layers, bits, sizes, operations. For float models, integer graphs and artifacts."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.artifact.kind import is_module
from edgeq.errors import ModelError
from edgeq.evaluate.models import VERSION_KEY, first_line, kind_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgeq.artifact import ArtifactSizes, ModelImage
    from edgeq.artifact.source import SourceSizes
    from edgeq.artifact.static import StaticSizes
    from edgeq.artifact.wasm import WasmSizes
    from edgeq.compiler import CompiledModel
    from edgeq.integer import IntegerGraph

# Which input of an op holds its weights.
WEIGHT_INPUT = {"Conv": 1, "ConvS16": 1, "ConvTranspose": 1, "Gemm": 1, "GemmS16": 1, "MatMul": 1}
# Dtypes of activations: accumulators (int32) and indices (int64) don't count.
ACTIVATIONS = ("int8", "uint8", "int16")
# Steps that the compiler adds to move data into the form a kernel reads.
MOVES = ("Copy", "Fill")
CONVOLUTIONS = frozenset({"Conv", "ConvS16"})


@dataclass(frozen=True)
class Layer:
    """One node.

    Attributes:
        name, op: as in the graph.
        shape: of the first output; empty where it isn't known.
        weight_bits: bits that the weights' values need (32 for floats), None without weights.
        activation: dtype of the first output.
        weight_bytes: of all constants the node reads, as stored.
        macs: multiply-accumulates of one run.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    weight_bits: int | None
    activation: str
    weight_bytes: int
    macs: int


def describe(path: str | Path) -> dict[str, Any]:
    """Describe a file.

    Returns:
        kind, file_bytes, inputs, outputs (name, shape, dtype and for integers scale, zero_point), layers (see Layer),
        totals; for artifacts the sizes, target and manifest.

    Raises:
        ModelError, ArtifactError: unreadable or broken.
    """
    file = Path(path)
    kind = kind_of(file)
    if is_module(file):
        raise ModelError(
            "this is a WebAssembly module",
            where=str(path),
            why="it has one function with all kernels in it",
            hint="inspect the model it was made from; run, verify and bench take modules",
        )
    if kind == "artifact":
        return describe_artifact(file)
    model = read_onnx(file)
    layers = layers_of(model)
    result: dict[str, Any] = {
        "kind": kind,
        "path": str(path),
        "file_bytes": file.stat().st_size,
        "opsets": {domain or "ai.onnx": version for domain, version in model.graph.opset_imports.items()},
        "inputs": [value_info(v) for v in model.graph.inputs if v.name not in model.graph.initializers],
        "outputs": [value_info(v) for v in model.graph.outputs],
        "layers": [asdict(layer) for layer in layers],
        "totals": totals(layers),
    }
    if VERSION_KEY in model.metadata_props:
        result["calibrated"] = model.metadata_props.get("edgeq.calibrated") == "true"
    return result


def read_onnx(path: Path) -> ir.Model:
    """The model with as many shapes as inference finds; a dynamic leading dimension counts as 1.

    Raises:
        ModelError: not a valid ONNX model.
    """
    import onnx
    import onnx_ir as ir

    try:
        proto = onnx.load(str(path))
        for value in proto.graph.input:
            dims = value.type.tensor_type.shape.dim
            if dims and not dims[0].HasField("dim_value"):
                dims[0].dim_value = 1
        # What the exporter noted for the outputs still holds the symbol; inference finds it again.
        for value in proto.graph.output:
            value.type.tensor_type.ClearField("shape")
        del proto.graph.value_info[:]
        proto = onnx.shape_inference.infer_shapes(proto)
        return ir.from_proto(proto)
    except Exception as error:  # onnx, protobuf and the file system raise unrelated types
        raise ModelError("can't read the model", where=str(path), why=first_line(error)) from error


def layers_of(model: ir.Model) -> list[Layer]:
    """Every node of the main graph in order, constants left out."""
    return [_layer(node) for node in model.graph if node.op_type != "Constant"]


def _layer(node: ir.Node) -> Layer:
    constants = [v for v in node.inputs if v is not None and v.const_value is not None]
    out = node.outputs[0]
    weight = _weight(node)
    return Layer(
        name=node.name or out.name or "",
        op=node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}",
        shape=_shape(out),
        weight_bits=None if weight is None else value_bits(weight),
        activation=_dtype(out),
        weight_bytes=sum(v.const_value.nbytes for v in constants if v.const_value is not None),
        macs=_macs(node, weight),
    )


def _weight(node: ir.Node) -> np.ndarray[Any, Any] | None:
    index = WEIGHT_INPUT.get(node.op_type)
    if index is None or index >= len(node.inputs):
        return None
    value = node.inputs[index]
    return None if value is None or value.const_value is None else value.const_value.numpy()


def value_bits(weight: np.ndarray[Any, Any]) -> int:
    """Bits of the narrowest symmetric signed integer that holds every value; the width of the dtype for floats.

    8 covers −127…127 (and −128), 4 covers −7…7.
    """
    width = int(weight.dtype.itemsize) * 8
    if weight.dtype.kind not in "iu":
        return width
    largest = int(np.abs(weight.astype(np.int64)).max(initial=0))
    return min(width, largest.bit_length() + 1)


def _macs(node: ir.Node, weight: np.ndarray[Any, Any] | None) -> int:
    out: int = math.prod(_shape(node.outputs[0])) if _shape(node.outputs[0]) else 0
    if node.op_type in CONVOLUTIONS and weight is not None:
        return out * int(math.prod(weight.shape[1:]))
    first = node.inputs[0] if node.inputs else None
    if first is None:
        return 0
    if node.op_type == "ConvTranspose" and weight is not None:
        return math.prod(_shape(first)) * int(math.prod(weight.shape[1:]))
    if node.op_type in ("Gemm", "GemmS16", "MatMul"):
        shape = _shape(first)
        transposed = "transA" in node.attributes and node.attributes["transA"].as_int() == 1
        return out * (shape[0] if transposed else shape[-1]) if shape else 0
    return 0


def totals(layers: list[Layer]) -> dict[str, int]:
    """Sums over the layers."""
    return {
        "layers": len(layers),
        "macs": sum(layer.macs for layer in layers),
        "weight_bytes": sum(layer.weight_bytes for layer in layers),
    }


def value_info(value: ir.Value) -> dict[str, Any]:
    """Name, shape, dtype and, where the graph says so, scale and zero point."""
    info: dict[str, Any] = {
        "name": value.name,
        "shape": [s if isinstance(s, int) else str(s) for s in value.shape] if value.shape is not None else None,
        "dtype": _dtype(value),
    }
    if "edgeq.scale" in value.metadata_props:
        info["scale"] = float(value.metadata_props["edgeq.scale"])
        info["zero_point"] = int(value.metadata_props.get("edgeq.zero_point", "0"))
    return info


def _shape(value: ir.Value) -> tuple[int, ...]:
    if value.shape is None or not all(isinstance(s, int) for s in value.shape):
        return ()
    return tuple(int(s) for s in value.shape)


def _dtype(value: ir.Value) -> str:
    return "?" if value.dtype is None else str(value.dtype.numpy())


def describe_artifact(path: Path) -> dict[str, Any]:
    """Target, sizes, tensors, steps and manifest of an artifact of any processor.

    Raises:
        ArtifactError: truncated, changed or of another ABI.
    """
    from edgeq.artifact.read import read

    artifact = read(path)
    image = artifact.image
    steps = [asdict(step) for step in image.steps]
    return {
        "kind": "artifact",
        "path": str(path),
        "file_bytes": path.stat().st_size,
        "arch": artifact.target.arch,
        "cpu_features": list(artifact.target.features),
        "abi": artifact.abi_version,
        "digest": artifact.digest,
        "sizes": asdict(artifact.sizes),
        "max_threads": image.max_threads,
        "inputs": [asdict(t) for t in image.inputs],
        "outputs": [asdict(t) for t in image.outputs],
        "steps": steps,
        "golden": len(image.golden),
        "manifest": dict(image.manifest),
        "variants": [
            {"name": v.programs[0].manifest.get("target", v.target.arch), "cpu_features": list(v.target.features)}
            for v in artifact.variants
        ],
        "programs": [_program(program) for program in artifact.variants[0].programs],
        "pads": image.pads,
        "totals": {"steps": len(steps), "macs": sum(s["macs"] for s in steps)},
    }


def compile_report(
    graph: IntegerGraph, model: CompiledModel, sizes: ArtifactSizes | StaticSizes | SourceSizes | WasmSizes
) -> dict[str, Any]:
    """What `edgeq.compile` reports.

    Args:
        graph: the integer graph of the first program.
        model: what became of it, and of the others.
        sizes: of the written artifact, bytes.

    Returns:
        calibrated; step_count (kernel calls of a run); layer_count, op_counts (steps that compute, by the op that leads
        them: copies and fills left out); weight_bits (bits → layers),
        activation_bits (bits → tensors); macs; max_threads; sizes (file, code, weights, image, arena: bytes);
        arena_lower_bound; inputs, outputs; layers (name, op, kernel, weight_bits, weight_bytes, macs): of the first
        program in the best variant. variants: name, cpu_features; programs: shapes of the inputs, arena (bytes), macs;
        pads: whether shorter inputs may be padded.
    """
    compiled = model.first
    nodes = layers_of(graph.model)
    bits = {layer.name: layer.weight_bits for layer in nodes if layer.weight_bits is not None}
    counts = dict(Counter(step["ops"][0] for step in compiled.layers if step["ops"][0] not in MOVES))
    widths = [np.dtype(n.activation).itemsize * 8 for n in nodes if n.activation in ACTIVATIONS]
    layers = [
        {
            "name": step["name"],
            "op": "+".join(step["ops"]),
            "kernel": step["kernel"],
            "weight_bits": None if step["ops"][0] in MOVES else bits.get(step["name"]),
            "weight_bytes": step["weights"],
            "macs": step["macs"],
        }
        for step in compiled.layers
    ]
    return {
        "calibrated": graph.calibrated,
        "step_count": len(layers),
        "layer_count": sum(counts.values()),
        "op_counts": counts,
        "weight_bits": dict(Counter(bits.values())),
        "activation_bits": dict(Counter(widths)),
        "macs": compiled.macs,
        "max_threads": compiled.image.max_threads,
        "sizes": asdict(sizes),
        "arena_lower_bound": compiled.arena_lower_bound,
        "inputs": [asdict(t) for t in compiled.image.inputs],
        "outputs": [asdict(t) for t in compiled.image.outputs],
        "layers": layers,
        "variants": [
            {"name": row[0].target.name, "cpu_features": list(row[0].target.spec.cpu_features)}
            for row in model.programs
        ],
        "programs": [_program(one.image) for one in model.programs[0]],
        "pads": compiled.image.pads,
    }


def _program(image: ModelImage) -> dict[str, Any]:
    return {
        "inputs": {tensor.name: list(tensor.shape) for tensor in image.inputs},
        "arena": image.arena_size,
        "steps": len(image.steps),
        "macs": sum(step.macs for step in image.steps),
    }
