"""Every op on random shapes and extreme values: reference = ONNX Runtime = ReferenceEvaluator."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.integer.registry import all_ops
from tests.integer.cases import CASES, HypothesisChoice
from tests.integer.conformance import FULL, QUICK, check

OPS = sorted(op.name for op in all_ops())
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large]


def test_every_op_has_cases() -> None:
    assert set(OPS) <= set(CASES)


@pytest.mark.parametrize("op", OPS)
@settings(max_examples=QUICK, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_conformance(op: str, data: st.DataObject) -> None:
    check(op, HypothesisChoice(data))


@pytest.mark.full
@pytest.mark.parametrize("op", OPS)
@settings(max_examples=FULL, deadline=None, suppress_health_check=HEALTH)
@given(data=st.data())
def test_conformance_full(op: str, data: st.DataObject) -> None:
    check(op, HypothesisChoice(data))
