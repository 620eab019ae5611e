"""Transformers from both of torch's exporters and from memory: one form of the float graph, the same outputs."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeq import frontend
from edgeq.errors import ModelError, UsageError
from tests.frontend.torch_models import BertLayer, LlamaLike, TimmBlock, image_example, text_example

pytestmark = pytest.mark.filterwarnings("ignore")
MASKS = ("additive", "masked_fill", "sdpa additive", "sdpa boolean", "sdpa causal", "causal and padding")


def export(module: nn.Module, example: tuple[torch.Tensor, ...], folder: Path, **options: object) -> Path:
    path = folder / "model.onnx"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        torch.onnx.export(module.eval(), example, path, **options)
    return path


def check(graph: frontend.FloatGraph, module: nn.Module, example: tuple[torch.Tensor, ...]) -> Counter[str]:
    """The outputs are torch's; returns the ops, functions of one tensor by their label."""
    with torch.no_grad():
        expected = module.eval()(*example).numpy()
    feeds = {value.name: array.numpy() for value, array in zip(graph.inputs, example, strict=True)}
    (found,) = graph.run(feeds).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return Counter(node.metadata_props.get("edgeq.label", node.op_type) for node in graph.nodes)


OLD = {"dynamo": False, "opset_version": 14}
NEW = {"dynamo": True, "verbose": False}
NEWEST = {"dynamo": True, "verbose": False, "opset_version": 23}


@pytest.mark.parametrize("options", [OLD, NEW, NEWEST], ids=["old", "new", "opset23"])
@pytest.mark.parametrize("fused", [True, False])
def test_timm_like_block(options, fused, tmp_path):
    module, example = TimmBlock(fused), image_example()
    found = check(frontend.load(export(module, example, tmp_path, **options)), module, example)
    assert {op: found[op] for op in ("LayerNormalization", "MatMul", "Softmax", "GELU", "Affine")} == {
        "LayerNormalization": 2,
        "MatMul": 8,  # queries, keys, values, logits, mixture, projection and two of the MLP
        "Softmax": 1,
        "GELU": 0 if "Gelu" in found else 1,
        "Affine": 1,
    }
    assert not {"Slice", "Split", "Squeeze", "ReduceMean", "Mul", "Div", "Sqrt", "Attention"} & set(found)
    # Class token: a constant joined to the patches; heads: one Reshape and one Transpose a side.
    assert found["Concat"] == 1
    assert found["Transpose"] == 5


@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_the_old_exporter(mask, tmp_path):
    module, example = BertLayer(mask), text_example()
    found = check(frontend.load(export(module, example, tmp_path, dynamo=False, opset_version=17)), module, example)
    assert found["MaskedSoftmax"] == 1
    assert found["RmsNormalization"] == 1
    assert not {"Softmax", "Where", "IsNaN", "Sub", "Equal", "Sqrt", "ReduceL2", "Expand"} & set(found)


@pytest.mark.parametrize("mask", ["additive", "sdpa boolean", "causal and padding"])
def test_masks_of_the_new_exporter(mask, tmp_path):
    module, example = BertLayer(mask), text_example()
    found = check(frontend.load(export(module, example, tmp_path, **NEW)), module, example)
    assert found["MaskedSoftmax"] == 1
    assert not {"Softmax", "Where", "IsNaN", "Sub", "Equal", "ReduceL2"} & set(found)


@pytest.mark.parametrize("options", [{"dynamo": False, "opset_version": 17}, NEW], ids=["old", "new"])
def test_rms_norm_and_gated_mlp(options, tmp_path):
    module, example = LlamaLike(), (torch.randn(1, 5, 16),)
    found = check(frontend.load(export(module, example, tmp_path, **options)), module, example)
    assert found == {"RmsNormalization": 1, "MatMul": 3, "SiLU": 1, "Mul": 1, "Add": 1}


def test_module_gives_the_same_graph_as_its_file(tmp_path):
    module, example = TimmBlock(True), image_example()
    module.train()
    direct = frontend.load_module(module, example)
    assert module.training
    assert module.norm.training
    through = frontend.load(export(module, example, tmp_path, **NEW))
    assert [(n.op_type, n.name) for n in direct.nodes] == [(n.op_type, n.name) for n in through.nodes]
    feeds = {"image": example[0].numpy()}
    for name, array in direct.run(feeds).items():
        np.testing.assert_array_equal(array, through.run(feeds)[name])
    assert "torch module TimmBlock" in direct.notes[0]


def test_exported_program_and_named_inputs():
    module, example = LlamaLike(), torch.randn(1, 3, 16)
    program = torch.export.export(module.eval(), (example,))
    assert len(frontend.load_module(program).nodes) == len(frontend.load_module(module, {"x": example}).nodes)


def test_what_is_a_torch_model():
    assert frontend.is_torch(nn.Linear(1, 1))
    assert not frontend.is_torch(torch.zeros(1))
    assert not frontend.is_torch("model.onnx")


def test_module_without_example():
    with pytest.raises(UsageError, match="needs example inputs") as caught:
        frontend.load_module(LlamaLike())
    assert "example_inputs=" in str(caught.value)


def test_module_that_cannot_be_exported():
    class Jumps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError, match="can't export the module") as caught:
        frontend.load_module(Jumps(), torch.zeros(1, 3))
    assert "torch module Jumps" in str(caught.value)
    assert "data-dependent" in str(caught.value)
