"""Accuracy of the zoo's CNNs through compiled host artifacts, default options, against fp32 on the same samples.

python benchmarks/accuracy.py --out accuracy.json
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Zoo, arguments, finish, say

import edgeq


def run_of(model: Any, workers: int) -> Callable[[np.ndarray], np.ndarray]:
    """x [n, …] float32 → the first output [n, …] float32, every sample through the artifact."""
    name = model.outputs[0].name
    return lambda x: model.run_batch(np.asarray(x, np.float32), workers=workers, dequantize=True)[name]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=128, help="calibration samples")
    parser.add_argument("--target", default="host")
    parser.add_argument("--workers", type=int, default=2, help="samples run at the same time")
    parser.add_argument("--observer", help="default: the quantizer's")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            calib = zoo.calibration(name, args.samples, Path(folder))
            result = edgeq.compile(
                zoo.model(name),
                target=args.target,
                calib=calib,
                output=Path(folder) / f"{name}.edgeq",
                **({"observer": args.observer} if args.observer else {}),
            )
            integer = zoo.evaluate(name, run_of(edgeq.load(result.path), args.workers))
            fp32 = zoo.fp32(name)
            lost = {k: fp32[k] - integer[k] for k in fp32 if not k.startswith("n")}
            rows.append({"model": name, "fp32": fp32, "integer": integer, "lost": lost, "target": result.target})
            say(name, {k: round(v, 4) for k, v in integer.items()}, "lost", {k: round(v, 4) for k, v in lost.items()})
    finish("accuracy", rows, args.out)


if __name__ == "__main__":
    main()
