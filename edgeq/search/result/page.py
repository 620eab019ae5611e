"""The search's page: one HTML file with plot, layers, the best policies and the commands that compile them."""

from __future__ import annotations

import json
from typing import Any

from edgeq.quantize.policy import Policy
from edgeq.search.result.found import Found
from edgeq.search.result.write import UNITS, amount, policy_text
from edgeq.search.searcher import Candidate
from edgeq.search.solvers.milp import Table
from edgeq.search.space import Choice, Form, Place

BEST = 10


def page_text(found: Found, base: Policy, source: str, target: str, command: str) -> str:
    """HTML that asks the network for nothing.

    Args:
        found: of `search`. base: the user's policy. source: model's file name. target: its name.
        command: compiles the policy once it is saved.
    """
    from importlib.resources import files

    from jinja2 import Environment, PackageLoader, StrictUndefined

    ranked = _ranked(found)
    loader = PackageLoader("edgeq.search", "templates")
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("search.html.j2")
    data = {
        "objective": found.objective,
        "resources": [name for name in UNITS if name in found.best.predicted],
        "units": UNITS,
        "reference": found.reference,
        "least": found.least,
        "layers": [layer.name for layer in found.space.weighted],
        "points": [_point(found, c, base, source, target) for c in [*ranked, *_others(found, ranked)]],
    }
    return template.render(
        title=f"{source} on {target}",
        headline=_headline(found),
        facts=_facts(found),
        best=[_row(found, index, candidate) for index, candidate in enumerate(ranked)],
        objective=found.objective,
        layers=[_layer(found, layer) for layer in found.space.places],
        command=command,
        style=(files("edgeq.report") / "templates" / "report.css").read_text("utf-8"),
        script=(files("edgeq.search") / "templates" / "search.js").read_text("utf-8"),
        # "</script>" in a layer's name must not end the script.
        data=json.dumps(data).replace("<", "\\u003c"),
    )


def _ranked(found: Found) -> list[Candidate]:
    """What was chosen, then what else was judged, cheapest first: those that keep to the accuracy before the others."""
    rest = [c for c in found.seen if c is not found.best]
    rest.sort(key=lambda c: (found.least is not None and c.accuracy < found.least, c.predicted[found.objective]))
    return [found.best, *rest][:BEST]


def _others(found: Found, ranked: list[Candidate]) -> list[Candidate]:
    taken = [c.forms for c in ranked]
    return [c for c in found.seen if c.forms not in taken]


def _point(found: Found, candidate: Candidate, base: Policy, source: str, target: str) -> dict[str, Any]:
    return {
        "accuracy": candidate.accuracy,
        "predicted": candidate.predicted,
        "bits": [form.bits for form in candidate.forms.values() if isinstance(form, Form)],
        "forms": [str(form) for form in candidate.forms.values() if isinstance(form, Form)],
        "others": [
            [place.layer, place.kind, str(getattr(candidate.forms[place.name], "value", ""))]
            for place in found.space.others
            if candidate.forms[place.name] != place.base
        ],
        "policy": policy_text(found, base, source, target, candidate),
        "chosen": candidate is found.best,
        "uniform": candidate.forms == found.uniform.forms,
    }


def _headline(found: Found) -> str:
    best, measured = found.best, found.measured
    parts = [
        f"{found.uniform.predicted[found.objective] / best.predicted[found.objective]:.2f} × less {found.objective}"
    ]
    if measured.latency and measured.uniform_latency:
        parts = [f"{measured.uniform_latency / measured.latency:.2f} × faster, measured"]
    parts.append(f"weights {measured.uniform_weights / measured.weights:.2f} × smaller")
    return f"{', '.join(parts)} than 8 bits"


def _facts(found: Found) -> list[tuple[str, str]]:
    best, measured = found.best, found.measured
    facts = [
        ("accuracy", f"{best.accuracy:.4f} (float {found.reference:.4f}, 8 bits {found.uniform.accuracy:.4f})"),
        (f"{found.objective}, predicted", amount(found.objective, best.predicted[found.objective])),
    ]
    if measured.latency and measured.uniform_latency:
        pair = (amount("latency", measured.latency), amount("latency", measured.uniform_latency))
        facts.append(("latency, measured on the final artifact", f"{pair[0]} (8 bits {pair[1]})"))
    facts.append(("weights in the artifact", f"{measured.weights} bytes (8 bits {measured.uniform_weights})"))
    facts.append(("judged", f"{found.judged[0]} policies, {found.judged[1]} of them in this run"))
    return [*facts, *(("note", note) for note in found.costs.notes)]


def _row(found: Found, index: int, candidate: Candidate) -> dict[str, Any]:
    return {
        "index": index,
        "accuracy": f"{candidate.accuracy:.4f}",
        "cost": amount(found.objective, candidate.predicted[found.objective]),
        "weights": amount("weights", candidate.predicted["weights"]),
        "keeps": found.least is None or candidate.accuracy >= found.least,
        "chosen": candidate is found.best,
    }


def _layer(found: Found, place: Place) -> dict[str, str]:
    """What a place has, what it won, and what the next coarser form would win and give up."""
    table: Table = found.costs.tables[found.objective]
    row, form = table[place.name], found.best.forms[place.name]
    harm = found.sensitivity[place.name]
    cheaper = [other for other in place.forms if harm[other] >= harm[form] and row[other] < row[form]]
    following = min(cheaper, key=lambda other: (harm[other], row[other]), default=None)
    offer = "–"
    if following is not None:
        gain = amount(found.objective, row[form] - row[following])
        offer = f"{_name(following)}: wins {gain}, divergence {harm[following]:.2g}"
    return {
        "name": place.layer,
        "kind": place.kind,
        "parameters": f"{place.parameters:,}" if place.parameters else "",
        "form": _name(form),
        "won": amount(found.objective, row[place.forms[0]] - row[form]),
        "harm": f"{harm[form]:.2g}",
        "offer": offer,
    }


def _name(form: Choice) -> str:
    return str(form) if isinstance(form, Form) else str(form.value)
