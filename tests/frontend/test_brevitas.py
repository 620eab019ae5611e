"""What Brevitas exports: the same net as QCDQ and as QONNX is the same integer graph, and computes what torch does."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import (
    Int8WeightPerChannelFloat,
    Int32Bias,
    ShiftedUint8ActPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
)
from torch import nn

from edgeq import frontend
from edgeq.integer import reference
from edgeq.integer.arithmetic import dequantize
from edgeq.integer.arithmetic import quantize as to_grid
from edgeq.integer.graph import IntegerGraph
from edgeq.quantize import QuantizeOptions
from edgeq.quantize import quantize as quantize_graph
from tests.support.integer_graphs import canonical

pytestmark = pytest.mark.filterwarnings("ignore")
IMAGE = (1, 1, 8, 8)


class ConvNet(nn.Module):
    """Convolutions with per-channel and per-tensor weights, BatchNorm, a quantized bias, a residual sum."""

    def __init__(self, weights: int, activations: int) -> None:
        super().__init__()
        act: dict[str, Any] = {"bit_width": activations, "return_quant_tensor": True}
        self.inp = qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(
            1, 8, 3, padding=1, bias=False, weight_bit_width=weights, weight_quant=Int8WeightPerChannelFloat
        )
        self.norm = nn.BatchNorm2d(8)
        self.relu1 = qnn.QuantReLU(**act)
        self.conv2 = qnn.QuantConv2d(8, 8, 3, padding=1, weight_bit_width=weights, bias_quant=Int32Bias)
        self.same = qnn.QuantIdentity(**act)
        self.relu2 = qnn.QuantReLU(**act)
        self.fc = qnn.QuantLinear(512, 10, bias=True, weight_bit_width=weights, weight_quant=Int8WeightPerChannelFloat)
        self.out = qnn.QuantIdentity(bit_width=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.norm(self.conv1(self.inp(x))))
        x = self.relu2(self.same(x) + self.same(self.conv2(x)))
        return self.out(self.fc(x.flatten(1)))


class Shifted(nn.Module):
    """Activations with zero points, a function of one tensor between two layers."""

    def __init__(self, weights: int, activations: int) -> None:
        super().__init__()
        shifted: dict[str, Any] = {"act_quant": ShiftedUint8ActPerTensorFloat, "bit_width": activations}
        self.inp = qnn.QuantIdentity(**{**shifted, "bit_width": 8})
        self.fc1 = qnn.QuantLinear(64, 32, bias=True, weight_bit_width=weights)
        self.act = qnn.QuantIdentity(**shifted)
        self.fc2 = qnn.QuantLinear(32, 10, bias=True, weight_bit_width=2)
        self.out = qnn.QuantIdentity(bit_width=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.fc2(self.act(nn.functional.silu(self.fc1(self.inp(x.flatten(1)))))))


def trained(net: type[nn.Module], weights: int, activations: int) -> nn.Module:
    torch.manual_seed(weights * 10 + activations)
    module = net(weights, activations)
    for _ in range(4):  # collects the statistics of the activations and of BatchNorm
        module(torch.randn(16, *IMAGE[1:]))
    return module.eval()


def exported(module: nn.Module, form: str, folder: Path) -> IntegerGraph:
    path = folder / f"{form}.onnx"
    export = export_onnx_qcdq if form == "qcdq" else export_qonnx
    options: dict[str, Any] = {"dynamo": True} if form == "qonnx dynamo" else {"dynamo": False, "opset_version": 13}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        export(module, args=torch.zeros(IMAGE), export_path=str(path), input_names=["x"], **options)
    graph = frontend.load(path)
    data = np.random.default_rng(0).standard_normal((8, *IMAGE[1:])).astype(np.float32)
    return quantize_graph(graph, {graph.inputs[0].name: data}, QuantizeOptions(compare_samples=0)).graph


@pytest.mark.parametrize(("net", "weights", "activations"), [(ConvNet, 4, 4), (ConvNet, 2, 8), (Shifted, 3, 5)])
def test_one_net_one_integer_graph(net: type[nn.Module], weights: int, activations: int, tmp_path: Path) -> None:
    module = trained(net, weights, activations)
    forms = ["qcdq", "qonnx", "qonnx dynamo"] if net is ConvNet else ["qcdq", "qonnx"]
    graphs = [exported(module, form, tmp_path) for form in forms]
    for graph in graphs[1:]:
        assert canonical(graph) == canonical(graphs[0])


@pytest.mark.parametrize(("weights", "activations"), [(4, 4), (2, 3), (8, 8)])
def test_activations_are_those_of_torch(weights: int, activations: int, tmp_path: Path) -> None:
    module = trained(ConvNet, weights, activations)
    graph = exported(module, "qcdq", tmp_path)
    seen: dict[str, torch.Tensor] = {}
    for name in ("relu1", "relu2"):
        getattr(module, name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.value))
    x = graph.quant(graph.inputs[0])
    image = np.random.default_rng(1).standard_normal(IMAGE).astype(np.float32)
    with torch.no_grad():
        module(torch.from_numpy(image))
    values = reference.run(graph, {graph.inputs[0].name: to_grid(image, x.scale, x.zero_point, x.dtype)}, keep=True)
    for name, expected in seen.items():
        (value,) = [v for v in graph.values() if v.name is not None and v.name.startswith(f"/{name}/act_quant/act")]
        quant = graph.quant(value)
        steps = np.abs(dequantize(values[value.name], quant.scale, quant.zero_point) - expected.numpy()) / quant.scale
        # The bias is an integer of the accumulator, and BatchNorm is in it: that moves single values by a step, which
        # later layers see.
        assert np.mean(steps > 0.5) < (0.03 if name == "relu1" else 0.1) * (1 if activations < 8 else 10)
        assert steps.max() < 1.5 or name == "relu2"


@pytest.mark.parametrize("form", ["qonnx", "qonnx dynamo"])
def test_binary_weights(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        qnn.QuantIdentity(bit_width=8, return_quant_tensor=True),
        qnn.QuantConv2d(1, 4, 3, weight_quant=SignedBinaryWeightPerTensorConst),
    )
    module(torch.randn(4, *IMAGE[1:]))
    graph = exported(module.eval(), form, tmp_path)
    (conv,) = [step for step in graph.steps() if step.op.name == "Conv"]
    assert set(np.unique(conv.call.constant(1))) == {-1, 1}


def test_weights_keep_their_integers(tmp_path: Path) -> None:
    module = trained(ConvNet, 3, 4)
    graph = exported(module, "qonnx", tmp_path)
    (gemm,) = [step for step in graph.steps() if step.op.name == "Gemm"]
    np.testing.assert_array_equal(gemm.call.constant(1).T, module.fc.quant_weight().int().numpy())
    convolutions = [step for step in graph.steps() if step.op.name == "Conv"]
    np.testing.assert_array_equal(convolutions[0].call.constant(1), module.conv1.quant_weight().int().numpy())


def test_activations_keep_their_bits(tmp_path: Path) -> None:
    graph = exported(trained(ConvNet, 4, 3), "qcdq", tmp_path)
    clamps = [(s.call.attrs["low"], s.call.attrs["high"]) for s in graph.steps() if "high" in s.call.attrs]
    assert clamps == [(0, 7), (-4, 3), (-4, 3), (0, 7), (-128, 127)]
