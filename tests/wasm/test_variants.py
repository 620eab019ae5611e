"""`--target wasm`: modules for every kind of engine, the JavaScript that chooses, examples, commands on modules."""

from __future__ import annotations

import functools
import http.server
import json
import platform
import re
import shutil
import subprocess
import threading

import numpy as np
import pytest

import edgeq
from edgeq.artifact import wasm
from edgeq.errors import ArtifactError, RunError, UsageError
from edgeq.integer import IntegerGraph, reference
from edgeq.runtime import node
from edgeq.runtime.webassembly import WasmModel
from tests.cli.helpers import assert_refused
from tests.cli.helpers import edgeq as command
from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# In Node.js 20 and older relaxed SIMD has to be asked for.
FLAGS = "--experimental-wasm-relaxed-simd", "--no-liftoff"
HERE = "relaxed-dot-u8" if platform.machine() in ("x86_64", "AMD64") else "relaxed-dot-s8"
NAMES = {"relaxed-dot-u8": "wasm-relaxed-x86", "relaxed-dot-s8": "wasm-relaxed-arm"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An integer graph whose layers take relaxed products (5-bit weights), and its modules."""
    folder = tmp_path_factory.mktemp("variants")
    graph = folder / "digits.int.onnx"
    digits = ROOT / "examples" / "digits"
    edgeq.quantize(digits / "digits.onnx", digits / "calib.npz", output=graph, weight_bits=5)
    return graph, edgeq.compile(graph, target="wasm", output=folder / "digits.wasm")


def javascript(folder, source: str, *flags: str) -> subprocess.CompletedProcess[str]:
    head = (
        'import { readFileSync } from "node:fs";\n'
        'import { EdgeqError, features, load, loadBest } from "./edgeq.mjs";\n'
        "const at = (name) => new URL(name, import.meta.url);\n"
    )
    (folder / "test.mjs").write_text(head + source)
    arguments = ["node", *flags, str(folder / "test.mjs")]
    return subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder, timeout=60)


def test_a_module_for_each_kind_of_engine(made) -> None:
    folder, modules = made[1].path.parent, made[1].report["modules"]
    assert [m["file"] for m in modules] == ["digits.relaxed-arm.wasm", "digits.relaxed-x86.wasm", "digits.wasm"]
    assert made[1].path == folder / "digits.wasm"
    needed = {m["file"]: wasm.read_manifest(folder / m["file"])["cpu_features"] for m in modules}
    assert list(needed.values()) == [["relaxed-dot-s8"], ["relaxed-dot-u8"], []]
    # i16x8.relaxed_dot_i8x16_i7x16_s, i32x4.relaxed_dot_i8x16_i7x16_add_s
    for name, opcode in (("digits.relaxed-x86.wasm", b"\xfd\x92\x02"), ("digits.relaxed-arm.wasm", b"\xfd\x93\x02")):
        assert opcode in (folder / name).read_bytes()
    assert b"\xfd\x92\x02" not in made[1].path.read_bytes()


@pytest.mark.node
def test_the_variants_have_the_same_golden_vectors_and_pass_where_they_run(made) -> None:
    folder = made[1].path.parent
    golden = set()
    for module in made[1].report["modules"]:
        raw = (folder / module["file"]).read_bytes()
        golden.add(raw[raw.rindex(b"edgeq.golden") :])
        feature = (wasm.read_manifest(folder / module["file"])["cpu_features"] or [None])[0]
        # None: an engine without relaxed SIMD; on the other processor it must be that.
        allowed = (0,) if feature is None else (0, None) if feature == HERE else (None,)
        assert node.differing_bytes(folder / module["file"]) in allowed
    assert len(golden) == 1


@pytest.mark.node
def test_what_an_engine_has_is_found_out_by_trying(made) -> None:
    done = javascript(made[1].path.parent, "console.log(JSON.stringify(features()));\n", *_flags())
    assert json.loads(done.stdout) in ([], [HERE]), done.stderr


@pytest.mark.node
def test_the_best_module_is_chosen(made) -> None:
    source = (
        'const model = await loadBest(at("digits.wasm"));\n'
        "console.log(JSON.stringify([features(), model.manifest.target, model.verify()]));\n"
    )
    done = javascript(made[1].path.parent, source, *_flags())
    found, target, different = json.loads(done.stdout)
    assert (target, different) == (NAMES[found[0]] if found else "wasm-simd128", 0)


@pytest.mark.node
def test_a_module_for_another_engine_is_refused(made) -> None:
    """Its instructions are valid on every engine with relaxed SIMD, and would compute something else."""
    other = "relaxed-arm" if HERE == "relaxed-dot-u8" else "relaxed-x86"
    source = (
        f'const bytes = readFileSync("digits.{other}.wasm");\n'
        "if (!WebAssembly.validate(bytes)) { console.log('true the model needs relaxed-dot'); }\n"
        "else { try { await load(bytes); }\n"
        "       catch (error) { console.log(error instanceof EdgeqError, error.message); } }\n"
    )
    done = javascript(made[1].path.parent, source, *_flags())
    assert re.match("true the model needs relaxed-dot", done.stdout), done.stdout + done.stderr
    with pytest.raises(RunError, match=r"this Node\.js can't run") as caught:
        edgeq.load(made[1].path.with_suffix(f".{other}.wasm")).verify()
    assert "relaxed-dot" in str(caught.value.why)


@pytest.mark.node
def test_a_module_is_a_model(made, digits) -> None:
    graph = IntegerGraph.load(made[0])
    model = edgeq.load(made[1].path)
    assert isinstance(model, WasmModel)
    assert model.verify() == 1
    with np.load(digits / "eval.npz") as data:
        x = np.asarray(data["x"][:5], np.float32)
    name, output = graph.inputs[0].name, graph.outputs[0].name
    real = model.run_batch(x)[output]
    integers = model.run_batch(x, dequantize=False)[output]
    quant = graph.quant(graph.outputs[0])
    assert np.array_equal(real, np.float32(quant.scale) * (integers.astype(np.float32) - quant.zero_point))
    given = np.random.default_rng(1).integers(-128, 128, (3, 1, 8, 8), dtype=np.int8)
    found = model.run_batch({name: given})[output]
    expected = [reference.run(graph, {name: row[None]})[output][0] for row in given]
    assert np.array_equal(found.reshape(3, -1), np.stack(expected))
    times = model.measure(repeats=3)
    assert times.shape == (3,)
    assert (times > 0).all()
    with pytest.raises(RunError, match="2 threads"):
        model.run_batch(x, threads=2)
    with pytest.raises(RunError, match="can't be timed"):
        model.profile()
    with pytest.raises(RunError, match="one variant"):
        model.select(variant=1)


@pytest.mark.node
def test_commands_take_modules(made, digits, tmp_path) -> None:
    done = command("verify", made[1].path)
    assert done.code == 0, done.err
    assert "every output bit as recorded" in done.out
    data = digits / "eval.npz"
    done = command("run", made[1].path, "--input", data, "--samples", "4", "-o", tmp_path / "y.npz", "--raw")
    assert done.code == 0, done.err
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs[outputs.files[0]].shape == (4, 10)
    done = command("bench", made[1].path, "--repeat", "5", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["seconds"]["runs"] == 5
    done = command("compare", made[0], made[1].path, "--input", data, "--samples", "20")
    assert done.code == 0, done.err


def test_modules_that_are_damaged(made, tmp_path) -> None:
    raw = made[1].path.read_bytes()
    path = tmp_path / "cut.wasm"
    path.write_bytes(raw[:-40])
    assert_refused(command("verify", path), "no whole WebAssembly module")
    path.write_bytes(raw.replace(b'"golden":', b'"goldem":'))
    with pytest.raises(ArtifactError, match="manifest is damaged"):
        edgeq.load(path)


def test_boards_take_no_modules(made) -> None:
    from edgeq.evaluate.execute import verify

    with pytest.raises(UsageError, match="own processor"):
        verify(made[1].path, board=object())  # type: ignore[arg-type]


@pytest.mark.node
def test_the_example_reads_digits(made, digits) -> None:
    folder = made[1].path.parent
    with np.load(digits / "calib.npz") as data:
        (folder / "image.f32").write_bytes(np.asarray(data[data.files[0]][0], "<f4").tobytes())
    arguments = ["node", str(ROOT / "examples" / "wasm" / "classify.mjs"), str(folder), str(folder / "image.f32")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    assert re.fullmatch(r"digit \d\n", done.stdout), done.stderr


def dom(folder, page: str, profile) -> str:
    """What a page of the folder has become in headless Chromium."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
        address = f"http://127.0.0.1:{server.server_address[1]}/{page}"
        arguments = [str(CHROMIUM), *options, "--virtual-time-budget=20000", address]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
        server.shutdown()
    return done.stdout or done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_the_example_runs_in_a_browser(made, tmp_path) -> None:
    folder = made[1].path.parent
    shutil.copy(ROOT / "examples" / "wasm" / "index.html", folder)
    text = dom(folder, "index.html", tmp_path)
    assert "golden vectors pass in this browser" in text, text[-600:]
    assert re.search(r"digit \d", text)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")
def test_a_browser_takes_relaxed_products(made, tmp_path) -> None:
    folder = made[1].path.parent
    (folder / "best.html").write_text(
        "<pre id=said></pre><script type=module>\n"
        "import { features, loadBest } from './edgeq.mjs';\n"
        "const model = await loadBest('digits.wasm');\n"
        "const said = [features(), model.manifest.target, model.verify()];\n"
        "document.getElementById('said').textContent = JSON.stringify(said);\n"
        "</script>"
    )
    text = dom(folder, "best.html", tmp_path)
    found = re.search(r"<pre id=\"said\">(.*)</pre>", text)
    assert found, text[-600:]
    has, target, different = json.loads(found[1])
    assert (target, different) == (NAMES[has[0]] if has else "wasm-simd128", 0)


def _flags() -> tuple[str, ...]:
    """What this Node.js takes of FLAGS."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return FLAGS if int(version.strip("v\n").split(".")[0]) <= 20 else ()
