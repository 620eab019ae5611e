"""A Ctrl-C that somebody swallowed ends the work at the next word of progress."""

from __future__ import annotations

import signal

import pytest

from edgeq.cli import common, interrupt


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "_pending", False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def swallow() -> None:
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return
    pytest.fail("no interrupt")


@pytest.mark.usefixtures("handlers")
def test_a_swallowed_interrupt_comes_back() -> None:
    interrupt.install()
    with common.progress_bars(quiet=True) as progress:
        progress("stage", 0, 1)
        swallow()
        with pytest.raises(KeyboardInterrupt):
            progress("stage", 1, 1)


@pytest.mark.usefixtures("handlers")
def test_handlers_of_others_stay() -> None:
    def other(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, other)
    interrupt.install()
    assert signal.getsignal(signal.SIGINT) is other
