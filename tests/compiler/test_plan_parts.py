"""Buffers whose rows come and go: spans, and plans that use the memory of dead rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.compiler.plan import plan_memory
from edgeq.compiler.program import Buffer, Program, Step, Touch, View
from edgeq.compiler.spans import SHORTEST, Span, spans


def view(buffer: int, start: int, length: int) -> View:
    return View(buffer, "s8", (length,), (1,), start)


def test_rows_of_a_planar_image() -> None:
    """Two planes of four rows, read two rows at a time: a span for each pair in each plane."""
    rows = [View(0, "s8", (1, 2, 2, 100), (800, 400, 100, 1), first * 100) for first in (0, 2)]
    found = spans(800, [Touch(3, rows[0]), Touch(7, rows[1]), Touch(5, rows[0])])
    assert found == [Span(0, 3, 5), Span(200, 7, 7), Span(400, 3, 5), Span(600, 7, 7)]


def test_wide_elements_and_gaps() -> None:
    """Bytes that nobody touches go with what is before them; short spans too."""
    assert spans(800, [Touch(1, View(0, "s32", (50,), (1,), 100))]) == [Span(0, 1, 1)]
    short = [Touch(1, view(0, 0, 300)), Touch(9, view(0, 300, SHORTEST - 1)), Touch(4, view(0, 363, 437))]
    assert spans(800, short) == [Span(0, 1, 9), Span(363, 4, 4)]
    assert spans(10, []) == [Span(0, 0, 0)]


def test_a_result_takes_the_place_of_rows_that_were_read() -> None:
    """Row by row from one image into another of the same size: one more row is enough."""
    rows, size = 8, 128
    program = Program(
        buffers=[Buffer("x", rows * size, "input"), Buffer("y", rows * size, "output"), Buffer("row", size)],
        alignment=8,
        touches={0: [], 1: []},
    )
    for row in range(rows):
        for source, target in ((0, 2), (2, 1)):
            number = len(program.steps)
            program.steps.append(Step("s", (), None, [], 0, [source], [target]))  # type: ignore[arg-type]
            index = 0 if source == 0 else 1
            program.touches[index].append(Touch(number, view(index, row * size, size)))
    plan = plan_memory(program)
    assert plan.size == (rows + 1) * size == plan.lower_bound
    assert max(plan.alive(len(program.steps))) == plan.lower_bound


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_is_alive_at_once_lies_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = Program(alignment=int(rng.choice([8, 64])))
    for index in range(int(rng.integers(1, 12))):
        size = int(rng.integers(1, 900))
        program.buffers.append(Buffer(f"b{index}", size, "value"))
        if rng.integers(0, 2):
            program.touches[index] = []
    for number in range(int(rng.integers(1, 20))):
        read, written = (int(n) for n in rng.integers(0, len(program.buffers), 2))
        program.steps.append(Step("s", (), None, [], 0, [read], [written]))  # type: ignore[arg-type]
        for index in {read, written} & set(program.touches):
            size = program.buffers[index].size
            start = int(rng.integers(0, size))
            program.touches[index].append(Touch(number, view(index, start, int(rng.integers(1, size - start + 1)))))
    plan = plan_memory(program)
    for a in plan.lifetimes:
        low = plan.offsets[a.index] + a.start
        assert plan.offsets[a.index] % program.alignment == 0
        assert low + a.size <= plan.size
        for b in plan.lifetimes:
            if (a.index, a.start) < (b.index, b.start) and a.overlaps(b):
                other = plan.offsets[b.index] + b.start
                assert low + a.size <= other or other + b.size <= low
    assert plan.lower_bound <= plan.size
    for index, buffer in enumerate(program.buffers):
        parts = [life for life in plan.lifetimes if life.index == index]
        assert sum(part.size for part in parts) == buffer.footprint(program.alignment)
