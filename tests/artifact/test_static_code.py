"""The float check of static libraries: constants between instructions, planted floats, damaged archives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.artifact.float_free import check, require
from edgeq.errors import ArtifactError
from tests.artifact.test_float_free import CLEAN
from tests.cli.helpers import edgeq

CPUS = {"thumb-freestanding-eabihf": "cortex_m4", "thumb-freestanding-eabi": "cortex_m0plus", "x86_64-linux-musl": ""}
PLANTED = {
    "arithmetic": "float f(float a, float b) { return a * b + 1.5f; }",
    "conversion": "int f(float a) { return (int)a; }",
    "comparison": "int f(float a, float b) { return a < b; }",
}


def library(folder: Path, triple: str, source: str, cpu: str | None = None) -> Path:
    code, made = folder / "code.c", folder / "libcode.a"
    code.write_text(source)
    zig, cpu = [sys.executable, "-m", "ziglang"], CPUS[triple] if cpu is None else cpu
    flags = ["-target", triple, "-O2", "-fno-sanitize=all", *([f"-mcpu={cpu}"] if cpu else [])]
    subprocess.run([*zig, "cc", *flags, "-c", str(code), "-o", f"{made}.o"], check=True)
    subprocess.run([*zig, "ar", "rcsD", str(made), f"{made}.o"], check=True)
    return made


@pytest.mark.parametrize("triple", CPUS)
def test_integer_code_passes(triple: str, tmp_path: Path) -> None:
    constants = "unsigned g(unsigned x) { return x * 2654435761u ^ 0xdeadbeefu; }"
    assert require(library(tmp_path, triple, CLEAN + constants)).instructions > 5


@pytest.mark.parametrize("cpu", ["cortex_m4", "cortex_m4+vfp4d16sp", ""])
@pytest.mark.parametrize("kind", PLANTED)
def test_planted_floats_are_found(cpu: str, kind: str, tmp_path: Path) -> None:
    triple = ("thumb-freestanding-eabihf" if "+" in cpu else "thumb-freestanding-eabi") if cpu else "x86_64-linux-musl"
    path = library(tmp_path, triple, PLANTED[kind], cpu)
    found = [str(one) for one in check(path).found]
    assert found
    assert any("call of __aeabi" in one for one in found) is (cpu == "cortex_m4")
    with pytest.raises(ArtifactError, match="computes with floating-point numbers"):
        require(path)


def test_damaged_archives(tmp_path: Path) -> None:
    path = library(tmp_path, "thumb-freestanding-eabihf", CLEAN)
    data = path.read_bytes()
    for broken in (data[:100], data[:-200], b"!<arch>\n", data.replace(b"\x28\x00\x01\x00", b"\x08\x00\x01\x00", 1)):
        path.write_bytes(broken)
        with pytest.raises(ArtifactError, match="can't be checked"):
            check(path)


def test_command(tmp_path: Path) -> None:
    path = library(tmp_path, "thumb-freestanding-eabihf", CLEAN)
    for given in (path, tmp_path):
        assert edgeq("verify", given, "--float-free", "--json").json["float_free"] > 5
    assert "none of" in edgeq("verify", path, "--float-free").out
    assert "doesn't run by itself" in edgeq("verify", path).err
    (tmp_path / "other").mkdir()
    assert "no static library" in edgeq("verify", tmp_path / "other", "--float-free").err
