"""Brevitas layers and quantizers with the grids of the integer dialect.

Weights: symmetric per output channel, integers in ±(2^(bits−1) − 1); 2 bits are ternary, 1 bit is ±1 (binary). From 7
bits up the scale covers the largest weight, below it is learned (LSQ, arXiv 1902.08153), from the one with the least
squared error. Activations: one learned scale per tensor; the zero point stays what calibration found.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeq.errors import ToolError
from edgeq.integer.graph import Quant
from edgeq.qat.node import Tensor
from edgeq.quantize.integerize.weights import quantize_weights
from edgeq.quantize.products import Product

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import brevitas.nn as qnn
        from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
        from brevitas.core.quant import IntQuant
        from brevitas.core.restrict_val import LogFloatRestrictValue
        from brevitas.core.scaling import ParameterScaling
        from brevitas.inject.enum import RestrictValueType, ScalingImplType
        from brevitas.quant import Int8WeightPerChannelFloat, SignedBinaryWeightPerTensorConst
except ImportError as error:
    raise ToolError(
        "quantization-aware training needs Brevitas", why=str(error), hint="pip install 'edgeq[qat]' -c constraints.txt"
    ) from error

#: From this many bits on the largest weight decides the scale; below, the scale is learned.
LARGEST_DECIDES = 7


class ActivationQuantizer(nn.Module):
    """A tensor on its grid: rounds straight through, clamps, learns its scale on a logarithmic axis.

    Args:
        quant: grid to start from, int8.
    """

    def __init__(self, quant: Quant) -> None:
        super().__init__()
        low, high = quant.limits
        self.bits = max(2, (max(-low, high + 1) - 1).bit_length() + 1)
        self.start, self.zero_point = quant, quant.zero_point
        self.scaling = ParameterScaling(scaling_init=quant.scale, restrict_scaling_impl=LogFloatRestrictValue())
        self.int_quant = IntQuant(
            narrow_range=False,
            signed=True,
            input_view_impl=Identity(),
            float_to_int_impl=RoundSte(),
            tensor_clamp_impl=TensorClamp(),
        )

    @property
    def scale(self) -> Tensor:
        """Real units per step, float32 [1] or []."""
        found: Tensor = self.scaling(self.scaling.value)
        return found

    def quant(self) -> Quant:
        """The grid as it is now."""
        step = float(self.scale.detach().reshape(()))
        return Quant(self.start.dtype, step, self.zero_point, self.start.low, self.start.high)

    def forward(self, x: Tensor) -> Tensor:
        """x on the grid, in real units."""
        scale = self.scale
        zero_point, bits = (torch.full_like(scale, float(value)) for value in (self.zero_point, self.bits))
        result: Tensor = self.int_quant(scale, zero_point, bits, x)
        return result

    def extra_repr(self) -> str:
        """Shown by print."""
        return f"bits={self.bits}, zero_point={self.zero_point}"


class WeightLayer(nn.Module):
    """Weights of a Conv, ConvTranspose or MatMul as something that trains: what the module asks of it."""

    def weight(self) -> Tensor:
        """Quantized weights in real units, in the layout of the float graph's node."""
        raise NotImplementedError

    @property
    def bias(self) -> Tensor | None:
        """float32 [output channels]."""
        raise NotImplementedError

    def integers(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Integers and scales, both [output channels, fan-in]."""
        raise NotImplementedError

    @property
    def variant(self) -> int:
        """Which of several grids is in force: with the parameters it says what `integers` gives."""
        return 0


class ProductLayer(WeightLayer):
    """The weights of a Conv, ConvTranspose or MatMul as a Brevitas layer.

    Args:
        product: the layer of the float graph.
        bits: 1 … 8.

    Attributes:
        layer: QuantConv2d, or QuantLinear on rows [output channels, fan-in].
    """

    index: Tensor
    layer: Any

    def __init__(self, product: Product, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.layer = _layer(product, bits)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(np.array(product.rows)).reshape(self.layer.weight.shape))
            if product.bias is not None:
                self.layer.bias.copy_(torch.from_numpy(np.array(product.bias)))
        self.register_buffer("index", arrangement(product), persistent=False)

    def weight(self) -> Tensor:
        """Quantized weights in real units, in the layout of the float graph's node."""
        rows: Tensor = self.layer.quant_weight().value
        return rows.reshape(-1)[self.index]

    @property
    def bias(self) -> Tensor | None:
        """float32 [output channels]."""
        found: Tensor | None = self.layer.bias
        return found

    def integers(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Integers and scales, both [output channels, fan-in]."""
        with torch.no_grad():
            quantized = self.layer.quant_weight()
            scale = quantized.scale.expand(quantized.value.shape)
            values = torch.round(quantized.value / scale).to(torch.int8)
        rows = len(values)
        return values.cpu().numpy().reshape(rows, -1), scale.contiguous().cpu().numpy().reshape(rows, -1)


def arrangement(product: Product) -> Tensor:
    """For each weight in the layout of the float graph's node its place among the rows, int64."""
    rows = product.rows
    return torch.from_numpy(np.array(product.arrange(np.arange(rows.size).reshape(rows.shape))))


def _layer(product: Product, bits: int) -> nn.Module:
    rows, with_bias = product.rows, product.bias is not None
    if product.layer.op == "Conv":
        outputs, per_group, *kernel = product.weights.shape
        channels = per_group * product.group
        found: nn.Module = qnn.QuantConv2d(
            channels,
            outputs,
            tuple(kernel),
            groups=product.group,
            bias=with_bias,
            weight_quant=_quantizer(rows, bits, 4),
        )
        return found
    return _linear(rows, bits, with_bias)


def _linear(rows: NDArray[np.float32], bits: int, with_bias: bool) -> nn.Module:
    outputs, fan_in = rows.shape
    found: nn.Module = qnn.QuantLinear(fan_in, outputs, bias=with_bias, weight_quant=_quantizer(rows, bits, 2))
    return found


def _quantizer(rows: NDArray[np.float32], bits: int, rank: int) -> Any:
    """The Brevitas weight quantizer: scale per output channel, learned where few bits make clipping worth it."""
    if bits >= LARGEST_DECIDES:
        return Int8WeightPerChannelFloat.let(bit_width=bits, narrow_range=True)
    start = quantize_weights(rows, None, bits=bits, x_scale=1.0, x_extent=255, y_scale=1.0).scale
    largest = max(1, 2 ** (bits - 1) - 1)
    # A channel of zeros has no scale: any will do.
    threshold = np.where(np.abs(rows).max(axis=1, initial=0) > 0, start * largest, 1.0)
    shaped = torch.tensor(threshold, dtype=torch.float32).reshape(-1, *[1] * (rank - 1))
    learned = {
        "scaling_impl_type": ScalingImplType.PARAMETER,
        "restrict_scaling_type": RestrictValueType.LOG_FP,
        "scaling_init": shaped,
        "scaling_per_output_channel": True,
    }
    if bits == 1:
        return SignedBinaryWeightPerTensorConst.let(**learned)
    return Int8WeightPerChannelFloat.let(bit_width=bits, narrow_range=True, **learned)


def is_scale(name: str) -> bool:
    """Whether a parameter of a prepared module is a scale, by its name: they learn more slowly."""
    return name.endswith(("scaling_impl.value", "scaling.value")) or ".log_scales." in name
