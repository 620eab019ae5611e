"""What `inspect --target` prints: will it fit, layer by layer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edgeq.cli import common, units

if TYPE_CHECKING:
    from rich.console import Console

_ROWS = re.compile(r"(\[\d+:\d+\](#\d+)?| rows)( slice)?$")  # what row-wise execution puts behind a layer's name
BAR = 16  # characters of the fullest layer


def show(console: Console, path: str, facts: dict[str, Any]) -> None:
    """RAM and flash of every kernel call, the sums, and what is missing."""
    found = facts["fit"]
    show_layers(console, found)
    console.print(f"[bold]{path}[/], {facts['kind']}, on {found['target']}")
    common.show_facts(console, summary(found))
    console.print(verdict(found))


def show_layers(console: Console, found: dict[str, Any]) -> None:
    """RAM that is alive, weights and code of every kernel call; `◀` is the peak."""
    right = ("RAM", "weights", "code", "operations")
    listing = common.table("layer", "op", "RAM", "", "weights", "code", "operations", right=right)
    fullest = max((layer["ram"] for layer in found["layers"]), default=0)
    whole = max(fullest, 1)
    for layer in _by_layer(found["layers"]):
        mark = " ◀" if layer["ram"] == fullest else ""
        listing.add_row(
            layer["name"],
            "+".join(layer["ops"]),
            units.size(layer["ram"]),
            "█" * round(BAR * layer["ram"] / whole) + mark,
            units.size(layer["weights"]) if layer["weights"] else "",
            units.size(layer["code"]) if layer["code"] else "",
            units.amount(2 * layer["macs"]) if layer["macs"] else "",
        )
    console.print(listing)


def _by_layer(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kernel calls of a layer that runs row-wise as one row: most RAM, weights once, code and operations together."""
    rows: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
    for call in calls:
        name = _ROWS.sub("", call["name"])
        row = rows.setdefault((name, tuple(call["ops"])), {**call, "name": name, "calls": 0, "code": 0, "macs": 0})
        row["calls"] += 1
        row["ram"] = max(row["ram"], call["ram"])
        row["code"] += call["code"]
        row["macs"] += call["macs"]
    for row in rows.values():
        row["name"] += f" ({row['calls']} calls)" if row["calls"] > 1 else ""
    return list(rows.values())


def summary(found: dict[str, Any]) -> dict[str, str]:
    """Flash, RAM and the fullest layer, one fact a line."""
    code = f"code {units.size(found['code'])}" if found["code"] else "code is your compiler's"
    unknown = "stack isn't counted" if found["code"] else "stack is your compiler's"
    stack = f"stack {units.size(found['stack'])} at most" if found["stack"] else unknown
    fast = found.get("fast")
    return {
        "flash": f"{room(found['flash_needed'], found['flash'])}: {code}, weights {units.size(found['weights'])}",
        "RAM": f"{room(found['ram_needed'], found['ram'])}: arena {units.size(found['arena'])}, {stack}",
        "fast RAM": f"{room(fast['size'], fast['room'])}: the buffers that are touched most" if fast else "",
        "fullest layer": f"{found['peak'].get('name', '–')}: {peak_text(found['peak'])}",
    }


def row_wise(report: dict[str, Any]) -> dict[str, str]:
    """What was done to need less RAM, what it brought and costs; nothing where nothing was."""
    found, lean = report.get("row_wise"), report.get("lean")
    facts = {}
    if lean:
        before, after = (units.size(size) for size in lean)
        facts["lean"] = f"dense layers without Winograd's scratch memory: arena {before} → {after}, slower"
    return facts | _row_wise(found) if found else facts


def _row_wise(found: dict[str, Any]) -> dict[str, str]:
    (arena, less), (calls, more), (copied, moved) = (found[key] for key in ("arena", "calls", "copied"))
    again = found["macs"][1] - found["macs"][0]
    facts = [
        f"{found['layers']} layers, {found['first']} to {found['last']}, a few rows at a time",
        f"arena {units.size(arena)} → {units.size(less)}",
        f"{more} kernel calls instead of {calls}",
        f"{units.size(moved)} copied instead of {units.size(copied)}",
        f"{units.amount(2 * again)} operations done again" if again else "nothing computed twice",
    ]
    if "instructions" in found:
        (before, after), (code, longer) = found["instructions"], found["code"]
        facts.append(f"{after:,} instructions instead of {before:,} ({100 * (after / before - 1):+.1f} %)")
        facts.append(f"code {units.size(code)} → {units.size(longer)}")
    return {"row-wise": ", ".join(facts)}


def verdict(found: dict[str, Any]) -> str:
    """One line if it fits; what is missing, why and what would help if it doesn't."""
    if found["flash"] is None and found["ram"] is None:
        return "no memories to compare with: the target lists none, --flash and --ram give them"
    if found["fits"]:
        return "[bold green]it fits[/]"
    texts = [
        f"[bold red]{short['what']}[/]\n  at layer {short['layer']}: {short['why']}\n  {short['hint']}"
        for short in found["shortfalls"]
    ]
    return "\n".join(texts)


def room(needed: int, there: int | None) -> str:
    """'97.6 KiB of 1.00 MiB (10 %)'."""
    if there is None:
        return units.size(needed)
    return f"{units.size(needed)} of {units.size(there)} ({100 * needed / there:.0f} %)"


def peak_text(peak: dict[str, Any]) -> str:
    """The buffers that are alive at the fullest moment."""
    buffers = ", ".join(f"{b['name']} {units.size(b['bytes'])}" for b in peak.get("buffers", [])[:3])
    return f"{units.size(peak.get('ram', 0))} alive ({buffers})"
