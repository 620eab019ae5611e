"""Estimated cycles: by kind of instruction, and of a whole firmware beside its exact counts."""

from __future__ import annotations

import shutil

import pytest

from edgeq.compiler import CompileOptions, compile_graph, load_target
from edgeq.errors import RunError
from edgeq.evaluate import cycles
from edgeq.evaluate.cycles import CORES, block_cycles, estimate
from tests.support.graphs import Layers

ADD, ADD_USING_IT, APART = "0844", "0144", "0132"
LOAD, STORE, MULTIPLY = "0868", "0860", "00fb02f0"
PUSH, POP_AND_RETURN, BRANCH, DIVIDE = "10b5", "10bd", "00e0", "90fbf1f0"
VECTOR_LOAD, VECTOR_ADD, LOOP_END = "90ed001e", "00ef4008", "0ff001c0"


def block(*words: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(word) for word in words)


@pytest.mark.parametrize(
    ("core", "words", "expected"),
    [
        ("cortex-m4", (ADD, ADD), 2),
        ("cortex-m4", (LOAD, LOAD, LOAD, ADD), 5),
        ("cortex-m4", (STORE, MULTIPLY, BRANCH), 5),
        ("cortex-m4", (PUSH, DIVIDE, POP_AND_RETURN), 15),
        ("cortex-m0plus", (LOAD, LOAD, STORE, BRANCH), 8),
        ("cortex-m7", (LOAD, APART), 1),
        ("cortex-m7", (LOAD, LOAD), 2),
        ("cortex-m7", (MULTIPLY, MULTIPLY), 2),
        ("cortex-m7", (ADD, ADD_USING_IT), 2),
        ("cortex-m55", (VECTOR_LOAD, VECTOR_ADD, LOOP_END), 3),
        ("cortex-m55", (VECTOR_ADD, VECTOR_ADD), 4),
    ],
)
def test_cycles_by_kind(core: str, words: tuple[str, ...], expected: float) -> None:
    assert block_cycles(block(*words), CORES[core]) == expected


def test_regions_and_what_no_block_explains() -> None:
    profile = f"0 10 {ADD}.{ADD}\n1 3 {LOAD}\n5 1 {ADD}\n"
    assert estimate(profile, "cortex-m4", [25, 3]) == [25, 6]
    assert estimate(profile, "cortex-a53", [25, 3]) is None
    for damaged in ("0 x 0844\n", "0 1\n", "0 1 08g4\n"):
        with pytest.raises(RunError, match="damaged"):
            estimate(damaged, "cortex-m4", [1])


@pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="needs an emulated board: apt-get install gcc-arm-none-eabi qemu-system-arm",
)
def test_blocks_explain_nearly_all_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.evaluate import firmware

    m = Layers()
    graph = m.finish(m.conv(m.conv(m.input(1, 3, 8, 8), 8, 3), 8, 1))
    seen: list[tuple[str, list[int]]] = []

    def keep(profile: str, mcpu: str, counts: list[int]) -> list[int] | None:
        seen.append((profile, counts))
        return cycles.estimate(profile, mcpu, counts)

    monkeypatch.setattr(firmware, "estimate", keep)
    run = firmware.run_firmware(compile_graph(graph, load_target("cortex-m4"), CompileOptions(1)))
    (profile, counts) = seen[0]
    explained = [0] * len(counts)
    for line in profile.splitlines():
        region, runs, text = line.split()
        if int(region) < len(counts):
            explained[int(region)] += int(runs) * len(text.split("."))
    assert all(own <= count for own, count in zip(explained, counts, strict=True))
    assert sum(explained) > 0.95 * sum(counts)
    assert run.cycles is not None
    assert all(count < cost < 3 * count for count, cost in zip(counts, run.cycles, strict=True))
