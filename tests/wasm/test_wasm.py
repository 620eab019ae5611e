"""WebAssembly modules: what is in them, the JavaScript that runs them, the example in Node.js and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import edgeq
from edgeq.artifact import wasm
from edgeq.errors import ArtifactError, CompileError, DataError, ToolError, UsageError
from edgeq.integer import IntegerGraph, reference
from edgeq.integer.arithmetic import dequantize, quantize
from edgeq.runtime import node as webassembly
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """The digits model: integer graph and a folder with the module and its JavaScript."""
    folder = tmp_path_factory.mktemp("web")
    graph = folder / "digits.int.onnx"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", output=graph)
    result = edgeq.compile(graph, target="wasm-simd128", output=folder / "digits.wasm")
    return graph, result


def script(folder, source: str) -> subprocess.CompletedProcess[str]:
    """Runs JavaScript that may use `load`, `model` and edgeq's other names."""
    head = (
        'import { readFileSync } from "node:fs";\n'
        'import { EdgeqError, dequantize, load, quantize } from "./edgeq.mjs";\n'
        'const model = await load(new URL("./digits.wasm", import.meta.url));\n'
    )
    (folder / "test.mjs").write_text(head + source)
    return subprocess.run(
        ["node", str(folder / "test.mjs")], capture_output=True, text=True, check=False, cwd=folder, timeout=60
    )


def test_a_module_imports_nothing_and_says_what_it_is(made) -> None:
    path = made[1].path
    kinds = [kind for kind, _ in wasm.sections(path.read_bytes())]
    assert 2 not in kinds
    manifest = wasm.read_manifest(path)
    assert (manifest["target"], manifest["golden"]) == ("wasm-simd128", 1)
    assert [t["name"] for t in manifest["inputs"]] == [v.name for v in IntegerGraph.load(made[0]).inputs]
    sizes = made[1].report["sizes"]
    assert sizes["file"] == path.stat().st_size > sizes["code"] + sizes["weights"]
    assert made[1].report["format"] == "wasm"


def test_the_same_model_makes_the_same_bytes(made, tmp_path) -> None:
    again = edgeq.compile(made[0], target="wasm-simd128", output=tmp_path / "again.wasm", format="wasm").path
    assert again.read_bytes() == made[1].path.read_bytes()


@pytest.mark.node
def test_a_batch_has_the_references_bits(made, digits) -> None:
    graph = IntegerGraph.load(made[0])
    name = graph.inputs[0].name
    quant = graph.quant(graph.inputs[0])
    with np.load(digits / "eval.npz") as data:
        x = np.asarray(data["x"][:20], np.float32)
    inputs = np.asarray(quantize(x, quant.scale, quant.zero_point, quant.dtype))
    found = webassembly.run_module(made[1].path, {name: inputs})
    for number in range(len(inputs)):
        for output, expected in reference.run(graph, {name: inputs[number : number + 1]}).items():
            assert np.array_equal(found[output][number], expected)


@pytest.mark.node
def test_a_wrong_golden_byte_is_counted(made, tmp_path) -> None:
    raw = bytearray(made[1].path.read_bytes())
    raw[-1] ^= 1
    (tmp_path / "wrong.wasm").write_bytes(raw)
    assert webassembly.differing_bytes(tmp_path / "wrong.wasm") == 1


