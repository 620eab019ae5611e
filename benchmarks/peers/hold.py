"""Runtimes held to AVX2 on a processor that has more: local copies whose CPUID instructions are answered by us.

A runtime asks the processor by CPUID which kernels it may use, and no switch of theirs hides AVX-512 everywhere. The
copies have each CPUID (2 bytes) replaced by an invalid opcode of the same length; hold_avx2.c, loaded ahead of them,
executes the real one and clears the bits of everything newer than AVX2. Nothing else differs. For measuring only.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
CPUID, MARK = b"\x0f\xa2", b"\x06\x90"
_PLACE = re.compile(r"^\s*([0-9a-f]+):\s+cpuid\b")
_SEGMENT = re.compile(r"^\s+LOAD\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)")


def environment(python: str, runtime: str, cache: Path) -> dict[str, str]:
    """What a worker's environment needs on top; makes the copies once.

    Raises:
        SystemExit: the package or binutils are missing.
    """
    folder = cache / "avx2"
    folder.mkdir(parents=True, exist_ok=True)
    package = PACKAGES[runtime]
    if not (folder / package).is_dir():
        _copy(_package(python, package), folder / package)
    return {"PYTHONPATH": str(folder), "LD_PRELOAD": str(_preload(folder))}


def _package(python: str, package: str) -> Path:
    code = f"import importlib.util as u; print(u.find_spec({package!r}).submodule_search_locations[0])"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        sys.exit(f"{python} has no {package}")
    return Path(found.stdout.strip())


def _preload(folder: Path) -> Path:
    library = folder / "hold_avx2.so"
    source = Path(__file__).with_name("hold_avx2.c")
    if not library.is_file() or library.stat().st_mtime < source.stat().st_mtime:
        flags = ["-shared", "-fPIC", "-O2", "-std=gnu99", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, str(source), "-o", str(library)], check=True)
    return library


def _copy(source: Path, to: Path) -> None:
    part = to.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, ignore=shutil.ignore_patterns("*_gpu_plugin*", "*_npu_plugin*", "*WebGpu*"))
    for file in part.rglob("*"):
        if file.is_file() and not file.is_symlink() and ".so" in file.name:
            _patch(file)
    part.rename(to)


def _patch(library: Path) -> None:
    """Replaces every CPUID instruction of a library."""
    places = [
        int(m[1], 16) for line in _lines("objdump", "-d", "--no-show-raw-insn", library) if (m := _PLACE.match(line))
    ]
    segments = [
        tuple(int(n, 16) for n in m.groups())
        for line in _lines("readelf", "-lW", library)
        if (m := _SEGMENT.match(line))
    ]
    with library.open("r+b") as file:
        for place in places:
            offset = next(place - address + start for start, address, size in segments if 0 <= place - address < size)
            file.seek(offset)
            if file.read(2) != CPUID:
                sys.exit(f"{library}: no CPUID at {place:#x}")
            file.seek(offset)
            file.write(MARK)


def _lines(tool: str, *arguments: object) -> list[str]:
    if not shutil.which(tool):
        sys.exit(f"{tool} is missing: install binutils")
    command = [tool, *(str(a) for a in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
