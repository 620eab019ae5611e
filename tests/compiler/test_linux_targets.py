"""The targets for Linux that aren't this machine's: every op gives the reference's bits, under an emulator.

The oldest targets have their own files (test_op_conformance.py and the kernels' tests).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeq.artifact import float_free
from edgeq.compiler import KernelBuilder, load_target
from edgeq.compiler.target import host_features
from tests.compiler.test_op_conformance import CASES, compile_cases, conforms

EMULATED = ("arm-i8mm", "armv7", "riscv64", "riscv64-v")
NATIVE = tuple(name for name in ("x86-sse4", "x86-avxvnni") if load_target(name).runs_here())
FULL, BATCH = 200, 10
LENGTHS = (128, 256, 512)


@pytest.fixture(scope="module")
def builder():
    with KernelBuilder() as pool:
        yield pool


@pytest.fixture
def evex(tmp_path: Path) -> str:
    """x86-avxvnni with its dot products encoded as AVX-512 VNNI has them: what these processors can run of it."""
    source, folder = load_target("x86-avxvnni").folder, tmp_path / "evex"
    shutil.copytree(source, folder)
    text = (folder / "target.toml").read_text(encoding="utf-8")
    text = text.replace('"avxvnni"]', '"avx512vl", "avx512vnni"]').replace("+avxvnni", '+avx512vl", "+avx512vnni')
    (folder / "target.toml").write_text(text, encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("op", CASES)
def test_every_op_natively(op, target, tmp_path, builder):
    conforms(op, range(400, 402), target, tmp_path / "op.edgeq", builder, 3)


@pytest.mark.parametrize("op", ["Conv", "ConvS16", "Gemm", "MatMul"])
def test_avx_vnni_in_the_encoding_of_avx512(op, evex, tmp_path, builder):
    path = tmp_path / "op.edgeq"
    if {"avx512vl", "avx512vnni"} <= host_features():
        conforms(op, range(420, 423), evex, path, builder, 1)
    compile_cases(op, range(420, 421), "x86-avxvnni", path, builder)
    assert float_free.check(path).found == ()


@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("op", CASES)
def test_every_op(op, target, tmp_path, builder):
    seed = 300 + 10 * EMULATED.index(target)
    conforms(op, range(seed, seed + 1), target, tmp_path / "op.edgeq", builder, 3)


@pytest.mark.emulated
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("op", ["Conv", "Softmax", "Lut", "LayerNorm"])
def test_one_artifact_for_every_vector_length(op, length, tmp_path, builder, monkeypatch):
    monkeypatch.setenv("QEMU_CPU", f"rv64,v=true,vext_spec=v1.0,vlen={length}")
    conforms(op, range(330, 331), "riscv64-v", tmp_path / "op.edgeq", builder, 1)


@pytest.mark.full
@pytest.mark.emulated
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("op", CASES)
def test_every_op_sweep(op, target, tmp_path, builder):
    for number, start in enumerate(range(3000, 3000 + FULL, BATCH)):
        conforms(op, range(start, start + BATCH), target, tmp_path / "op.edgeq", builder, 1 + number % 4)


@pytest.mark.full
@pytest.mark.parametrize("target", NATIVE)
@pytest.mark.parametrize("op", CASES)
def test_every_op_sweep_natively(op, target, tmp_path, builder):
    for start in range(4000, 4000 + FULL, 5 * BATCH):
        conforms(op, range(start, start + 5 * BATCH), target, tmp_path / "op.edgeq", builder, 1, 3)
