"""Cost tables of targets: what a width costs, and messages for broken ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgeq.compiler.costs import Costs, friendliness, load_costs
from edgeq.compiler.target import list_targets, load_target
from edgeq.errors import TargetError


def test_a_missing_width_costs_what_the_next_wider_one_does() -> None:
    costs = Costs.model_validate({"unit": "ps", "source": "here", "conv": {"8": 12, "5": 6.5}})
    assert [costs.of("conv", bits) for bits in (8, 7, 6, 5, 4, 1)] == [12, 12, 12, 6.5, 6.5, 6.5]
    assert costs.of("gemm", 8) is None


@pytest.mark.parametrize("name", [n for n in list_targets() if n not in ("host", "arm", "wasm")])
def test_narrower_weights_never_cost_more(name: str) -> None:
    target = load_target(name)
    for kind in ("conv", "gemm", "depthwise"):
        costs = [target.cost(kind, bits) for bits in range(8, 0, -1)]  # type: ignore[arg-type]
        known = [cost for cost in costs if cost is not None]
        assert known == sorted(known, reverse=True)
        assert len(known) in (0, 8)


def test_avx2_gains_with_every_width_down_to_four_bits() -> None:
    target = load_target("x86-avx2")
    assert len({target.cost("gemm", bits) for bits in range(4, 9)}) == 5
    assert target.cost("gemm", 1) == target.cost("gemm", 4)


def test_a_target_without_a_table_knows_no_costs(tmp_path: Path) -> None:
    assert replace(load_target("x86-avx2"), folder=tmp_path).cost("conv", 8) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('unit = "ps"\nsource = "x"\n[conv]\n9 = 1.0\n', "conv.9"),
        ('unit = "hours"\nsource = "x"\n', "unit"),
        ('unit = "ps"\nsource = "x"\n[conv]\n8 = -1\n', "conv.8"),
        ("unit = ", "costs.toml"),
    ],
)
def test_a_broken_table_names_the_key(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "costs.toml").write_text(text)
    with pytest.raises(TargetError, match=r"broken costs\.toml") as caught:
        load_costs(tmp_path)
    assert words in str(caught.value.where)


def test_friendliness() -> None:
    widths = range(2, 9)
    assert friendliness(dict.fromkeys(widths, 5.0)) == 0
    assert friendliness({bits: 3.0 * bits for bits in widths}) == pytest.approx(1)
    assert friendliness({bits: 3.0 * bits**0.5 for bits in widths}) < 1
    assert friendliness({bits: 3.0 * bits**2 for bits in widths}) > 1
    assert 0 < friendliness({8: 1.0, 7: 0.9, **dict.fromkeys(range(2, 7), 2.0)}) < 0.5
