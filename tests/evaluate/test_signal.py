"""SQNR, differences, agreement."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeq.evaluate.signal import agreement, largest_difference, sqnr


def test_sqnr_of_a_tenth_is_20_db() -> None:
    signal = np.array([1.0, -2.0, 3.0])
    assert sqnr(signal, 1.1 * signal) == pytest.approx(20.0)


def test_sqnr_limits() -> None:
    assert sqnr(np.ones(3), np.ones(3)) == math.inf
    assert sqnr(np.zeros(3), np.zeros(3)) == math.inf
    assert sqnr(np.zeros(3), np.ones(3)) == -math.inf


def test_largest_difference_of_integers_does_not_wrap() -> None:
    assert largest_difference(np.array([127], np.int8), np.array([-128], np.int8)) == 255
    assert largest_difference(np.empty(0), np.empty(0)) == 0


def test_agreement() -> None:
    a = np.array([[1, 2, 3], [3, 2, 1]])
    assert agreement(a, np.array([[0, 0, 9], [0, 9, 0]])) == 0.5
    assert agreement(a[:, :1], a[:, :1]) is None
