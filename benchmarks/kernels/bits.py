"""Layers of ±1 weights and two-valued activations: bits counted against bytes multiplied, one core, in turns.

python benchmarks/kernels/bits.py [--targets x86-avx2 x86-vnni] [--core 0] [--rounds 15]

Ratios of the times that a tenth of the rounds stay below, bytes over bits: of the products alone, and with the step
that packs the activations. The layers are those of FINN's CNV (CIFAR-10) and of a ResNet's middle.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import fields

import numpy as np
from layers import Layer
from timing import Timed, kernel_calls, measure

from edgeq.compiler.kernels.base import SLACK_BYTES, Epilogue, Image
from edgeq.compiler.kernels.bits.conv import BitConvSpec
from edgeq.compiler.kernels.bits.pack import PackBitsSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.target import load_target

LAYERS = [
    Layer(28, 28, 64, 64, 3),
    Layer(12, 12, 64, 128, 3),
    Layer(10, 10, 128, 128, 3),
    Layer(3, 3, 128, 256, 3),
    Layer(1, 1, 256, 512),
    Layer(14, 14, 256, 256, 3),
    Layer(14, 14, 512, 512),
]
LEVELS = (127, 129)


def calls(layer: Layer, name: str) -> dict[str, Timed]:
    """`bytes`, `bits` and `pack` of a layer."""
    target, rng = load_target(name), np.random.default_rng(0)
    x, y = Image.dense(1, *layer.padded, layer.c), Image.dense(1, layer.h, layer.w, layer.n)
    epilogue = Epilogue("narrow", "u8", 128, 0, 255, 6)
    plain = ConvSpec(x, y, "u8", layer.k, layer.k, epilogue, layer.stride, layer.stride, x_zero_point=128)
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    packed = Image.dense(1, *layer.padded, layer.c // 8)
    counted = BitConvSpec(**own | {"x": packed, "levels": LEVELS})
    w = rng.choice(np.array([-1, 1], np.int8), (layer.n, layer.c, layer.k, layer.k))
    constants = {
        "w": w,
        "bias": np.zeros(layer.n, np.int32),
        "multiplier": np.full(layer.n, 20000, np.int32),
        "shift": np.zeros(layer.n, np.int32),
    }
    values = rng.choice(np.array(LEVELS, np.uint8), x.elements)
    out, bits = np.zeros(y.elements + SLACK_BYTES, np.uint8), np.zeros(packed.elements + SLACK_BYTES, np.uint8)
    plain, packing = plain.fitted(target, w), PackBitsSpec(x, packed, LEVELS)
    return {
        "bytes": kernel_calls(plain, target, {"x": values, "y": out} | plain.pack(target, constants))[0],
        "bits": kernel_calls(counted, target, {"x": bits, "y": out} | counted.pack(target, constants))[0],
        "pack": kernel_calls(packing, target, {"x": values, "y": bits})[0],
    }


def main() -> None:
    """Prints a line a layer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["x86-avx2", "x86-vnni"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    for name in options.targets:
        print(f"{name}: bytes over bits, with packing; GMAC/s of bits")
        for layer in LAYERS:
            times = measure(calls(layer, name), options.rounds)
            calm = {key: float(np.percentile(value, 10)) for key, value in times.items()}
            alone, whole = calm["bytes"] / calm["bits"], calm["bytes"] / (calm["bits"] + calm["pack"])
            print(f"  {layer!s:24} {alone:5.2f} {whole:5.2f} {layer.macs / calm['bits'] / 1e9:7.0f}", flush=True)


if __name__ == "__main__":
    main()
