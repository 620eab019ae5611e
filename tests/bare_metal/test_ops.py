"""Every integer op on emulated Cortex-M boards: random shapes and extreme values, the reference's bits."""

from __future__ import annotations

import pytest

from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.evaluate.firmware import run_firmware
from tests.integer.cases import CASES, RandomChoice, merged

BOARDS = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
QUICK, FULL = 2, 30
# On the others nothing but convolutions differs from the M4.
QUICK_BOARDS = {"Conv": BOARDS, "Gemm": BOARDS, "Softmax": BOARDS}


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def conforms(op: str, seeds: range, target: str, pool: KernelBuilder) -> None:
    case = merged(op, {seed: RandomChoice(seed) for seed in seeds})
    compiled = compile_graph(case.graph, load_target(target), CompileOptions(1, [case.inputs]), pool)
    run = run_firmware(compiled)
    assert run.runs == 1
    assert run.different == 0, f"{op} on {target}: {run.different} bytes of outputs differ"
    assert run.stack <= run.sizes.stack, "the bound on the stack is none"


@pytest.mark.firmware
@pytest.mark.parametrize("op", CASES)
def test_the_board_gives_the_references_bits(op, builder):
    for number, target in enumerate(QUICK_BOARDS.get(op, ("cortex-m4",))):
        conforms(op, range(700 + 10 * number, 700 + 10 * number + QUICK), target, builder)


@pytest.mark.full
@pytest.mark.firmware
@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("op", CASES)
def test_many(op, target, builder):
    for start in range(1000, 1000 + FULL, 6):
        conforms(op, range(start, start + 6), target, builder)
