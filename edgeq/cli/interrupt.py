"""Ctrl-C that can't get lost: extension modules clear exceptions now and then, a KeyboardInterrupt with them."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_pending = False


def install() -> None:
    """Remember SIGINT as well as raising KeyboardInterrupt. Handlers of others (pytest's, say) are left alone."""
    global _pending  # noqa: PLW0603 - a signal belongs to the process
    _pending = False
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _pending  # noqa: PLW0603 - as above
    _pending = True
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if there was one that nobody has seen; called wherever progress is told."""
    if _pending:
        raise KeyboardInterrupt
