"""Cortex-M: exact instructions, code, arena and stack of the small networks on emulated boards.

    python benchmarks/cortex_m.py --out cortex_m.json

The same on every machine and in every run. The peer's figures are TensorFlow Lite Micro with CMSIS-NN on its own int8
models of the same networks (gcc 12.2 -O2, same emulator); `ratio` is ours divided by theirs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Zoo, arguments, finish, say

import edgeq
from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.evaluate.firmware import run_firmware
from edgeq.integer.graph import IntegerGraph

MODELS = (
    "mlperf_tiny_resnet8_cifar10",
    "mlperf_tiny_dscnn_kws",
    "mlperf_tiny_mobilenetv1_vww",
    "mlperf_tiny_autoencoder_toycar",
)
# Million instructions and KB of arena.
PEER = {
    "cortex-m4": dict(zip(MODELS, (29.86, 7.70, 24.10, 0.583), strict=True)),
    "cortex-m55": dict(zip(MODELS, (4.91, 1.82, 6.56, 0.286), strict=True)),
}
PEER_ARENA = dict(zip(MODELS, (55.0, 22.8, 100.7, 2.6), strict=True))


def measure(graph: Path, name: str, target: str) -> dict[str, Any]:
    """One network on one board, with random inputs of the whole range as golden vector."""
    compiled = compile_graph(IntegerGraph.load(graph), load_target(target), CompileOptions(1))
    run = run_firmware(compiled)
    peer, arena = PEER.get(target, {}).get(name), PEER_ARENA.get(name)
    return {
        "model": name,
        "target": target,
        "instructions": run.total,
        "ratio": peer and round(run.total / peer / 1e6, 3),
        "code": run.sizes.code,
        "weights": run.sizes.weights,
        "arena": run.sizes.arena,
        "arena_ratio": arena and round(run.sizes.arena / arena / 1e3, 3),
        "stack_bound": run.sizes.stack,
        "stack": run.stack,
        "different": run.different,
    }


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=MODELS)
    parser.add_argument("--targets", nargs="+", default=list(PEER))
    parser.add_argument("--samples", type=int, default=32, help="calibration samples")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as place:
            graph = Path(place) / f"{name}.int.onnx"
            edgeq.quantize(zoo.model(name), zoo.calibration(name, args.samples, Path(place)), output=graph)
            for target in args.targets:
                row = measure(graph, name, target)
                rows.append(row)
                ratio = f"{100 * row['ratio']:.1f} %" if row["ratio"] else ""
                sizes = f"code {row['code']:>6} arena {row['arena']:>6} stack {row['stack_bound']:>5}"
                say(f"{name:<32} {target:<13} {row['instructions']:>11,} {ratio:>7} {sizes} differ {row['different']}")
    finish("cortex_m", rows, args.out)


if __name__ == "__main__":
    main()
