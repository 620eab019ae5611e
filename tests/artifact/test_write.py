"""Writing: what comes out, what is refused, and that nothing half-written stays behind."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from edgeq.artifact import ArchInfo, read, tools, write
from edgeq.artifact import elf as elf_file
from edgeq.artifact import format as layout
from edgeq.artifact.write import helper_objects, write_error
from edgeq.errors import CompileError, ToolError
from tests.support.fakes import STEP_SOURCE, WEIGHTS, compile_object, fake_image, write_fake

HEAD = "#include <stdint.h>\n"
STEP = "int32_t edgeq_step(int32_t s, int32_t a, int32_t b, int32_t c, uint8_t *d, const uint8_t *e)"


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_artifact_has_no_relocations_and_no_writable_segment(tmp_path: Path, arch: str) -> None:
    data = write_fake(tmp_path / "m.edgeq", arch).read_bytes()
    elf = elf_file.parse(data[:-256])
    elf_file.check_relocation_free(data, elf)
    assert all(not segment.flags & elf_file.PF_W for segment in elf.loads())
    assert elf.machine == elf_file.MACHINES[arch]


def test_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.edgeq"
    sizes = write(
        fake_image(), [compile_object(STEP_SOURCE, "x86_64", "-DBIAS=0")], ArchInfo("x86_64", ("avx2",)), path
    )
    found = read(path)
    assert sizes == found.sizes
    assert sizes.file == path.stat().st_size
    assert sizes.weights == len(WEIGHTS)
    assert sizes.code > 100
    assert found.target == ArchInfo("x86_64", ("avx2",))


def test_same_contents_make_the_same_bytes(tmp_path: Path) -> None:
    assert write_fake(tmp_path / "a.edgeq").read_bytes() == write_fake(tmp_path / "b.edgeq").read_bytes()


BAD_CODE = {
    "undefined": (
        HEAD + f"int32_t helper(void);\n{STEP} {{ return helper(); }}",
        "need something that an artifact can't have",
    ),
    "no entry": (HEAD + "int32_t other(void) { return 1; }", "need something that an artifact can't have"),
    "writable": (HEAD + f"static volatile int32_t n = 3;\n{STEP} {{ return n++; }}", "a writable segment"),
    "zeroed": (HEAD + f"static volatile int32_t n;\n{STEP} {{ return n++; }}", "a writable segment"),
    "address table": (
        HEAD
        + "static int32_t f(void) { return 1; }\nint32_t (*const volatile table[])(void) = {f, f};\n"
        + f"{STEP} {{ return table[s](); }}",
        "a writable segment|relocation",
    ),
}


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("kind", BAD_CODE)
def test_code_that_needs_a_loader_is_refused(tmp_path: Path, kind: str, arch: str) -> None:
    source, message = BAD_CODE[kind]
    path = tmp_path / "m.edgeq"
    with pytest.raises(CompileError, match=message):
        write(fake_image(), [compile_object(source, arch)], ArchInfo(arch), path)
    assert list(tmp_path.iterdir()) == []


def test_undefined_symbol_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="helper"):
        write(fake_image(), [compile_object(BAD_CODE["undefined"][0], "x86_64")], ArchInfo("x86_64"), tmp_path / "m")


def test_object_of_another_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="linking the artifact failed"):
        write(fake_image(), [compile_object(STEP_SOURCE, "aarch64", "-DBIAS=0")], ArchInfo("x86_64"), tmp_path / "m")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"m\.edgeq can't be written") as caught:
        write_fake(tmp_path / "none" / "m.edgeq")
    assert caught.value.why == "No such file or directory"


def test_no_space_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.edgeq"
    path.write_bytes(b"what was there")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match="there is no space left"):
        write_fake(path)
    assert [item.name for item in tmp_path.iterdir()] == ["m.edgeq"]
    assert path.read_bytes() == b"what was there"


def test_write_error_names_other_reasons(tmp_path: Path) -> None:
    error = write_error(tmp_path / "m", PermissionError(errno.EACCES, "Permission denied"))
    assert (error.why, error.hint) == ("Permission denied", "check that the folder is there and yours")


def test_existing_artifact_is_replaced_with_the_usual_mode(tmp_path: Path) -> None:
    path = write_fake(tmp_path / "m.edgeq")
    write_fake(path, bias=0x80)
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert read(path).image.inputs[0].storage_bias == 0x80


def test_no_linker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "zig", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="no linker was found") as caught:
        tools.linker()
    assert "pip install ziglang" in (caught.value.hint or "")
    with pytest.raises(ToolError, match="no C compiler for aarch64"):
        tools.cross_compiler("aarch64")


def test_system_tools_without_ziglang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "zig", lambda: None)
    for name in ("ld.lld", "aarch64-linux-gnu-gcc"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.linker() == [str(tmp_path / "ld.lld")]
    assert tools.cross_compiler("aarch64") == [str(tmp_path / "aarch64-linux-gnu-gcc")]


def test_tools_that_fail_say_why(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="thinking failed") as caught:
        tools.run_tool(["sh", "-c", "echo no idea; exit 3"], "thinking")
    assert caught.value.why == "no idea"
    with pytest.raises(ToolError, match="ended with code 3"):
        tools.run_tool(["sh", "-c", "exit 3"], "thinking")
    with pytest.raises(ToolError, match="No such file"):
        tools.run_tool([tmp_path / "none"], "thinking")
    with pytest.raises(ToolError, match="took more than"):
        tools.run_tool(["sleep", "5"], "thinking", timeout=0.05)


@pytest.mark.parametrize("arch", layout.ARCHES)
def test_what_compilers_call_calls_nothing(arch: str) -> None:
    # memcpy that a compiler implements by calling memcpy never ends.
    for path in helper_objects(arch):
        assert not re.search(rb"\.rela?\.text", path.read_bytes()), path.name
