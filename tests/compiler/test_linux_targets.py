"""The targets for Linux that aren't this machine's: every op gives the reference's bits, under an emulator.

x86 and the two oldest Arm targets have their own files (test_op_conformance.py and the kernels' tests).
"""

from __future__ import annotations

import pytest

from edgeq.compiler import KernelBuilder
from tests.compiler.test_op_conformance import CASES, conforms

TARGETS = ("arm-i8mm", "armv7", "riscv64", "riscv64-v")
FULL, BATCH = 200, 10


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder() as pool:
        yield pool


@pytest.mark.emulated
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", CASES)
def test_every_op(op, target, tmp_path, builder):
    seed = 300 + 10 * TARGETS.index(target)
    conforms(op, range(seed, seed + 1), target, tmp_path / "op.edgeq", builder, 3)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", CASES)
def test_every_op_sweep(op, target, tmp_path, builder):
    for number, start in enumerate(range(3000, 3000 + FULL, BATCH)):
        conforms(op, range(start, start + BATCH), target, tmp_path / "op.edgeq", builder, 1 + number % 4)
