"""The memory plan: nothing alive overlaps, and the arena is never below what must be alive."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from edgeq.compiler.plan import lifetimes, plan_memory
from edgeq.compiler.program import ALIGNMENT, Buffer, Program, Step


@dataclass(frozen=True)
class NoSpec:
    """Stands for a kernel: planning looks at reads and writes only."""


@st.composite
def programs(draw: st.DrawFn) -> Program:
    count = draw(st.integers(1, 12))
    roles = st.sampled_from(["input", "output", "value", "value", "scratch"])
    buffers = [Buffer(f"b{i}", draw(st.integers(1, 5000)), draw(roles)) for i in range(count)]
    some = st.lists(st.integers(0, count - 1), max_size=3)
    steps = [
        Step(f"s{i}", (), NoSpec(), [], 0, draw(some), draw(some))  # type: ignore[arg-type]
        for i in range(draw(st.integers(1, 10)))
    ]
    return Program(buffers=buffers, steps=steps)


@given(programs())
def test_living_buffers_never_share_a_byte(program):
    plan = plan_memory(program)
    for a in plan.lifetimes:
        assert plan.offsets[a.index] % ALIGNMENT == 0
        assert plan.offsets[a.index] + a.size <= plan.size
        for b in plan.lifetimes:
            if a.index < b.index and a.overlaps(b):
                first, second = sorted((a, b), key=lambda x: plan.offsets[x.index])
                assert plan.offsets[first.index] + first.size <= plan.offsets[second.index]
    assert plan.lower_bound <= plan.size


def test_a_chain_needs_two_buffers_at_a_time():
    buffers = [Buffer(f"b{i}", 1000) for i in range(6)]
    steps = [Step("s", (), NoSpec(), [], 0, [i], [i + 1]) for i in range(5)]  # type: ignore[arg-type]
    plan = plan_memory(Program(buffers=buffers, steps=steps))
    assert plan.size == plan.lower_bound == 2 * buffers[0].footprint()


def test_inputs_live_from_the_start_and_outputs_to_the_end():
    program = Program(
        buffers=[Buffer("x", 10, "input"), Buffer("y", 10, "output"), Buffer("t", 10)],
        steps=[Step("s", (), NoSpec(), [], 0, [], [1]), Step("s", (), NoSpec(), [], 0, [0], [2])],  # type: ignore[arg-type]
    )
    x, y, _ = lifetimes(program)
    assert x.first == -1
    assert x.last == 1
    assert y.first == 0
    assert y.last > len(program.steps)
