"""A prepared module is its integer graph: in values, through training, to the artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import edgeq
from edgeq import qat
from edgeq.errors import DataError, PolicyError, UnsupportedOpError, UsageError
from edgeq.integer import reference
from edgeq.integer.arithmetic import dequantize, quantize
from edgeq.integer.graph import IntegerGraph
from edgeq.qat.quantizers import ActivationQuantizer
from edgeq.quantize.plan import quant_s8
from edgeq.quantize.policy import Policy
from tests.qat.models import Cnn, Upsampler, Vit, Words, images

pytestmark = pytest.mark.filterwarnings("ignore")
W4A4: dict[str, Any] = {"defaults": {"weight_bits": 4, "activation_bits": 4}}
PAPER: dict[str, Any] = {"defaults": {"gelu": "shiftgelu_paper"}}
SHIFTS: dict[str, Any] = {"defaults": {"weight_bits": 3, "softmax": "shiftmax", "gelu": "shiftgelu"}}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def integers(graph: IntegerGraph, sample: torch.Tensor) -> dict[str, np.ndarray]:
    (value,) = graph.inputs
    array = sample.numpy()
    if array.dtype == np.float32:
        quant = graph.quant(value)
        array = quantize(array, quant.scale, quant.zero_point, quant.dtype)
    return {str(value.name): array}


def expected(graph: IntegerGraph, samples: torch.Tensor) -> list[np.ndarray]:
    """Outputs of the NumPy reference in real units, [samples, …] each."""
    rows = []
    for sample in samples.split(1):
        found = reference.run(graph, integers(graph, sample))
        quants = [graph.quant(value) for value in graph.outputs]
        rows.append([dequantize(a, q.scale, q.zero_point) for a, q in zip(found.values(), quants, strict=True)])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def step(module: nn.Module, samples: torch.Tensor, count: int = 2) -> None:
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    module.train()
    for _ in range(count):
        optimizer.zero_grad()
        out = module(samples)
        sum(part.square().mean() for part in (out if isinstance(out, tuple) else (out,))).backward()
        optimizer.step()


CASES = [
    (Cnn, W4A4, images()),
    (Vit, W4A4, images()),
    (Vit, SHIFTS, images()),
    (Upsampler, W4A4, images()),
    (Words, {"defaults": {"weight_bits": 2}}, torch.randint(0, 20, (32, 5))),
    (Cnn, {"defaults": {"weight_bits": 1, "activation_bits": 6}}, images()),
]


@pytest.mark.parametrize(("net", "policy", "samples"), CASES)
def test_values_are_those_of_the_integer_graph(
    net: type[nn.Module], policy: dict[str, Any], samples: torch.Tensor
) -> None:
    module = qat.prepare(net().eval(), samples, policy)
    for trained in (False, True):
        if trained:
            step(module, samples[:8])
        graph = qat.convert(module)
        for training in (False, True):
            module.train(training)
            with torch.no_grad():
                found = module(samples[:6])
            parts = found if isinstance(found, tuple) else (found,)
            for part, array in zip(parts, expected(graph, samples[:6]), strict=True):
                if training:  # y + (exact − y) rounds once more
                    np.testing.assert_allclose(part.numpy(), array, rtol=1e-5, atol=1e-6)
                else:
                    np.testing.assert_array_equal(part.numpy(), array)


@pytest.mark.parametrize("net", [Cnn, Vit])
def test_every_parameter_gets_a_gradient(net: type[nn.Module]) -> None:
    module = qat.prepare(net().eval(), images(), W4A4)
    module.train()
    module(images(16)).square().mean().backward()
    without = [name for name, p in module.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    still = [name for name, p in module.named_parameters() if p.grad is not None and not p.grad.any()]
    assert len(still) <= 1  # keys' biases cancel in a softmax


def test_gradients_are_close_to_the_float_graphs() -> None:
    net = Vit().eval()
    module = qat.prepare(net, images(), {"defaults": {"weight_bits": 8}})
    module.train()
    x = images(16, seed=1)
    module(x).square().mean().backward()
    net(x).square().mean().backward()
    mine = dict(module.named_parameters())
    head = next(p for n, p in mine.items() if p.shape == net.head.weight.shape and "layer.weight" in n)
    assert head.grad is not None
    assert net.head.weight.grad is not None
    cosine = torch.nn.functional.cosine_similarity(head.grad.flatten(), net.head.weight.grad.flatten(), 0)
    assert cosine > 0.99
    positions = mine["constants.positions"].grad
    assert positions is not None
    assert net.positions.grad is not None
    assert torch.nn.functional.cosine_similarity(positions.flatten(), net.positions.grad.flatten(), 0) > 0.9


def test_artifact_equals_torch(tmp_path: Path) -> None:
    module = qat.prepare(Cnn().eval(), images(), W4A4)
    step(module, images(8))
    module.eval()
    path = edgeq.compile(qat.convert(module), target="host", output=tmp_path / "cnn.edgeq").path
    model = edgeq.load(path)
    with torch.no_grad():
        wanted = module(images(5, seed=3)).numpy()
    name = module.topology.graph.inputs[0].name
    found = [next(iter(model.run({name: sample.numpy()}).values())) for sample in images(5, seed=3).split(1)]
    np.testing.assert_array_equal(np.concatenate(found).reshape(wanted.shape), wanted)


def test_weights_have_the_bits_of_the_policy() -> None:
    policy = {"defaults": {"weight_bits": 2}, "layers": {"*Conv*": {"weight_bits": 1}, "*conv*": {"weight_bits": 1}}}
    graph = qat.convert(qat.prepare(Cnn().eval(), images(), policy))
    for one in graph.steps():
        if one.op.name == "Conv":
            assert set(np.unique(one.call.constant(1))) == {-1, 1}
        elif one.op.name == "Gemm":
            assert set(np.unique(one.call.constant(1))) <= {-1, 0, 1}


def test_rounded_floats_are_close_to_the_exact_values() -> None:
    module = qat.prepare(Cnn().eval(), images(), {"defaults": {"activation_bits": 6}})
    module.train()
    with torch.no_grad():
        exact = module(images(8))
        module.exact = False
        rounded = module(images(8))
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rounded.flatten(), 0) > 0.97


def test_constants_may_outgrow_the_range_they_began_with() -> None:
    module = qat.prepare(Vit().eval(), images(), {"defaults": {"weight_bits": 8}})
    positions = module.constants["positions"]
    with torch.no_grad():
        positions.mul_(3.0)
    initializers = qat.convert(module).model.graph.initializers.values()
    (held,) = [v.const_value.numpy() for v in initializers if tuple(v.shape) == tuple(positions.shape)]
    assert np.mean((held == -128) | (held == 127)) < 0.1


def test_an_activation_learns_its_scale() -> None:
    quantizer = ActivationQuantizer(quant_s8(-1.0, 3.0, 4))
    before = quantizer.quant()
    assert before.limits == (-8, 7)
    optimizer = torch.optim.SGD(quantizer.parameters(), 0.05)
    x = torch.linspace(-4, 12, 200)
    for _ in range(20):
        optimizer.zero_grad()
        (quantizer(x) - x).square().mean().backward()
        optimizer.step()
    after = quantizer.quant()
    assert after.scale > 1.5 * before.scale
    assert (after.zero_point, after.limits) == (before.zero_point, before.limits)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="calibration samples"):
        qat.prepare(Cnn(), images()[:0])
    with pytest.raises(PolicyError, match="not in the model"):
        qat.prepare(Cnn(), images(), {"layers": {"nowhere": {"weight_bits": 4}}})
    with pytest.raises(PolicyError, match="unknown key"):
        qat.prepare(Cnn(), images(), {"weight_bits": 4})
    with pytest.raises(UsageError, match="only a prepared module"):
        qat.convert(Cnn())  # type: ignore[arg-type]
    with pytest.raises(UnsupportedOpError, match="can't be simulated"):
        qat.prepare(nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.GELU()), images(), PAPER)
    module = qat.prepare(Cnn().eval(), images(), Policy())
    with pytest.raises(DataError, match="takes 1 inputs"):
        module(images(2), images(2))
    with pytest.raises(DataError, match="must be"):
        module(torch.zeros(2, 1, 9, 9))
