"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from edgeq.cli import units


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (24_000, "23.4 KiB"), (3 << 20, "3.00 MiB")]
)
def test_size(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (950, "950"), (12_500, "12.5 k"), (2_660_000, "2.66 M"), (301e6, "301 M"), (1.2e9, "1.2 G")],
)
def test_amount(count: float, text: str) -> None:
    assert units.amount(count) == text


def test_amount_refuses_infinity() -> None:
    with pytest.raises(ValueError, match="not a finite count"):
        units.amount(math.inf)


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.5e-7, "850 ns"), (3.42e-5, "34.2 µs"), (7.13e-3, "7.13 ms"), (4.61, "4.6 s")]
)
def test_duration(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_decibel() -> None:
    assert units.decibel(38.24) == "38.2 dB"
    assert units.decibel(math.inf) == "exact"
    assert units.decibel(None) == "–"
    assert units.decibel(math.nan) == "–"


def test_shape() -> None:
    assert units.shape((1, 3, 224, 224)) == "1×3×224×224"
    assert units.shape(()) == "scalar"


def test_percent() -> None:
    assert units.percent(0.9922) == "99.22 %"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("conv1", "conv1"),
        ("a/Relu6;b/BatchNorm;c/Conv2D", "a/Relu6;b/BatchNorm;c/Conv2D"),
        ("a/relu6/Relu6;b/BatchNorm/FusedBatchNormV3;c/Conv2D", "c/Conv2D"),
        ("/layers/0/attention/self/query/MatMul/projected", "…0/attention/self/query/MatMul/projected"),
    ],
)
def test_layer(name: str, shown: str) -> None:
    assert units.layer(name) == shown
    assert len(units.layer(name, 10)) <= 10
