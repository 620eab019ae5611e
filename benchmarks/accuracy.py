"""Accuracy of the zoo's networks through compiled host artifacts against fp32 on the same samples.

python benchmarks/accuracy.py --out accuracy.json                                  default options
python benchmarks/accuracy.py --shifts --models vit_mnist_d6 --out shifts.json     softmax and GELU by shifts
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import CNNS, TRANSFORMERS, Zoo, arguments, finish, say

import edgeq

SHIFTS = "version: 1\ndefaults: {softmax: shiftmax, gelu: shiftgelu}\n"


def run_of(model: Any, workers: int) -> Callable[..., np.ndarray]:
    """Inputs [n, …] in the model's order → the first output [n, …] float32, every sample through the artifact."""
    name = model.outputs[0].name

    def run(*arrays: np.ndarray) -> np.ndarray:
        inputs = {tensor.name: array for tensor, array in zip(model.inputs, arrays, strict=True)}
        return np.asarray(model.run_batch(inputs, workers=workers, dequantize=True)[name])

    return run


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=(*CNNS, *TRANSFORMERS))
    parser.add_argument("--samples", type=int, default=128, help="calibration samples")
    parser.add_argument("--target", default="host")
    parser.add_argument("--workers", type=int, default=2, help="samples run at the same time")
    parser.add_argument("--observer", help="default: the quantizer's")
    parser.add_argument("--shifts", action="store_true", help="softmax: shiftmax, gelu: shiftgelu everywhere")
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        options = {"observer": args.observer} if args.observer else {}
        if args.shifts:
            policy = Path(folder) / "policy.yaml"
            policy.write_text(SHIFTS)
            options["policy"] = str(policy)
        for name in args.models:
            calib = zoo.calibration(name, args.samples, Path(folder))
            result = edgeq.compile(
                zoo.model(name),
                target=args.target,
                calib=calib,
                output=Path(folder) / f"{name}.edgeq",
                **options,
            )
            integer = zoo.evaluate(name, run_of(edgeq.load(result.path), args.workers))
            fp32 = zoo.fp32(name)
            lost = {k: fp32[k] - integer[k] for k in fp32 if not k.startswith("n")}
            row = {"model": name, "target": result.target, "shifts": args.shifts}
            rows.append({**row, "fp32": fp32, "integer": integer, "lost": lost})
            say(name, {k: round(v, 4) for k, v in integer.items()}, "lost", {k: round(v, 4) for k, v in lost.items()})
    finish("accuracy", rows, args.out)


if __name__ == "__main__":
    main()
