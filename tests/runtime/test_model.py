"""The Python face: what goes in, what comes out, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.artifact import Golden, ModelImage, StepInfo, TensorInfo
from edgeq.errors import RunError
from edgeq.runtime import Model, load
from edgeq.runtime.load import host_arch
from tests.support.fakes import COLUMNS, ROWS, fake_image, reference, write_fake

ARCH = host_arch() or ""
SHAPE = (ROWS, COLUMNS)
Array = np.ndarray[Any, Any]

ROUND_TRIP = "#include <stdint.h>\nint32_t edgeq_step(int32_t s, int32_t a, int32_t b, int32_t c) { return 0; }"
REFUSES = ROUND_TRIP.replace("return 0", "return s == 1 ? 9 : 0")


@pytest.fixture(scope="module", params=[0, 0x80], ids=["plain", "biased"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(write_fake(tmp_path_factory.mktemp("model") / "m.edgeq", ARCH, bias=request.param))


@pytest.fixture
def codes() -> Array:
    return np.random.default_rng(1).integers(-128, 128, SHAPE, dtype=np.int8)


def same(found: dict[str, Array], want: dict[str, Array]) -> bool:
    return found.keys() == want.keys() and all(
        found[name].dtype == want[name].dtype and np.array_equal(found[name], want[name]) for name in want
    )


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 7])
def test_integers_in_integers_out(model: Model, codes: Array, threads: int) -> None:
    for given_inputs in (codes, {"x": codes}, [codes]):
        assert same(model.run(given_inputs, threads=threads), reference(codes))


def test_floats_in_floats_out(model: Model) -> None:
    values = np.random.default_rng(2).normal(0, 3, SHAPE).astype(np.float32)
    quantized = np.clip(np.rint(values * np.float32(1 / 0.05)) - 3, -128, 127).astype(np.int8)
    want = reference(quantized)
    found = model.run(values)
    assert np.array_equal(found["y"], (want["y"].astype(np.float32) - 4) * np.float32(0.1))
    assert np.array_equal(found["sums"], want["sums"].astype(np.float32) * np.float32(0.01))
    assert same(model.run(values.astype(np.float64), dequantize=False), want)
    assert model.run(quantized, dequantize=True)["y"].dtype == np.float32


def test_inputs_that_are_not_contiguous(model: Model, codes: Array) -> None:
    wide = np.zeros((ROWS, 2 * COLUMNS), np.int8)
    wide[:, ::2] = codes
    assert same(model.run(wide[:, ::2]), reference(codes))


@pytest.mark.parametrize("options", [{}, {"threads": 3}, {"workers": 3}, {"workers": 50}])
def test_batches(model: Model, options: dict[str, int]) -> None:
    samples = np.random.default_rng(3).integers(-128, 128, (11, *SHAPE), dtype=np.int8)
    singles = [reference(sample) for sample in samples]
    stacked = {name: np.stack([single[name] for single in singles]) for name in singles[0]}
    assert same(model.run_batch(samples, **options), stacked)
    merged = model.run_batch(samples.reshape(-1, COLUMNS), **options)
    assert same(merged, {name: array.reshape(-1, *array.shape[2:]) for name, array in stacked.items()})


def test_empty_batch(model: Model) -> None:
    assert model.run_batch(np.zeros((0, *SHAPE), np.int8))["sums"].shape == (0, ROWS)


BAD_INPUTS: list[tuple[Any, bool, str]] = [
    (np.zeros(SHAPE, np.uint8), False, "it is uint8, the model's input is int8"),
    (np.zeros(SHAPE, np.int64), False, "give real values as floats"),
    (np.zeros((1, *SHAPE), np.int8), False, "use run_batch"),
    (np.zeros((ROWS, COLUMNS - 1), np.float32), False, r"it is \[16, 23\], the model takes \[16, 24\]"),
    (np.zeros((17, COLUMNS), np.int8), True, "N must be a multiple of 16"),
    (np.zeros((2, 2, 2, 2)), True, r"the model takes \[N, 16, 24\]"),
    (np.full(SHAPE, np.nan), False, "an input holds NaN"),
    ({"z": np.zeros(SHAPE)}, False, r"no input \['z'\]; \['x'\] missing"),
    ([np.zeros(SHAPE)] * 2, False, "2 arrays for a model with 1 inputs"),
    (np.full(SHAPE, "a"), False, "dtype the model can't take"),
]


@pytest.mark.parametrize(("inputs", "batched", "message"), BAD_INPUTS, ids=[message for *_, message in BAD_INPUTS])
def test_bad_inputs(model: Model, inputs: Any, batched: bool, message: str) -> None:
    with pytest.raises(RunError, match=message):
        (model.run_batch if batched else model.run)(inputs)


def test_bad_options(model: Model, codes: Array) -> None:
    with pytest.raises(RunError, match="0 threads"):
        model.run(codes, threads=0)
    with pytest.raises(RunError, match="65 threads"):
        model.run(codes, threads=65)
    with pytest.raises(RunError, match="several workers with several threads"):
        model.run_batch(np.stack([codes, codes]), threads=2, workers=2)
    with pytest.raises(RunError, match="0 repeats"):
        model.measure(repeats=0)
    with pytest.raises(RunError, match="0 repeats"):
        model.profile(repeats=0)


def test_description(model: Model) -> None:
    assert [tensor.name for tensor in model.inputs + model.outputs] == ["x", "y", "sums", "copy"]
    assert [step.name for step in model.steps] == ["triple", "sum", "copy"]
    assert model.manifest["model"] == "fake"
    assert model.outputs[2].layout == "rows"


def test_profile_and_measure(model: Model) -> None:
    found = model.profile(repeats=3, threads=2)
    assert [time.step for time in found.steps] == model.steps
    assert (found.repeats, found.threads) == (3, 2)
    assert all(0 <= time.min_ns <= time.median_ns for time in found.steps)
    assert found.total_min_ns <= found.total_median_ns
    assert model.measure(np.zeros(SHAPE), repeats=4).shape == (4,)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_verify(model: Model, threads: int) -> None:
    assert model.verify(threads=threads) == 1


def test_verify_finds_one_wrong_value(tmp_path: Path) -> None:
    image = fake_image(golden=2)
    image.golden[1].outputs[1][13] += 1
    wrong = load(write_fake(tmp_path / "m.edgeq", ARCH, image=image))
    with pytest.raises(RunError, match="golden vector 1: output sums differs at element 13") as caught:
        wrong.verify()
    assert caught.value.what == "the outputs differ from the golden vectors"


def test_verify_without_vectors(tmp_path: Path) -> None:
    assert load(write_fake(tmp_path / "m.edgeq", ARCH, image=fake_image(golden=0))).verify() == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_that_refuses(tmp_path: Path, threads: int) -> None:
    image = fake_image(golden=0)
    refusing = load(write_fake(tmp_path / "m.edgeq", ARCH, image=image, source=REFUSES))
    with pytest.raises(RunError, match=r"step 1 \(sum\) ended with code 9"):
        refusing.run(np.zeros(SHAPE, np.int8), threads=threads)


def test_models_are_used_from_several_threads(model: Model) -> None:
    from concurrent.futures import ThreadPoolExecutor

    samples = np.random.default_rng(4).integers(-128, 128, (40, *SHAPE), dtype=np.int8)
    with ThreadPoolExecutor(4) as executor:
        results = list(executor.map(lambda sample: model.run(sample, threads=2), samples))
    assert all(same(found, reference(sample)) for found, sample in zip(results, samples, strict=True))


def test_forked_process_still_runs(model: Model, codes: Array) -> None:
    """Threads of a pool don't survive a fork; the caller does their share."""
    import os

    model.run(codes, threads=4)
    child = os.fork()
    if child == 0:
        os._exit(0 if same(model.run(codes, threads=4), reference(codes)) else 1)
    assert os.waitpid(child, 0)[1] == 0


