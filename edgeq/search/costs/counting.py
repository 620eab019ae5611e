"""Instructions of every step of uniform networks: under the user-mode emulator, or on an emulated board."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edgeq.cache import content_key
from edgeq.errors import EdgeqError, RunError, ToolError
from edgeq.search.costs.networks import Network
from edgeq.search.store import Store

if TYPE_CHECKING:
    from edgeq.compiler.target import Target

Progress = Callable[[str, int, int], None]
KIND = "instructions"


def count(
    networks: Sequence[Network], store: Store, target: Target, progress: Progress | None = None
) -> tuple[list[list[float]] | None, str]:
    """Instructions [network][step], or None and why they can't be counted.

    Args:
        networks: compiled. store: what was counted before is taken from it. target: of the networks.
    """
    if target.webassembly:
        return None, "a module's instructions are its engine's"
    emulator = target.spec.toolchain.emulator
    if not target.bare_metal and (not emulator or not shutil.which(emulator)):
        return None, f"no emulator for {target.name} is installed"
    found = []
    for done, network in enumerate(networks, start=1):
        key = _key(target, network)
        value = store.get(KIND, key)
        if value is None:
            try:
                value = _steps(network)
            except (RunError, ToolError) as error:
                return None, _reason(error)
            store.put(KIND, key, value)
        found.append([float(v) for v in value])
        if progress:
            progress("counting", done, len(networks))
    return found, ""


def _steps(network: Network) -> list[int]:
    from edgeq.evaluate.firmware import run_firmware
    from edgeq.evaluate.instructions import count_instructions

    if network.path is not None:
        return count_instructions(network.path).steps
    assert network.compiled is not None
    return run_firmware(network.compiled).steps


def _reason(error: EdgeqError) -> str:
    return (error.why or error.what).splitlines()[0]


def _key(target: Target, network: Network) -> str:
    names = [part for step in network.steps for part in (step.kernel, step.name)]
    return content_key([KIND, "3", target.name, *names])
