"""A small calibrated artifact for this machine and for arm, compiled once a session through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.helpers import edgeq


@pytest.fixture(scope="session")
def digits_artifacts(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target name → digits artifact: host and arm."""
    folder = tmp_path_factory.mktemp("digits")
    paths = {}
    for target in ("host", "arm"):
        paths[target] = folder / f"digits-{target}.edgeq"
        outcome = edgeq(
            "compile",
            digits / "digits.onnx",
            "--target",
            target,
            "--calib",
            digits / "calib.npz",
            "-o",
            paths[target],
        )
        assert outcome.code == 0, outcome.err
    return paths


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx (x [1, 2, 4, 4] → one convolution → y) and good.npz (16 samples)."""
    folder = tmp_path_factory.mktemp("tiny")
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1,2,4,4] x) => (float[1,3,4,4] y) '
        "{ c = Conv <pads = [1,1,1,1]> (x, w) y = Relu (c) }"
    )
    rng = np.random.default_rng(0)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=(3, 2, 3, 3)).astype(np.float32), "w"))
    proto.graph.node[0].name = "conv_in"
    onnx.save(proto, folder / "tiny.onnx")
    np.savez(folder / "good.npz", x=rng.normal(size=(16, 2, 4, 4)).astype(np.float32))
    return folder
