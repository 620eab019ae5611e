"""Names, arrays and stores that nothing reads, taken out of scalar TIR: C compilers warn of them.

Imports tvm: only `codegen_c` may import this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tvm import tirx

Expr = Any


def without_unused(stmt: Any) -> Any:
    """The same statement without what nothing reads; None where nothing is left. Every name has one value."""
    for _ in range(2):  # what only a store that is gone has read goes in the second round
        if stmt is not None:
            stmt = _Cleaner(stmt).kept(stmt)
    return stmt


class _Cleaner:
    """Goes through statements from the last to the first; `used` is what the later ones read."""

    def __init__(self, stmt: Any) -> None:
        parts = list(_statements(stmt))
        self.used: set[Any] = set()
        allocated = {part.buffer for part in parts if type(part).__name__ == "AllocBuffer"}
        loaded: set[Any] = set()
        for part in parts:
            for value in _values(part):
                _read(value, loaded)
        self.never_read = allocated - loaded

    def kept(self, stmt: Any) -> Any:
        """The statement, or None."""
        kind = type(stmt).__name__
        if kind == "SeqStmt":
            parts = [part for part in (self.kept(each) for each in reversed(list(stmt.seq))) if part is not None]
            return None if not parts else parts[0] if len(parts) == 1 else tirx.SeqStmt(parts[::-1])
        if kind in ("For", "While", "IfThenElse"):
            return self._kept_around(stmt, kind)
        if kind in ("AllocBuffer", "DeclBuffer"):
            needed = stmt.buffer in self.used
        elif kind == "Bind":
            needed = stmt.var in self.used
        else:
            needed = kind != "BufferStore" or stmt.buffer not in self.never_read
        return self._reads(stmt) if needed else None

    def _reads(self, stmt: Any) -> Any:
        for value in _values(stmt):
            _read(value, self.used)
        if type(stmt).__name__ == "BufferStore":
            self.used.add(stmt.buffer)
        if type(stmt).__name__ == "DeclBuffer":
            self.used.add(stmt.data)
        return stmt

    def _kept_around(self, stmt: Any, kind: str) -> Any:
        """Of statements that hold others."""
        if kind == "IfThenElse":
            yes = self.kept(stmt.then_case)
            no = None if stmt.else_case is None else self.kept(stmt.else_case)
            if yes is None and no is None:
                return None
            self._reads(stmt)
            return tirx.IfThenElse(stmt.condition, tirx.Evaluate(0) if yes is None else yes, no)
        body = self.kept(stmt.body)
        if body is None:
            return None
        self._reads(stmt)
        if kind == "While":
            return tirx.While(stmt.condition, body)
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body)


def _statements(stmt: Any) -> Iterator[Any]:
    """A statement and all inside."""
    yield stmt
    inner = list(stmt.seq) if type(stmt).__name__ == "SeqStmt" else []
    inner += [getattr(stmt, name, None) for name in ("body", "then_case", "else_case")]
    for each in inner:
        if each is not None:
            yield from _statements(each)


def _values(stmt: Any) -> list[Expr]:
    """The expressions that a statement reads itself."""
    names = {
        "Bind": ("value",),
        "BufferStore": ("value",),
        "Evaluate": ("value",),
        "For": ("min", "extent"),
        "While": ("condition",),
        "IfThenElse": ("condition",),
    }
    kind = type(stmt).__name__
    found = [getattr(stmt, name) for name in names.get(kind, ())]
    return [*found, *stmt.indices] if kind == "BufferStore" else found


def _read(value: Expr, used: set[Any]) -> None:
    """Adds the variables and buffers of a scalar expression."""
    kind = type(value).__name__
    if kind == "Var":
        used.add(value)
    elif kind == "TensorLoad":
        used.add(value.source)
    for part in parts_of(value):
        _read(part, used)


def parts_of(value: Expr) -> list[Expr]:
    """The expressions that a scalar expression is made of."""
    kind = type(value).__name__
    if kind in ("Var", "IntImm", "StringImm"):
        return []
    if kind == "TensorLoad":
        return list(value.indices)
    if kind == "Call":
        return list(value.args)
    if kind == "Select":
        return [value.condition, value.true_value, value.false_value]
    if kind == "Cast":
        return [value.value]
    return [value.a] if kind == "Not" else [value.a, value.b]
