"""Size of the runtime library on aarch64, and load to first output in C++.

    python benchmarks/footprint.py --out footprint.json

Needs cmake, a C++ compiler and gcc-aarch64-linux-gnu.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, Zoo, arguments, finish, say

import edgeq
from edgeq.runtime.build import library_sources

RUNTIME = ROOT / "cpp_runtime"
STARTS = 30


def run(*command: object) -> str:
    """Output of a command that has to succeed."""
    return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout


def library_size(folder: Path) -> dict[str, Any]:
    """Bytes of libedgeq.so for aarch64 as its CMake project builds it for release, stripped."""
    tools = "aarch64-linux-gnu-"
    options = {
        "BUILD_SHARED_LIBS": "ON",
        "EDGEQ_BUILD_RUN": "OFF",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_C_COMPILER": f"{tools}gcc",
    }
    run("cmake", "-S", RUNTIME, "-B", folder / "lib", *(f"-D{key}={value}" for key, value in options.items()))
    run("cmake", "--build", folder / "lib")
    path = folder / "stripped.so"
    run(f"{tools}strip", "-o", path, folder / "lib" / "libedgeq.so")
    sections = run(f"{tools}size", path).splitlines()[1].split()[:3]
    loaded = dict(zip(("text", "data", "bss"), map(int, sections), strict=True))
    return {"what": "libedgeq.so, aarch64, stripped", "bytes": path.stat().st_size, **loaded}


def first_output(program: Path, artifact: Path) -> list[float]:
    """Seconds from opening the artifact to the first output, fresh processes; the file is in the page cache."""
    return [int(run(program, artifact)) * 1e-9 for _ in range(STARTS)]


def build_program(folder: Path) -> Path:
    """benchmarks/first_output.cpp with the runtime's sources, static."""
    objects = []
    for source in library_sources():
        objects.append(folder / f"{source.stem}.o")
        run(
            "cc", "-std=c99", "-O2", f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}", "-c", source, "-o", objects[-1]
        )
    program = folder / "first_output"
    main = ROOT / "benchmarks" / "first_output.cpp"
    run("c++", "-std=c++17", "-O2", f"-I{RUNTIME / 'include'}", main, *objects, "-pthread", "-lm", "-o", program)
    return program


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=["mobilenet_v2_100_imagenet_deq"])
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [library_size(folder)]
        say(rows[0]["what"], rows[0]["bytes"], "bytes")
        program = build_program(folder)
        for model in args.models:
            calib = zoo.calibration(model, 8, folder)
            artifact = edgeq.compile(zoo.model(model), calib=calib, output=folder / f"{model}.edgeq").path
            times = first_output(program, artifact)
            row = {"what": "load to first output, C++", "model": model, "file": artifact.stat().st_size}
            rows.append({**row, "median_s": statistics.median(times), "max_s": max(times), "starts": STARTS})
            say(f"{model}: load to first output {1e3 * rows[-1]['median_s']:.2f} ms")
    finish("footprint", rows, args.out)


if __name__ == "__main__":
    main()
