"""What every benchmark shares: the model zoo, the machine's description, one JSON file as the result."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CNNS = (
    "mlperf_tiny_resnet8_cifar10",
    "mlperf_tiny_mobilenetv1_vww",
    "mlperf_tiny_dscnn_kws",
    "mlperf_tiny_autoencoder_toycar",
    "mobilenet_v2_100_imagenet_deq",
    "squeezenet1_1_imagenet",
    "yolox_nano_coco",
)
TRANSFORMERS = ("vit_cifar10_prenorm_d4", "vit_mnist_d6", "all_minilm_l6_v2")


def arguments(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have: --zoo, --models, --out."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--zoo", type=Path, default=ROOT.parent / "shared" / "zoo", help="folder with evaluate.py and models/"
    )
    parser.add_argument("--models", nargs="+", default=list(defaults.get("models", CNNS)), metavar="NAME")
    parser.add_argument("--out", type=Path, help="JSON file to write (default: only print)")
    return parser


class Zoo:
    """Models, calibration and evaluation data in a folder with an `evaluate.py`."""

    def __init__(self, folder: Path) -> None:
        script = folder / "evaluate.py"
        if not script.is_file():
            sys.exit(f"no model zoo in {folder}: give its folder with --zoo")
        self.folder = folder
        self.module = _import(script)

    def model(self, name: str) -> Path:
        """The ONNX file."""
        return self.folder / "models" / name / "model.onnx"

    def calibration(self, name: str, samples: int, to: Path) -> Path:
        """An .npz with at most `samples` calibration samples."""
        path = to / f"{name}-calib.npz"
        np.savez(path, **self.module.calibration(name, samples))
        return path

    def inputs(self, name: str) -> np.ndarray:
        """All evaluation inputs as the model takes them, [n, …] float32."""
        x = self.module.inputs(name, "eval")[0]
        if name.startswith("mlperf_tiny_autoencoder"):
            x = self.module.windows(x).reshape(-1, 640)
        return np.asarray(x, np.float32)

    def feeds(self, name: str) -> dict[str, np.ndarray]:
        """All evaluation inputs by the model's names, [n, …]: float32; int64 token ids and mask of a text model."""
        names = list(self.module.calibration(name, 1))
        if len(names) == 1:
            return {names[0]: self.inputs(name)}
        data = self.module.load(self.module.PRE[name][0])
        texts = [data[f"eval_{pairs}_{side}"] for pairs in ("stsb", "sick") for side in "ab"]
        ids = np.concatenate(texts).astype(np.int64)
        return dict(zip(names, (ids, (ids != 0).astype(np.int64)), strict=True))

    def evaluate(self, name: str, run: Callable[..., np.ndarray]) -> dict[str, float]:
        """Metrics of `run(x) -> first output` on the evaluation data."""
        return dict(self.module.evaluate(name, run, "eval"))

    def fp32(self, name: str) -> dict[str, float]:
        """The same through ONNX Runtime on the float model."""
        return self.evaluate(name, self.module.ort_runner(str(self.model(name))))


def _import(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("zoo_evaluate", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment() -> dict[str, Any]:
    """Commit, processor, versions: what a figure depends on."""
    from importlib.metadata import version

    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False).stdout
    return {
        "commit": commit + ("+changes" if dirty.strip() else ""),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("apache-tvm", "onnxruntime", "numpy")},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("model name", "cpu part")):
            return line.partition(":")[2].strip()
    return platform.processor()


def finish(benchmark: str, rows: list[dict[str, Any]], out: Path | None) -> None:
    """Print the result as JSON and write it to `out`."""
    text = json.dumps({"benchmark": benchmark, **environment(), "results": rows}, indent=1)
    print(text)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def say(*words: object) -> None:
    """Progress, on stderr."""
    print(*words, file=sys.stderr, flush=True)
