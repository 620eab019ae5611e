"""Float graphs that were made before: same file, same graph; anything else is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeq import frontend
from edgeq.cache import cache_dir
from edgeq.frontend import cache, pipeline
from tests.frontend.models import model, random_feeds, save, weights
from tests.frontend.test_reader import external

TEXT = "g (float[n,8] x) => (float[n,5] y) { m = MatMul(x, w)  y = Relu(m) }"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that went through the passes, with an empty cache."""
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path / "cache"))
    found: list[str] = []
    simplify = pipeline.simplify

    def counting(*args: object, source: str, **given: object) -> ir.Model:
        found.append(source)
        return simplify(*args, source=source, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "simplify", counting)
    return found


def content(graph: frontend.FloatGraph) -> tuple[bytes, list[str]]:
    return ir.to_proto(graph.model).SerializeToString(deterministic=True), graph.notes


def write(folder: Path, seed: int = 0) -> Path:
    return save(model(TEXT, w=weights(8, 5, seed=seed)), folder)


def test_the_second_time_nothing_is_simplified_and_the_graph_is_the_same(made: list[str], tmp_path: Path) -> None:
    path = write(tmp_path)
    first, second = frontend.load(path), frontend.load(path)
    assert made == [str(path)]
    assert content(first) == content(second)
    assert second.source == str(path)
    feeds = random_feeds(first)
    np.testing.assert_array_equal(first.run(feeds)["y"], second.run(feeds)["y"])


def test_another_content_batch_or_shape_is_another_graph(made: list[str], tmp_path: Path) -> None:
    path = write(tmp_path)
    frontend.load(path)
    frontend.load(path, batch=3)
    assert tuple(frontend.load(path, shapes={"x": (2, 8)}).inputs[0].shape) == (2, 8)
    write(tmp_path, seed=1)
    frontend.load(path)
    assert len(made) == 4


@pytest.mark.parametrize("name", ["graph.onnx", "notes.json"])
def test_a_damaged_entry_is_made_again(made: list[str], tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    expected = content(frontend.load(path))
    (entry,) = cache_dir(cache.FOLDER).iterdir()
    (entry / name).write_bytes(b"\xff{")
    assert content(frontend.load(path)) == expected
    assert content(frontend.load(path)) == expected
    assert len(made) == 2


def test_a_file_with_data_elsewhere_is_read_every_time(made: list[str], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(external(tmp_path), path)
    before = content(frontend.load(path))
    (tmp_path / "weights.bin").write_bytes(weights(8, 5, seed=1).tobytes())
    assert content(frontend.load(path)) != before
    assert len(made) == 2


def test_large_files_are_not_kept(made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 10)
    path = write(tmp_path)
    frontend.load(path)
    frontend.load(path)
    assert len(made) == 2
