"""The code generators' processes: what they build, and what becomes of their accidents."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgeq.compiler import build
from edgeq.compiler.build import KernelBuilder, Nursery, Worker, object_path
from edgeq.compiler.kernels.base import KernelSpec
from edgeq.compiler.kernels.elementwise.to_mask import ToMaskSpec
from edgeq.compiler.target import Target, load_target
from edgeq.errors import CompileError, TargetError


@dataclass(frozen=True)
class Accident(KernelSpec):
    """A kernel whose generation goes wrong in the way that `kind` says."""

    family: ClassVar[str] = "accident"
    kind: str

    def describe(self, target: Target) -> str:
        return f"accident_{self.kind}"

    def build(self, target: Target) -> Any:
        if self.kind == "dies":
            os.write(2, b"LLVM ERROR: Cannot select\n")
            os.abort()
        if self.kind == "hangs":
            time.sleep(60)
        if self.kind == "refuses":
            raise TargetError("no such product", where=target.name)
        if self.kind == "imports torch":
            import torch

            return torch
        raise ValueError("a wrong shape")


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target("x86-avx2")


def mask(rows: int) -> ToMaskSpec:
    return ToMaskSpec((rows, 8), (8, 1), (8, 1), "s8", "u8", 0, 128, 129)


def test_kernels_are_built_once_and_found_again(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    seen: list[tuple[int, int]] = []
    with KernelBuilder(2) as builder:
        paths = builder.build([mask(3), mask(4), mask(3)], target, lambda *at: seen.append(at))
        assert seen == [(1, 2), (2, 2)]
        assert [path.read_bytes()[:4] for path in paths] == [b"\x7fELF"] * 2
        assert builder.build([mask(4), mask(3)], target, lambda *at: seen.append(at)) == paths[::-1]
    assert len(seen) == 2
    assert paths == [object_path(mask(3), target), object_path(mask(4), target)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [("dies", "LLVM ERROR: Cannot select"), ("raises", "ValueError: a wrong shape"), ("hangs", "too slow")],
)
def test_accidents_name_the_kernel_and_leave_a_builder_that_works(
    kind: str, words: str, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "SECONDS_A_KERNEL", 1 if kind == "hangs" else 300)
    with KernelBuilder(1) as builder:
        with pytest.raises(CompileError, match=f"accident_{kind}__avx2") as caught:
            builder.build([Accident(kind)], target)
        assert words in str(caught.value.render())
        monkeypatch.setattr(build, "SECONDS_A_KERNEL", 300)
        (path,) = builder.build([mask(5)], target)
        assert path.is_file()


def test_errors_of_generators_arrive_as_they_are(target: Target, tmp_path: Path) -> None:
    with KernelBuilder(1) as builder, pytest.raises(TargetError, match="no such product"):
        builder.build([Accident("refuses")], target)


def test_generators_do_without_torch(target: Target) -> None:
    with KernelBuilder(1) as builder, pytest.raises(CompileError, match="code generation failed") as caught:
        builder.build([Accident("imports torch")], target)
    assert "torch" in str(caught.value.why)


def test_an_interpreter_that_cannot_start_says_why(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    nursery = Nursery()
    with pytest.raises(CompileError, match="the code generator died") as caught:
        Worker(nursery).build(mask(6), target, tmp_path / "x.o")
    nursery.stop()
    assert caught.value.why == "no such module"


def test_nothing_outlives_the_builder(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE_DIR", str(tmp_path))
    with KernelBuilder(2) as builder:
        builder.build([mask(7), mask(8)], target)
        process = builder._nursery._process
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
