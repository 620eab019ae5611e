"""`edgeq inspect --target`: will it fit, before anything is flashed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgeq
from edgeq.compiler.fit import fit_manifest
from edgeq.compiler.target import load_target
from edgeq.errors import ModelError, UsageError
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command


@pytest.fixture(scope="module")
def graph(digits, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fit") / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", samples=16, output=path)
    return path


@pytest.fixture(scope="module")
def found(graph) -> dict[str, Any]:
    return edgeq.inspect(graph, target="cortex-m4")["fit"]


@pytest.fixture(scope="module")
def library(graph, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "net"
    edgeq.compile(graph, target="cortex-m4", output=folder, name="model")
    return folder


def test_layers_add_up(found) -> None:
    assert found["fits"]
    assert (found["flash"], found["ram"]) == (1 << 20, 1 << 18)
    assert found["flash_needed"] == found["code"] + found["weights"]
    assert found["ram_needed"] == found["arena"] + found["stack"]
    assert 0 < sum(layer["weights"] for layer in found["layers"]) <= found["weights"]  # and what aligns them
    assert 0 < sum(layer["code"] for layer in found["layers"]) <= found["code"]
    peak = found["peak"]
    assert peak["ram"] == max(layer["ram"] for layer in found["layers"]) == sum(b["bytes"] for b in peak["buffers"])


def test_a_library_fits_as_its_model_does(found, library) -> None:
    facts = edgeq.inspect(library)
    assert facts["kind"] == "static library"
    assert facts["fit"] == found


def test_an_artifact_is_judged_by_given_limits(graph, tmp_path) -> None:
    path = edgeq.compile(graph, target="host", output=tmp_path / "digits.edgeq").path
    assert "fit" not in edgeq.inspect(path)
    facts = edgeq.inspect(path, ram=1000)
    assert [short["kind"] for short in facts["fit"]["shortfalls"]] == ["ram"]
    assert facts["fit"]["flash"] is None
    with pytest.raises(UsageError, match="compiled for another target"):
        edgeq.inspect(path, target="cortex-m4")


def test_of_several_variants_the_one_with_the_largest_arena_counts(graph, tmp_path) -> None:
    path = edgeq.compile(graph, target="arm", output=tmp_path / "digits.edgeq").path
    facts = edgeq.inspect(path, ram=1 << 20)
    assert facts["fit"]["arena"] == facts["sizes"]["arena"]
    assert facts["fit"]["peak"]["ram"] <= facts["fit"]["arena"] <= facts["fit"]["peak"]["ram"] * 1.2
    assert "stack isn't counted" in command("inspect", path, "--ram", "1M").out


def test_a_float_model_needs_no_data(digits) -> None:
    facts = edgeq.inspect(digits / "digits.onnx", target="cortex-m7")
    assert facts["kind"] == "float model"
    assert facts["fit"]["fits"]


def test_what_is_missing_and_what_would_help(graph, found) -> None:
    ram = found["stack"] + found["arena"] // 8  # less than any way of running it needs
    limits = ("--flash", found["flash_needed"] - 5, "--ram", ram)
    missing = found["ram_needed"] - ram
    done = command("inspect", graph, "--target", "cortex-m4", *limits, "--json")
    assert done.code == 1
    ram, flash = done.json["fit"]["shortfalls"]
    assert (ram["bytes"], flash["bytes"]) == (missing, 5)
    assert ram["layer"] == found["peak"]["name"]
    assert "are alive" in ram["why"]
    assert "next peak" in ram["hint"]
    assert "instead of 8x8 would fit (estimated)" in ram["hint"]
    assert "most weights" in flash["why"]
    text = command("inspect", graph, "--target", "cortex-m4", *limits)
    assert text.code == 1
    assert f"the model needs {missing} bytes more RAM" in text.out
    assert "the model needs 5 bytes more flash" in text.out


def test_the_smaller_input_that_is_named_does_fit(graph, found) -> None:
    """The estimate scales areas: half the RAM holds an input with half the pixels."""
    memories = load_target("cortex-m4").spec.memories
    rows = {"layers": [], "memory": [], "target": "t", "sizes": {"code": 0, "weights": 0, "arena": 4000, "stack": 0}}
    short = fit_manifest(rows, memories, (1, 3, 20, 40), ram=1000).shortfalls[0]
    assert "about 10x20 instead of 20x40" in short.hint
    assert "instead of" not in fit_manifest(rows, memories, (1, 9), ram=1000).shortfalls[0].hint


def test_roomier_targets_are_named(graph) -> None:
    done = command("inspect", graph, "--target", "cortex-m0plus")
    assert done.code == 1
    assert "there is room on cortex-m33, cortex-m4, cortex-m55, cortex-m7" in " ".join(done.out.split())


def test_what_fits_says_so(library) -> None:
    done = command("inspect", library)
    assert done.code == 0, done.err
    assert "it fits" in done.out
    assert "◀" in done.out
    assert "stack" in done.out


def test_a_model_needs_a_target(graph) -> None:
    assert_refused(command("inspect", graph, "--ram", "64k"), "size depends on the target", "--target cortex-m4")
    assert_refused(command("inspect", graph, "--target", "wasm-simd128"), "no memories to fit")


def test_folders_that_are_no_library(tmp_path, library) -> None:
    with pytest.raises(ModelError, match="no compiled model"):
        edgeq.inspect(tmp_path)
    (tmp_path / "libnet.a").write_bytes(b"")
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        edgeq.inspect(tmp_path)
    manifest = json.loads((library / "model.json").read_text())
    for key, value in (("target", 5), ("sizes", {"code": -1}), ("memory", [["a"]]), ("layers", [{}])):
        (tmp_path / "net.json").write_text(json.dumps({**manifest, key: value}))
        with pytest.raises(ModelError, match="can't be judged") as caught:
            edgeq.inspect(tmp_path)
        assert f"net.json, {key}" in str(caught.value.where)
    (tmp_path / "net.json").write_text(json.dumps({**manifest, "target": "../elsewhere"}))
    assert edgeq.inspect(tmp_path)["fit"]["ram"] is None
