"""What every test may use: the zoo, the emulator, the digits example, a compile cache that outlives the session.

Tests that need something outside the checkout carry a marker: `zoo` (the model zoo beside the checkout) or `emulated`
(qemu-aarch64). Where it is absent they are skipped. With CI=true nothing may be skipped: a skip is a failure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT.parent / "shared" / "zoo"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

# Kernels are cached by content; the sessions of one checkout share them and leave the user's own cache alone.
os.environ.setdefault("EDGEQ_CACHE_DIR", str(ROOT / "build" / "test-cache"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what can't run on this machine, with the reason and the way to get it."""
    if item.get_closest_marker("zoo") and not (ZOO / "evaluate.py").is_file():
        pytest.skip(f"needs the model zoo in {ZOO}")
    if item.get_closest_marker("emulated") and not shutil.which("qemu-aarch64"):
        pytest.skip("needs qemu-aarch64: apt-get install qemu-user")
    if item.get_closest_marker("node") and not shutil.which("node"):
        pytest.skip("needs node: apt-get install nodejs")
    if item.get_closest_marker("firmware"):
        missing = [tool for tool in ("qemu-system-arm", "arm-none-eabi-gcc") if not shutil.which(tool)]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: apt-get install qemu-system-arm gcc-arm-none-eabi")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With CI=true a skipped test has failed: nobody would notice what stopped being tested."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole module that skips itself."""
    report = yield
    if IN_CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def zoo() -> Path:
    """Folder of the model zoo (only for tests marked `zoo`)."""
    return ZOO


@pytest.fixture(scope="session")
def digits() -> Path:
    """Folder with digits.onnx, calib.npz and eval.npz."""
    return ROOT / "examples" / "digits"
