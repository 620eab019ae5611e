"""Static libraries: what is in them, that firmware links them, what they refuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.artifact import elf32
from edgeq.artifact.elf import ElfError
from edgeq.artifact.static import identifier, write_static
from edgeq.compiler import CompileOptions, KernelBuilder, compile_graph, load_target
from edgeq.compiler.fit import fit, memory_by_step, require_fit
from edgeq.errors import CompileError, ToolError, UsageError
from edgeq.evaluate import firmware
from tests.cli.helpers import edgeq as command
from tests.integer.cases import RandomChoice, merged


@pytest.fixture(scope="module")
def compiled():
    case = merged("Conv", {seed: RandomChoice(seed) for seed in (1, 2)})
    with KernelBuilder(1) as pool:
        return compile_graph(case.graph, load_target("cortex-m4"), CompileOptions(1, [case.inputs]), pool)


@pytest.fixture(scope="module")
def library(compiled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    return folder, write_static(compiled, folder, "net")


def test_the_folder_has_library_header_and_manifest(library) -> None:
    folder, sizes = library
    assert sorted(p.name for p in folder.iterdir()) == ["edgeq_static.h", "libnet.a", "net.h", "net.json"]
    header = (folder / "net.h").read_text()
    for macro, value in (
        ("ARENA", sizes.arena),
        ("STACK", sizes.stack),
        ("WEIGHTS", sizes.weights),
        ("CODE", sizes.code),
    ):
        assert f"#define NET_{macro}_BYTES {value}u" in header
    assert "net_run(void* arena)" in header


def test_the_same_model_makes_the_same_bytes(compiled, library, tmp_path) -> None:
    write_static(compiled, tmp_path, "net")
    for file in library[0].iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def _member(library: Path, tmp_path: Path) -> bytes:
    from edgeq.artifact.tools import zig

    subprocess.run([str(zig()), "ar", "x", str(library / "libnet.a"), "--output", str(tmp_path)], check=True)
    return (tmp_path / "model.joined.o").read_bytes()


def test_nothing_is_writable_and_little_is_imported(library, tmp_path) -> None:
    raw = _member(library[0], tmp_path)
    assert elf32.read_only_bytes(raw) == library[1].flash
    assert elf32.undefined_symbols(raw) <= {"memcpy", "memset", "memmove", "net_golden"}
    visible = {s.name for s in elf32.symbols(raw) if s.info >> 4 == 1 and s.section}
    assert visible == {"net_run", "net_model", "net_weights"}


@pytest.mark.firmware
@pytest.mark.parametrize("abi", ["hard", "soft"])
def test_two_models_link_into_one_program(compiled, library, tmp_path, abi) -> None:
    write_static(compiled, tmp_path, "other")
    source = tmp_path / "two.c"
    source.write_text(
        '#include "net.h"\n#include "other.h"\n#include <string.h>\nNET_ARENA(a);\nOTHER_ARENA(b);\n'
        "void _exit(int c) { (void)c; for (;;) { } }\nint main(void) { net_run(a); other_run(b); return 0; }\n"
    )
    flags = ["-mcpu=cortex-m4", "-mthumb", f"-mfloat-abi={abi}", "-ffreestanding", "-nostdlib", "-Wl,-e,main"]
    flags += ["-mfpu=fpv4-sp-d16"] if abi == "hard" else []
    memory = Path(firmware.runtime_root()) / "artifact" / "memory.c"
    include = [f"-I{library[0]}", f"-I{tmp_path}"]
    libraries = [str(library[0] / "libnet.a"), str(tmp_path / "libother.a")]
    command = ["arm-none-eabi-gcc", "-Wall", "-Werror", *flags, *include, str(source), str(memory), *libraries, "-lgcc"]
    subprocess.run([*command, "-o", str(tmp_path / "two.elf")], check=True)


def test_identifiers() -> None:
    assert identifier("My Net-2.onnx") == "my_net_2_onnx"
    assert identifier("8bit") == "model_8bit"
    assert identifier("…") == "model_"


def test_a_bad_name(compiled, tmp_path) -> None:
    with pytest.raises(UsageError, match="C identifier"):
        write_static(compiled, tmp_path, "a b")


def test_the_memory_of_steps_adds_up(compiled) -> None:
    assert max(memory_by_step(compiled.program, compiled.plan)) == compiled.plan.lower_bound


def test_what_does_not_fit_says_by_how_much_and_where(compiled, library) -> None:
    sizes = library[1]
    require_fit(fit(compiled, sizes), "cortex-m4")
    with pytest.raises(CompileError, match="the model needs 100 bytes more RAM") as caught:
        require_fit(fit(compiled, sizes, ram=sizes.arena + sizes.stack - 100), "cortex-m4")
    assert "are alive" in str(caught.value.why)
    assert "next peak" in str(caught.value.hint)
    with pytest.raises(CompileError, match="the model needs 7 bytes more flash") as caught:
        require_fit(fit(compiled, sizes, flash=sizes.flash - 7), "cortex-m4")
    assert "most weights" in str(caught.value.why)


def test_elf_that_is_none() -> None:
    with pytest.raises(ElfError, match="not a little-endian ELF object"):
        elf32.sections(b"nonsense" * 20)


def test_missing_tools_name_their_package(compiled, monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ToolError) as caught:
        firmware.run_firmware(compiled)
    assert caught.value.hint == "apt-get install gcc-arm-none-eabi"


@pytest.mark.firmware
def test_compile_and_bench_from_the_command_line(digits, tmp_path) -> None:
    graph = tmp_path / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=16, output=graph)
    done = command("compile", str(graph), "--target", "cortex-m4", "-o", str(tmp_path / "out"), "--layers")
    assert done.code == 0, done.err
    assert "golden vectors pass on the emulated board" in done.out
    assert (tmp_path / "out" / "libdigits.a").is_file()
    report = command("bench", str(graph), "--target", "cortex-m4", "--json").json
    assert report["different"] == 0
    assert report["instructions"] == sum(step["instructions"] for step in report["steps"]) > 0
    refused = command("compile", str(graph), "--target", "cortex-m4", "-o", str(tmp_path / "no"), "--ram", "1k")
    assert refused.code == 2
    assert "more RAM than there are" in refused.err
    assert not (tmp_path / "no").exists()
    again = edgeq.compile(graph, target="cortex-m55", output=tmp_path / "m55", name="again")
    assert again.report["checked"] == "emulated"


def test_formats(digits, tmp_path) -> None:
    with pytest.raises(UsageError, match="no loader"):
        edgeq.compile(digits / "digits.onnx", target="cortex-m4", format="edgeq", calib="random")
    with pytest.raises(UsageError, match="unknown format"):
        edgeq.compile(digits / "digits.onnx", format="elf", calib="random")
    with pytest.raises(UsageError, match="belong to static"):
        edgeq.compile(digits / "digits.onnx", flash=1, calib="random")
    done = command("compile", str(digits / "digits.onnx"), "--calib", "random", "--ram", "many")
    assert done.code == 2
    assert "no number of bytes" in done.err


def test_a_static_library_for_this_machine(digits, tmp_path) -> None:
    result = edgeq.compile(
        digits / "digits.onnx", target="host", format="static", calib="random", output=tmp_path / "h"
    )
    source = tmp_path / "main.c"
    source.write_text(
        '#include <stdio.h>\n#include <string.h>\n#include "digits.h"\nDIGITS_ARENA(arena);\nint main(void) {\n'
        "  const uint8_t *g = digits_model.golden;\n  const edgeq_static_tensor *t = digits_model.tensors;\n"
        "  memcpy(arena + t[0].offset, g, t[0].size);\n  digits_run(arena);\n"
        '  printf("%d", memcmp(arena + t[1].offset, g + t[0].size, t[1].size) != 0);\n  return 0;\n}\n'
    )
    folder = result.path
    archive = str(folder / "libdigits.a")
    command = ["cc", f"-I{folder}", str(source), "-Wl,-u,digits_golden", archive, "-o", str(tmp_path / "program")]
    subprocess.run(command, check=True)
    assert subprocess.run([str(tmp_path / "program")], check=True, capture_output=True, text=True).stdout == "0"
    assert np.prod([result.report["sizes"]["arena"]]) > 0
