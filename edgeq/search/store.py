"""What a search has learned, in SQLite: costs of kernels and judgements of assignments survive a kill.

Everything is named by the content it came from, so that nothing stale is found. Writes are committed one by one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeq.cache import cache_dir
from edgeq.errors import ToolError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)
) WITHOUT ROWID;
"""
VERSION = 1


class Store:
    """Facts by kind and key; values are anything JSON can hold. Usable from several threads and processes.

    Args:
        path: the database; made if it isn't there. None: in the cache folder.

    Raises:
        ToolError: it can't be opened or is no database of this version.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else cache_dir("search") / f"facts-{VERSION}.sqlite"
        self._local = threading.local()
        with self._connection() as database:
            database.executescript(_SCHEMA)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; SQLite's errors become ours."""
        try:
            if not hasattr(self._local, "connection"):
                self._local.connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
                self._local.connection.execute("PRAGMA journal_mode=WAL")
            yield self._local.connection
        except sqlite3.Error as error:
            raise ToolError(
                "the search's database can't be used",
                where=str(self.path),
                why=str(error),
                hint="delete it: it is made anew, and what it knew is measured again",
            ) from error

    def get(self, kind: str, key: str) -> Any | None:
        """The value, or None."""
        with self._connection() as database:
            row = database.execute("SELECT value FROM facts WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, kind: str, key: str, value: Any) -> None:
        """Write a value; it is on the disk when this returns."""
        with self._connection() as database:
            database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (kind, key, json.dumps(value)))

    def put_all(self, kind: str, values: Mapping[str, Any]) -> None:
        """Write several values at once."""
        rows = [(kind, key, json.dumps(value)) for key, value in values.items()]
        with self._connection() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)
            database.execute("COMMIT")

    def all(self, kind: str) -> dict[str, Any]:
        """Every value of a kind by its key."""
        with self._connection() as database:
            rows = database.execute("SELECT key, value FROM facts WHERE kind = ?", (kind,)).fetchall()
        return {key: json.loads(value) for key, value in rows}

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "connection"):
            self._local.connection.close()
            del self._local.connection
