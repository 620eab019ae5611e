"""edgeq's WebAssembly against onnxruntime-web under Node.js, SIMD, one thread, in turns in one process.

    npm ci --prefix benchmarks/wasm || npm install --prefix benchmarks/wasm
    python benchmarks/wasm/race.py --out wasm.json

Both get float32 inputs and give float32 outputs. onnxruntime-web runs the float model and the same model quantized by
onnxruntime (static QDQ, u8 activations, s8 weights by channel); the ratio is against the faster of the two. Node.js
compiles everything with its optimising compiler at once (--no-liftoff), or figures would depend on when it does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent / "peers"), str(HERE.parents[1])]

import numpy as np  # noqa: E402
import onnxruntime_peer  # noqa: E402
from case import Case  # noqa: E402
from common import Zoo, arguments, finish, say  # noqa: E402

import edgeq  # noqa: E402

# Node.js that knows relaxed SIMD behind a flag only.
RELAXED, LAST_WITH_FLAG = ("--experimental-wasm-relaxed-simd",), 20


def race(zoo: Zoo, name: str, args: Any, folder: Path) -> dict[str, Any]:
    """Milliseconds of an inference of both on one network."""
    calibration = zoo.calibration(name, args.samples, folder)
    made = edgeq.compile(zoo.model(name), target=args.target, calib=str(calibration), output=folder / "edgeq.wasm")
    with np.load(calibration) as data:
        sample = np.ascontiguousarray(data[data.files[0]][:1], np.float32)
    (folder / "input.bin").write_bytes(sample.tobytes())
    case = Case(name, str(zoo.model(name)), str(calibration), "")
    forms: dict[str, str] = {}
    for form in ("fp32", "int8 static"):
        place = folder / form.split()[0]
        place.mkdir()
        forms[form] = str(onnxruntime_peer.prepare(form, case, place))
    given = {
        "edgeq": str(made.path),
        "face": str(folder / "edgeq.mjs"),
        "input": str(folder / "input.bin"),
        "shape": list(sample.shape),
        "onnx": forms,
        "rounds": args.rounds,
        "budget_ms": args.budget,
        "warm_ms": 1000.0,
    }
    (folder / "case.json").write_text(json.dumps(given), encoding="utf-8")
    pinned = ["taskset", "-c", str(args.core)] if args.core is not None else []
    flags = ["--no-liftoff", *RELAXED] if _node_version() <= LAST_WITH_FLAG else ["--no-liftoff"]
    command = [*pinned, "node", *flags, str(HERE / "race.mjs"), str(folder / "case.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    times: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    module, different = times.pop("module"), times.pop("different")
    if different:
        sys.exit(f"{name}: {different} bytes of the golden vectors differ")
    ratios = {
        statistic: min(time for side, time in found.items() if side != "edgeq") / found["edgeq"]
        for statistic, found in times.items()
    }
    return {"model": name, "module": module, "milliseconds": times, "ratios": ratios, "sizes": made.report["sizes"]}


def _node_version() -> int:
    printed = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(printed.strip("v\n").split(".")[0])


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--target", default="wasm", help="wasm: the best module for this engine")
    parser.add_argument("--samples", type=int, default=8, help="calibration samples")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--budget", type=float, default=100.0, help="milliseconds of a side in a round")
    parser.add_argument("--core", type=int, help="pin to this core")
    args = parser.parse_args()
    if not (HERE / "node_modules" / "onnxruntime-web").is_dir():
        sys.exit("onnxruntime-web isn't there: npm install --prefix benchmarks/wasm")
    rows = []
    for name in args.models:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(race(Zoo(args.zoo), name, args, Path(folder)))
        times = ", ".join(f"{side} {time:.2f} ms" for side, time in rows[-1]["milliseconds"]["median"].items())
        ratios = rows[-1]["ratios"]
        say(f"{name:<32} {ratios['median']:.2f} × by medians, {ratios['least']:.2f} × by least times  ({times})")
    finish("wasm", rows, args.out)


if __name__ == "__main__":
    main()
