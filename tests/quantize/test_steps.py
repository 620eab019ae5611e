"""What only a threshold is compared with keeps its precision there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.frontend.unary import Step, UnaryFunction
from edgeq.quantize.steps import threshold_of
from tests.frontend.models import model, save

Q = "qonnx.custom_op.general"


def step_at(threshold: float, low: float = -1.0, high: float = 1.0) -> UnaryFunction:
    def number(value: float) -> np.ndarray:
        return np.asarray(value, np.float64)

    steps = (
        Step("GreaterOrEqual", ("x", number(threshold)), result="p"),
        Step("Where", ("p", number(high), number(low)), result="y"),
    )
    return UnaryFunction("x", "y", steps, 2, None, None)


@pytest.mark.parametrize("threshold", [-3.0, -0.01, 0.0, 0.3, 1.999])
def test_thresholds_are_found(threshold: float) -> None:
    assert threshold_of(step_at(threshold), -4, 2) == pytest.approx(threshold, abs=1e-9)


def test_other_functions_have_none() -> None:
    assert threshold_of(step_at(5), -4, 2) is None
    slope = UnaryFunction("x", "y", (Step("Neg", ("x",), result="y"),), 2, None, None)
    assert threshold_of(slope, -4, 2) is None
    assert threshold_of(step_at(0), 0, 0) is None


def _quantized(text: str, folder: Path) -> edgeq.quantize.QuantizeResult:
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(0, 1, (64, 32)).astype(np.float32),
        "one": np.float32(1),
        "v": np.float32(rng.normal(0, 1, (32, 4))),
    }
    arrays = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    proto = model(f"g (float[1,64] x) => (float[1,4] y) {{ {text} }}", domains=f', "{Q}": 1', **arrays)
    return edgeq.quantize(save(proto, folder), {"x": rng.normal(0, 1, (16, 1, 64)).astype(np.float32)})


def test_a_compared_value_has_fine_steps_of_8_bits(tmp_path: Path) -> None:
    graph = _quantized(f"c = MatMul(x, w) b = {Q}.BipolarQuant(c, one) y = MatMul(b, v)", tmp_path).graph
    compared, signs = (
        graph.quant("c"),
        graph.quant(next(n for n in graph.model.graph if n.op_type == "Lut").outputs[0].name),
    )
    assert compared.dtype == np.int8
    assert 127 * compared.scale < 0.2  # sums of 64 products reach 30
    assert (signs.low, signs.high) == (-1, 1)


def test_another_reader_keeps_the_range(tmp_path: Path) -> None:
    text = f"c = MatMul(x, w) b = {Q}.BipolarQuant(c, one) t = Tanh(c) s = Add(b, t) y = MatMul(s, v)"
    compared = _quantized(text, tmp_path).graph.quant("c")
    assert (127 if compared.dtype == np.int8 else 32767) * compared.scale > 5
