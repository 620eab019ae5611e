"""Chooses how to run an artifact: in this process, or under an emulator."""

from __future__ import annotations

from pathlib import Path

from edgeq.artifact.format import ARCHES
from edgeq.artifact.kind import is_module
from edgeq.artifact.read import read
from edgeq.errors import ArtifactError
from edgeq.runtime import native
from edgeq.runtime.model import Model, NativeModel


def host_arch() -> str | None:
    """Architecture of this machine, a key of `ARCHES`; None if artifacts can't run here."""
    code = int(native.load_library().edgeq_host_arch())
    return {number: name for name, number in ARCHES.items()}.get(code)


def load(path: str | Path, *, emulate: bool | None = None) -> Model:
    """Loads an artifact.

    Args:
        path: a `.edgeq` file, or a WebAssembly module, which runs under Node.js.
        emulate: None: an artifact for another architecture runs under QEMU; False: it is refused; True: always QEMU.

    Raises:
        ArtifactError: not an artifact, truncated, changed, of another ABI version, or for another CPU.
        ToolError: an emulator or a compiler that is needed isn't there.
    """
    path = Path(path)
    if is_module(path):
        from edgeq.runtime.webassembly import WasmModel

        return WasmModel(path)
    if emulate is False:
        return NativeModel(path)
    if emulate is None:
        try:
            return NativeModel(path)
        except ArtifactError:
            # Another architecture goes on below; anything else is an error there as well as here.
            if read(path).target.arch == host_arch():
                raise
    from edgeq.runtime.emulate import EmulatedModel

    return EmulatedModel(path)