class EchoModel:
    """One tensor that is input and output at once, of any dtype, scale and strides."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "m.edgeq"

    def load(self, tensor: TensorInfo) -> Model:
        image = ModelImage([StepInfo("none", "Identity")], [tensor], [replace(tensor, name="y")], 8192)
        return load(write_fake(self.path, ARCH, image=image, source=ROUND_TRIP))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> EchoModel:
    return EchoModel(tmp_path_factory.mktemp("echo"))


def permuted(shape: tuple[int, ...], order: tuple[int, ...], gap: int) -> tuple[int, ...]:
    """Element strides of `shape` laid out with its axes in `order` (outermost first) and `gap` between elements."""
    strides, step = [0] * len(shape), gap
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_layout_round_trips(echo: EchoModel, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), max_size=5).map(tuple))
    dtype = data.draw(st.sampled_from(["int8", "uint8", "int16", "int32", "int64"]))
    bias = data.draw(st.sampled_from([0, 0x80])) if dtype == "int8" else 0
    order = data.draw(st.permutations(range(len(shape))).map(tuple))
    strides = data.draw(st.none() | st.integers(1, 1).map(lambda gap: permuted(shape, order, gap)))
    model = echo.load(TensorInfo("x", dtype, shape, 64, strides=strides, storage_bias=bias))
    values = data.draw(hnp.arrays(dtype, shape))
    assert np.array_equal(model.run(values)["y"], values)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_quantization_follows_the_formula(echo: EchoModel, data: st.DataObject) -> None:
    """q = clip(rint(float32(x) · float32(1 / scale)) + zp) and x = float32(scale) · (q − zp), to the last bit."""
    dtype = data.draw(st.sampled_from(["int8", "uint8", "int16", "int32"]))
    bias = data.draw(st.sampled_from([0, 0x80])) if dtype == "int8" else 0
    info = np.iinfo(dtype)
    zero_point = data.draw(st.integers(info.min, info.max)) if dtype != "int32" else 0
    scale = data.draw(st.sampled_from([1.0, 0.5, 1 / 255, 0.0235]) | st.floats(1e-6, 1e6))
    gap = data.draw(st.integers(1, 3))
    values = data.draw(hnp.arrays(np.float32, 37, elements=st.floats(-1e6, 1e6, width=32)))
    halves = (np.arange(37) - 18.5).astype(np.float32) * np.float32(scale)
    model = echo.load(TensorInfo("x", dtype, (37,), 0, scale, zero_point, (gap,), bias))
    for floats in (values, values * np.float32(scale), halves, np.array([np.inf, -np.inf] * 18 + [0], np.float32)):
        steps = np.rint(floats * np.float32(1 / scale)).astype(np.float64) + zero_point
        want = np.clip(steps, info.min, info.max).astype(dtype)
        found = model.run(floats, dequantize=False)["y"]
        assert np.array_equal(found, want)
        real = (want.astype(np.int64) - zero_point).astype(np.float32) * np.float32(scale)
        assert np.array_equal(model.run(floats)["y"], real)


def test_several_inputs(tmp_path: Path) -> None:
    inputs = [TensorInfo("a", "int8", (2, 3), 0), TensorInfo("b", "int16", (2,), 64)]
    outputs = [replace(tensor, name=tensor.name + "2") for tensor in inputs]
    image = ModelImage([StepInfo("none", "Identity")], inputs, outputs, 128, golden=[])
    model = load(write_fake(tmp_path / "m.edgeq", ARCH, image=image, source=ROUND_TRIP))
    a, b = np.arange(18, dtype=np.int8).reshape(3, 2, 3), np.arange(6, dtype=np.int16).reshape(3, 2)
    found = model.run_batch({"b": b, "a": a})
    assert np.array_equal(found["a2"], a)
    assert np.array_equal(found["b2"], b)
    mixed = model.run({"a": a[0], "b": b[0].astype(np.float32)})
    assert mixed["a2"].dtype == np.float32
    with pytest.raises(RunError, match="different numbers of samples"):
        model.run_batch([a, b[:2]])


def test_model_without_inputs(tmp_path: Path) -> None:
    image = ModelImage([StepInfo("none", "Identity")], [], [TensorInfo("y", "int8", (3,), 0)], 64)
    image.golden = [Golden([], [np.zeros(3, np.int8)])]
    model = load(write_fake(tmp_path / "m.edgeq", ARCH, image=image, source=ROUND_TRIP))
    assert model.run([])["y"].shape == (3,)
