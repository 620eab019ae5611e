"""LiteRT (TFLite with XNNPACK): float and static int8, converted from torch by litert-torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from case import Case, Feeds, Unsupported, samples, single

FORMS = ("fp32", "int8 static")


def prepare(form: str, case: Case, folder: Path) -> Path:
    """A .tflite file: the one that its authors published (int8), else converted, and quantized with a8w8 by channel."""
    path = folder / "model.tflite"
    if form != "fp32" and case.tflite:
        shutil.copyfile(case.tflite, path)
        return path
    _converted(case).export(str(path))
    if form == "fp32":
        return path
    from ai_edge_quantizer import quantizer, recipe

    floats = folder / "float.tflite"
    path.rename(floats)
    tool = quantizer.Quantizer(str(floats), recipe.static_wi8_ai8())
    feeds = samples(case.calibration)
    count = len(next(iter(feeds.values())))
    inputs = _interpreter(floats, 1).get_signature_runner("serving_default").get_input_details()
    named = dict(zip(sorted(inputs), feeds.values(), strict=True))
    data = {"serving_default": [_typed(single(named, index), inputs) for index in range(count)]}
    tool.quantize(tool.calibrate(data)).export_model(str(path), overwrite=True)
    return path


def _typed(feeds: Feeds, details: Any) -> Feeds:
    return {name: value.astype(details[name]["dtype"]) for name, value in feeds.items()}


def _converted(case: Case) -> Any:
    import litert_torch
    import torch

    example = tuple(torch.from_numpy(x) for x in single(samples(case.trial), 0).values())
    if case.network:
        from networks import build

        module = build(case.network)
    else:
        module = _from_onnx(case.model)
    return litert_torch.convert(module, example)


def _from_onnx(model: str) -> Any:
    """The torch module of an ONNX file; shapes that it keeps as tensors become numbers, which torch.export needs."""
    import onnx2torch
    import torch
    from onnx2torch.node_converters.reshape import OnnxReshape

    try:
        module = onnx2torch.convert(model).eval()
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise Unsupported(f"LiteRT takes no ONNX, and onnx2torch failed: {error}") from error
    for node in list(module.graph.nodes):
        if node.op != "call_module" or not isinstance(module.get_submodule(node.target), OnnxReshape):
            continue
        if node.args[1].op == "get_attr":
            owner, _, leaf = str(node.args[1].target).rpartition(".")
            shape = getattr(module.get_submodule(owner), leaf).tolist()
            with module.graph.inserting_before(node):
                node.replace_all_uses_with(module.graph.call_function(torch.reshape, (node.args[0], shape)))
            module.graph.erase_node(node)
    module.recompile()
    return module


def _interpreter(path: Path, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path), num_threads=threads)


def _as_taken(given: Any, value: np.ndarray) -> np.ndarray:
    """A value as an input takes it: channels last, quantized."""
    shape, (scale, zero) = tuple(given["shape"]), given["quantization"]
    laid = value.transpose(0, 2, 3, 1) if value.shape != shape and value.ndim == 4 else value
    if scale:
        limits = np.iinfo(given["dtype"])
        laid = np.clip(np.rint(laid / scale) + zero, limits.min, limits.max)
    return np.ascontiguousarray(laid.reshape(shape), given["dtype"])


class _Session:
    """Inputs are quantized and outputs dequantized here where a published file has integers at its ends."""

    def __init__(self, path: Path, threads: int) -> None:
        self.interpreter = _interpreter(path, threads)
        self.interpreter.allocate_tensors()
        self.inputs = sorted(self.interpreter.get_input_details(), key=lambda given: str(given["name"]))
        self.output = self.interpreter.get_output_details()[0]
        self.bound = False

    def _bind(self, feeds: Feeds) -> None:
        for given, value in zip(self.inputs, feeds.values(), strict=True):
            self.interpreter.set_tensor(given["index"], _as_taken(given, value))

    def run(self, feeds: Feeds) -> np.ndarray:
        self.bound = False
        self._bind(feeds)
        self.interpreter.invoke()
        value = np.asarray(self.interpreter.get_tensor(self.output["index"]), np.float32)
        scale, zero = self.output["quantization"]
        return (value - zero) * scale if scale else value

    def repeat(self, feeds: Feeds, count: int) -> None:
        if not self.bound:
            self._bind(feeds)
            self.bound = True
        for _ in range(count):
            self.interpreter.invoke()


def load(form: str, path: Path, threads: int) -> _Session:
    """With the XNNPACK delegate, as it comes."""
    return _Session(path, threads)


def versions() -> dict[str, str]:
    """Of the packages."""
    from importlib.metadata import version

    return {name: version(name) for name in ("ai-edge-litert", "litert-torch", "ai-edge-quantizer")}
