"""One artifact for several sequence lengths: the exact program, or padding that changes no bit, or a clear refusal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.cli.common import parse_shapes
from edgeq.errors import RunError, UsageError
from edgeq.quantize.samples.lengths import split_shapes
from edgeq.runtime.build import runner
from edgeq.runtime.emulate import emulator
from tests.frontend.models import model, save

WIDTH, WORDS, LONGEST = 16, 40, 12
LENGTHS = (4, 8, LONGEST)
ATTENTION = """
    one = Constant<value_ints=[1]>()  zero = Constant<value_ints=[0]>()
    n = Shape<start=1, end=2>(ids)  here = Slice(positions, zero, n, one)
    e = Gather(words, ids)  x = Add(e, here)
    q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
    kt = Transpose<perm=[0, 2, 1]>(k)  l = MatMul(q, kt)
"""
MASK = "u = Unsqueeze(m, one)  c = Cast<to=1>(u)  i = Sub(unit, c)  a = Mul(i, low)  z = Add(l, a)"
END = "p = Softmax<axis=-1>(z)  o = MatMul(p, v)  y = Add(o, x)"


def network(folder: Path, *, masked: bool = True) -> Path:
    rng = np.random.default_rng(2)
    tables = {
        "words": rng.normal(0, 1, (WORDS, WIDTH)),
        # Later positions have larger values: a scale of their own for each length would show.
        "positions": rng.normal(0, 1, (1, LONGEST, WIDTH)) * np.linspace(0.2, 2, LONGEST)[:, None],
        **{name: rng.normal(0, 0.4, (WIDTH, WIDTH)) for name in ("wq", "wk", "wv")},
    }
    if masked:
        tables.update(unit=np.array(1.0), low=np.array(-10000.0))
    inputs = "int64[1,L] ids" + (", int64[1,L] m" if masked else "")
    text = f"g ({inputs}) => (float[1,L,{WIDTH}] y) {{ {ATTENTION} {MASK if masked else 'z = Identity(l)'} {END} }}"
    return save(model(text, **{name: np.float32(array) for name, array in tables.items()}), folder)


def tokens(count: int, length: int, *, masked: bool = True) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(3).integers(0, WORDS, (count, length))
    return {"ids": ids, "m": np.ones_like(ids)} if masked else {"ids": ids}


def shapes(masked: bool = True) -> dict[str, list[tuple[int, int]]]:
    listed = [(1, length) for length in LENGTHS]
    return {"ids": listed, "m": listed} if masked else {"ids": listed}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lengths")
    calib = tokens(16, LONGEST)
    return edgeq.compile(network(folder), calib=calib, shapes=shapes(), output=folder / "m.edgeq").path


def test_every_length_gives_the_bits_of_the_longest(host: Path) -> None:
    loaded = edgeq.load(host)
    assert [p.inputs[0].shape for p in loaded.programs] == [(1, length) for length in LENGTHS]
    assert loaded.image.pads
    assert loaded.verify() == sum(len(p.image.golden) for p in loaded.programs)
    given = tokens(1, LONGEST)
    for length in range(1, LONGEST + 1):
        hidden = {"ids": given["ids"].copy(), "m": (np.arange(LONGEST) < length).astype(np.int64)[None]}
        expected = loaded.programs[-1].run(hidden, dequantize=False)["y"]
        found = loaded.run({name: x[:, :length] for name, x in given.items()}, dequantize=False)["y"]
        assert found.shape == (1, length, WIDTH)
        assert np.array_equal(found, expected[:, :length])


def test_batches_take_the_program_too(host: Path) -> None:
    loaded = edgeq.load(host)
    given = tokens(5, 6)
    batch = loaded.run_batch(given, dequantize=False)["y"]
    assert batch.shape[-2:] == (6, WIDTH)
    for index in range(5):
        one = loaded.run({name: x[index : index + 1] for name, x in given.items()}, dequantize=False)["y"]
        assert np.array_equal(batch.reshape(5, 6, WIDTH)[index], one[0])
    with pytest.raises(RunError, match="wrong shape"):
        loaded.programs[0].run(tokens(1, 8))


def test_weights_are_stored_once(host: Path, tmp_path: Path) -> None:
    alone = edgeq.compile(network(tmp_path), calib=tokens(16, LONGEST), shapes={"ids": (1, 12), "m": (1, 12)})
    several = edgeq.load(host).artifact.sizes
    # The slices of the position table are what differs.
    assert several.weights <= alone.report["sizes"]["weights"] + 2 * LONGEST * WIDTH + 256


def test_what_doesn_t_fit_is_refused(host: Path) -> None:
    loaded = edgeq.load(host)
    with pytest.raises(RunError, match=r"no program(.|\n)*ids \[1, 13\](.|\n)*\[1, 12\]"):
        loaded.run(tokens(1, 13))
    with pytest.raises(RunError, match="different lengths"):
        loaded.run({"ids": tokens(1, 5)["ids"], "m": tokens(1, 6)["m"]})


def test_without_a_mask_only_exact_lengths(tmp_path: Path) -> None:
    path = network(tmp_path, masked=False)
    made = edgeq.compile(path, calib=tokens(16, 8, masked=False), shapes=shapes(masked=False))
    assert made.report["pads"] is False
    loaded = edgeq.load(made.path)
    assert loaded.run(tokens(1, 4, masked=False))["y"].shape == (1, 4, WIDTH)
    with pytest.raises(RunError, match="no attention mask that hides it"):
        loaded.run(tokens(1, 5, masked=False))


@pytest.mark.parametrize(
    "arch",
    ["native", pytest.param("aarch64", marks=pytest.mark.emulated)],
)
def test_edgeq_run_pads_and_cuts(host: Path, tmp_path: Path, arch: str) -> None:
    import platform

    path, command = host, [str(runner(platform.machine()))]
    if arch != "native":
        made = edgeq.compile(
            network(tmp_path), calib=tokens(16, LONGEST), shapes=shapes(), target="arm", output=tmp_path / "arm.edgeq"
        )
        path, command = made.path, [str(emulator(arch)), str(runner(arch))]
        assert [v["name"] for v in made.report["variants"]] == ["arm-i8mm", "arm-dotprod", "arm-neon"]
    given = tokens(3, 5)
    np.savez(tmp_path / "in.npz", **{name: x[:, None] for name, x in given.items()})
    options = ["-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "y.npy"), "--integers"]
    subprocess.run([*command, str(path), *options], check=True, capture_output=True)
    expected = edgeq.load(host).run_batch({n: x[:, None] for n, x in given.items()}, dequantize=False)["y"]
    assert np.array_equal(np.load(tmp_path / "y.npy"), expected)
    assert expected.shape == (3, 1, 5, WIDTH)
    np.savez(tmp_path / "in.npz", **tokens(1, 13))
    refused = subprocess.run([*command, str(path), *options], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "no program of the model takes inputs of these shapes" in refused.stderr
    info = subprocess.run([*command, str(path), "--info"], check=True, capture_output=True, text=True).stdout
    assert "program 2" in info
    assert "shorter inputs are padded" in info


def test_shapes_are_read_and_zipped() -> None:
    assert parse_shapes(["x=1x3x8x8", "ids=1x32,1x128", "y=3,4"]) == {
        "x": (1, 3, 8, 8),
        "ids": [(1, 32), (1, 128)],
        "y": (3, 4),
    }
    assert split_shapes({"a": [(1, 2), (1, 3)], "b": (4,)}) == [{"a": (1, 2), "b": (4,)}, {"a": (1, 3), "b": (4,)}]
    assert split_shapes(None) == [{}]
    with pytest.raises(UsageError, match=r"different numbers of shapes(.|\n)*a: 2, b: 3"):
        split_shapes({"a": [(1,), (2,)], "b": [(1,), (2,), (3,)]})
    with pytest.raises(UsageError, match="two programs have the same shapes"):
        split_shapes({"a": [(1, 2), (1, 2)]})
    with pytest.raises(UsageError, match="can't read the shape"):
        parse_shapes(["ids=1x32,x128"])


def test_an_integer_graph_has_one_shape(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"one shape(.|\n)*edgeq compile"):
        edgeq.quantize(network(tmp_path), tokens(4, LONGEST), shapes=shapes())
