"""Accuracy of the zoo's models through compiled host artifacts, against fp32 on the same samples, by recipe and width.

python benchmarks/accuracy.py --out accuracy.json
python benchmarks/accuracy.py --shifts --models vit_mnist_d6 --out shifts.json     softmax and GELU by shifts
python benchmarks/accuracy.py --recipe default best --weight-bits 8 7 4 --resume sweep.jsonl --out sweep.json
"""

from __future__ import annotations

import argparse
import itertools
import json
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


def measure(zoo: Zoo, name: str, settings: dict[str, Any], args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One model with one set of options: metrics, what was lost, seconds, what the recipe kept."""
    options = {name: value for name, value in settings.items() if name != "shifts"}
    if settings.get("shifts"):
        policy = folder / "policy.yaml"
        policy.write_text(SHIFTS)
        options["policy"] = str(policy)
    result = edgeq.compile(
        zoo.model(name),
        target=args.target,
        calib=zoo.calibration(name, args.samples, folder),
        output=folder / f"{name}.edgeq",
        **options,
    )
    integer = zoo.evaluate(name, run_of(edgeq.load(result.path), args.workers))
    fp32 = zoo.fp32(name)
    quantization = result.quantization or {}
    return {
        "model": name,
        **settings,
        "fp32": fp32,
        "integer": integer,
        "lost": {k: fp32[k] - integer[k] for k in fp32 if not k.startswith("n")},
        "target": result.target,
        "quantize_seconds": sum(quantization.get("seconds", {}).values()),
        "steps": quantization.get("steps", []),
    }


def combinations(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Options of each measurement."""
    fixed = {"observer": args.observer, "weight_budget": args.weight_budget, "shifts": args.shifts or None}
    plans = itertools.product(args.recipe, args.weight_bits)
    return [
        {"recipe": recipe, "weight_bits": bits, **{k: v for k, v in fixed.items() if v is not None}}
        for recipe, bits in plans
    ]


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=(*CNNS, *TRANSFORMERS))
    parser.add_argument("--samples", type=int, default=128, help="calibration samples")
    parser.add_argument("--target", default="host")
    parser.add_argument("--workers", type=int, default=2, help="samples run at the same time")
    parser.add_argument("--observer", help="default: the quantizer's")
    parser.add_argument("--shifts", action="store_true", help="softmax: shiftmax, gelu: shiftgelu everywhere")
    parser.add_argument("--recipe", nargs="+", default=["default"], help="fast, default, best")
    parser.add_argument("--weight-bits", nargs="+", type=int, default=[8])
    parser.add_argument(
        "--weight-budget", type=float, help="error that narrow weights may add; layers stay at 8 for it"
    )
    parser.add_argument(
        "--resume", type=Path, help="file with a line for each finished row: those aren't measured again"
    )
    args = parser.parse_args()
    zoo, rows = Zoo(args.zoo), []
    known = [json.loads(line) for line in args.resume.read_text().splitlines()] if _exists(args.resume) else []
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in itertools.product(args.models, combinations(args)):
            key = {"model": name, **settings}
            row = next((r for r in known if all(r.get(k) == v for k, v in key.items())), None)
            if row is None:
                row = measure(zoo, name, settings, args, Path(folder))
                if args.resume:
                    with args.resume.open("a") as file:
                        file.write(json.dumps(row) + "\n")
            rows.append(row)
            shown = {k: round(v, 4) for k, v in row["integer"].items()}
            lost = {k: round(v, 4) for k, v in row["lost"].items()}
            say(key, shown, "lost", lost, round(row["quantize_seconds"], 1), "s")
    finish("accuracy", rows, args.out)


def _exists(path: Path | None) -> bool:
    return path is not None and path.is_file()


if __name__ == "__main__":
    main()
