"""An Android device that is reached by adb."""

from __future__ import annotations

import re

from edgeq.board.link import Link, require_program
from edgeq.errors import UsageError

_SERIAL = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:-]*")


class AdbLink(Link):
    """The Android debug bridge. `shell -T` passes bytes unchanged and keeps the exit code; `exec-out` loses it.

    Args:
        serial: as `adb devices` lists it; "": the only device.

    Raises:
        UsageError: not a serial number. ToolError: no adb here.
    """

    scratch = "/data/local/tmp"
    hint = "does `adb devices` list it as `device`? USB debugging has to be allowed on it"

    def __init__(self, serial: str = "") -> None:
        if serial and not _SERIAL.fullmatch(serial):
            raise UsageError("not a serial number of adb", where=serial, hint="`adb devices` lists them")
        self.name = f"adb:{serial}" if serial else "adb"
        self._adb = [require_program("adb", "adb"), *(["-s", serial] if serial else [])]

    def shell(self, script: str) -> list[str]:
        return [*self._adb, "shell", "-T", script]
