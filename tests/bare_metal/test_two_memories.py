"""A second arena in fast memory: what goes there, that nothing overlaps, the same bits, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeq
from edgeq.artifact.source import sources, write_source
from edgeq.artifact.static import write_static
from edgeq.artifact.tools import run_tool
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.hot import accesses, movable
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.plan import lifetimes, plan_memory
from edgeq.errors import ToolError, UsageError
from edgeq.evaluate.firmware import run_firmware
from edgeq.integer import IntegerGraph
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command


@pytest.fixture(scope="module")
def path(digits, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("split") / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=16, output=path)
    return path


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def compiled(path: Path, target: str, room: int, builder: KernelBuilder) -> Any:
    return compile_graph(IntegerGraph.load(path), load_target(target), CompileOptions(1, fast_room=room), builder)


@settings(max_examples=25, deadline=None)
@given(room=st.integers(0, 9000))
def test_no_two_living_buffers_overlap(path, room) -> None:
    program = lower(IntegerGraph.load(path), load_target("cortex-m7"), 1, fast_room=room)
    plan = plan_memory(program)
    assert program.fast_arena(plan.fast_size) <= room
    assert plan.fast <= movable(program)
    lives = lifetimes(program)
    for a in lives:
        limit = plan.fast_size if a.index in plan.fast else plan.size
        assert plan.offsets[a.index] + a.size <= limit or not a.size
        for b in lives[: a.index]:
            if a.overlaps(b) and (a.index in plan.fast) == (b.index in plan.fast) and a.size and b.size:
                first, second = sorted((plan.offsets[x.index], x.size) for x in (a, b))
                assert first[0] + first[1] <= second[0], (a, b)


def test_what_is_touched_most_goes_first(path) -> None:
    program = lower(IntegerGraph.load(path), load_target("cortex-m7"), 1, fast_room=4096)
    plan = plan_memory(program)
    touched = accesses(program)
    density = {k: touched[k] / program.buffers[k].size for k in movable(program)}
    assert plan.fast
    hottest = max(density, key=lambda k: density[k])
    assert hottest in plan.fast
    assert not plan.fast & {t.view.buffer for t in (*program.inputs, *program.outputs)}


@pytest.mark.firmware
@pytest.mark.parametrize("room", [600, 3000, 1 << 17])
def test_the_same_bits_with_the_arenas_apart(path, room, builder) -> None:
    whole, split = (compiled(path, "cortex-m7", size, builder) for size in (0, room))
    assert 0 < split.fast_arena <= room
    assert split.image.arena_size <= whole.image.arena_size
    assert room < 3000 or split.image.arena_size < whole.image.arena_size
    run = run_firmware(split)
    assert (run.runs, run.different) == (1, 0)
    assert run.sizes.fast_arena == split.fast_arena
    assert run.stack <= run.sizes.stack


def test_c_source_takes_two_arenas_too(path, builder, tmp_path) -> None:
    write_source(compiled(path, "c99", 3000, builder), tmp_path, "net")
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nNET_ARENA(arena);\nNET_FAST_ARENA(fast);\n'
        'int main(void) {\n  printf("%u", (unsigned)net_check(arena, fast));\n  return 0;\n}\n'
    )
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address"]
    run_tool(["cc", *flags, *sources(tmp_path, "net"), tmp_path / "main.c", "-o", tmp_path / "check"], "compiling")
    assert run_tool([tmp_path / "check"], "checking") == "0"


def test_the_header_and_the_report(path, tmp_path) -> None:
    done = command(
        "compile", path, "--target", "cortex-m7", "--fast-ram", "3k", "--name", "net", "-o", tmp_path / "net"
    )
    assert done.code == 0, done.err
    assert "fast RAM" in done.out
    header = (tmp_path / "net" / "net.h").read_text()
    assert "void net_run(void* arena, void* fast_arena);" in header
    assert "#define NET_FAST_ARENA_SECTION" in header
    found = edgeq.inspect(tmp_path / "net")["fit"]
    assert f"#define NET_FAST_ARENA_BYTES {found['fast']['size']}u" in header
    assert found == edgeq.inspect(path, target="cortex-m7", fast_ram=3 << 10)["fit"] | {
        "code": found["code"],
        "flash_needed": found["flash_needed"],
    }
    assert max(layer["ram"] for layer in found["layers"]) <= found["arena"]


@pytest.mark.firmware
def test_row_wise_layers_with_two_arenas(path, tmp_path) -> None:
    done = edgeq.compile(path, target="cortex-m7", ram=6 << 10, fast_ram=1 << 10, output=tmp_path / "net")
    assert done.report["checked"] == "emulated"
    assert done.report["row_wise"]
    found = done.report["fit"]
    assert 0 < found["fast"]["size"] <= 1 << 10
    assert found["ram_needed"] <= 6 << 10
    names = [buffer["name"] for buffer in found["peak"]["buffers"]]
    assert len(set(names)) == len(names)  # parts of a buffer are listed together


def test_refused(path, tmp_path, builder) -> None:
    done = command("compile", path, "--target", "cortex-m7", "--fast-ram", "1M", "-o", tmp_path / "no")
    assert_refused(done, "less fast memory than that", "131072")
    with pytest.raises(UsageError, match="belong to static libraries"):
        edgeq.compile(path, target="host", fast_ram=1000, output=tmp_path / "no.edgeq")
    with pytest.raises(ToolError, match="no fast memory") as caught:
        run_firmware(compiled(path, "cortex-m4", 3000, builder))
    assert "fast_ram" in str(caught.value.hint)


def test_without_room_there_is_one_arena(path, builder, tmp_path) -> None:
    one = compiled(path, "cortex-m7", 0, builder)
    assert one.fast_arena == 0
    sizes = write_static(one, tmp_path, "net")
    assert sizes.fast_arena == 0
    assert "FAST" not in (tmp_path / "net.h").read_text()
