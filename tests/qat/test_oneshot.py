"""One-shot search: limits are kept, the controller learns, the result is its integer graph and its artifact."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import edgeq
from edgeq import qat
from edgeq.errors import UsageError
from edgeq.qat.controller import Controller
from edgeq.qat.grids import SearchedWeights, grid_of
from edgeq.qat.oneshot_cost import cost_table
from tests.qat.models import Cnn, Vit, images

pytestmark = pytest.mark.filterwarnings("ignore")


def data() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x = images(32)
    y = (x.mean((1, 2, 3)) > 0).long()
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, 32, 16)]


def prepared(policy: dict[str, object] | None = None, kind: type[torch.nn.Module] = Cnn) -> qat.QatModule:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return qat.prepare(kind().eval(), images(), policy)


@pytest.mark.parametrize("kind", [Cnn, Vit])
def test_the_limit_is_kept_and_the_artifact_is_the_module(kind: type[torch.nn.Module], tmp_path: Path) -> None:
    module, seen = prepared(kind=kind), []
    found = qat.search(
        module, data(), 4, most=0.5, widths=(8, 4, "fp4 e2m1", 2), progress=lambda each: seen.append(str(each))
    )
    assert found.share <= 0.5
    assert found.module is module
    assert not module.training
    assert module.exact
    assert [entry.phase for entry in found.history] == ["shared", "search", "search", "chosen"]
    assert seen[0].startswith("epoch 1/4 (shared): loss ")
    assert set(found.policy().layers) == set(found.grids)
    path = edgeq.compile(qat.convert(module), target="host", output=tmp_path / "net.edgeq").path
    model = edgeq.load(path)
    (name,) = (tensor.name for tensor in model.inputs)
    for image in images(4).split(1):
        with torch.no_grad():
            wanted = module(image).numpy()
        assert np.array_equal(next(iter(model.run({name: image.numpy()}).values())).reshape(wanted.shape), wanted)


def test_layers_the_policy_decides_keep_their_bits() -> None:
    module = prepared({"layers": {"*linear*": {"weight_bits": 8}}})
    layers = len(module.products)
    found = qat.search(module, data(), 3, most=0.6, cost="weights", widths=(8, 4, 2), edge_bits=4)
    assert len(found.grids) == layers - 1
    assert "2" not in next(iter(found.grids.values()))


def test_a_teacher_stands_for_labels() -> None:
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3), torch.nn.Dropout(0.5)).train()
    batches = qat.taught(data(), teacher)
    read = [list(batches), list(batches)]
    assert teacher.training
    wanted = [teacher.eval()(x) for x, _ in data()]
    for answers in read:
        assert all(torch.equal(found, right) for (_, found), right in zip(answers, wanted, strict=True))
    loss = qat.imitation(2.0)
    assert float(loss(wanted[0], wanted[0])) == pytest.approx(0, abs=1e-6)
    chances = torch.softmax(wanted[0] / 2, -1)
    expected = 4 * (chances * (torch.log(chances) - torch.log(torch.full_like(chances, 1 / 3)))).sum(-1).mean()
    assert float(loss(torch.zeros_like(wanted[0]), wanted[0])) == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(UsageError, match="temperature"):
        qat.imitation(0)
    with pytest.raises(UsageError, match="read again"):
        qat.taught(iter(data()), teacher)


def test_phases_are_as_wanted() -> None:
    found = qat.search(prepared(), data(), 4, most=0.5, widths=(8, 2), phases=(0.0, 0.25))
    assert [entry.phase for entry in found.history] == ["search", "chosen", "chosen", "chosen"]
    with pytest.raises(UsageError, match="phases"):
        qat.search(prepared(), data(), 4, most=0.5, phases=(0.5, 0.5))


def test_costs() -> None:
    module = prepared()
    found = qat.search(module, data(), 3, most=0.9, widths=(8, 4))
    layers = dict(zip(found.grids, module.products.values(), strict=True))
    searched = {name: layer for name, layer in layers.items() if isinstance(layer, SearchedWeights)}
    assert len(searched) == len(layers)
    table, wide = cost_table(module, searched, "bitops")
    assert all(row[0] == 2 * row[1] for row in table.values())
    assert wide == sum(row[0] for row in table.values())
    table, _ = cost_table(module, searched, "x86-avx2")
    assert all(row[0] > row[1] > 0 for row in table.values())
    weights, _ = cost_table(module, searched, "weights")
    assert sum(row[1] for row in weights.values()) == sum(layer.rows.numel() for layer in searched.values()) / 2


def test_another_search_starts_from_the_trained_weights() -> None:
    module = prepared()
    qat.search(module, data(), 3, most=0.9, widths=(8, 4))
    before = [layer.rows.detach().clone() for layer in module.products.values()]  # type: ignore[union-attr]
    found = qat.search(module, data(), 3, most=0.4, widths=(4, 3, 2), lr=1e-9)
    for old, layer in zip(before, found.module.products.values(), strict=True):
        assert torch.allclose(old, layer.rows, atol=1e-6)  # type: ignore[arg-type]


def test_a_state_brings_its_grids_back() -> None:
    module = prepared()
    qat.search(module, data(), 3, most=0.5, widths=(8, 4, 2))
    state, wanted = copy.deepcopy(module.state_dict()), module(images(4))
    for layer in module.products.values():
        layer.choose(0)  # type: ignore[operator]
    assert not torch.equal(module(images(4)), wanted)
    module.load_state_dict(state)
    assert torch.equal(module(images(4)), wanted)


def test_refusals() -> None:
    module = prepared()
    with pytest.raises(UsageError, match="no choice of grids keeps to the limit") as caught:
        qat.search(module, data(), 3, most=0.2, widths=(8, 4))
    assert caught.value.hint is not None
    assert "0.5" in caught.value.hint
    with pytest.raises(UsageError, match="no such weight grid"):
        qat.search(module, data(), 3, most=0.2, widths=(9,))
    with pytest.raises(UsageError, match="three epochs"):
        qat.search(module, data(), 2, most=0.5)
    with pytest.raises(UsageError, match="no grid is left"):
        qat.search(module, data(), 3, most=0.5, widths=(4, 2), edge_bits=8)
    with pytest.raises(UsageError, match="nothing to search"):
        qat.search(prepared({"layers": {"*": {"weight_bits": 8}}}), data(), 3, most=0.5)


def test_controller_finds_the_best_assignment() -> None:
    worth = {"a": [0.0, 1.0, 0.2], "b": [0.5, 0.0, 0.1]}
    controller = Controller({name: len(row) for name, row in worth.items()}, seed=1)
    for step in range(150):
        controller.learn(lambda places: sum(worth[name][place] for name, place in places.items()), step / 150)
    best = {name: int(chances.argmax()) for name, chances in controller.chances().items()}
    assert best == {"a": 1, "b": 0}
    assert controller.certainty() > 0.9


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50), st.sampled_from(["2", "3", "4", "8", "fp4 e2m1"]))
def test_nearest(values: list[int], name: str) -> None:
    grid = grid_of(name)
    x = torch.tensor(values) / 1000 * grid.levels[-1]
    numbers = torch.tensor([*(-level for level in grid.levels), *grid.levels], dtype=torch.float32)
    found = grid.nearest(x)
    assert torch.isin(found, numbers).all()
    assert torch.equal((found - x).abs(), (numbers[None] - x[:, None]).abs().amin(1))


def test_floating_point_of_four_bits_is_integers() -> None:
    grid = grid_of("fp4 e2m1")
    assert grid.levels == (0, 1, 2, 3, 4, 6, 8, 12)
    assert (grid.bits, grid.stored) == (5, 4)
