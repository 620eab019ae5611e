"""A 2-bit network that classifies CAN messages: normal, DoS, fuzzing, spoofing. After arXiv 2401.11030.

    pip install -c constraints.txt -e '.[qat]'
    python examples/can-bus/train.py                     # about a minute on one core

Generates traffic (traffic.py), trains a perceptron 83-48-24-4 with 2-bit (ternary) weights and 2-bit activations,
compiles it for this machine and for Cortex-M4, and judges the artifact on two drives that training never saw: macro F1
over the four classes. The artifact's outputs must equal torch's bit for bit. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from traffic import CLASSES, features, generate

import edgeq
from edgeq import qat
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.evaluate.firmware import run_firmware
from edgeq.integer.arithmetic import quantize
from edgeq.integer.graph import IntegerGraph

SEED, BATCH = 3, 256
TRAINING_DRIVES, HELD_OUT_DRIVES, SECONDS = (11, 12, 13), (21, 22), 10.0
#: Messages whose outputs are compared bit for bit, and those that run on the emulated board.
CHECKED, GOLDEN = 2000, 4
POLICY = {"defaults": {"weight_bits": 2, "activation_bits": 2}}


class Messages:
    """Shuffled batches of bits and labels; another order each time they are read."""

    def __init__(self, drives: tuple[int, ...]) -> None:
        recorded = [generate(SECONDS, seed) for seed in drives]
        self.bits = torch.from_numpy(np.concatenate([features(drive) for drive in recorded]))
        self.labels = torch.from_numpy(np.concatenate([drive.labels for drive in recorded]))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for picked in torch.randperm(len(self.labels)).split(BATCH):
            yield self.bits[picked], self.labels[picked]


def network() -> nn.Module:
    """Bits [n, 83] to logits [n, 4]."""
    return nn.Sequential(
        nn.Linear(83, 48), nn.BatchNorm1d(48), nn.ReLU(),
        nn.Linear(48, 24), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Linear(24, len(CLASSES)),
    )  # fmt: skip


def macro_f1(found: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[float, list[float]]:
    """Mean over the classes of 2·tp / (2·tp + fp + fn), and each class's."""
    scores = []
    for one in range(len(CLASSES)):
        tp = int(((found == one) & (labels == one)).sum())
        wrong = int(((found == one) != (labels == one)).sum())
        scores.append(2 * tp / max(1, 2 * tp + wrong))
    return float(np.mean(scores)), scores


def weight_bytes(graph: IntegerGraph) -> tuple[int, int]:
    """Weights of the products, and the bytes they take at 2 bits each."""
    count = sum(int(s.call.constant(1).size) for s in graph.steps() if s.op.name in ("Conv", "Gemm"))
    return count, -(-count * 2 // 8)


def run(path: Path, bits: Tensor) -> NDArray[np.float32]:
    """The artifact's logits, message by message."""
    model = edgeq.load(path)
    (name,) = (tensor.name for tensor in model.inputs)
    return np.concatenate([next(iter(model.run({name: one.numpy()}).values())) for one in bits.split(1)])


def on_cortex_m4(graph: IntegerGraph, bits: Tensor) -> dict[str, int]:
    """Build a firmware for Cortex-M4 and run it under QEMU: instructions of one message (exact), sizes in bytes."""
    (value,) = graph.inputs
    quant = graph.quant(value)
    golden = [
        {str(value.name): quantize(one.numpy(), quant.scale, quant.zero_point, quant.dtype)} for one in bits.split(1)
    ]
    compiled = compile_graph(graph, load_target("cortex-m4"), CompileOptions(max_threads=1, golden_inputs=golden))
    done = run_firmware(compiled)
    return {
        "instructions": done.total,
        "bytes_different": done.different,
        "code": done.sizes.code,
        "weights": done.sizes.weights,
        "arena": done.sizes.arena,
        "stack": done.stack,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/can-bus"), help="folder of checkpoints and artifacts")
    parser.add_argument("--epochs", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    training, held_out = Messages(TRAINING_DRIVES), Messages(HELD_OUT_DRIVES)
    torch.manual_seed(SEED)
    net = network()
    qat.fit(net, training, 4, lr=4e-3)
    module = qat.prepare(net, training.bits[:2000], POLICY)
    qat.fit(module, training, given.epochs, lr=4e-3, checkpoint=given.out / "can.pt", progress=print)
    graph = qat.convert(module)
    graph.save(given.out / "can.int.onnx")
    count, packed = weight_bytes(graph)
    with torch.no_grad():
        logits = module(held_out.bits).numpy()
    score, each = macro_f1(logits.argmax(1), held_out.labels.numpy())
    facts: dict[str, Any] = {"macro_f1": score, "weights": count, "bytes_at_2_bits": packed}
    parts = ", ".join(f"{name} {one:.4f}" for name, one in zip(CLASSES, each, strict=True))
    print(f"macro F1 on {len(logits)} held-out messages: {score:.4f} ({parts})")
    print(f"{count} weights of 2 bits: {packed} bytes")
    # Packed: four weights a byte, expanded while the kernel runs.
    result = edgeq.compile(graph, target="host", output=given.out / "can-host.edgeq", weights="small")
    facts["differing"] = int((run(result.path, held_out.bits[:CHECKED]) != logits[:CHECKED]).sum())
    facts["host"] = result.report["sizes"]
    print(f"host: {facts['host']}")
    print(f"host: artifact and torch differ in {facts['differing']} of {CHECKED * len(CLASSES)} outputs")
    facts["cortex_m4"] = on_cortex_m4(graph, held_out.bits[:GOLDEN])
    print("cortex-m4:", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts["cortex_m4"].items()))
    (given.out / "results.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
