"""Error of every integer nonlinear against float64, over ranges: tables and plots of docs/integer-transformers.md.

    python benchmarks/nonlinears.py            writes docs/img/*.svg and the tables between the page's markers
    python benchmarks/nonlinears.py --out DIR  writes everything to DIR and leaves the page alone

It runs the NumPy reference, which every kernel equals bit by bit. Seeds are fixed: the figures come out the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from svg import Axis, Plot

from edgeq.integer.arithmetic import quantize
from edgeq.integer.exp2 import softmax_constants, softmax_rows
from edgeq.integer.normalization import apply_channels, centred_rows, norm_constants, scaled_rows
from edgeq.integer.ops.lut_interp import reference as interpolate
from edgeq.integer.shift_exp import shift_gelu, shift_gelu_constants, shiftmax_constants, shiftmax_rows
from edgeq.integer.shift_gelu_paper import shift_gelu_paper, shift_gelu_paper_constants

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "integer-transformers.md"
Array = np.ndarray[Any, np.dtype[Any]]
S8, S16, S32 = np.int8, np.int16, np.int32
RANGES = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
SPREADS = (0.3, 1.0, 2.0, 3.0, 6.0)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c) for c in line) + " |" for line in lines)


def figure(value: float) -> str:
    """Two significant digits."""
    return f"{value:.2g}"


# Softmax


def softmax(x: Array) -> Array:
    """In float64 over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def softmax_error(form: str, dtype: type, sigma: float, length: int, out_bits: int) -> tuple[float, float]:
    """(largest error of a probability, mean over rows of half the summed errors) for Gaussian logits, 1000 rows."""
    most = {S8: 127, S16: 32767, S32: 2**24}[dtype]
    scale = 4 * sigma / most
    logits = np.random.default_rng(1).normal(0, sigma / scale, (1000, length))
    x = np.clip(np.rint(logits), -most, most).astype(dtype)
    constants, rows = {"exp2": (softmax_constants, softmax_rows), "shiftmax": (shiftmax_constants, shiftmax_rows)}[form]
    error = np.abs(rows(x, constants(scale, length, out_bits)) / 2.0**out_bits - softmax(x * scale))
    return float(error.max()), float(error.sum(axis=-1).mean() / 2)


def softmax_table() -> str:
    """Largest and summed error by form, type and spread."""
    rows = []
    for form in ("exp2", "shiftmax"):
        for dtype, out_bits in ((S8, 8), (S8, 15), (S16, 15), (S32, 8), (S32, 15)):
            found = [softmax_error(form, dtype, s, 197, out_bits) for s in SPREADS]
            name = f"{np.dtype(dtype).name} → {'u8' if out_bits == 8 else 's16'}"
            rows.append([form, name, *(f"{figure(a)} ({figure(b)})" for a, b in found)])
    return table(["form", "logits → probabilities", *(f"σ = {s:g}" for s in SPREADS)], rows)


def softmax_plot() -> Plot:
    """Largest error against the spread of the logits."""
    plot = Plot(
        "Softmax, 197 tokens, int32 logits: largest error of a probability",
        Axis("standard deviation of the logits", 0.1, 10, log=True),
        Axis("largest error", 1e-5, 0.1, log=True),
    )
    sigmas = np.geomspace(0.1, 10, 13).tolist()
    for form, out_bits, name in (
        ("exp2", 15, "exp2, s16 out"),
        ("exp2", 8, "exp2, u8 out"),
        ("shiftmax", 15, "shiftmax, s16 out"),
        ("shiftmax", 8, "shiftmax, u8 out"),
    ):
        plot.add(name, sigmas, [softmax_error(form, S32, s, 197, out_bits)[0] for s in sigmas])
    return plot


# GELU and other functions of one number


def gelu(x: Array) -> Array:
    """In float64."""
    result: Array = x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return result


def sigmoid(x: Array) -> Array:
    """In float64."""
    result: Array = 1 / (1 + np.exp(-x))
    return result


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "GELU": gelu,
    "SiLU": lambda x: x * sigmoid(x),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "exp(−abs x)": lambda x: np.exp(-np.abs(x)),
}


def gelu_errors(form: str, reach: float) -> tuple[Array, Array]:
    """(x, error in output steps), 8 bits in and out, both with the step reach/127.5."""
    scale = reach / 127.5
    q = np.arange(-128, 128)
    real = gelu(q * scale)
    if form == "lut":
        found: Array = quantize(real, scale, 0, S8)
    elif form == "shiftgelu":
        found = shift_gelu(q, shift_gelu_constants(scale, scale, S8))
    else:
        found = shift_gelu_paper(q[None], shift_gelu_paper_constants(scale, scale))[0]
    return q * scale, found - real / scale


def gelu_table() -> str:
    """Largest error in output steps by form and range."""
    rows = []
    for form in ("lut", "shiftgelu", "shiftgelu_paper"):
        rows.append([form, *(figure(float(np.abs(gelu_errors(form, r)[1]).max())) for r in RANGES)])
    q = np.arange(-32768, 32768)
    wide = []
    for reach in RANGES:
        scale = reach / 32768
        found = shift_gelu(q, shift_gelu_constants(scale, scale, S16)) * scale
        wide.append(figure(float(np.abs(found - gelu(q * scale)).max())))
    rows.append(["shiftgelu, s16 → s16, real units", *wide])
    return table(["form", *(f"±{r:g}" for r in RANGES)], rows)


def gelu_plot() -> Plot:
    """Error along x."""
    plot = Plot(
        "GELU, int8 over ±4: error in output steps (a step = 4/127.5)",
        Axis("x", -4, 4),
        Axis("error in steps", -8, 2),
    )
    for form in ("lut", "shiftgelu", "shiftgelu_paper"):
        plot.add(form, *(v.tolist() for v in gelu_errors(form, 4.0)))
    return plot


