"""Suites in a temporary folder, measurements without a compiler, and the three texts of a verdict."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgeq.report import text
from edgeq.report.judge import Verdict, judge
from edgeq.report.page import page
from edgeq.report.results import Entry, GraphFacts, Node, Place, Results, Step
from edgeq.report.suite import Suite, load_suite

DAY = dt.date(2030, 1, 1)


def suite_of(folder: Path, text_: str) -> Suite:
    """A suite from YAML."""
    path = folder / "suite.yaml"
    path.write_text(text_, encoding="utf-8")
    return load_suite(path)


def plain_suite(**more: Any) -> Suite:
    """Two models on two targets."""
    models = {name: {"path": f"{name}.onnx", "calib": "random", "data": "eval.npz"} for name in ("cat", "dog")}
    return Suite.model_validate({"version": 1, "models": models, "targets": ["arm", "x86-avx2"], **more})


def plain_results() -> Results:
    """What measuring `plain_suite` could give."""
    return Results(
        suite="pets",
        edgeq="0",
        created="2030-01-01T00:00:00Z",
        graphs=[_graph(name) for name in ("cat", "dog")],
        entries=[_entry(name, target) for name in ("cat", "dog") for target in ("arm", "x86-avx2")],
    )


def _graph(model: str) -> GraphFacts:
    names = ("stem", "stem.requantize", "head", "head.requantize")
    nodes = [
        Node(
            name=name,
            op="RequantizeNarrow" if "." in name else "Conv",
            attributes="a",
            constants="c",
            weight_bits=None if "." in name else 8,
            output=name,
            sqnr=40.0 if "." in name else None,
        )
        for name in names
    ]
    return GraphFacts(
        model=model, policy="default", metric="top1", accuracy=0.9, samples=1000, sqnr=30.0, outputs="o", nodes=nodes
    )


def _entry(model: str, target: str) -> Entry:
    steps = [
        Step(name=n, op="Conv+RequantizeNarrow", kernel=f"conv_{n}", macs=100, weight_bytes=64, code_bytes=500)
        for n in ("stem", "head")
    ]
    for step, count in zip(steps, (1000, 3000), strict=True):
        step.instructions = count
    memory = [
        Place(name="x", role="input", offset=0, size=256, first=-1, last=0),
        Place(name="features", role="value", offset=256, size=512, first=0, last=1),
        Place(name="scores", role="output", offset=0, size=64, first=1, last=2),
    ]
    return Entry(
        model=model,
        policy="default",
        target=target,
        arena=768,
        stack=100,
        weights=128,
        code=1100,
        file=5000,
        instructions=4000,
        ran="native",
        golden=2,
        agreement_samples=8,
        digest="d",
        steps=steps,
        memory=memory,
    )


def texts(verdict: Verdict, results: Results, baseline: Results | None = None) -> dict[str, str]:
    """HTML, Markdown and JUnit of a verdict; the last is also seen to be XML."""
    junit = text.junit(verdict, results)
    ElementTree.fromstring(junit)
    return {
        "html": page(verdict, results, baseline, []),
        "markdown": text.markdown(verdict, results),
        "junit": junit,
    }


def assert_found(
    suite: Suite, results: Results, baseline: Results, check: str, *words: str, target: str = ""
) -> Verdict:
    """The check fails for the right target, and all three texts have every word; returns the verdict."""
    verdict = judge(suite, results, baseline, DAY)
    assert verdict.status == "fail"
    failed = [f for f in verdict.of("fail") if f.check == check]
    assert failed, [(f.title, f.check, f.sentence) for f in verdict.of("fail")]
    if target:
        assert {f.target for f in failed} == {target}
    for kind, content in texts(verdict, results, baseline).items():
        for word in words:
            assert word in content, (kind, word, content[-3000:] if kind != "html" else "")
    return verdict
