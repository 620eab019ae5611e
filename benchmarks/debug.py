"""Does `edgeq debug` find what costs the accuracy, and does its first remedy bring it back? Compiled host artifacts.

python benchmarks/debug.py --models mlperf_tiny_dscnn_kws yolox_nano_coco --out debug.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import run_of
from common import Zoo, arguments, finish, say

import edgeq
from edgeq import frontend
from edgeq.compiler.target import load_target
from edgeq.diagnose import debug
from edgeq.quantize import CalibrationData, QuantizeOptions, from_arrays, input_specs, quantize

MODELS = ("mlperf_tiny_dscnn_kws", "yolox_nano_coco")


def score(zoo: Zoo, name: str, data: CalibrationData, options: QuantizeOptions, folder: Path, workers: int) -> Any:
    """Metrics of the artifact made with these options and nothing else."""
    result = quantize(frontend.load(zoo.model(name)), data, options)
    artifact = edgeq.compile(result.graph, output=folder / f"{name}.edgeq")
    return zoo.evaluate(name, run_of(edgeq.load(artifact.path), workers))


def measure(zoo: Zoo, name: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One model: what was found, and the metrics before and with the first remedy."""
    graph = frontend.load(zoo.model(name))
    with np.load(zoo.calibration(name, args.samples, folder)) as arrays:
        data = from_arrays(input_specs(graph.model.graph), dict(arrays))
    start = QuantizeOptions(observer=args.observer, promote=False, recipe="fast")
    began = time.perf_counter()
    found = debug(graph, data, start, target=load_target("host"))
    seconds = time.perf_counter() - began
    best = found.remedies[0]
    row = {
        "model": name,
        "observer": args.observer,
        "cause": [guilt.layer for guilt in found.cause],
        "remedy": best.name,
        "error": [found.outcome.error, best.outcome.error],
        "fp32": zoo.fp32(name),
        "before": score(zoo, name, data, start, folder, args.workers),
        "with remedy": score(zoo, name, data, best.change.options(start), folder, args.workers),
        "seconds": seconds,
    }
    say({k: v for k, v in row.items() if k != "error"})
    return row


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=MODELS)
    parser.add_argument("--samples", type=int, default=64, help="calibration samples")
    parser.add_argument("--observer", default="minmax")
    parser.add_argument("--workers", type=int, default=2, help="samples run at the same time")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(zoo, name, args, Path(folder)) for name in args.models]
    finish("debug", rows, args.out)


if __name__ == "__main__":
    main()
