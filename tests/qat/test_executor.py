"""The torch executor against the NumPy reference: zero differing bits, every op, batches of random cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeq.errors import UnsupportedOpError
from edgeq.integer import reference
from edgeq.qat.executor import Executor, check_forms
from tests.integer.cases import CASES, RandomChoice

pytestmark = pytest.mark.filterwarnings("ignore")
#: I-ViT's published form is for comparison only: it has no torch form.
OPS = sorted(set(CASES) - {"ShiftGeluPaper"})
QUICK, FULL, BATCH = 8, 150, 3


def check(op: str, seed: int) -> None:
    """A random case of the op: a batch of inputs at once in torch, sample by sample in NumPy."""
    case = CASES[op](RandomChoice(seed))
    rng = np.random.default_rng(seed)
    batches = {
        name: np.stack([array, *(rng.permutation(array.reshape(-1)).reshape(array.shape) for _ in range(BATCH - 1))])
        for name, array in case.inputs.items()
    }
    found = Executor(case.graph, torch.device("cpu")).run({n: torch.from_numpy(a) for n, a in batches.items()})
    for sample in range(BATCH):
        expected = reference.run(case.graph, {name: array[sample] for name, array in batches.items()}, keep=True)
        for name, array in expected.items():
            np.testing.assert_array_equal(
                found[name][sample].numpy(), array.astype(np.int64), err_msg=f"{op} {seed} {name}"
            )


@pytest.mark.parametrize("op", OPS)
def test_same_bits_as_the_reference(op: str) -> None:
    for seed in range(QUICK):
        check(op, seed)


@pytest.mark.full
@pytest.mark.parametrize("op", OPS)
def test_same_bits_as_the_reference_in_many_cases(op: str) -> None:
    for seed in range(FULL):
        check(op, 1000 + seed)


def test_an_op_without_a_form_is_named() -> None:
    case = CASES["ShiftGeluPaper"](RandomChoice(0))
    with pytest.raises(UnsupportedOpError, match="can't be simulated") as caught:
        check_forms(case.graph)
    assert "layer" in (caught.value.where or "")
