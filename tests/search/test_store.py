"""What was learned survives: other processes, threads, a damaged file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edgeq.errors import ToolError
from edgeq.search.store import Store


def test_facts_survive(tmp_path: Path) -> None:
    first = Store(tmp_path / "facts.sqlite")
    first.put("cost", "a", {"8": 1.5})
    first.put("cost", "a", {"8": 2.5})
    first.put("judgement", "a", 0.9)
    first.close()
    again = Store(tmp_path / "facts.sqlite")
    assert again.get("cost", "a") == {"8": 2.5}
    assert again.get("cost", "b") is None
    assert again.all("judgement") == {"a": 0.9}


def test_threads(tmp_path: Path) -> None:
    store = Store(tmp_path / "facts.sqlite")

    def write(number: int) -> None:
        for index in range(20):
            store.put("k", f"{number}-{index}", index)
        store.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.all("k")) == 80


def test_no_database(tmp_path: Path) -> None:
    (tmp_path / "facts.sqlite").write_text("this is no database, it is a text of some length" * 10)
    with pytest.raises(ToolError, match="can't be used") as caught:
        Store(tmp_path / "facts.sqlite")
    assert "delete it" in (caught.value.hint or "")
