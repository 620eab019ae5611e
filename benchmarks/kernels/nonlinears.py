"""Softmax, LayerNorm and GELU kernels against ONNX Runtime's fp32 kernels, ns per element: one core, interleaved.

python benchmarks/kernels/nonlinears.py [--targets x86-avx2 x86-vnni] [--core 0] [--rounds 15] [--out FILE]

Shapes of DeiT-Tiny at 224 pixels and of MiniLM-L6 at 128 tokens. Times of calls without work are taken off.
ONNX Runtime uses every instruction set of the processor.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from elementwise import Case, layer_norm, onnxruntime_call, our_calls
from timing import Timed, measure

from edgeq.compiler.kernels.base import DType
from edgeq.compiler.kernels.nonlinear.lut import LutSpec
from edgeq.compiler.kernels.nonlinear.shift_gelu import ShiftGeluSpec
from edgeq.compiler.kernels.nonlinear.softmax import SoftmaxSpec
from edgeq.integer.exp2 import softmax_constants
from edgeq.integer.shift_exp import shift_gelu_constants, shiftmax_constants

S32: DType = "s32"


def softmax_cases() -> list[Case]:
    """From the s32 logits that Q·Kᵀ leaves: to bytes (exp2, masked or not), to s16 (shiftmax)."""
    cases = []
    for rows, length, masked in ((3 * 197, 197, False), (12 * 128, 128, False), (12 * 128, 128, True)):
        dense = ((rows, length), 1, (length, 1), (length, 1))
        mask = ((0, 1), "u8", 128) if masked else None
        n = rows * length
        sizes: dict[str, tuple[int, DType]] = {"x": (n, S32), "y": (n, "u8")} | (
            {"mask": (length, "u8")} if masked else {}
        )
        exp2 = SoftmaxSpec.of(*dense, S32, "u8", softmax_constants(1e-4, length, 8), 0, 0, 255, mask)
        node: list[tuple[str, list[str], dict[str, Any]]] = [("Softmax", ["a"], {"axis": -1})]
        feeds = {"a": (rows, length)}
        cases.append(Case(f"{'masked ' if masked else ''}softmax exp2 {rows}x{length}", exp2, sizes, node, feeds))
        if not masked:
            shift = SoftmaxSpec.of(*dense, S32, "s16", shiftmax_constants(1e-4, length, 15), 0, 0, 32767)
            wide: dict[str, tuple[int, DType]] = {"x": (n, S32), "y": (n, "s16")}
            cases.append(Case(f"softmax shiftmax {rows}x{length}", shift, wide, node, feeds))
    return cases


def gelu_cases() -> list[Case]:
    """The table and the shifts, against both of ONNX's spellings."""
    cases = []
    for tokens, width in ((197, 768), (128, 1536)):
        n = tokens * width
        line, feeds = ((n,), (1,), (1,)), {"a": (tokens, width)}
        table = {"table": np.arange(256, dtype=np.uint8)}
        bytes_: dict[str, tuple[int, DType]] = {"x": (n, "u8"), "y": (n, "u8")}
        words: dict[str, tuple[int, DType]] = {"x": (n, "s16"), "y": (n, "s16")}
        constants = shift_gelu_constants(4 / 32768, 4 / 32768, np.int16)
        shifts = ShiftGeluSpec(*line, "s16", constants, 0, -32768, 32767)
        for form in ("none", "tanh"):
            node: list[tuple[str, list[str], dict[str, Any]]] = [("Gelu", ["a"], {"approximate": form})]
            against = "erf" if form == "none" else form
            cases.append(
                Case(f"GELU lut {tokens}x{width}, {against}", LutSpec.of(*line, "u8", "u8"), bytes_, node, feeds, table)
            )
            cases.append(Case(f"GELU shiftgelu s16 {tokens}x{width}, {against}", shifts, words, node, feeds))
    return cases


def main() -> None:
    """Prints the table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["x86-avx2", "x86-vnni"])
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    norms = [layer_norm(197, 192, "u8"), layer_norm(128, 384, "u8"), layer_norm(128, 384, "s16")]
    print("| kernel | ONNX Runtime fp32 |" + "".join(f" {t} | × |" for t in options.targets))
    print("| --- | --- |" + " --- | --- |" * len(options.targets))
    nothing, rows = onnxruntime_call(None), []
    for case in [*softmax_cases(), *norms, *gelu_cases()]:
        calls: dict[str, Timed] = {"fp32": onnxruntime_call(case), "nothing": nothing}
        for target in options.targets:
            calls[target], calls[f"{target} empty"], _ = our_calls(case, target)
        times = measure(calls, options.rounds)
        elements = case.sizes["y"][0]
        fp32 = times["fp32"] - np.median(times["nothing"])
        row = {"kernel": case.name, "fp32_ns": float(np.median(fp32)) / elements * 1e9}
        line = f"| {case.name} | {row['fp32_ns']:.3f} |"
        for target in options.targets:
            own = times[target] - np.median(times[f"{target} empty"])
            low, ratio, high = (float(v) for v in np.percentile(fp32 / own, (25, 50, 75)))
            nanoseconds = float(np.median(own)) / elements * 1e9
            row[target] = {"ns": nanoseconds, "ratio": ratio, "q1": low, "q3": high}
            line += f" {nanoseconds:.3f} | {ratio:.2f} ({low:.2f} to {high:.2f}) |"
        rows.append(row)
        print(line, flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
