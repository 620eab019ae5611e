"""Runs the command line in this process, as a user's shell would see it."""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from edgeq.cli.main import invoke


@dataclass(frozen=True)
class Outcome:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


def edgeq(*args: object) -> Outcome:
    """Run `edgeq args…`."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["edgeq", *map(str, args)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = invoke([str(a) for a in args])
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


def assert_refused(outcome: Outcome, *words: str) -> None:
    """Exit code 2 and one message on stderr that has all the words, and no traceback."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error:") == 1, outcome.err
    for word in words:
        assert word in outcome.err, (word, outcome.err)
