"""docs/integer-transformers.md: its script runs, its plots are well formed, its tables are what the script prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nonlinears")
    script = ROOT / "benchmarks" / "nonlinears.py"
    subprocess.run([sys.executable, str(script), "--out", str(folder)], check=True, cwd=folder)
    return folder


def test_plots_are_drawn(made: Path) -> None:
    page = (ROOT / "docs" / "integer-transformers.md").read_text()
    plots = sorted(p.name for p in made.glob("*.svg"))
    assert len(plots) == 4
    for name in plots:
        curves = (
            ElementTree.parse(made / name).getroot().findall("{http://www.w3.org/2000/svg}path[@stroke-width='1.5']")
        )
        assert len(curves) >= 3
        assert f"(img/{name})" in page
        assert (ROOT / "docs" / "img" / name).exists()


def test_the_page_says_what_the_script_measures(made: Path) -> None:
    """Figures within a tenth: another NumPy may draw or round differently."""
    page = (ROOT / "docs" / "integer-transformers.md").read_text().splitlines()
    rows = [line for line in (made / "tables.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 25
    for row in rows:
        cells = row.split("|")[1:-1]
        named = [line.split("|")[1:-1] for line in page if line.startswith(row[: row.index("|", 1)])]
        assert any(len(n) == len(cells) and all(map(_same, n, cells)) for n in named), row


def _same(a: str, b: str) -> bool:
    left, right = (
        [float(n) for n in cell.replace("(", "").replace(")", "").split()] if _is_figure(cell) else cell
        for cell in (a, b)
    )
    if isinstance(left, list) and isinstance(right, list):
        return all(abs(m - n) <= 0.1 * max(abs(m), abs(n)) for m, n in zip(left, right, strict=True))
    return left == right


def _is_figure(cell: str) -> bool:
    words = cell.replace("(", "").replace(")", "").split()
    return bool(words) and all(w.replace(".", "").replace("e-", "").isdigit() for w in words)