def gelu_range_plot() -> Plot:
    """Largest error against the range."""
    plot = Plot(
        "GELU, int8: largest error in output steps by range",
        Axis("range ±", 2, 16),
        Axis("largest error in steps", 0.1, 1000, log=True),
    )
    reaches = np.arange(2, 16.5, 0.5).tolist()
    for form in ("lut", "shiftgelu", "shiftgelu_paper"):
        plot.add(form, reaches, [float(np.abs(gelu_errors(form, r)[1]).max()) for r in reaches])
    return plot


def interpolation_error(function: Callable[[Array], Array], reach: float) -> float:
    """Largest error of LutInterp over all s16 inputs, in s16 steps of the largest output."""
    scale = reach / 32768
    points = function((np.arange(513) * 128 - 32768) * scale)
    q = np.arange(-32768, 32768).astype(S16)
    real = function(q * scale)
    step = float(np.abs(points).max()) / 32767
    found = interpolate(
        q, quantize(points, step, 0, S16), shift=7, zero_point=0, low=-32768, high=32767, to=np.dtype(S16)
    )
    return float(np.abs(found - real / step).max())


def interpolation_table() -> str:
    """Largest error of the interpolated tables."""
    rows = [[name, *(figure(interpolation_error(f, r)) for r in RANGES)] for name, f in FUNCTIONS.items()]
    return table(["function", *(f"±{r:g}" for r in RANGES)], rows)


# Normalisation


def norm_error(kind: str, dtype: type, spread: float, length: int, out_scale: float) -> float:
    """Largest error in real units for rows of that deviation in input steps; γ = 1, β = 0, output unclamped."""
    rng, most = np.random.default_rng(2), np.iinfo(dtype).max
    offset = 0 if kind == "RMSNorm" else spread / 2
    x = np.clip(np.rint(rng.normal(offset, spread, (200, length))), -most, most).astype(dtype)
    ones, layer = np.ones(length), kind == "LayerNorm"
    c = norm_constants(ones, 0 * ones if layer else None, 0.0, 1.0, out_scale)
    p = centred_rows(x, c.epsilon, c.row_bits) if layer else scaled_rows(x, 0, c.epsilon, c.row_bits)
    found = apply_channels(p, c.gamma, c.beta, c.row_bits - c.fraction_bits, c.shift) * out_scale
    real = x - x.mean(axis=-1, keepdims=True) if layer else x.astype(np.float64)
    deviation = np.sqrt(np.square(real).mean(axis=-1, keepdims=True))
    return float(np.abs(found - real / deviation).max())


NORM_CASES = ((S8, (1.0, 10.0, 30.0)), (S16, (1.0, 30.0, 1000.0, 8000.0)))


def norm_table() -> str:
    """Largest error by kind, type, length and spread, s8 and s16 out (4 deviations over the range)."""
    rows = []
    for kind in ("LayerNorm", "RMSNorm"):
        for length in (64, 192, 384, 768):
            found = []
            for dtype, spreads in NORM_CASES:
                found += [figure(norm_error(kind, dtype, s, length, 4 / 32767)) for s in spreads]
            byte = max(norm_error(kind, S8, s, length, 4 / 127) for s in NORM_CASES[0][1]) * 127 / 4
            rows.append([kind, length, *found, figure(byte)])
    heads = [f"{np.dtype(d).name}, σ = {s:g}" for d, spreads in NORM_CASES for s in spreads]
    return table(["", "elements", *heads, "int8 → s8, in steps"], rows)


def norm_plot() -> Plot:
    """Largest error against the loudness of the row."""
    plot = Plot(
        "LayerNorm, 384 elements: largest error of the normalised value",
        Axis("standard deviation of the row in input steps", 0.3, 10000, log=True),
        Axis("largest error", 1e-5, 0.1, log=True),
    )
    for dtype, most in ((S8, 40), (S16, 8000)):
        for out, scale in (("s16", 4 / 32767), ("s8", 4 / 127)):
            spreads = np.geomspace(0.5, most, 12).tolist()
            errors = [norm_error("LayerNorm", dtype, s, 384, scale) for s in spreads]
            plot.add(f"{np.dtype(dtype).name} → {out}", spreads, errors)
    return plot


PLOTS = {
    "softmax.svg": softmax_plot,
    "gelu.svg": gelu_plot,
    "gelu-range.svg": gelu_range_plot,
    "layer-norm.svg": norm_plot,
}
TABLES = {
    "softmax": softmax_table,
    "gelu": gelu_table,
    "interpolation": interpolation_table,
    "normalisation": norm_table,
}


def fill(page: str, name: str, content: str) -> str:
    """The page with the text between its markers <!-- name --> and <!-- /name --> replaced."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, rest = page.split(first)
    return f"{head}{first}\n{content}\n{last}{rest.split(last)[1]}"


def main() -> None:
    """Write plots and tables."""
    parser = argparse.ArgumentParser(description="error of the integer nonlinears against float64")
    parser.add_argument("--out", type=Path, help="folder for plots and tables (default: the documentation)")
    given = parser.parse_args()
    images: Path = given.out or PAGE.parent / "img"
    images.mkdir(parents=True, exist_ok=True)
    for name, make in PLOTS.items():
        (images / name).write_text(make().text())
    tables = {name: make() for name, make in TABLES.items()}
    if given.out:
        (images / "tables.md").write_text("\n\n".join(tables.values()) + "\n")
        return
    page = PAGE.read_text()
    for name, content in tables.items():
        page = fill(page, name, content)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
