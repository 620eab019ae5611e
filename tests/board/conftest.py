from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.boards import FakeBoard, install


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBoard:
    return install(tmp_path, monkeypatch)
