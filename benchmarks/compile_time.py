"""`edgeq compile` end to end in a fresh process, with an empty and with a warm cache; 32 calibration samples.

Python's bytecode is there, as after an installation.

python benchmarks/compile_time.py --models mobilenet_v2_100_imagenet_deq --out compile-time.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, Zoo, arguments, finish, say


def compile_once(model: Path, calib: Path, target: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Wall seconds of the command, and its own report."""
    environment = _environment() | {"EDGEQ_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "edgeq.cli.main", "compile", str(model), "--target", target]
    command += ["--calib", str(calib), "-o", str(folder / "out.edgeq"), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, json.loads(done.stdout)


def _environment() -> dict[str, str]:
    """This process's, with bytecode in use."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], models=["mobilenet_v2_100_imagenet_deq"])
    parser.add_argument("--targets", nargs="+", default=["host", "arm-neon"])
    args = parser.parse_args()
    zoo = Zoo(args.zoo)
    compiled = [sys.executable, "-m", "compileall", "-q", str(ROOT / "edgeq"), str(ROOT / "targets")]
    subprocess.run(compiled, env=_environment(), check=True)
    rows = []
    for name in args.models:
        for target in args.targets:
            with tempfile.TemporaryDirectory() as folder:
                calib = zoo.calibration(name, 32, Path(folder))
                cold, first = compile_once(zoo.model(name), calib, target, Path(folder))
                warm, second = compile_once(zoo.model(name), calib, target, Path(folder))
            stages = {"stages_empty": first["seconds"], "stages_warm": second["seconds"]}
            rows.append({"model": name, "target": target, "empty_cache_s": cold, "warm_cache_s": warm, **stages})
            say(f"{name:<32} {target:<8} empty {cold:.1f} s, warm {warm:.1f} s")
    finish("compile time", rows, args.out)


if __name__ == "__main__":
    main()
