"""The examples in small: traffic as it is generated, a few steps of training, the artifact's bits."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import edgeq
from edgeq import qat

pytestmark = pytest.mark.filterwarnings("ignore")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The train.py of an example, with the modules beside it."""
    folder, names = EXAMPLES / request.param, ("train", "traffic", "models")
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(folder))
    torch.set_num_threads(1)
    try:
        yield importlib.import_module("train")
    finally:
        sys.path.remove(str(folder))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


@pytest.mark.parametrize("example", ["can-bus"], indirect=True)
def test_traffic(example: ModuleType) -> None:
    drive, again, other = (example.generate(2.0, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(drive.data, again.data)
    assert len(drive.seconds) != len(other.seconds) or (drive.seconds != other.seconds).any()
    assert (np.diff(drive.seconds) >= 0).all()
    assert set(drive.labels) == {0, 1, 2, 3}
    normal = drive.labels == 0
    # The same car in another drive has the same identifiers; checksums of its control units hold.
    assert set(drive.identifiers[normal]) == set(other.identifiers[other.labels == 0])
    sums = drive.data[normal, :7].sum(axis=1) + drive.identifiers[normal]
    np.testing.assert_array_equal(drive.data[normal, 7], sums.astype(np.uint8))
    assert not drive.identifiers[drive.labels == example.CLASSES.index("dos")].any()
    bits = example.features(drive)
    assert bits.shape == (len(drive.labels), 83)
    assert set(np.unique(bits)) == {0.0, 1.0}
    np.testing.assert_array_equal(np.packbits(bits[:, 11:75].astype(np.uint8), axis=1), drive.data)


@pytest.mark.parametrize("example", ["can-bus"], indirect=True)
def test_macro_f1(example: ModuleType) -> None:
    labels = np.array([0, 0, 1, 1, 2, 3])
    assert example.macro_f1(labels, labels)[0] == 1.0
    score, each = example.macro_f1(np.array([0, 1, 1, 1, 2, 0]), labels)
    np.testing.assert_allclose(each, [0.5, 0.8, 1.0, 0.0])
    assert score == pytest.approx(np.mean(each))


@pytest.mark.parametrize("example", ["can-bus"], indirect=True)
def test_a_2_bit_network_learns_and_equals_its_artifact(example: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    drive = example.generate(3.0, 5)
    bits, labels = torch.from_numpy(example.features(drive)), torch.from_numpy(drive.labels)
    order = torch.randperm(len(labels))
    bits, labels = bits[order], labels[order]
    batches = list(zip(bits.split(256), labels.split(256), strict=True))
    net = example.network()
    qat.fit(net, batches, 4, lr=4e-3)
    module = qat.prepare(net, bits[:500], example.POLICY)
    history = qat.fit(module, batches, 2, lr=4e-3)
    assert history[-1].accuracy is not None
    assert history[-1].accuracy > 0.9
    graph = qat.convert(module)
    assert example.weight_bytes(graph) == (5232, 1308)
    for step in graph.steps():
        if step.op.name == "Gemm":
            assert set(np.unique(step.call.constant(1))) <= {-1, 0, 1}
    path = edgeq.compile(graph, target="host", output=tmp_path / "can.edgeq").path
    with torch.no_grad():
        np.testing.assert_array_equal(example.run(path, bits[:50]), module(bits[:50]).numpy())


@pytest.mark.parametrize("example", ["qat-digits"], indirect=True)
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_the_networks_of_the_digits_are_prepared_as_documented(example: ModuleType, name: str) -> None:
    torch.manual_seed(0)
    digits = example.Digits(0.5)
    module = qat.prepare(example.NETS[name]().eval(), digits.images[:32], example.policy_of(name, 2))
    assert {layer.bits for layer in module.products.values()} == {2}
    plan = module.plan
    for layer in module.topology.layers:
        if layer.name in {product.layer.name for product in module._products}:
            read = str(layer.inputs[0].name)
            image = read == module.topology.graph.inputs[0].name
            low, high = plan.quant(read).limits
            assert high - low == (255 if image else 15), layer.name
    images, labels = next(iter(digits))
    module.train()
    loss = torch.nn.functional.cross_entropy(module(images), labels)
    loss.backward()
    assert torch.isfinite(loss)
