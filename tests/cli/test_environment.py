"""`edgeq targets` and `edgeq doctor`."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import pytest

from edgeq import environment
from edgeq.errors import ToolError
from tests.cli.helpers import edgeq


def test_targets_lists_host_and_arm() -> None:
    outcome = edgeq("targets")
    assert outcome.code == 0
    for name in ("host", "arm", "arm-dotprod"):
        assert name in outcome.out


def test_targets_as_json() -> None:
    rows = {row["name"]: row for row in edgeq("targets", "--json").json}
    assert rows["arm"]["arch"] == "aarch64"
    assert rows["host"]["resolves_to"] in rows
    assert rows["host"]["runs_here"] == "yes"


def test_a_target_without_its_emulator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    foreign = [row for row in environment.targets() if row["runs_here"] != "yes"]
    assert foreign
    known = [row for row in foreign if row["resolves_to"] is None and row["runs_here"] != "no (no emulator knows it)"]
    assert all("apt-get install " in row["runs_here"] for row in known)
    assert {row["name"] for row in known} >= {"arm", "armv7", "riscv64", "cortex-m4", "wasm-simd128"}


def test_doctor_is_content_here() -> None:
    outcome = edgeq("doctor")
    assert outcome.code == 0, outcome.out
    assert "Everything needed is there" in outcome.out


def test_doctor_reports_a_missing_linker(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise ToolError("no linker", hint="pip install ziglang")

    monkeypatch.setattr("edgeq.artifact.tools.linker", missing)
    outcome = edgeq("doctor", "--json")
    assert outcome.code == 1
    row = next(r for r in outcome.json["checks"] if r["name"] == "linker")
    assert row["state"] == "missing"
    assert row["hint"] == "pip install ziglang"
    assert "1 missing" in edgeq("doctor").out


def test_doctor_reports_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "ziglang":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    rows = {row["name"]: row for row in environment.doctor()}
    assert rows["ziglang"]["state"] == "missing"
    assert rows["ziglang"]["hint"] == "pip install ziglang"


def test_doctor_knows_a_machine_without_compiler_and_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    rows = {row["name"]: row for row in environment.doctor()}
    assert rows["C compiler"]["state"] == "optional"
    assert rows["qemu-aarch64"]["state"] == "optional"
    assert "apt-get install qemu-" in rows["qemu-aarch64"]["hint"]


def test_costs_of_a_target_are_relative_to_eight_bits() -> None:
    outcome = edgeq("targets", "x86-avx2", "--costs")
    assert outcome.code == 0
    for text in ("conv", "depthwise", "ps", "4 bits", "×", "from:"):
        assert text in outcome.out
    found = edgeq("targets", "x86-avx2", "--costs", "--json").json
    assert found["costs"]["conv"]["4"] <= found["costs"]["conv"]["8"]


def test_costs_need_a_target_that_has_them() -> None:
    alone = edgeq("targets", "--costs")
    assert alone.code == 2
    assert "one target" in alone.err
    missing = edgeq("targets", "x86-avxvnni", "--costs")
    assert missing.code == 2
    assert "edgeq search measures" in missing.err
