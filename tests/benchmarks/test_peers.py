"""The tables of benchmarks/peers: what ran by speed, what didn't with its reason; the worker's answers."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the package, and forgets all of them afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if str(FOLDER.parent) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def result(turns: ModuleType) -> dict:
    times = {"edgeq x86-avx2": np.array([1.0, 2.0, 3.0]), "onnxruntime fp32": np.array([3.0, 4.0, 6.0])}
    rest = {"sqnr": 30.0, "cold_seconds": 0.1, "peak_bytes": 2**20, "file_bytes": 2**20, "library_bytes": 0}
    ours = times["edgeq x86-avx2"]
    sides = {
        name: {"time": turns.spread(t), "ratios": {"edgeq x86-avx2": turns.spread(t / ours)}, **rest}
        for name, t in times.items()
    }
    sides["litert fp32"] = {"reason": "no | route"}
    return {"model": "tiny", "threads": 1, "ours": ["edgeq x86-avx2"], "sides": sides}


def test_tables(peers) -> None:
    table, found = peers("table"), result(peers("turns"))
    lines = table.markdown(found).splitlines()
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| edgeq x86-avx2", "| onnxruntime fp32", "| litert fp32"]
    assert "2.00 (2.00 to 2.50)" in lines[5]  # medians of 3/1, 4/2, 6/3
    assert "not run: no / route" in lines[6]
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert "| tiny | 1 | onnxruntime fp32 | 2.00" in table.summary([found])


def test_plots(peers, tmp_path: Path) -> None:
    """An overview for each kind of peer, with every target's ratio, and each network's times."""
    turns, plot = peers("turns"), peers("plot")
    found = result(turns)
    held = found["sides"]["onnxruntime fp32"]
    found["sides"]["onnxruntime fp32 (AVX2)"] = held | {"ratios": {"edgeq x86-avx2:w4": turns.spread(np.array([2.5]))}}
    names = {path.name: path.read_text() for path in plot.write([found, found | {"threads": 4}], tmp_path)}
    assert set(names) == {f"peers-{kind}-{threads}.svg" for kind in ("avx2", "tiny") for threads in (1, 4)}
    texts = {name: [e.text for e in ElementTree.fromstring(text).iter() if e.text] for name, text in names.items()}
    assert {"x86-avx2, 4-bit weights", "tiny", "onnxruntime fp32 (AVX2)", "2.50"} <= set(texts["peers-avx2-1.svg"])
    assert any("4 threads" in text for text in texts["peers-avx2-4.svg"])
    assert "2000" in texts["peers-tiny-1.svg"]  # 2 s in ms
    assert not plot.write([], tmp_path / "none")


def test_results_are_reported_without_measuring(peers, tmp_path: Path) -> None:
    kept, tables = tmp_path / "peers.json", tmp_path / "peers.md"
    found = result(peers("turns")) | {"stages": {"time": {}}}
    kept.write_text(json.dumps({"results": [found]}))
    command = [sys.executable, FOLDER, "--stages", "--json", kept, "--tables", tables, "--plots", tmp_path / "plots"]
    subprocess.run(command, check=True, capture_output=True)
    assert "onnxruntime fp32" in tables.read_text()
    assert (tmp_path / "plots" / "peers-tiny-1.svg").is_file()
    kept.unlink()
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "results in --json" in refused.stderr


def test_a_network_that_no_peer_takes(peers) -> None:
    found = result(peers("turns"))
    del found["sides"]["onnxruntime fp32"]["time"]
    assert "| tiny | 1 | none ran |" in peers("table").summary([found])


def test_geometric_means_by_kind_of_peer(peers) -> None:
    """Each target's ratios to the fastest peer of every network, those held to AVX2 apart."""
    turns, table = peers("turns"), peers("table")
    one, two = result(turns), result(turns)
    two["model"] = "small"
    two["sides"]["onnxruntime fp32"]["ratios"]["edgeq x86-avx2"] = turns.spread(np.array([8.0]))
    two["sides"]["litert fp32 (AVX2)"] = two["sides"]["onnxruntime fp32"]
    lines = [line for line in table.summary([one, two]).splitlines() if line.startswith("| geometric mean")]
    assert lines == [
        "| geometric mean | 1 | fastest | 4.00 of 2 |",
        "| geometric mean | 1 | fastest, held to AVX2 | 8.00 of 1 |",
    ]


