"""C source: every op compiled by the system's compiler with all warnings and sanitizers, and for Cortex-M by GNU's."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import edgeq
from edgeq.artifact.source import sources, write_source
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.scalarise import Scalariser
from edgeq.errors import CompileError, TargetError
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command
from tests.conftest import ROOT
from tests.integer.cases import CASES, RandomChoice, merged

STRICT = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
SANITIZED = ["-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover"]
QUICK = ("Conv", "MatMul", "Softmax", "LayerNorm", "Lut", "ReduceMax")
FIRMWARE = ROOT / "cpp_runtime" / "firmware"
BOARDS = {
    "cortex-m4": ("mps2-an386", ["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]),
    "cortex-m0plus": ("mps2-an385", ["-mcpu=cortex-m0plus", "-mfloat-abi=soft"]),
}
HOST_MAIN = """#include <stdio.h>
#include "net.h"
NET_ARENA(arena);
int main(void) {
  printf("%u\\n", (unsigned)net_check(arena));
  return 0;
}
"""
BOARD_MAIN = """#include "net.h"
#include "semihost.h"
NET_ARENA(arena);
void edgeq_exit(int code) __attribute__((noreturn));
void edgeq_exit(int code) { edgeq_semihost_exit(code); }
int main(void) { edgeq_print_number((int32_t)net_check(arena)); edgeq_print("\\n"); return 0; }
"""


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder(2) as pool:
        yield pool


def written(op: str, seeds: range, folder: Path, pool: KernelBuilder) -> None:
    case = merged(op, {seed: RandomChoice(seed) for seed in seeds})
    compiled = compile_graph(case.graph, load_target("c99"), CompileOptions(1, [case.inputs]), pool)
    write_source(compiled, folder, "net")


def on_this_machine(folder: Path, flags: Sequence[str]) -> str:
    """What the self-check prints: output bytes that differ."""
    (folder / "main.c").write_text(HOST_MAIN)
    files = [*sources(folder, "net"), folder / "main.c"]
    subprocess.run(["cc", *STRICT, *flags, *files, "-o", folder / "check"], check=True)
    return subprocess.run([folder / "check"], check=True, capture_output=True, text=True).stdout.strip()


def on_a_board(folder: Path, target: str) -> str:
    machine, cpu = BOARDS[target]
    (folder / "main.c").write_text(BOARD_MAIN)
    places = ["FLASH_ORIGIN=0", "FLASH_LENGTH=0x80000", "RAM_ORIGIN=0x20000000", "RAM_LENGTH=0x80000"]
    link = ["-nostartfiles", "--specs=nosys.specs", "-T", FIRMWARE / "cortex-m.ld", "-Wl,--gc-sections"]
    link += [f"-Wl,--defsym={place}" for place in places]
    flags = ["-mthumb", "-O2", "-std=gnu99", "-Wall", "-Wextra", "-Werror", f"-I{FIRMWARE}", f"-I{folder}"]
    files = [*sources(folder, "net"), folder / "main.c", FIRMWARE / "startup.c"]
    subprocess.run(["arm-none-eabi-gcc", *cpu, *flags, *files, *link, "-o", folder / "firmware.elf"], check=True)
    emulator = ["qemu-system-arm", "-M", machine, "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel", str(folder / "firmware.elf")]
    done = subprocess.run(emulator, capture_output=True, text=True, timeout=60, check=True)
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("op", QUICK)
def test_the_references_bits_and_nothing_undefined(op, builder, tmp_path) -> None:
    written(op, range(40, 42), tmp_path, builder)
    assert on_this_machine(tmp_path, SANITIZED) == "0"


@pytest.mark.full
@pytest.mark.firmware
@pytest.mark.parametrize("op", CASES)
def test_every_op(op, builder, tmp_path) -> None:
    for seeds in (range(500, 506), range(506, 512)):
        written(op, seeds, tmp_path, builder)
        for flags in (SANITIZED, ["-O2"], ["-O3"]):
            assert on_this_machine(tmp_path, flags) == "0"
        for target in BOARDS:
            assert on_a_board(tmp_path, target) == "0"


@pytest.fixture(scope="module")
def digits_source(digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "net"
    arguments = ("--calib", digits / "calib.npz", "--samples", 16, "--format", "c", "--name", "net", "-o", folder)
    done = command("compile", digits / "digits.onnx", *arguments)
    assert done.code == 0, done.err
    assert "golden vectors pass, compiled for this machine" in done.out
    return folder


def test_the_folder(digits_source) -> None:
    files = sorted(path.name for path in digits_source.iterdir() if path.suffix in (".c", ".h", ".json"))
    expected = ["edgeq_static.h", "net.c", "net.h", "net.json", "net_check.c", "net_weights.c"]
    assert [name for name in files if name != "main.c"] == expected
    text = (digits_source / "net.c").read_text()
    assert "float" not in text.partition("static const edgeq_static_tensor")[0]
    assert "__attribute__" not in text.replace("#define EDGEQ_ALIAS __attribute__((__may_alias__))", "")
    header = (digits_source / "net.h").read_text()
    assert "STACK_BYTES" not in header
    assert "uint32_t net_check(void* arena);" in header


@pytest.mark.firmware
@pytest.mark.parametrize("target", BOARDS)
def test_digits_on_emulated_boards(digits_source, target) -> None:
    assert on_a_board(digits_source, target) == "0"


def test_it_is_judged_like_a_library(digits, digits_source) -> None:
    facts = edgeq.inspect(digits_source, ram=1 << 20)
    assert facts["kind"] == "C source"
    assert facts["fit"]["fits"]
    assert edgeq.inspect(digits / "digits.onnx", target="c99", ram=100)["fit"]["shortfalls"][0]["kind"] == "ram"
    with pytest.raises(CompileError, match="more RAM than there are"):
        edgeq.compile(digits / "digits.onnx", calib="random", format="c", ram=100, output=digits_source.parent / "no")
    assert not (digits_source.parent / "no").exists()


def test_row_wise_layers_are_called_by_a_table(digits, digits_source) -> None:
    limits = {"ram": 5 << 10, "output": digits_source.parent / "rows", "name": "net"}
    made = edgeq.compile(digits / "digits.onnx", calib=digits / "calib.npz", samples=16, format="c", **limits)
    assert made.report["row_wise"]
    assert "calls[] = {" in (made.path / "net.c").read_text()
    assert "calls[] = {" not in (digits_source / "net.c").read_text()
    assert on_this_machine(made.path, SANITIZED) == "0"


def test_targets_of_llvm_make_no_source(digits) -> None:
    done = command("compile", digits / "digits.onnx", "--calib", "random", "--format", "c", "--target", "cortex-m4")
    assert_refused(done, "comes from LLVM", "c99")
    done = command("compile", digits / "digits.onnx", "--calib", "random", "--format", "static", "--target", "c99")
    assert_refused(done, "has no format 'static'")


def test_a_target_with_memories_of_its_own(digits, tmp_path) -> None:
    folder = tmp_path / "my-dsp"
    folder.mkdir()
    for file in (ROOT / "targets" / "c99").glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    memory = '\n[[memories]]\nname = "sram"\nkind = "ram"\nsize = 512\n'
    file = folder / "target.toml"
    file.write_text(file.read_text() + memory)
    with pytest.raises(CompileError, match="more RAM than there are"):
        edgeq.compile(digits / "digits.onnx", target=str(folder), calib="random", output=tmp_path / "out")
    good = file.read_text()
    for old, new, why in (
        ('arch = "c"', 'arch = "thumb"', "belong together"),
        ('kind = "c"', 'kind = "llvm"', "needs mtriple and mcpu"),
    ):
        file.write_text(good.replace(old, new))
        with pytest.raises(TargetError, match=r"broken target\.toml") as caught:
            load_target(str(folder))
        assert why in str(caught.value.why)


def test_an_instruction_of_one_processor_has_no_source() -> None:
    tirx = pytest.importorskip("tvm").tirx
    four = tirx.Broadcast(tirx.const(1, "int16"), 8)
    product = tirx.op.call_llvm_pure_intrin("int32x4", "llvm.x86.sse2.pmadd.wd", four, four)
    with pytest.raises(CompileError, match=r"no form for llvm\.x86\.sse2\.pmadd\.wd") as caught:
        Scalariser().lanes(product)
    assert "c99" in str(caught.value.hint)


def test_what_may_wrap_is_unsigned_and_nothing_else() -> None:
    tirx = pytest.importorskip("tvm").tirx
    places = tirx.decl_buffer((8,), "int16", name="x")
    wide = [tirx.Cast("int32", tirx.BufferLoad(places, [tirx.const(k, "int32")])) for k in range(4)]
    (squares,) = Scalariser().lanes(wide[0] * wide[1] + wide[2] * wide[3])  # -32768 four times: 2^31
    assert str(squares.args[0]).strip('"') == "edgeq_add_int32_t"
    (product,) = Scalariser().lanes(wide[0] * wide[1])
    assert type(product).__name__ == "Mul"
    place = tirx.Var("i", "int32")
    (index,) = Scalariser().lanes(place * 12 - 7)
    assert type(index).__name__ == "Sub"


def test_a_loop_whose_condition_holds_vectors_has_no_source() -> None:
    tirx = pytest.importorskip("tvm").tirx
    shared = tirx.Shuffle([tirx.Broadcast(tirx.Var("a", "int32") + 1, 2)], [tirx.const(0, "int32")])
    with pytest.raises(CompileError, match="loop whose condition holds vectors"):
        Scalariser().body(tirx.While(shared < 3, tirx.Evaluate(tirx.const(0, "int32"))))
