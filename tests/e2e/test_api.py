"""The public functions have the names of the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.cli.main import COMMANDS
from edgeq.errors import ArtifactError


def test_every_command_is_a_function_with_a_docstring() -> None:
    for name in COMMANDS:
        assert name in edgeq.__all__
        function = getattr(edgeq, name)
        assert callable(function)
        assert function.__doc__


def test_all_names_exist() -> None:
    for name in edgeq.__all__:
        assert getattr(edgeq, name)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = edgeq.nope


def test_functions_over_an_artifact(digits_artifacts: dict[str, Path], digits: Path) -> None:
    host, data = digits_artifacts["host"], digits / "eval.npz"
    assert edgeq.verify(host).golden == 2
    assert edgeq.inspect(host)["kind"] == "artifact"
    outputs = edgeq.run(host, data, samples=5)["logits"]
    assert outputs.shape == (5, 10)
    assert outputs.dtype == np.float32
    assert edgeq.eval(host, data, samples=5).samples == 5
    assert edgeq.bench(host, repeats=3)["runs"] == 3
    assert len(edgeq.profile(host, repeats=2).steps) == edgeq.verify(host, hash_only=True).steps
    assert edgeq.compare(host, host, data).equal
    assert {"arm", "host"} <= {row["name"] for row in edgeq.targets()}
    assert edgeq.doctor()


def test_load_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.edgeq").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match="is not an edgeq artifact"):
        edgeq.load(tmp_path / "x.edgeq")
