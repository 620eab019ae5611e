"""Instructions per inference under QEMU, exact: whole networks and the share of each kind of step.

    python benchmarks/instructions.py --out instructions.json

The same on every machine and in every run. Peers' figures (same networks, one thread, float in and out) come from the
instruction counts of LiteRT 2.3 with XNNPACK under the same emulator; `ratio` is ours divided by theirs.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from common import Zoo, arguments, finish, say

import edgeq
from edgeq.artifact.read import read
from edgeq.evaluate.instructions import count_instructions

MODELS = (
    "mlperf_tiny_resnet8_cifar10",
    "mlperf_tiny_dscnn_kws",
    "mlperf_tiny_mobilenetv1_vww",
    "mlperf_tiny_autoencoder_toycar",
    "mobilenet_v2_100_imagenet_deq",
)
# Million instructions of LiteRT 2.3 on a core without and with dot products.
LITERT = {
    "arm-neon": dict(zip(MODELS, (4.33, 1.95, 3.62, 0.100, 114.6), strict=True)),
    "arm-dotprod": dict(zip(MODELS, (1.50, 0.717, 1.93, 0.051, 50.1), strict=True)),
}


def measure(graph: Path, name: str, target: str, folder: Path) -> dict[str, Any]:
    """Instructions of one network on one target."""
    path = edgeq.compile(graph, target=target, output=folder / f"{name}.{target}.edgeq").path
    counted = count_instructions(path)
    ops: Counter[str] = Counter()
    for step, instructions in zip(read(path).image.steps, counted.steps, strict=True):
        ops[step.kind] += instructions
    peer = LITERT.get(target, {}).get(name)
    return {
        "model": name,
        "target": target,
        "instructions": counted.total,
        "litert": peer and round(peer * 1e6),
        "ratio": peer and round(counted.total / peer / 1e6, 3),
        "stack": counted.stack,
        "by_op": dict(ops.most_common()),
    }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=MODELS)
    parser.add_argument("--targets", nargs="+", default=["arm-neon", "arm-dotprod"])
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            graph = folder / f"{name}.int.onnx"
            edgeq.quantize(zoo.model(name), zoo.calibration(name, args.samples, folder), output=graph)
            for target in args.targets:
                rows.append(measure(graph, name, target, folder))
                row = rows[-1]
                ratio = f"{row['ratio']:.3f} of LiteRT's" if row["ratio"] else ""
                say(f"{name:<32} {target:<14} {row['instructions']:>12,} {ratio}")
    finish("instructions", rows, args.out)


if __name__ == "__main__":
    main()
