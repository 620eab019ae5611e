"""ONNX Runtime: float, statically quantized (U8S8 by channel, weights of 7 bits), dynamically quantized."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, Feeds, by_name, samples, single

FORMS = ("fp32", "int8 static", "int8 dynamic")


def prepare(form: str, case: Case, folder: Path) -> Path:
    """An ONNX file. Static: QDQ, u8 activations, s8 weights, per channel, reduced range, min-max."""
    path = folder / "model.onnx"
    if form == "fp32":
        shutil.copyfile(case.model, path)
        return path
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    prepared = _preprocessed(case.model, folder)
    if form == "int8 dynamic":
        quantize_dynamic(str(prepared), str(path), weight_type=QuantType.QInt8, per_channel=True)
        return path
    quantize_static(
        str(prepared),
        str(path),
        _Reader(samples(case.calibration)),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    return path


def _preprocessed(model: str, folder: Path) -> Path:
    """As ONNX Runtime's own pre-processing leaves it; the exporter's shapes of transposed weights contradict it."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain = onnx.load(model)
    del plain.graph.value_info[:]
    bare, prepared = folder / "bare.onnx", folder / "prepared.onnx"
    onnx.save(plain, bare)
    quant_pre_process(str(bare), str(prepared), skip_symbolic_shape=True)
    bare.unlink()
    return prepared


class _Reader:
    """What quantize_static iterates over."""

    def __init__(self, feeds: Feeds) -> None:
        self.feeds, self.next = feeds, 0

    def get_next(self) -> Feeds | None:
        """One sample, None behind the last."""
        self.next += 1
        count = len(next(iter(self.feeds.values())))
        return single(self.feeds, self.next - 1) if self.next <= count else None


class _Session:
    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.binding: Any = None

    def _ordered(self, feeds: Feeds) -> Feeds:
        inputs = self.session.get_inputs()
        values = by_name(inputs, feeds, lambda given: given.name)
        return {given.name: value for given, value in zip(inputs, values, strict=True)}

    def run(self, feeds: Feeds) -> np.ndarray:
        return np.asarray(self.session.run(None, self._ordered(feeds))[0], np.float32)

    def repeat(self, feeds: Feeds, count: int) -> None:
        if self.binding is None:
            self.binding = self.session.io_binding()
            for name, value in self._ordered(feeds).items():
                self.binding.bind_cpu_input(name, value)
            for output in self.session.get_outputs():
                self.binding.bind_output(output.name)
        for _ in range(count):
            self.session.run_with_iobinding(self.binding)


def load(form: str, path: Path, threads: int) -> _Session:
    """A session whose inputs and outputs are bound once."""
    return _Session(path, threads)


def versions() -> dict[str, str]:
    """Of the package."""
    from importlib.metadata import version

    return {"onnxruntime": version("onnxruntime")}
