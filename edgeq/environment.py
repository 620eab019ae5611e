"""What this machine offers: targets that run here, tools that are there and how to get the missing ones."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from typing import Any

from edgeq.errors import EdgeqError

# Distribution → what it is needed for. Versions come from the metadata: nothing is imported.
PACKAGES = {
    "apache-tvm": "code generation",
    "apache-tvm-ffi": "code generation",
    "numpy": "arrays",
    "onnx": "models",
    "onnx-ir": "models",
    "onnxruntime": "calibration, oracle",
    "onnxscript": "front end",
    "ziglang": "linker, cross compilers",
}


def targets() -> list[dict[str, Any]]:
    """One row for each built-in target: name, description, arch, cpu_features, runs_here, resolves_to.

    runs_here is "yes", "emulated" (its emulator is installed) or the way to get there; resolves_to is the real target
    behind an alias such as `host`, else None.
    """
    from edgeq.compiler.target import list_targets, load_variants

    rows: list[dict[str, Any]] = []
    for name in list_targets():
        row: dict[str, Any] = {"name": name, "resolves_to": None}
        try:
            variants = load_variants(name)
            target = variants[-1]  # what every variant's processor has
        except EdgeqError as error:
            rows.append(
                {**row, "description": error.what, "arch": "–", "cpu_features": [], "runs_here": f"no: {error.why}"}
            )
            continue
        spec = target.spec
        if len(variants) > 1:
            names = ", ".join(variant.name for variant in variants)
            rows.append(
                {
                    **row,
                    "description": f"a module for each of {names}: a page loads the best for its engine"
                    if target.webassembly
                    else f"one artifact for all of {names}: the best that the processor has runs",
                    "arch": spec.arch,
                    "cpu_features": list(spec.cpu_features),
                    "runs_here": _where_it_runs(target),
                }
            )
            continue
        alias = target.name != name
        rows.append(
            {
                **row,
                "resolves_to": target.name if alias else None,
                "description": f"this machine, here {target.name}" if alias else spec.description,
                "arch": spec.arch,
                "cpu_features": list(spec.cpu_features),
                "runs_here": _where_it_runs(target),
            }
        )
    return rows


def _where_it_runs(target: Any) -> str:
    if target.runs_here() or target.emits_c:
        return "yes"
    tools = target.spec.toolchain
    if tools.emulator and shutil.which(tools.emulator):
        return "emulated"
    if tools.emulator:
        return f"no (apt-get install {tools.emulator_package or tools.emulator})"
    return "no (no emulator knows it)"


def doctor() -> list[dict[str, Any]]:
    """What is needed on this machine: rows of name, state ("ok", "missing", "optional"), found, purpose, hint."""
    return [*_packages(), _linker(), _compiler(), *_emulators(), _cache()]


def _row(name: str, state: str, found: str, purpose: str, hint: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "found": found, "purpose": purpose, "hint": hint}


def _packages() -> list[dict[str, Any]]:
    rows = []
    for name, purpose in PACKAGES.items():
        try:
            rows.append(_row(name, "ok", importlib.metadata.version(name), purpose))
        except importlib.metadata.PackageNotFoundError:
            rows.append(_row(name, "missing", "", purpose, f"pip install {name}"))
    return rows


def _linker() -> dict[str, Any]:
    from edgeq.artifact.tools import linker

    try:
        command = linker()
    except EdgeqError as error:
        return _row("linker", "missing", "", "artifacts", error.hint or "")
    return _row("linker", "ok", " ".join(command), "artifacts")


def _compiler() -> dict[str, Any]:
    purpose = "building the runtime library once"
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found:
            return _row("C compiler", "ok", _first_line([found, "--version"]) or found, purpose)
    return _row(
        "C compiler", "optional", "zig cc is used instead", purpose, "apt-get install gcc (builds faster than zig cc)"
    )


def _emulators() -> list[dict[str, Any]]:
    from edgeq.compiler.target import list_targets, load_target

    needed: dict[str, tuple[str, list[str]]] = {}
    for name in list_targets():
        try:
            target = load_target(name)
        except EdgeqError:
            continue  # an alias that resolves to nothing here; `edgeq targets` explains it
        tools = target.spec.toolchain
        if target.name == name and tools.emulator and not target.runs_here():
            needed.setdefault(tools.emulator, (tools.emulator_package or tools.emulator, []))[1].append(name)
    rows = []
    for emulator, (package, names) in sorted(needed.items()):
        purpose = "running " + ", ".join(names) + " artifacts here"
        found = shutil.which(emulator)
        if found:
            rows.append(_row(emulator, "ok", _first_line([found, "--version"]) or found, purpose))
        else:
            rows.append(_row(emulator, "optional", "", purpose, f"apt-get install {package}"))
    return rows


def _cache() -> dict[str, Any]:
    from edgeq.cache import cache_dir

    try:
        folder = cache_dir()
    except EdgeqError as error:
        return _row("cache", "missing", "", "kernels, runtime library", error.hint or "")
    files = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return _row("cache", "ok", f"{folder}, {sum(files) / 2**20:.1f} MiB", "kernels, runtime library")


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.splitlines()[0].strip() if done.stdout else ""
