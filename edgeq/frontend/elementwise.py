"""Elementwise ops of ONNX in float64: one NumPy function per op.

A table of 256 (or 65,536) entries is built from these, so they follow the definitions of the ONNX operator
specification, not ONNX Runtime's approximations. Operands broadcast as NumPy's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgeq.frontend.arrays import Array, Float64

Operands = Sequence["Array | None"]
Attributes = Mapping[str, object]
Evaluator = Callable[[Operands, Attributes], Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _number(attributes: Attributes, name: str, default: float) -> float:
    value = attributes.get(name, default)
    return float(value) if isinstance(value, (int, float)) else default


def _x(operands: Operands) -> Float64:
    operand = operands[0]
    assert operand is not None
    return operand.astype(np.float64)


def _both(operands: Operands) -> tuple[Array, Array]:
    left, right = operands
    assert left is not None
    assert right is not None
    return left, right


def _unary(function: Callable[[Float64], Array]) -> Evaluator:
    return lambda operands, attributes: function(_x(operands))


def _binary(function: Callable[..., Array]) -> Evaluator:
    return lambda operands, attributes: function(*_both(operands))


def _sigmoid(x: Float64) -> Float64:
    # Both branches keep exp's argument at or under zero: no overflow for any input.
    small = np.exp(-np.abs(x))
    result: Float64 = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return result


def _softplus(x: Float64) -> Float64:
    result: Float64 = np.logaddexp(0.0, x)
    return result


def _gelu(operands: Operands, attributes: Attributes) -> Array:
    x = _x(operands)
    if attributes.get("approximate", "none") == "tanh":
        bell: Array = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
    else:
        bell = _erf(x / math.sqrt(2.0))
    result: Array = 0.5 * x * (1.0 + bell)
    return result


def _clip(operands: Operands, attributes: Attributes) -> Array:
    low = operands[1] if len(operands) > 1 else None
    high = operands[2] if len(operands) > 2 else None
    x: Array = _x(operands)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _prelu(operands: Operands, attributes: Attributes) -> Array:
    x, slope = _both(operands)
    return np.where(x < 0, x * slope, x)


def _leaky_relu(operands: Operands, attributes: Attributes) -> Array:
    x = _x(operands)
    return np.where(x < 0, _number(attributes, "alpha", 0.01) * x, x)


def _hard_sigmoid(operands: Operands, attributes: Attributes) -> Array:
    alpha, beta = _number(attributes, "alpha", 0.2), _number(attributes, "beta", 0.5)
    return np.clip(alpha * _x(operands) + beta, 0.0, 1.0)


def _elu(operands: Operands, attributes: Attributes) -> Array:
    x, alpha = _x(operands), _number(attributes, "alpha", 1.0)
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _celu(operands: Operands, attributes: Attributes) -> Array:
    x, alpha = _x(operands), _number(attributes, "alpha", 1.0)
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


def _selu(operands: Operands, attributes: Attributes) -> Array:
    alpha = _number(attributes, "alpha", 1.6732632423543772)
    gamma = _number(attributes, "gamma", 1.0507009873554805)
    x = _x(operands)
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _thresholded_relu(operands: Operands, attributes: Attributes) -> Array:
    x = _x(operands)
    return np.where(x > _number(attributes, "alpha", 1.0), x, 0.0)


def _swish(operands: Operands, attributes: Attributes) -> Array:
    x = _x(operands)
    return x * _sigmoid(_number(attributes, "alpha", 1.0) * x)


def _fold(function: Callable[[Array, Array], Array]) -> Evaluator:
    def evaluate(operands: Operands, attributes: Attributes) -> Array:
        result = operands[0]
        assert result is not None
        for operand in operands[1:]:
            assert operand is not None
            result = function(result, operand)
        return result

    return evaluate


def _where(operands: Operands, attributes: Attributes) -> Array:
    condition, left, right = operands
    assert condition is not None
    assert left is not None
    assert right is not None
    return np.where(condition, left, right)


EVALUATORS: dict[str, Evaluator] = {
    "Abs": _unary(np.abs),
    "Acos": _unary(np.arccos),
    "Acosh": _unary(np.arccosh),
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Asin": _unary(np.arcsin),
    "Asinh": _unary(np.arcsinh),
    "Atan": _unary(np.arctan),
    "Atanh": _unary(np.arctanh),
    "Ceil": _unary(np.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _unary(np.cos),
    "Cosh": _unary(np.cosh),
    "Div": _binary(np.divide),
    "Elu": _elu,
    "Equal": _binary(np.equal),
    "Erf": _unary(_erf),
    "Exp": _unary(np.exp),
    "Floor": _unary(np.floor),
    "Gelu": _gelu,
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0)),
    "LeakyRelu": _leaky_relu,
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "Log": _unary(np.log),
    "Max": _fold(np.maximum),
    "Min": _fold(np.minimum),
    "Mish": _unary(lambda x: x * np.tanh(_softplus(x))),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "PRelu": _prelu,
    "Pow": _binary(np.power),
    "Reciprocal": _unary(np.reciprocal),
    "Relu": _unary(lambda x: np.maximum(x, 0.0)),
    "Round": _unary(np.rint),
    "Selu": _selu,
    "Sigmoid": _unary(_sigmoid),
    "Sign": _unary(np.sign),
    "Sin": _unary(np.sin),
    "Sinh": _unary(np.sinh),
    "Softplus": _unary(_softplus),
    "Softsign": _unary(lambda x: x / (1.0 + np.abs(x))),
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Swish": _swish,
    "Tan": _unary(np.tan),
    "Tanh": _unary(np.tanh),
    "ThresholdedRelu": _thresholded_relu,
    "Where": _where,
}
