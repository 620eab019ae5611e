"""Runs a static library on an emulated board: exact instructions of every step, stack, and the golden vectors' bits.

A firmware (`cpp_runtime/firmware`) is linked with GNU's toolchain for bare-metal Arm and started under QEMU with the
counting plugin. The figures are instructions, not time; QEMU gives the same ones in every run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.artifact.static import StaticSizes, write_static
from edgeq.artifact.tools import run_tool
from edgeq.errors import CompileError, RunError, ToolError
from edgeq.evaluate.cycles import estimate
from edgeq.runtime.build import count_plugin
from edgeq.runtime.sources import runtime_root

if TYPE_CHECKING:
    from edgeq.compiler.pipeline import Compiled
    from edgeq.compiler.target import Board, Target

COMPILER, COMPILER_PACKAGE = "arm-none-eabi-gcc", "gcc-arm-none-eabi"
EMULATOR, EMULATOR_PACKAGE = "qemu-system-arm", "qemu-system-arm"
TIMEOUT = 600.0
MEMORY_BYTES = 0x80000  # of flash and of RAM that the boards of `mps2` and `mps3` surely have where target.toml says
LARGER_FLASH = dict.fromkeys(("mps2-an385", "mps2-an386", "mps2-an500"), 0x200000)  # they have 4 MiB there
BLOCKS = "blocks.txt"
_NAME = "model"
_FAST_SECTION = ".fast_arena"


@dataclass(frozen=True)
class FirmwareRun:
    """What a firmware did.

    Attributes:
        steps: instructions of each kernel call, in order.
        stack: bytes of stack that a run took, measured.
        runs: golden vectors that ran.
        different: bytes of their outputs that differ from the reference.
        sizes: of the library.
        cycles: of each kernel call, estimated (evaluate/cycles.py); None: nothing is known about the core.
    """

    steps: list[int]
    stack: int
    runs: int
    different: int
    sizes: StaticSizes
    cycles: list[int] | None = None

    @property
    def total(self) -> int:
        """Instructions of one inference, without the calls themselves."""
        return sum(self.steps)


def run_firmware(compiled: Compiled) -> FirmwareRun:
    """Builds and runs a firmware for the model with all its golden vectors.

    Raises:
        ToolError: no bare-metal compiler or emulator (the message names the package), or no board for this target.
        CompileError: the model is too large for the emulated board.
        RunError: the firmware crashed or hung.
    """
    board = _board(compiled.target)
    with tempfile.TemporaryDirectory(prefix="edgeq-firmware-") as name:
        folder = Path(name)
        sizes = write_static(compiled, folder, _NAME, marks=True)
        program = _link(folder, compiled.target, board, compiled.image.arena_size, compiled.fast_arena)
        printed, counts = run_counted(folder, program, board)
        profile = (folder / BLOCKS).read_text(encoding="ascii") if (folder / BLOCKS).is_file() else ""
    facts = {key: int(value) for key, value in re.findall(r"^(runs|different|stack) (\d+)$", printed, re.MULTILINE)}
    steps, runs = len(compiled.program.steps), len(compiled.image.golden)
    if set(facts) != {"runs", "different", "stack"} or len(counts) != steps * runs + 1 or counts[-1] != "end":
        raise RunError(
            "the firmware didn't finish",
            where=f"{EMULATOR} -M {board.machine}",
            why=f"{max(len(counts) - 1, 0)} counts for {steps} steps and {runs} runs; it printed {printed[-200:]!r}",
            hint="a processor of another kind than the code is for stops at its first instruction",
        )
    first = [int(count) for count in counts[:steps]]
    cycles = estimate(profile, compiled.target.spec.codegen.mcpu, first)
    return FirmwareRun(first, facts["stack"], facts["runs"], facts["different"], sizes, cycles)


def _board(target: Target) -> Board:
    if target.spec.board is None:
        raise ToolError(
            f"target {target.name!r} names no board to run on",
            where=str(target.folder / "target.toml"),
            hint="a [board] table does: docs/new-target.md",
        )
    return target.spec.board


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{name} is missing", hint=f"apt-get install {package}")
    return found


def _link(folder: Path, target: Target, board: Board, arena: int, fast: int) -> Path:
    root, program = runtime_root() / "firmware", folder / "firmware.elf"
    memory = folder / "arena.c"
    if fast and board.fast_ram is None:
        raise ToolError(
            "the emulated board has no fast memory", where=board.machine, hint="[board] fast_ram says where"
        )
    memory.write_text(_arenas(arena, fast, target.alignment), encoding="utf-8")
    flags = [
        f"-mcpu={board.cpu}",
        "-mthumb",
        *board.flags,
        "-O2",
        "-g0",
        "-ffreestanding",
        "-fno-tree-loop-distribute-patterns",
        "-nostdlib",
    ]
    places = {"FLASH_ORIGIN": board.flash, "RAM_ORIGIN": board.ram}
    places |= {"FLASH_LENGTH": LARGER_FLASH.get(board.machine, MEMORY_BYTES), "RAM_LENGTH": MEMORY_BYTES}
    symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in places.items()]
    symbols += [f"-Wl,--section-start={_FAST_SECTION}={board.fast_ram:#x}"] if fast else []
    library = folder / f"lib{_NAME}.a"
    sources = [root / "startup.c", root / "bench.c", memory]
    include = [f"-I{folder}", f"-I{root}", f"-DEDGEQ_MODEL={_NAME}_model"]
    compiler = _tool(COMPILER, COMPILER_PACKAGE)
    command: list[str | Path] = [compiler, *flags, "-Wl,--gc-sections", *include, *sources, *symbols]
    command += ["-T", root / "cortex-m.ld", f"-Wl,-u,{_NAME}_golden", library, "-lgcc", "-o", program]
    try:
        run_tool(command, "linking the firmware")
    except ToolError as error:
        if "will not fit in region" in (error.why or "") or "overflowed by" in (error.why or ""):
            raise CompileError(
                "the model is too large for the emulated board", where=board.machine, why=error.why
            ) from error
        raise
    return program


def _arenas(size: int, fast: int, alignment: int) -> str:
    """C source of the arenas; the second one has a section of its own."""
    section = f', section("{_FAST_SECTION}")' if fast else ""
    return (
        "#include <stdint.h>\nextern uint8_t edgeq_arena[], edgeq_fast_arena[];\n"
        f"uint8_t edgeq_arena[{size}] __attribute__((aligned({alignment})));\n"
        f"uint8_t edgeq_fast_arena[{max(fast, 1)}] __attribute__((aligned({alignment}){section}));\n"
    )


def run_counted(folder: Path, program: Path, board: Board) -> tuple[str, list[str]]:
    """Starts a firmware on the emulated board with the counting plugin.

    Args:
        folder: working folder of the emulator. program: ELF file.

    Returns:
        What it printed, and the instructions between each pair of markers, in order, with "end" behind the last.

    Raises:
        ToolError: no emulator. RunError: it hung.
    """
    plugin = f"{count_plugin()},out=counts.txt,blocks={BLOCKS}"
    command = [
        *(_tool(EMULATOR, EMULATOR_PACKAGE), "-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native", "-plugin", plugin, "-kernel", str(program)),
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"the firmware ran for more than {TIMEOUT:.0f} s", where=board.machine) from error
    printed = (done.stdout + done.stderr).decode("utf-8", "replace")
    counts = folder / "counts.txt"
    return printed, counts.read_text(encoding="ascii").split() if counts.is_file() else []
