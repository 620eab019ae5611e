"""Ceilings of this machine and what a profile makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import edgeq
from edgeq.compiler.isa.x86.pairing import ArrangedBytes
from edgeq.compiler.kernels.base import Epilogue, Image
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.peak.depthwise_peak import DepthwiseMix
from edgeq.compiler.kernels.peak.peak import Mix, PeakSpec
from edgeq.compiler.target import load_target
from edgeq.errors import UsageError
from edgeq.runtime.model import Profile
from edgeq.tuning.ceilings import measure
from edgeq.tuning.roofline import roofline
from edgeq.tuning.roofline_page import page
from tests.cli.helpers import edgeq as command
from tests.tuning.test_schedule import depthwise, graph

TARGET = "x86-avx2"
pytestmark = pytest.mark.skipif(not load_target(TARGET).runs_here(), reason="this processor has no AVX2")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("roofline") / "m.edgeq"
    edgeq.compile(graph(), target=TARGET, output=path)
    return path


def test_a_products_mix_is_found_again() -> None:
    target = load_target(TARGET)
    for x_dtype, products in target.inner.PRODUCTS.items():
        for number, product in enumerate(products):
            if isinstance(product, ArrangedBytes):  # arranged weights: the mix of groups as they lie that comes closest
                assert Mix.of(product, target) == Mix(x_dtype, 0, depth=1)
                assert Mix.of(replace(product, layout=(2, 48, 32, 40)), target) == Mix(x_dtype, 0, depth=2)
                continue
            deep = product.with_depth(4)
            mix = Mix.of(deep, target)
            assert mix == Mix(x_dtype, number, depth=deep.depth)
            assert mix.product(target) == deep
    assert Mix.of(replace(product, registers=7), target) is None


def test_a_tile_of_the_ceiling_fits_into_registers() -> None:
    target = load_target(TARGET)
    mix = Mix("s16", 0, word_weights=True)
    rows, vectors = PeakSpec(mix).tile(target)
    assert mix.product(target).fits(rows, vectors)
    assert rows * vectors >= 8


def test_ceilings_are_measured_once() -> None:
    target, mix = load_target(TARGET), Mix("s16", 0)
    first = measure(target, [mix])
    assert first.macs[mix] > 0
    assert first.bytes > 0
    assert measure(target, [mix, mix]) == first


def test_every_dense_layer_names_its_mix(artifact: Path) -> None:
    layers = [layer for layer in edgeq.load(artifact).manifest["layers"] if layer["macs"]]
    assert layers
    for layer in layers:
        assert layer["mix"]["x_dtype"] in ("u8", "s8", "s16")
        assert layer["mix"]["multiplications"] > 0


def test_a_depthwise_layer_is_compared_with_its_window_in_the_first_cache(tmp_path: Path) -> None:
    edgeq.compile(depthwise(), target=TARGET, output=tmp_path / "m.edgeq")
    manifest = edgeq.load(tmp_path / "m.edgeq").manifest
    points, ceilings = roofline(edgeq.profile(tmp_path / "m.edgeq", repeats=3), manifest, 1)
    (point,) = [point for point in points if point.macs]
    (mix,) = ceilings.macs
    assert isinstance(mix, DepthwiseMix)
    assert (mix.kh, mix.stride_h, mix.sums) == (3, 1, "taps")
    assert point.layer_ceiling == pytest.approx(ceilings.macs[mix])
    assert mix.macs(load_target(TARGET)) > 10**6


def test_only_plain_windows_have_a_ceiling() -> None:
    image = Image.dense(1, 9, 9, 16)
    spec = DepthwiseSpec(image, Image.dense(1, 7, 7, 16), "u8", 3, 3, Epilogue("none", "s32", 0, 0, 0))
    assert spec.mix(load_target(TARGET)) is not None
    wide = replace(spec, y=Image.dense(1, 5, 5, 16), dilation_h=2, dilation_w=2)
    several = replace(spec, y=Image.dense(1, 7, 7, 32))
    assert wide.mix(load_target(TARGET)) is several.mix(load_target(TARGET)) is None


def test_bytes_are_those_that_are_touched(tmp_path: Path) -> None:
    """The border of an image, not the image; two bytes a value of the graph's ends, and the layer's weights."""
    edgeq.compile(graph(), target=TARGET, output=tmp_path / "m.edgeq")
    layers = edgeq.load(tmp_path / "m.edgeq").manifest["layers"]
    border = next(layer for layer in layers if layer["ops"] == ["Fill"])
    assert border["bytes"] == (14 * 14 - 12 * 12) * 16
    dense = next(layer for layer in layers if layer["macs"])
    assert dense["bytes"] == 14 * 14 * 16 + 12 * 12 * 24 + dense["weights"]


def test_points_of_a_profile(artifact: Path) -> None:
    found, manifest = edgeq.profile(artifact, repeats=3), edgeq.load(artifact).manifest
    points, ceilings = roofline(found, manifest, 1)
    assert len(points) == len(found.steps)
    assert sum(point.share for point in points) == pytest.approx(1)
    dense = next(point for point in points if point.macs)
    assert dense.ceiling in ceilings.macs.values()
    assert dense.bound >= dense.multiplications / dense.ceiling
    assert dense.gap == pytest.approx(max(0, dense.seconds - dense.bound))
    for point in points:
        assert point.bound >= point.bytes / ceilings.bytes
    text = page("<m> & co", points, ceilings)
    assert "&lt;m&gt; &amp; co" in text
    assert "<script" not in text
    assert "http" not in text
    assert text.count("<tr>") == len(points) + 1


def test_what_cannot_be_compared(artifact: Path) -> None:
    found, manifest = edgeq.profile(artifact, repeats=2), edgeq.load(artifact).manifest
    with pytest.raises(UsageError, match="one thread"):
        roofline(found, manifest, 2)
    with pytest.raises(UsageError, match="can't be compared"):
        roofline(found, {**manifest, "layers": []}, 1)
    with pytest.raises(UsageError, match="can't be compared"):
        roofline(Profile([], 0.0, 0.0, 1, 1), manifest, 1)


def test_the_command_writes_a_page_and_json(artifact: Path, tmp_path: Path) -> None:
    html = tmp_path / "r.html"
    outcome = command("profile", artifact, "--roofline", "--html", html, "--repeat", 2, "--json")
    assert outcome.code == 0, outcome.err
    steps = outcome.json["steps"]
    assert {"seconds", "macs", "multiplications", "ceiling", "bytes", "bound", "limit", "efficiency"} <= set(steps[0])
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    shown = command("profile", artifact, "--roofline", "--repeat", 2, "--sort", "time")
    assert "of bound" in shown.out
