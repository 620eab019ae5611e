"""OpenVINO: float, and int8 by NNCF's post-training quantization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from case import Case, Feeds, samples, single

FORMS = ("fp32", "int8 NNCF")
TRANSFORMERS = ("deit", "vit", "minilm")


def prepare(form: str, case: Case, folder: Path) -> Path:
    """An IR file. int8: NNCF's `quantize`, told where a network is a transformer, all calibration samples."""
    import openvino

    path = folder / "model.xml"
    model = openvino.convert_model(case.model)
    if form == "fp32":
        openvino.save_model(model, path, compress_to_fp16=False)
        return path
    import nncf

    feeds = samples(case.calibration)
    names = [given.get_any_name() for given in model.inputs]
    given = dict(zip(names, _ordered(names, feeds), strict=True))
    count = len(next(iter(given.values())))
    data = nncf.Dataset([single(given, index) for index in range(count)])
    kind = nncf.ModelType.TRANSFORMER if any(word in case.name for word in TRANSFORMERS) else None
    openvino.save_model(nncf.quantize(model, data, model_type=kind, subset_size=count), path)
    return path


def _ordered(names: list[str], feeds: Feeds) -> list[np.ndarray]:
    return [feeds[name] for name in names] if set(names) <= set(feeds) else list(feeds.values())


class _Session:
    def __init__(self, form: str, path: Path, threads: int) -> None:
        import openvino

        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        options["ENABLE_CPU_PINNING"] = False  # the worker is pinned from outside
        if form == "fp32":
            options["INFERENCE_PRECISION_HINT"] = "f32"
        self.compiled = openvino.Core().compile_model(path, "CPU", options)
        self.request = self.compiled.create_infer_request()
        self.names = [given.get_any_name() for given in self.compiled.inputs]
        self.bound = False

    def _bind(self, feeds: Feeds) -> None:
        import openvino

        for index, value in enumerate(_ordered(self.names, feeds)):
            self.request.set_input_tensor(index, openvino.Tensor(value, shared_memory=False))

    def run(self, feeds: Feeds) -> np.ndarray:
        self.bound = False
        self._bind(feeds)
        self.request.infer()
        return np.array(self.request.get_output_tensor(0).data, np.float32)

    def repeat(self, feeds: Feeds, count: int) -> None:
        if not self.bound:
            self._bind(feeds)
            self.bound = True
        for _ in range(count):
            self.request.start_async()  # infer() collects the outputs in a dictionary each time
            self.request.wait()


def load(form: str, path: Path, threads: int) -> _Session:
    """One stream, latency first."""
    return _Session(form, path, threads)


def versions() -> dict[str, str]:
    """Of the packages."""
    from importlib.metadata import version

    return {name: version(name) for name in ("openvino", "nncf")}
