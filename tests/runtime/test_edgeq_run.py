"""The program edgeq-run: files in, files out, messages. The same tests run natively and under QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeq.runtime.build import runner
from edgeq.runtime.emulate import emulator
from edgeq.runtime.load import host_arch
from tests.support.fakes import COLUMNS, ROWS, reference, write_fake

SHAPE = (ROWS, COLUMNS)
HOST = host_arch() or ""


class Runner:
    """edgeq-run for one architecture with the fake model, in a folder of its own."""

    def __init__(self, arch: str, folder: Path) -> None:
        prefix = [] if arch == HOST else [str(emulator(arch))]
        self.command = [*prefix, str(runner(arch))]
        self.folder = folder
        write_fake(folder / "m.edgeq", arch, bias=0x80 if arch == "x86_64" else 0)

    def __call__(self, *arguments: object) -> str:
        return self.fails(*arguments, code=0)

    def fails(self, *arguments: object, code: int = 2) -> str:
        """What it prints (to stderr where it fails)."""
        done = subprocess.run(
            [*self.command, *map(str, arguments)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert code == 0 or done.stdout == ""
        return done.stderr if code else done.stdout


@pytest.fixture(
    scope="module",
    params=[pytest.param(HOST, id="native"), pytest.param("aarch64", id="emulated", marks=pytest.mark.emulated)],
)
def tool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(request.param, tmp_path_factory.mktemp("run"))


@pytest.fixture
def codes() -> np.ndarray:
    return np.random.default_rng(1).integers(-128, 128, (3, *SHAPE), dtype=np.int8)


def test_npy_to_npz(tool: Runner, codes: np.ndarray) -> None:
    np.save(tool.folder / "x.npy", codes[0])
    tool("m.edgeq", "-i", "x.npy", "-o", "all.npz", "--threads", 3)
    with np.load(tool.folder / "all.npz") as found:
        want = reference(codes[0])
        assert found.files == list(want)
        for name, array in want.items():
            assert found[name].dtype == array.dtype
            assert np.array_equal(found[name], array)


def test_npz_samples_to_named_npy(tool: Runner, codes: np.ndarray) -> None:
    np.savez(tool.folder / "x.npz", x=codes)
    tool("m.edgeq", "--input", "x.npz", "--output", "sums=sums.npy", "-o", "y=y.npy")
    assert np.array_equal(np.load(tool.folder / "sums.npy"), [reference(sample)["sums"] for sample in codes])
    assert np.array_equal(np.load(tool.folder / "y.npy"), [reference(sample)["y"] for sample in codes])


def test_raw_to_raw(tool: Runner, codes: np.ndarray) -> None:
    codes.tofile(tool.folder / "x.bin")
    tool("m.edgeq", "-i", "x=x.bin", "-o", "y=y.bin")
    found = np.fromfile(tool.folder / "y.bin", np.int8).reshape(codes.shape)
    assert np.array_equal(found, [reference(sample)["y"] for sample in codes])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats(tool: Runner, dtype: type) -> None:
    values = np.random.default_rng(2).normal(0, 3, SHAPE).astype(dtype)
    np.save(tool.folder / "x.npy", values)
    tool("m.edgeq", "-i", "x.npy", "-o", "y=y.npy")
    tool("m.edgeq", "-i", "x.npy", "-o", "y=q.npy", "--integers")
    quantized = np.clip(np.rint(values.astype(np.float32) * np.float32(1 / 0.05)) - 3, -128, 127).astype(np.int8)
    want = reference(quantized)["y"]
    assert np.array_equal(np.load(tool.folder / "q.npy"), want)
    assert np.array_equal(np.load(tool.folder / "y.npy"), (want.astype(np.float32) - 4) * np.float32(0.1))


def test_merged_samples_and_dequantize(tool: Runner, codes: np.ndarray) -> None:
    np.save(tool.folder / "x.npy", codes.reshape(-1, COLUMNS))
    tool("m.edgeq", "-i", "x.npy", "-o", "out.npz", "--dequantize")
    with np.load(tool.folder / "out.npz") as found:
        assert found["y"].shape == (3 * ROWS, COLUMNS)
        sums = np.concatenate([reference(sample)["sums"] for sample in codes])
        assert np.array_equal(found["sums"], sums.astype(np.float32) * np.float32(0.01))


def test_reports(tool: Runner) -> None:
    printed = tool("m.edgeq", "--info", "--verify", "--profile", "--repeat", 4, "--threads", 2)
    for text in (
        "input   x  int8[16, 24]  scale 0.05, zero point -3",
        "output  copy  int8[16, 24]  scale 0.1, zero point 4, rows",
        "steps   3, 384 multiply-accumulates",
        "1 golden vectors, every output value the same",
        "4 runs: median",
        "ReduceSum",
        "sum of the medians over 4 runs",
    ):
        assert text in printed
    assert tool("m.edgeq").startswith("y  int8[16, 24]  ")
    assert "usage: edgeq-run" in tool("--help")
    assert tool("--version") == "edgeq-run 0.1.0, artifact ABI 2\n"


def test_compressed_npz_is_explained(tool: Runner, codes: np.ndarray) -> None:
    np.savez_compressed(tool.folder / "c.npz", x=codes)
    assert "write it with np.savez instead of np.savez_compressed" in tool.fails("m.edgeq", "-i", "c.npz")


def test_bad_arrays(tool: Runner, codes: np.ndarray) -> None:
    def message(array: np.ndarray) -> str:
        np.save(tool.folder / "bad.npy", array)
        return tool.fails("m.edgeq", "-i", "bad.npy", "-o", "never.npz")

    assert "wrong size or shape" in message(codes[0, :5])
    assert "input x is uint8, the model takes float32 (to be quantized) or int8" in message(codes.view(np.uint8))
    assert "input x holds NaN" in message(np.full(SHAPE, np.nan))
    assert "Fortran order" in message(np.asfortranarray(codes[0]))
    assert "dtype >i2" in message(codes.astype(">i2"))
    assert "dtype <c8" in message(codes.astype(np.complex64))
    assert "structured arrays" in message(np.zeros(3, [("a", "i1")]))
    assert not (tool.folder / "never.npz").exists()


def test_bad_files(tool: Runner, codes: np.ndarray) -> None:
    def message(name: str, data: bytes) -> str:
        (tool.folder / name).write_bytes(data)
        return tool.fails("m.edgeq", "-i", name)

    np.save(tool.folder / "x.npy", codes[0])
    np.savez(tool.folder / "x.npz", x=codes[0])
    npy, npz = (tool.folder / "x.npy").read_bytes(), (tool.folder / "x.npz").read_bytes()
    assert "the .npy file is truncated" in message("cut.npy", npy[:-1])
    assert "the .npy file is truncated" in message("cut.npy", npy[:60])
    assert "is not a .npy file" in message("cut.npy", b"hello")
    assert "not a .npz file, or it is truncated" in message("cut.npz", npz[:-30])
    changed = bytearray(npz)
    changed[len(npz) // 2] ^= 1
    assert "the .npz file is damaged" in message("cut.npz", bytes(changed))
    assert "wrong size or shape" in message("cut.bin", bytes(5))
    assert "can't be opened: No such file" in tool.fails("m.edgeq", "-i", "none.npy")
    for length in range(0, len(npz), 97):
        message("cut.npz", npz[:length])


def test_bad_options(tool: Runner, codes: np.ndarray) -> None:
    np.save(tool.folder / "x.npy", codes[0])
    np.savez(tool.folder / "z.npz", z=codes[0])
    assert "usage: edgeq-run" in tool.fails()
    assert "usage: edgeq-run" in tool.fails("m.edgeq", "--nonsense")
    assert "--threads needs a number from 1 to 64" in tool.fails("m.edgeq", "--threads", "many")
    assert "the model has no input z" in tool.fails("m.edgeq", "-i", "z.npz")
    assert "the same input twice" in tool.fails("m.edgeq", "-i", "x.npy", "-i", "x.npy")
    assert "the model has no output z" in tool.fails("m.edgeq", "-i", "x.npy", "-o", "z=z.npy")
    assert "the model has 3 outputs" in tool.fails("m.edgeq", "-i", "x.npy", "-o", "y.npy")
    assert "none/y.npz can't be written" in tool.fails("m.edgeq", "-i", "x.npy", "-o", "none/y.npz")
    assert "x.npy: the file is not an edgeq artifact" in tool.fails("x.npy")
