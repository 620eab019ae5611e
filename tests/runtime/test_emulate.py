"""Artifacts of other architectures: under QEMU they compute the same bits; without it the message says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ArtifactError, RunError, ToolError
from edgeq.runtime import build, load
from edgeq.runtime.emulate import EmulatedModel, emulator
from edgeq.runtime.model import Model
from tests.support.fakes import COLUMNS, ROWS, fake_image, reference, write_fake

SHAPE = (ROWS, COLUMNS)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake(tmp_path_factory.mktemp("arm") / "m = 1.edgeq", "aarch64", features=("dotprod",))


@pytest.fixture(scope="module")
def model(foreign: Path) -> Model:
    return load(foreign)


@pytest.mark.emulated
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_same_bits(model: Model, threads: int) -> None:
    assert isinstance(model, EmulatedModel)
    samples = np.random.default_rng(1).integers(-128, 128, (5, *SHAPE), dtype=np.int8)
    found = model.run_batch(samples, threads=threads)
    for name, array in found.items():
        assert np.array_equal(array, [reference(sample)[name] for sample in samples])
    assert model.verify(threads=threads) == 1


@pytest.mark.emulated
def test_same_floats(model: Model, tmp_path: Path) -> None:
    native = load(write_fake(tmp_path / "m.edgeq", "x86_64", bias=0x80))
    values = np.random.default_rng(2).normal(0, 4, SHAPE)
    here, there = native.run(values), model.run(values)
    assert all(np.array_equal(here[name], there[name]) and here[name].dtype == there[name].dtype for name in here)


@pytest.mark.emulated
def test_no_times(model: Model) -> None:
    with pytest.raises(RunError, match="say nothing about the device"):
        model.profile()
    with pytest.raises(RunError, match="say nothing about the device"):
        model.measure()


@pytest.mark.emulated
def test_wrong_golden_vector(tmp_path: Path) -> None:
    image = fake_image()
    image.golden[0].outputs[0][3, 4] ^= 1
    wrong = load(write_fake(tmp_path / "m.edgeq", "aarch64", image=image))
    with pytest.raises(RunError, match="golden vector 0: output y differs at element 76"):
        wrong.verify()


@pytest.mark.emulated
def test_cpu_without_the_feature(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QEMU_CPU", "cortex-a53")
    with pytest.raises(RunError, match="this CPU has no dotprod"):
        load(foreign)


def test_emulation_can_be_refused(foreign: Path) -> None:
    with pytest.raises(ArtifactError, match="built for aarch64, this is x86_64"):
        load(foreign, emulate=False)


def test_missing_emulator(foreign: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("edgeq.runtime.emulate.shutil.which", lambda name: None)
    with pytest.raises(ToolError, match="qemu-aarch64 was not found") as caught:
        load(foreign)
    assert "apt-get install qemu-user" in (caught.value.hint or "")
    with pytest.raises(ToolError, match="qemu-riscv64 was not found"):
        emulator("riscv64")


def test_missing_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.runtime.build.shutil.which", lambda name: None)
    monkeypatch.setattr(build, "zig", lambda: None)
    with pytest.raises(ToolError, match="no C compiler was found") as caught:
        build.library()
    assert "apt-get install gcc" in (caught.value.hint or "")
    with pytest.raises(ToolError, match="no C compiler for aarch64 was found") as caught:
        build.runner("aarch64")
    assert "gcc-aarch64-linux-gnu" in (caught.value.hint or "")


def test_damaged_foreign_artifact(foreign: Path, tmp_path: Path) -> None:
    data = foreign.read_bytes()
    (tmp_path / "m.edgeq").write_bytes(data[:700] + bytes([data[700] ^ 1]) + data[701:])
    with pytest.raises(ArtifactError, match="was changed after it was written"):
        load(tmp_path / "m.edgeq")