def test_results_are_taken_up_by_network_and_threads(peers, tmp_path: Path) -> None:
    """What another command wrote meanwhile stays."""
    results, found, file = peers("results"), result(peers("turns")), tmp_path / "peers.json"
    results.take_up([], found, file)
    results.take_up([], found | {"threads": 4}, file)
    newer = found | {"sides": {}}
    assert results.take_up([], newer, file) == results.read(file) == [found | {"threads": 4}, newer]
    assert results.read(tmp_path / "none.json") == results.read(None) == []


def test_a_stage_goes_on_where_another_command_ended(peers, tmp_path: Path) -> None:
    """Sides that a result has aren't done again, sides that can't run neither; times belong to a number of threads."""
    measure, turns, case = peers("measure"), peers("turns"), peers("case")
    options = argparse.Namespace(cache=tmp_path, again=False)
    sides = [turns.Side(*name.split(" ", 1), sys.executable) for name in result(turns)["sides"]]
    (tmp_path / "tiny").mkdir()
    tiny = case.Case("tiny", "", "", "")
    found = result(turns) | {"stages": {"judge": {}, "time": {}}}
    known = measure.Measurement(tiny, sides, options, 1, found)
    assert [side.name for side in known.lacking("prepare")] == ["edgeq x86-avx2", "onnxruntime fp32"]
    assert known.lacking("judge") == known.lacking("time") == []
    known.run("time")  # nobody lacks it: no process is started
    other = measure.Measurement(tiny, sides, options, 4, measure.untimed(found))
    assert other.lacking("judge") == []
    assert [side.name for side in other.lacking("time")] == ["edgeq x86-avx2", "onnxruntime fp32"]
    assert other.result["stages"] == {"judge": {}}


def test_a_failing_tool_is_a_reason(peers, tmp_path: Path) -> None:
    """A worker that can't prepare answers why, and the answer is kept."""
    turns, case = peers("turns"), peers("case")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 3), np.float32))
    data = str(tmp_path / "data.npz")
    case.Case("broken", str(broken), data, data).save(tmp_path / "case.json")
    side = turns.Side("onnxruntime", "int8 static", sys.executable)
    answer = turns.prepare(side, tmp_path / "case.json", tmp_path / "side", tmp_path / "log.txt")
    assert answer["reason"]
    assert json.loads((tmp_path / "side" / "prepared.json").read_text()) == answer


def test_a_worker_serves(peers, tmp_path: Path) -> None:
    """Loads, times, gives outputs; here in ONNX Runtime, which the tests have."""
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, float32, (1, 3)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    data = tmp_path / "data.npz"
    np.savez(data, x=np.arange(6, dtype=np.float32).reshape(2, 3))
    turns, case = peers("turns"), peers("case")
    case.Case("neg", str(file), str(data), str(data)).save(tmp_path / "case.json")
    side, core = turns.Side("onnxruntime", "fp32", sys.executable), str(min(os.sched_getaffinity(0)))
    worker = turns.Worker(side, tmp_path / "case.json", file, 1, core, tmp_path / "log.txt")
    try:
        assert worker.loaded["library_bytes"] > 0
        times = turns.race({"one": worker}, 3, "cpu")["one"]
        assert times.shape == (3,)
        worker.ask(do="outputs", inputs=str(data), to=str(tmp_path / "y.npy"))
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), -np.arange(6).reshape(2, 3))
    finally:
        worker.close()


def test_a_process_without_avx512(peers, tmp_path: Path) -> None:
    """A program whose CPUID was replaced sees AVX2 but nothing newer."""
    hold = peers("hold")
    if platform.machine() != "x86_64" or not shutil.which("objdump") or not shutil.which("readelf"):
        pytest.skip("CPUID is x86's, and finding it takes binutils")
    source, library = tmp_path / "ask.c", tmp_path / "ask.so"
    source.write_text(
        "#include <cpuid.h>\nunsigned ask(void) { unsigned a, b, c, d; __cpuid_count(7, 0, a, b, c, d); return b; }\n"
    )
    cc = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1"]
    subprocess.run([*cc, str(source), "-o", str(library)], check=True)

    def ask(**extra: str) -> int:
        code = f"import ctypes; print(ctypes.CDLL({str(library)!r}).ask() & 0xFFFFFFFF)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | extra, check=True)
        return int(done.stdout)

    real = ask()
    hold._patch(library)
    seen = ask(LD_PRELOAD=str(hold._preload(tmp_path)))
    avx512 = sum(1 << bit for bit in (16, 17, 21, 26, 27, 28, 30, 31))
    assert seen == real & ~avx512
