"""Bits of every layer of the digits networks: found while they train, beside a search on the trained ones.

    pip install -c constraints.txt -e '.[qat,train]'
    python examples/qat-digits/search.py --net cnn          # a front of each kind: some minutes on one core

After training: the float network, also trained for as long as the other takes in all, goes through `edgeq search`
(weights rounded with GPTQ), judged on the held-out images. While training: `edgeq.qat.search` for several limits on bit
operations, from the float network of `train.py`; held-out images are looked at once, in the end, through the compiled
artifact. Activations have 8 bits. Cost is Σ multiply-accumulates · bits of weights · 8, relative to 8 bits everywhere.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from train import EPOCHS, NETS, SEED, SHIFTED, Digits, differing

import edgeq
from edgeq import qat
from edgeq.search.limits import Limits
from edgeq.search.problem import load_problem
from edgeq.search.run import find_policy
from edgeq.search.solvers.front import hypervolume

#: Shares of the bit operations of 8 bits; epochs and learning rate of a one-shot run.
LIMITS = (0.26, 0.3, 0.35, 0.4, 0.5)
SEARCHED = {"cnn": (30, 2e-3), "vit": (80, 3e-3)}


@dataclass(frozen=True)
class Point:
    """A network: cost relative to 8 bits, accuracy on the held-out images, grid of each layer."""

    kind: str
    cost: float
    accuracy: float
    grids: dict[str, str]


def after_training(name: str, net: nn.Module, digits: Digits, out: Path) -> list[Point]:
    """Everything that `edgeq search` judges on the way through its front."""
    # The exporter makes only the batch variable that it is told about.
    torch.onnx.export(net.eval(), (digits.images[:1],), out / f"{name}.onnx", input_names=["x"], dynamo=True)
    np.savez(out / "calib.npz", x=digits.images[:256].numpy())
    np.savez(out / "eval.npz", x=digits.held_out.numpy(), y=digits.answers.numpy())
    problem = load_problem(out / f"{name}.onnx", out / "calib.npz", "x86-avx2", evaluation=out / "eval.npz")
    found = find_policy(problem, Limits(drop=100), objective="bitops", kinds=("weights",), narrowest_edge=2)
    wide = found.uniform.predicted["bitops"]
    return [
        Point(
            "after",
            each.predicted["bitops"] / wide,
            each.accuracy,
            {n: str(f.change.weight_bits) for n, f in each.forms.items()},
        )
        for each in found.seen
    ]


def while_training(name: str, net: nn.Module, digits: Digits, out: Path, widths: tuple[int | str, ...]) -> list[Point]:
    """One run for each limit."""
    epochs, rate = SEARCHED[name]
    points = []
    for most in LIMITS:
        torch.manual_seed(SEED)
        module = qat.prepare(net, digits.images[:256])
        found = qat.search(module, digits, epochs, most=most, lr=rate, widths=widths, seed=SEED)
        path = out / f"{name}-{most}.edgeq"
        edgeq.compile(qat.convert(module), target="host", output=path)
        wrong = differing(path, module, digits)
        points.append(Point("while", found.share, digits.accuracy(module), dict(found.grids)))
        print(f"{show(points[-1])}; artifact and torch differ in {wrong} outputs", flush=True)
    return points


def show(point: Point) -> str:
    """One line."""
    return f"  {point.kind}: {point.cost:.3f} of the cost, {point.accuracy:.2%}, bits {' '.join(point.grids.values())}"


def compare(name: str, out: Path, widths: tuple[int | str, ...]) -> dict[str, object]:
    """Both fronts of one network."""
    digits = Digits(SHIFTED[name])
    nets = {}
    for kind, epochs in (("start", EPOCHS[name]), ("long", EPOCHS[name] + SEARCHED[name][0])):
        torch.manual_seed(SEED)
        nets[kind] = NETS[name]()
        path = out / f"{name}-{kind}.pt"
        qat.fit(nets[kind], digits, epochs, lr=3e-3, weight_decay=0.05, checkpoint=path)
        print(f"{name}, {epochs} epochs in float: {digits.accuracy(nets[kind]):.2%}", flush=True)
    points = while_training(name, nets["start"], digits, out, widths)
    for kind, net in nets.items():
        points += [
            Point(f"after ({kind})", p.cost, p.accuracy, p.grids) for p in after_training(name, net, digits, out)
        ]
    for point in points:
        if point.kind != "while":
            print(show(point))
    areas = {
        kind: hypervolume([(p.cost, p.accuracy) for p in points if p.kind == kind], (1.0, 0.0))
        for kind in ("while", "after (start)", "after (long)")
    }
    print(f"{name}: dominated area {json.dumps(areas)}", flush=True)
    return {"net": name, "areas": areas, "points": [asdict(point) for point in points]}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=[*NETS, "both"], default="both")
    parser.add_argument("--floats", action="store_true", help="floating point of 4 bits is a choice, too")
    parser.add_argument("--out", type=Path, default=Path("build/qat-search"), help="folder of checkpoints, artifacts")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    widths: tuple[int | str, ...] = (8, 6, 5, 4, 3, 2, *(["fp4 e2m1"] if given.floats else []))
    rows = [compare(name, given.out, widths) for name in (NETS if given.net == "both" else [given.net])]
    (given.out / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
