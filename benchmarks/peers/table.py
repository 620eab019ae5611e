"""Results of `peers` as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import geometric_mean
from typing import Any


def rows_of(result: dict[str, Any]) -> Iterable[list[str]]:
    """Lines of one network's table, the fastest first, then whoever couldn't run and why."""
    sides = result["sides"]
    ran = sorted((name for name in sides if "time" in sides[name]), key=lambda name: sides[name]["time"]["median"])
    for name in ran:
        side = sides[name]
        yield [
            name,
            f"{side['time']['median'] * 1e3:.3f}",
            *(_ratio(side["ratios"].get(ours)) for ours in result["ours"]),
            f"{side['sqnr']:.1f}" if side.get("sqnr", 999) < 200 else "–",
            _accuracy(side.get("accuracy")),
            f"{side['cold_seconds'] * 1e3:.0f}",
            f"{side['peak_bytes'] / 2**20:.1f}",
            f"{side.get('file_bytes', 0) / 2**20:.2f} + {side['library_bytes'] / 2**20:.1f}",
        ]
    for name, side in sides.items():
        if "reason" in side:
            yield [name, "not run: " + side["reason"].replace("|", "/"), *[""] * (len(result["ours"]) + 5)]


def _ratio(ratio: dict[str, float] | None) -> str:
    return f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})" if ratio else ""


def _accuracy(metrics: dict[str, float] | None) -> str:
    return ", ".join(f"{key} {value:.4f}" for key, value in (metrics or {}).items() if not key.startswith("n"))


def markdown(result: dict[str, Any]) -> str:
    """One network's table."""
    head: Sequence[str] = [
        "",
        "ms",
        *(f"× {ours.removeprefix('edgeq ')}" for ours in result["ours"]),
        "SQNR dB",
        "accuracy",
        "cold start ms",
        "peak MiB",
        "file + libraries MiB",
    ]
    lines = [head, ["---"] * len(head), *rows_of(result)]
    title = f"### {result['model']}, {result['threads']} thread{'s' if result['threads'] > 1 else ''}\n\n"
    return title + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def fastest(result: dict[str, Any], held: bool) -> str | None:
    """The fastest peer, of those held to AVX2 or of the others."""
    sides = result["sides"]
    names = [n for n in sides if "time" in sides[n] and n not in result["ours"] and n.endswith("(AVX2)") == held]
    return min(sorted(names), key=lambda name: sides[name]["time"]["median"], default=None)


def summary(results: Sequence[dict[str, Any]]) -> str:
    """One line a network and instruction set: the fastest peer, and how much faster each target of edgeq is.

    Below them the geometric means over the networks that a target and a peer of that kind ran.
    """
    ours = list(dict.fromkeys(name for result in results for name in result["ours"]))
    lines = [["network", "threads", "fastest peer", *(f"× {name}" for name in ours)]]
    lines.append(["---"] * len(lines[0]))
    found: dict[tuple[int, bool], list[dict[str, dict[str, float]]]] = {}
    for result in results:
        start = [result["model"], str(result["threads"])]
        names = [(held, fastest(result, held)) for held in (False, True)]
        for held, best in names:
            if best:
                ratios = result["sides"][best]["ratios"]
                found.setdefault((result["threads"], held), []).append(ratios)
                lines.append([*start, best, *(_ratio(ratios.get(name)) for name in ours)])
        if not any(best for _, best in names):
            lines.append([*start, "none ran", *[""] * len(ours)])
    for (threads, held), rows in sorted(found.items()):
        start = ["geometric mean", str(threads), "fastest, held to AVX2" if held else "fastest"]
        lines.append([*start, *(_mean(rows, name) for name in ours)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _mean(rows: Sequence[dict[str, dict[str, float]]], name: str) -> str:
    values = [row[name]["median"] for row in rows if name in row]
    return f"{geometric_mean(values):.2f} of {len(values)}" if values else ""
