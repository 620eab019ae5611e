"""A board that is reached by ssh: keys, ports and jumps as in the user's own ssh configuration."""

from __future__ import annotations

import re
import subprocess
import tempfile

from edgeq.board.link import CONNECT_SECONDS, Link, require_program
from edgeq.errors import UsageError

# user@host, host, or ssh://user@host:port. A leading '-' would be an option of ssh.
_DESTINATION = re.compile(r"(ssh://)?[A-Za-z0-9_.][A-Za-z0-9_.@%:\[\]-]*")


class SshLink(Link):
    """OpenSSH's client; one connection for all commands.

    Args:
        destination: user@host, host, or ssh://user@host:port.

    Raises:
        UsageError: not a destination. ToolError: no ssh here.
    """

    scratch = "/tmp"
    hint = "does `ssh -o BatchMode=yes` to it work without a password? `ssh-copy-id` puts a key there"

    def __init__(self, destination: str) -> None:
        if not _DESTINATION.fullmatch(destination):
            raise UsageError(
                "not a destination of ssh", where=destination, hint="give user@host, host, or ssh://user@host:port"
            )
        self.name = f"ssh:{destination}"
        self._control = tempfile.TemporaryDirectory(prefix="edgeq-ssh-")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": f"{CONNECT_SECONDS:.0f}",
            "ControlMaster": "auto",
            "ControlPath": f"{self._control.name}/c",
            "ControlPersist": "60",
        }
        self._ssh = [require_program("ssh", "openssh-client"), *(f"-o{k}={v}" for k, v in options.items())]
        self._destination = destination

    def shell(self, script: str) -> list[str]:
        return [*self._ssh, "-T", "--", self._destination, script]

    def close(self) -> None:
        # Ends the shared connection; it may be gone already, which is as good.
        command = [*self._ssh, "-O", "exit", "--", self._destination]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=CONNECT_SECONDS)
        self._control.cleanup()
