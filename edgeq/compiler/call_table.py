"""Kernel calls as a table, where few kernels are called many times: a case each call's kernel and weights, and numbers
for the addresses in the arena. Layers that run row-wise take a tenth of the code and stack that way.
"""

from __future__ import annotations

from edgeq.compiler.entry import argument_address
from edgeq.compiler.plan import Plan
from edgeq.compiler.program import Program, Step
from edgeq.compiler.target import Target

WORTH_IT = 2  # calls for each case, on average
SHORT = 1 << 16  # numbers below take two bytes


class CallTable:
    """The calls of a program, sorted into cases.

    Args:
        cast: what stands in front of an address, for kernels whose pointers have types.

    Attributes:
        cases: C calls in which `p[k]` stands for the k-th number; numbers: of every call, its case in front.
    """

    def __init__(self, program: Program, plan: Plan, weight_offsets: list[int], target: Target, cast: str = "") -> None:
        self.cases: dict[tuple[str, int], int] = {}  # call and how many numbers it takes
        self.numbers: list[int] = []
        for step in program.steps:
            call, offsets = _split(step, plan, weight_offsets, target, cast)
            self.numbers += [self.cases.setdefault((call, len(offsets)), len(self.cases)), *offsets]
        self.worth_it = len(program.steps) >= WORTH_IT * len(self.cases)

    def data(self) -> str:
        """C source of the table."""
        wide = max(self.numbers, default=0) >= SHORT
        text = ", ".join(map(str, [*self.numbers, len(self.cases)]))
        return f"static const uint{32 if wide else 16}_t calls[] = {{{text}}};"

    def statements(self) -> list[str]:
        """C source that makes the calls."""
        wide = max(self.numbers, default=0) >= SHORT
        lines = [f"  const uint{32 if wide else 16}_t* p = calls;", "  for (;;) {"]
        lines += ["  EDGEQ_FORGET();", "  switch (*p++) {"]
        for (call, count), number in self.cases.items():
            lines += [f"    case {number}:", "      EDGEQ_MARK_BEGIN();", f"      {call}", "      EDGEQ_MARK_END();"]
            lines += [f"      p += {count};", "      break;"]
        return [*lines, "    default: return;", "  }", "  }"]


def _split(step: Step, plan: Plan, weight_offsets: list[int], target: Target, cast: str) -> tuple[str, list[int]]:
    """A call with `p[k]` for its addresses in the arena, and these."""
    arguments: list[str] = []
    offsets: list[int] = []
    for position, bound in enumerate(step.arguments):
        if bound.region == "weights" or bound.buffer in plan.fast:
            arguments.append(f"{cast}({argument_address(step, position, plan, weight_offsets, target)})")
        else:
            arguments.append(f"{cast}(a + p[{len(offsets)}])")
            offsets.append(plan.offsets[bound.buffer] + bound.byte_offset)
    return f"{step.spec.symbol(target)}(0, {step.spec.tasks()}, {', '.join(arguments)});", offsets
