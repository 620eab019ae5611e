"""From the digits model to artifacts, through the command line and the Python API."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import edgeq as package
from edgeq.errors import UsageError
from tests.cli.helpers import edgeq

SUMMARY = ("layers", "bits", "weights", "arena", "code", "operations", "calibration", "self-check")


@pytest.fixture(scope="module")
def integer_graph(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "digits.int.onnx"
    outcome = edgeq("quantize", digits / "digits.onnx", "--calib", digits / "calib.npz", "-o", path)
    assert outcome.code == 0, outcome.err
    return path


def test_compile_prints_what_a_person_wants_to_know(digits: Path, tmp_path: Path) -> None:
    outcome = edgeq(
        "compile", digits / "digits.onnx", "--calib", digits / "calib.npz", "-o", tmp_path / "d.edgeq", "--layers"
    )
    assert outcome.code == 0, outcome.err
    for word in SUMMARY:
        assert f"\n  {word} " in outcome.out, word
    assert "NOT CALIBRATED" not in outcome.out
    assert "SQNR" in outcome.out
    assert "same top-1 as the float model on" in outcome.out


def test_compile_as_json(digits: Path, tmp_path: Path) -> None:
    outcome = edgeq(
        "compile", digits / "digits.onnx", "--calib", digits / "calib.npz", "-o", tmp_path / "d.edgeq", "--json"
    )
    facts = outcome.json
    assert facts["calibrated"] is True
    assert facts["checked"] == "native"
    assert facts["sizes"]["file"] == (tmp_path / "d.edgeq").stat().st_size
    # The model's own arithmetic: 0.84 M multiply-accumulates, 22.6 k weights.
    assert facts["macs"] == pytest.approx(0.84e6, rel=0.02)
    assert facts["sizes"]["weights"] > 22_000
    assert facts["quantization"]["outputs"][0]["top1_agreement"] >= 0.99


def test_accuracy_survives(digits_artifacts: dict[str, Path], digits: Path) -> None:
    outcome = edgeq(
        "eval", digits_artifacts["host"], "--data", digits / "eval.npz", "--reference", digits / "digits.onnx", "--json"
    )
    facts = outcome.json
    assert facts["samples"] == 597
    assert facts["reference"]["values"]["top1"] - facts["score"]["values"]["top1"] < 0.01
    assert facts["agreement"] > 0.99
    assert facts["sqnr"] > 25
    people = edgeq("eval", digits_artifacts["host"], "--data", digits / "eval.npz")
    assert "597 samples" in people.out
    assert "%" in people.out


@pytest.mark.emulated
def test_host_and_arm_give_the_same_bits(digits_artifacts: dict[str, Path], digits: Path) -> None:
    outcome = edgeq(
        "compare", digits_artifacts["host"], digits_artifacts["arm"], "--input", digits / "eval.npz", "--samples", 64
    )
    assert outcome.code == 0, outcome.out
    assert "equal" in outcome.out


@pytest.mark.emulated
def test_run_on_arm(digits_artifacts: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        outcome = edgeq(
            "run",
            digits_artifacts["arm"],
            "--input",
            digits / "eval.npz",
            "--samples",
            4,
            "--threads",
            threads,
            "--raw",
            "-o",
            tmp_path / f"{threads}.npz",
        )
        assert outcome.code == 0, outcome.err
    one, three = (np.load(tmp_path / f"{t}.npz")["logits"] for t in (1, 3))
    assert one.dtype.kind == "i"
    assert np.array_equal(one, three)


@pytest.mark.emulated
def test_verify_on_both(digits_artifacts: dict[str, Path]) -> None:
    for path in digits_artifacts.values():
        outcome = edgeq("verify", path)
        assert outcome.code == 0, outcome.err
        # Two in each program that can run here: an artifact for `arm` has one for each kind of CPU.
        variants = 3 if path == digits_artifacts["arm"] else 1
        assert f"{2 * variants} vectors" in outcome.out
        assert edgeq("verify", path, "--hash-only", "--json").json["golden"] is None


def test_integer_graph_and_artifact_agree(integer_graph: Path, digits_artifacts: dict[str, Path], digits: Path) -> None:
    outcome = edgeq("compare", integer_graph, digits_artifacts["host"], "--input", digits / "eval.npz", "--json")
    assert outcome.code == 0, outcome.out
    assert outcome.json["equal"] is True


def test_float_model_and_integer_graph_layer_by_layer(integer_graph: Path, digits: Path) -> None:
    outcome = edgeq("compare", digits / "digits.onnx", integer_graph, "--input", digits / "eval.npz", "--json")
    assert outcome.code == 1
    layers = outcome.json["layers"]
    assert len(layers) >= 8
    assert all(layer["sqnr"] > 20 for layer in layers)
    text = edgeq("compare", digits / "digits.onnx", integer_graph, "--input", digits / "eval.npz").out
    assert "first difference" in text
    assert "largest loss of SQNR" in text


def test_eval_of_the_integer_graph_is_eval_of_the_artifact(
    integer_graph: Path, digits_artifacts: dict[str, Path], digits: Path
) -> None:
    scores = [
        edgeq("eval", path, "--data", digits / "eval.npz", "--samples", 100, "--json").json["score"]["values"]
        for path in (integer_graph, digits_artifacts["host"])
    ]
    assert scores[0] == scores[1]


def test_compiling_the_integer_graph_gives_the_same_outputs(
    integer_graph: Path, digits_artifacts: dict[str, Path], digits: Path, tmp_path: Path
) -> None:
    assert edgeq("compile", integer_graph, "-o", tmp_path / "d.edgeq").code == 0
    outcome = edgeq("compare", tmp_path / "d.edgeq", digits_artifacts["host"], "--input", digits / "eval.npz")
    assert outcome.code == 0


def test_inspect_all_kinds(integer_graph: Path, digits_artifacts: dict[str, Path], digits: Path) -> None:
    model = edgeq("inspect", digits / "digits.onnx", "--json").json
    graph = edgeq("inspect", integer_graph, "--json").json
    artifact = edgeq("inspect", digits_artifacts["arm"], "--json").json
    assert [x["kind"] for x in (model, graph, artifact)] == ["float model", "integer graph", "artifact"]
    assert model["totals"]["macs"] == graph["totals"]["macs"] == artifact["totals"]["macs"]
    assert {layer["weight_bits"] for layer in graph["layers"]} == {None, 8}
    assert artifact["arch"] == "aarch64"
    for path in (digits / "digits.onnx", integer_graph, digits_artifacts["arm"]):
        assert "operations" in edgeq("inspect", path).out


def test_profile_and_bench(digits_artifacts: dict[str, Path], digits: Path) -> None:
    host = digits_artifacts["host"]
    steps = edgeq("profile", host, "--repeat", 3, "--input", digits / "eval.npz", "--json").json["steps"]
    assert len(steps) == len(edgeq("inspect", host, "--json").json["steps"])
    assert "GOP/s" in edgeq("profile", host, "--repeat", 3, "--sort", "time").out
    assert edgeq("bench", host, "--repeat", 5, "--json").json["seconds"]["runs"] == 5
    duel = edgeq("bench", host, "--repeat", 5, "--against", digits / "digits.onnx", "--json").json["against"]
    assert duel["ratio"] > 0
    assert "ONNX Runtime" in edgeq("bench", host, "--repeat", 5, "--against", digits / "digits.onnx").out


def test_run_shows_outputs(digits_artifacts: dict[str, Path], digits: Path) -> None:
    outcome = edgeq("run", digits_artifacts["host"], "--input", digits / "eval.npz", "--samples", 6)
    assert outcome.code == 0
    assert "sample 0" in outcome.out
    assert "6 samples" in outcome.out
    listed = edgeq("run", digits_artifacts["host"], "--input", digits / "eval.npz", "--samples", 6, "--json").json
    assert listed["outputs"]["logits"]["shape"] == [6, 10]


def test_metric_of_the_user(digits_artifacts: dict[str, Path], digits: Path, tmp_path: Path) -> None:
    metric = tmp_path / "mine.py"
    metric.write_text("def wrong(outputs, y, x):\n    return int((outputs.argmax(1) != y).sum()) + 0 * len(x)\n")
    outcome = edgeq(
        "eval", digits_artifacts["host"], "--data", digits / "eval.npz", "--metric", f"{metric}:wrong", "--json"
    )
    assert outcome.json["score"]["values"]["wrong"] <= 6


def test_python_api(digits: Path, tmp_path: Path) -> None:
    x = np.load(digits / "calib.npz")["x"]
    seen: list[str] = []
    result = package.compile(
        digits / "digits.onnx",
        calib={"image": x},
        output=tmp_path / "d.edgeq",
        samples=32,
        progress=lambda stage, done, total: seen.append(stage),
    )
    assert result.calibrated
    assert set(result.seconds) == {"read", "quantize", "build", "link", "check"}
    assert seen
    model = package.load(result.path)
    outputs = model.run(x[:1])
    assert outputs["logits"].shape == (1, 10)
    quantized = package.quantize(digits / "digits.onnx", {"image": x[:32]})
    assert quantized.graph.calibrated
    assert quantized.report.outputs[0].sqnr_db > 25
    again = package.compile(quantized.graph, output=tmp_path / "again.edgeq")
    assert np.array_equal(package.load(again.path).run(x[:1])["logits"], outputs["logits"])
    with pytest.raises(UsageError, match="no place for the artifact"):
        package.compile(quantized.graph)


def test_quantize_is_callable_after_its_package_was_imported() -> None:
    importlib.import_module("edgeq.quantize.policy")

    assert callable(package.quantize)