@pytest.mark.node
def test_a_module_that_contradicts_the_reference_is_refused(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(webassembly, "differing_bytes", lambda path: 3)
    with pytest.raises(CompileError, match="contradicts the integer reference") as caught:
        edgeq.compile(made[0], target="wasm-simd128", output=tmp_path / "a.wasm")
    assert "3 bytes" in str(caught.value.why)


@pytest.mark.node
@pytest.mark.parametrize("scale", [0.1, 1 / 3, 2.0**-7, 7.25e-5])
def test_quantize_and_dequantize_are_exact(made, scale) -> None:
    folder = made[1].path.parent
    rng = np.random.default_rng(3)
    halves = (np.arange(-300, 300) + 0.5) * scale
    values = np.concatenate([halves, rng.normal(0, 60 * scale, 3000), [0, -0.0, 3e30, -3e30, 1e-45]]).astype("<f4")
    (folder / "values.bin").write_bytes(values.tobytes())
    done = script(
        folder,
        'const bytes = readFileSync("values.bin");\n'
        "const x = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));\n"
        "const all = {};\n"
        'for (const dtype of ["int8", "uint8", "int16"]) {\n'
        f"  const tensor = {{ name: 'x', dtype, scale: {scale!r}, zero_point: dtype === 'int16' ? 0 : 5 }};\n"
        "  const q = quantize(x, tensor);\n"
        "  all[dtype] = [Array.from(q), Array.from(dequantize(q, tensor))];\n"
        "}\n"
        "console.log(JSON.stringify(all));\n",
    )
    assert done.returncode == 0, done.stderr
    for dtype, (integers, reals) in json.loads(done.stdout).items():
        zero = 0 if dtype == "int16" else 5
        expected = quantize(values, scale, zero, np.dtype(dtype))
        assert np.array_equal(integers, expected)
        assert np.array_equal(np.asarray(reals, np.float32), dequantize(expected, scale, zero))


@pytest.mark.node
def test_instances_are_independent(made) -> None:
    done = script(
        made[1].path.parent,
        "const other = await model.clone();\n"
        "const [tensor] = model.inputs;\n"
        "model.view(tensor).fill(1);\n"
        "other.view(tensor).fill(2);\n"
        "console.log(model.view(tensor)[0], other.view(tensor)[0], model.verify(), other.verify());\n",
    )
    assert done.stdout.split() == ["1", "2", "0", "0"], done.stderr


@pytest.mark.node
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("model.run({})", "input .* is missing"),
        ("model.run(new Float32Array(3))", "3 elements, expected 64"),
        ("model.run({ nonsense: new Float32Array(64) })", "no input nonsense"),
        ("model.run(new Float32Array(64).fill(NaN))", "element 0 is not finite"),
        ("model.runIntegers(new Int32Array(64))", "expected a Int8Array"),
        ("await load(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))", "wasn't made by edgeq"),
    ],
)
def test_errors_in_javascript(made, call, message) -> None:
    done = script(
        made[1].path.parent,
        f"try {{ {call}; }} catch (error) {{ console.log(error instanceof EdgeqError, error.message); }}\n",
    )
    assert re.match(f"true .*{message}", done.stdout), done.stdout + done.stderr


def test_what_is_no_module(tmp_path, made) -> None:
    path = tmp_path / "x.wasm"
    for content, why in (
        (b"nonsense", "magic number"),
        (b"\0asm\1\0\0\0\0\x20abc", "ends behind the file"),
        (b"\0asm\1\0\0\0\0\x80\x80\x80\x80\x80\x01", "too long"),
        (b"\0asm\1\0\0\0", "no section edgeq.manifest"),
    ):
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            wasm.read_manifest(path)
        assert why in str(caught.value.why)
    with pytest.raises(ArtifactError, match="can't read"):
        wasm.read_manifest(tmp_path / "missing.wasm")


def test_bad_options(made, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.wasm"):
        edgeq.compile(made[0], target="wasm-simd128", output=tmp_path / "x.edgeq")
    with pytest.raises(UsageError, match="no loader for artifacts"):
        edgeq.compile(made[0], target="wasm-simd128", output=tmp_path / "x.wasm", format="edgeq")
    with pytest.raises(UsageError, match="no format 'wasm'"):
        edgeq.compile(made[0], target="arm-neon", output=tmp_path / "x.wasm", format="wasm")
    with pytest.raises(DataError, match="must be int8"):
        webassembly.run_module(made[1].path, {})


def test_without_node(made, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match=r"needs Node\.js") as caught:
        webassembly.differing_bytes(made[1].path)
    assert "nodejs" in str(caught.value.hint)


def test_inspecting_a_module_says_what_it_is(made) -> None:
    assert_refused(command("inspect", made[1].path), "this is a WebAssembly module", "run, verify and bench")


def test_the_command(made, tmp_path) -> None:
    done = command("compile", made[0], "--target", "wasm-simd128", "-o", tmp_path / "net.wasm")
    assert done.code == 0, done.err
    assert "edgeq.mjs" in done.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edgeq.d.ts", "edgeq.mjs", "net.wasm"]
