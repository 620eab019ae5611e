"""Limits as people write them."""

from __future__ import annotations

import pytest

from edgeq.errors import UsageError
from edgeq.search.limits import Limits


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("latency", "12ms", 0.012),
        ("latency", "80 us", 80e-6),
        ("latency", "1.5s", 1.5),
        ("instructions", "20M", 20e6),
        ("instructions", "500000", 500e3),
        ("weights", "64KiB", 65536),
        ("arena", "1.5MB", 1.5e6),
        ("weights", "256k", 256 * 1024),
    ],
)
def test_amounts(option: str, text: str, value: float) -> None:
    assert getattr(Limits.parse(**{option: text}), option) == pytest.approx(value)


@pytest.mark.parametrize(
    ("option", "text"),
    [("latency", "12"), ("latency", "fast"), ("weights", "-3"), ("instructions", "4x"), ("accuracy", "good")],
)
def test_nonsense(option: str, text: str) -> None:
    with pytest.raises(UsageError, match="not an amount") as caught:
        Limits.parse(**{option: text})
    assert "for instance" in (caught.value.hint or "")


def test_accuracy_is_absolute_or_relative() -> None:
    assert Limits.parse(accuracy="0.9").least_accuracy(0.95, True) == 0.9
    assert Limits.parse(accuracy="-0.5").least_accuracy(0.95, True) == pytest.approx(0.945)
    assert Limits.parse(accuracy="-0.5").least_accuracy(12.0, False) == pytest.approx(11.5)
    assert Limits.parse(accuracy="-0").least_accuracy(0.95, True) == 0.95
    assert Limits.parse().least_accuracy(0.95, True) is None
