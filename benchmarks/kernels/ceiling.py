"""What the processor gives to the instruction mix of each width of weights, and what of it kernels reach (K >= 256).

python benchmarks/kernels/ceiling.py [--core 0] [--rounds 15] [--out ceiling.json]

Mixes run on registers alone (ceiling.c); kernels read activations and weights and requantize. Both take turns in one
process, so that the share doesn't depend on the clock: it is the ratio of the speeds that a tenth of the rounds pass,
for other programs on the machine slow either side down by half now and then.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from layers import Layer, conv_call
from timing import Timed, measure

from edgeq.compiler.target import load_target

MACS_A_PASS = {
    "fma": 64,
    "exact": 128,
    "depth1": 256,
    "depth2": 512,
    "depth4": 1024,
    "depth8": 2048,
    "endless": 256,
    "dot": 512,
}
PASSES = 5_000
# (height, width, channels, output channels, kernel)
LAYERS = [
    Layer(14, 14, 256, 256),
    Layer(14, 14, 384, 96),
    Layer(1, 197, 768, 768),
    Layer(28, 28, 128, 128, 3),
    Layer(14, 14, 256, 256, 3),
]


def mixes(target: str) -> dict[str, Timed]:
    """Calls of PASSES passes of every mix that the target's processor has."""
    codegen = load_target(target).spec.codegen
    library = Path(tempfile.mkdtemp()) / "mixes.so"
    source = Path(__file__).with_name("ceiling.c")
    command = [sys.executable, "-m", "ziglang", "cc", f"-mcpu={codegen.mcpu}", "-O2", "-shared", "-fPIC"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    return {name: _passes(loaded, name) for name in MACS_A_PASS if hasattr(loaded, f"mix_{name}")}


def _passes(library: ctypes.CDLL, name: str) -> Timed:
    function = getattr(library, f"mix_{name}")
    return lambda: function(ctypes.c_long(PASSES))


def mix_of(target: str, depth: int, bounded: bool) -> str:
    """The mix that a kernel's loop consists of."""
    if target == "x86-vnni":
        return "dot"
    if not bounded:
        return "exact"
    # From 16 on what widening takes is left out: the ceiling is a little too high.
    return "endless" if depth >= 16 else next(f"depth{d}" for d in (8, 4, 2, 1) if d <= depth)


def share_of(layer: Layer, bits: int, target: str, rounds: int, ceilings: dict[str, Timed]) -> dict[str, object]:
    """One kernel's speed beside its mix's."""
    call, empty, spec = conv_call(layer, bits, target)
    product = spec.plan(load_target(target)).product
    mix = mix_of(target, product.peer_depth, product.bounded)
    times = measure({"kernel": call, "empty": empty, "mix": ceilings[mix]}, rounds)
    kernel = float(np.percentile(layer.macs / (times["kernel"] - np.median(times["empty"])), 90)) / 1e9
    ceiling = float(np.percentile(PASSES * MACS_A_PASS[mix] / times["mix"], 90)) / 1e9
    return {
        "layer": str(layer),
        "target": target,
        "bits": bits,
        "kernel": spec.describe(load_target(target)),
        "mix": mix,
        "gmacs": kernel,
        "ceiling_gmacs": ceiling,
        "share": kernel / ceiling,
    }


def main() -> None:
    """Prints the ceilings and a line for each kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-avx2", "x86-vnni"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    found = []
    for target in options.targets:
        ceilings = mixes(target)
        for name, times in measure(ceilings, options.rounds).items():
            speed = PASSES * MACS_A_PASS[name] / np.percentile(times, 10) / 1e9
            print(f"{target} {name:8} {speed:6.0f} GMAC/s")
        for layer in LAYERS:
            for bits in (8, 7, 6, 5, 4, 2) if target == "x86-avx2" else (8,):
                row = share_of(layer, bits, target, options.rounds, ceilings)
                found.append(row)
                print(
                    f"{target} {layer!s:22} {bits} bits {row['gmacs']:6.0f} of {row['ceiling_gmacs']:6.0f} GMAC/s "
                    f"{100 * float(str(row['share'])):4.0f} %  {row['kernel']}",
                    flush=True,
                )
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
