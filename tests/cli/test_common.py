"""Shared options and files."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from edgeq.cli import common
from edgeq.errors import UsageError
from edgeq.files import atomic_path, publish, write_text


def test_parse_shapes() -> None:
    assert common.parse_shapes(["a=1x3x8x8", "b:0=4", "c=2,5"]) == {"a": (1, 3, 8, 8), "b:0": (4,), "c": (2, 5)}


@pytest.mark.parametrize("text", ["a", "=1x2", "a=", "a=1x", "a=0x3", "a=-1", "a=onextwo"])
def test_bad_shapes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="can't read the shape") as caught:
        common.parse_shapes([text])
    assert caught.value.where == f"--shape {text}"
    assert caught.value.hint


def test_settings_leave_out_what_was_not_given() -> None:
    given = {"calib": "x.npz", "observer": None, "allow_float": False, "shapes": ("a=1x2",), "seed": 0}
    assert common.settings(given) == {"calib": "x.npz", "shapes": {"a": (1, 2)}, "seed": 0}


def test_require_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such model"):
        common.require_file(tmp_path / "nope", "model")
    with pytest.raises(UsageError, match="can't read the model"):
        common.require_file(tmp_path, "model")


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    common.print_json({"a": float("inf"), "b": np.float32(0.5), "c": np.arange(2), "d": Path("x"), 1: (True,)})
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"a": None, "b": 0.5, "c": [0, 1], "d": "x", "1": [True]}


def test_atomic_path_replaces_in_one_step(tmp_path: Path) -> None:
    final = tmp_path / "model.edgeq"
    final.write_text("old")
    with atomic_path(final) as scratch:
        assert scratch.parent == tmp_path
        assert scratch.suffix == ".edgeq"
        scratch.write_text("new")
        assert final.read_text() == "old"
    assert final.read_text() == "new"
    assert list(tmp_path.iterdir()) == [final]
    assert stat.S_IMODE(final.stat().st_mode) & 0o044 == 0o044


def test_atomic_path_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "model.edgeq") as scratch:
            scratch.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_write_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "µ")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "µ"


def test_publish_copies_the_files_of_a_folder_into_one_that_may_exist(tmp_path: Path) -> None:
    made, place = tmp_path / "made", tmp_path / "place"
    made.mkdir()
    for name in ("lib.a", "model.h"):
        (made / name).write_bytes(name.encode())
    place.mkdir()
    (place / "lib.a").write_bytes(b"old")
    publish(made, place)
    publish(made, tmp_path / "new" / "folder")
    for folder in (place, tmp_path / "new" / "folder"):
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"lib.a": b"lib.a", "model.h": b"model.h"}
