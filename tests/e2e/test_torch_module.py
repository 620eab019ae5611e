"""`edgeq.compile(module, example_inputs=…)`: from torch to an artifact without a file in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edgeq
from edgeq.errors import UsageError
from tests.frontend.torch_models import TOKENS, VOCABULARY, BertLayer, text_example

pytestmark = pytest.mark.filterwarnings("ignore")


def sentences(count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = (np.arange(TOKENS) < random.integers(2, TOKENS + 1, count)[:, None]).astype(np.int64)
    return {"input_ids": random.integers(1, VOCABULARY, (count, TOKENS)) * mask, "attention_mask": mask}


def test_module_to_artifact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, data = BertLayer("additive"), sentences(32)
    made = edgeq.compile(module, example_inputs=text_example(), calib=data, output=tmp_path / "bert.edgeq")
    assert made.report["checked"] == "native"
    assert made.calibrated
    model = edgeq.load(made.path)
    for k in range(8):
        feeds = {name: array[k : k + 1] for name, array in data.items()}
        (found,) = model.run(feeds, dequantize=True).values()
        with torch.no_grad():
            real = module(*(torch.tensor(feeds[name]) for name in ("input_ids", "attention_mask"))).numpy()
        assert float((found * real).sum() / np.linalg.norm(found)) > 0.99


def test_what_is_no_model() -> None:
    with pytest.raises(UsageError, match="this is no model") as caught:
        edgeq.quantize(np.zeros(3), "random")
    assert "ndarray" in str(caught.value)
    assert "example_inputs=" in str(caught.value)


def test_module_has_no_place_of_its_own() -> None:
    with pytest.raises(UsageError, match="no place for the artifact") as caught:
        edgeq.compile(BertLayer("additive"), example_inputs=text_example(), calib="random")
    assert "output=" in str(caught.value)
