"""Kernels at every width of weights against ONNX Runtime's U8S8 and fp32, one core, in turns.

python benchmarks/kernels/widths.py [--targets x86-avx2] [--core 0] [--rounds 15] [--out widths.json]

Ratios are of the times that a tenth of the rounds stay below (other programs disturb either side); above 1 we are
faster. On processors with VNNI ONNX Runtime uses it whatever our target is. A last line for each class gives
picoseconds a multiply-accumulate: what targets/<name>/costs.toml holds.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from layers import Layer, conv_call, onnxruntime_fp32, onnxruntime_u8s8
from timing import Timed, measure

BITS = (8, 7, 6, 5, 4, 3, 2, 1)
CLASSES: dict[str, list[Layer]] = {
    "conv": [
        Layer(56, 56, 64, 64, 3),
        Layer(28, 28, 128, 128, 3),
        Layer(14, 14, 256, 256, 3),
        Layer(28, 28, 64, 128, 3, 2),
    ],
    "gemm": [
        Layer(56, 56, 24, 144),
        Layer(14, 14, 96, 576),
        Layer(14, 14, 384, 96),
        Layer(7, 7, 960, 160),
        Layer(1, 197, 192, 768),
        Layer(1, 128, 384, 1536),
    ],
    "depthwise": [
        Layer(112, 112, 32, 32, 3, 1, True),
        Layer(56, 56, 144, 144, 3, 2, True),
        Layer(28, 28, 192, 192, 3, 1, True),
        Layer(14, 14, 576, 576, 3, 1, True),
    ],
}


def compare(layer: Layer, target: str, rounds: int) -> dict[str, object]:
    """One layer at every width, beside both forms of ONNX Runtime."""
    nothing = onnxruntime_fp32(Layer(1, 1, 4, 4))
    calls: dict[str, Timed] = {"u8s8": onnxruntime_u8s8(layer), "fp32": onnxruntime_fp32(layer), "nothing": nothing}
    for bits in BITS:
        calls[f"{bits}"], calls["empty"], _ = conv_call(layer, bits, target)
    times = measure(calls, rounds)
    overhead, empty = _calm(times["nothing"]), _calm(times["empty"])
    own = {bits: _calm(times[f"{bits}"]) - empty for bits in BITS}
    return {
        "layer": str(layer),
        "target": target,
        "ps_a_mac": {b: t * 1e12 / layer.macs for b, t in own.items()},
        "u8s8": {b: (_calm(times["u8s8"]) - overhead) / t for b, t in own.items()},
        "fp32": {b: (_calm(times["fp32"]) - overhead) / t for b, t in own.items()},
    }


def _calm(times: np.ndarray) -> float:
    """Seconds that a tenth of the rounds stay below."""
    return float(np.percentile(times, 10))


def main() -> None:
    """Prints a line a layer and the costs of each class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-avx2"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", default=list(CLASSES), choices=list(CLASSES))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    found: dict[str, list[dict[str, object]]] = defaultdict(list)
    for target in options.targets:
        print(f"{target}: bits {' '.join(f'{b:>5}' for b in BITS)}")
        for kind in options.only:
            costs = []
            for layer in CLASSES[kind]:
                row = compare(layer, target, options.rounds)
                found[kind].append(row)
                costs.append(row["ps_a_mac"])
                for peer in ("u8s8", "fp32"):
                    cells = " ".join(f"{ratio:5.2f}" for ratio in row[peer].values())  # type: ignore[attr-defined]
                    print(f"  {layer!s:24} {peer} ÷ ours {cells}", flush=True)
            means = {b: float(np.exp(np.mean([np.log(c[b]) for c in costs]))) for b in BITS}  # type: ignore[index]
            print(f"  {kind}: ps a MAC " + ", ".join(f"{b} = {mean:.2f}" for b, mean in means.items()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
