"""Which layer did it: differences of two measurements in nodes, steps, kernels and buffers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from edgeq.report.results import Entry, GraphFacts, Node, Place, Step
from edgeq.report.timing import keys

# Enough to see the cause; the rest is in the tables.
MOST = 8


class Change(BaseModel):
    """One layer's part in a change.

    Attributes:
        layer: node, step, kernel or buffer. what: one phrase: what changed about it.
        before, after: numbers where there are some.
    """

    model_config = ConfigDict(extra="forbid")
    layer: str
    what: str
    before: float | None = None
    after: float | None = None

    @property
    def text(self) -> str:
        """'conv1: weights or other constants changed'."""
        return f"{self.layer}: {self.what}"


def _occurrences(names: Iterable[str]) -> list[tuple[str, int]]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        result.append((name, seen[name]))
        seen[name] += 1
    return result


def graph_changes(new: GraphFacts, old: GraphFacts) -> list[Change]:
    """Nodes that differ from the baseline's, causes before consequences.

    A node whose op, attributes or constants changed is a cause; one that only computes other values because its
    inputs did is a consequence, and is counted rather than listed.
    """
    before = dict(zip(_occurrences(n.name for n in old.nodes), old.nodes, strict=True))
    causes, consequences = [], []
    present = set()
    for key, node in zip(_occurrences(n.name for n in new.nodes), new.nodes, strict=True):
        present.add(key)
        partner = before.get(key)
        what = "is new" if partner is None else _node_change(node, partner)
        if what:
            causes.append(Change(layer=node.name, what=what))
        elif partner is not None and node.output != partner.output:
            consequences.append(node)
    causes += [Change(layer=key[0], what="is gone") for key in before if key not in present]
    if not causes and consequences:
        first = consequences.pop(0)
        what = f"the arithmetic of {first.op} changed: other values from the same inputs, attributes and constants"
        causes.append(Change(layer=first.name, what=what))
    if consequences:
        names = ", ".join(node.name for node in consequences[:3]) + (" …" if len(consequences) > 3 else "")
        causes.append(Change(layer=f"{len(consequences)} nodes behind", what=f"compute other values as well ({names})"))
    return causes


def _node_change(node: Node, old: Node) -> str:
    parts = []
    if node.op != old.op:
        parts.append(_op_change(old.op, node.op))
    elif node.attributes != old.attributes:
        parts.append("attributes changed (zero points, clamps, windows)")
    if node.weight_bits != old.weight_bits:
        parts.append(f"weights take {node.weight_bits} bits instead of {old.weight_bits}")
    if node.constants != old.constants:
        kind = "weights" if node.weight_bits is not None else "constants (multipliers, shifts, tables)"
        parts.append(f"{kind} changed")
    return ", ".join(parts)


def _op_change(old: str, new: str) -> str:
    rounding = {"RequantizeNarrow", "Requantize", "Rescale"}
    word = "rounding form" if {old, new} <= rounding else "op"
    return f"{word} changed from {old} to {new}"


def quality_changes(new: GraphFacts, old: GraphFacts | None, changes: list[Change]) -> list[Change]:
    """Changed nodes, and the layer that lost most against the float model since the baseline."""
    if old is None:
        return changes[:MOST]
    before = {key: n.sqnr for key, n in zip(_occurrences(n.name for n in old.nodes), old.nodes, strict=True)}
    losses = []
    for key, node in zip(_occurrences(n.name for n in new.nodes), new.nodes, strict=True):
        was = before.get(key)
        if node.sqnr is not None and was is not None and abs(node.sqnr - was) >= 0.1:
            losses.append((was - node.sqnr, node, was))
    found = list(changes[:MOST])
    if losses:
        loss, node, was = max(losses, key=lambda item: abs(item[0]))
        word = "loses" if loss > 0 else "gains"
        what = f"{word} most against the float model: SQNR {node.sqnr:.1f} dB, was {was:.1f} dB"
        found.insert(0, Change(layer=node.name, what=what, before=was, after=node.sqnr))
    return found


def cost_changes(check: str, new: Entry, old: Entry) -> list[Change]:
    """What a change of a cost consists of."""
    if check == "arena":
        return arena_changes(new, old)
    if check == "code":
        return code_changes(new, old)
    if check in ("stack", "file"):
        return kernel_changes(new, old) or (code_changes(new, old) if check == "file" else [])
    field = {"instructions": "instructions", "weights": "weight_bytes"}.get(check)
    return step_changes(new, old, field) if field else []


def step_changes(new: Entry, old: Entry, field: str) -> list[Change]:
    """Steps by how much they changed, the largest first."""
    unit = {"instructions": "instructions", "weight_bytes": "B of weights"}[field]
    before = dict(zip(keys(old.steps), old.steps, strict=True))
    after = dict(zip(keys(new.steps), new.steps, strict=True))
    changes = []
    for key in dict.fromkeys([*after, *before]):
        step, partner = after.get(key), before.get(key)
        now = (getattr(step, field) or 0) if step else 0
        was = (getattr(partner, field) or 0) if partner else 0
        if now != was:
            changes.append(_step_change(key, step, partner, was, now, unit))
    return sorted(changes, key=lambda c: -abs((c.after or 0) - (c.before or 0)))[:MOST]


def _step_change(
    key: tuple[str, str, int], step: Step | None, old: Step | None, was: float, now: float, unit: str
) -> Change:
    name = f"{key[0]} ({key[1]})"
    if step is None:
        what = f"step is gone with its {was:,.0f} {unit}"
    elif old is None:
        what = f"step is new, {now:,.0f} {unit}"
    else:
        percent = f" ({100 * (now / was - 1):+.3g} %)" if was else ""
        kernel = "the same kernel" if step.kernel == old.kernel else f"kernel {old.kernel} → {step.kernel}"
        what = f"{was:,.0f} → {now:,.0f} {unit}{percent}, {kernel}"
    return Change(layer=name, what=what, before=was, after=now)


def kernel_changes(new: Entry, old: Entry) -> list[Change]:
    """Steps that run another kernel than in the baseline, or that are new or gone."""
    before = dict(zip(keys(old.steps), old.steps, strict=True))
    after = dict(zip(keys(new.steps), new.steps, strict=True))
    changes = []
    for key, step in after.items():
        partner = before.get(key)
        name = f"{key[0]} ({key[1]})"
        if partner is None:
            changes.append(Change(layer=name, what=f"step is new, kernel {step.kernel}"))
        elif partner.kernel != step.kernel:
            changes.append(Change(layer=name, what=f"kernel {partner.kernel} → {step.kernel}"))
        elif partner.code_bytes != step.code_bytes:
            what = f"kernel {step.kernel} has {step.code_bytes} B of code, had {partner.code_bytes} B"
            changes.append(Change(layer=name, what=what))
    changes += [Change(layer=f"{k[0]} ({k[1]})", what="step is gone") for k in before if k not in after]
    return changes[:MOST]


def code_changes(new: Entry, old: Entry) -> list[Change]:
    """Kernels that are new, gone or of another size, with the layers that use them."""

    def kernels(entry: Entry) -> dict[str, tuple[int, list[str]]]:
        found: dict[str, tuple[int, list[str]]] = {}
        for step in entry.steps:
            found.setdefault(step.kernel, (step.code_bytes, []))[1].append(step.name)
        return found

    before, after = kernels(old), kernels(new)
    changes = []
    for name in dict.fromkeys([*after, *before]):
        now, was = after.get(name, (0, []))[0], before.get(name, (0, []))[0]
        if now != was:
            users = ", ".join(dict.fromkeys((after.get(name) or before[name])[1]))
            word = "is new" if name not in before else "is gone" if name not in after else "changed"
            what = f"kernel {name} {word}: {was} → {now} B of code"
            changes.append(Change(layer=users, what=what, before=was, after=now))
    if not changes:
        # Artifacts that come as files don't tell the size of each kernel.
        changes = kernel_changes(new, old)
    if not changes and new.code != old.code:
        what = "every kernel has its size; what calls them, or the memory functions, changed"
        changes.append(Change(layer="entry function", what=what, before=old.code, after=new.code))
    return sorted(changes, key=lambda c: -abs((c.after or 0) - (c.before or 0)))[:MOST]


def fullest(memory: list[Place]) -> tuple[int, list[Place]]:
    """The step with most bytes alive, and what is alive then, the largest first."""
    if not memory:
        return 0, []
    moments = range(min(p.first for p in memory), max(p.last for p in memory) + 1)
    alive = {m: [p for p in memory if p.first <= m <= p.last] for m in moments}
    moment = max(alive, key=lambda m: sum(p.size for p in alive[m]))
    return moment, sorted(alive[moment], key=lambda p: -p.size)


def arena_changes(new: Entry, old: Entry) -> list[Change]:
    """Buffers that grew, shrank, live longer, are new or gone; those of the fullest step first."""
    moment, alive = fullest(new.memory)
    full = {p.name for p in alive}
    step = new.steps[moment].name if 0 <= moment < len(new.steps) else "the end"
    before = dict(zip(_occurrences(p.name for p in old.memory), old.memory, strict=True))
    after = dict(zip(_occurrences(p.name for p in new.memory), new.memory, strict=True))
    changes = []
    for key in dict.fromkeys([*after, *before]):
        place, partner = after.get(key), before.get(key)
        now, was = place.size if place else 0, partner.size if partner else 0
        longer = place and partner and (place.last - place.first) - (partner.last - partner.first)
        if now == was and not longer:
            continue
        word = "is new" if partner is None else "is gone" if place is None else "changed"
        what = f"buffer {word}: {was} → {now} B" if now != was else f"buffer is alive for {longer:+d} steps"
        maker = _maker(place, new) if place else _maker(partner, old) if partner else ""
        what += f", written by {maker}" if maker else ""
        if place and key[0] in full:
            what += f", alive at the fullest step ({step})"
        changes.append(Change(layer=key[0], what=what, before=was, after=now))
    ranked = sorted(changes, key=lambda c: (c.layer not in full, -abs((c.after or 0) - (c.before or 0))))
    if not ranked and new.memory:
        ranked = [Change(layer=step, what="the same buffers are placed less tightly; this is the fullest step")]
    return ranked[:MOST]


def _maker(place: Place, entry: Entry) -> str:
    """The step that first touches a buffer; "" for inputs."""
    return entry.steps[place.first].name if 0 <= place.first < len(entry.steps) else ""


def time_changes(entry: Entry) -> list[Change]:
    """Steps by the time they gained or lost in the pair."""
    timing = entry.timing
    if timing is None:
        return []
    changes = []
    for step, ratio in zip(entry.steps, timing.steps, strict=False):
        if ratio is None:
            changes.append(Change(layer=f"{step.name} ({step.op})", what="step is new", after=step.seconds))
        elif step.seconds is not None and abs(ratio - 1) > 0.03:
            before = step.seconds / ratio
            what = f"{100 * (ratio - 1):+.0f} % of its time ({before * 1e6:.3g} → {step.seconds * 1e6:.3g} µs)"
            changes.append(Change(layer=f"{step.name} ({step.op})", what=what, before=before, after=step.seconds))
    return sorted(changes, key=lambda c: -abs((c.after or 0) - (c.before or 0)))[:MOST]
