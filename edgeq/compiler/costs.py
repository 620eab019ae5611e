"""What a multiply-accumulate costs on a target, by kind of layer and bits of its weights: targets/<name>/costs.toml.

A table for comparing widths and layers before anything is compiled; one file's figures compare with each other only.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from edgeq.errors import TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

Kind = Literal["conv", "gemm", "depthwise"]
Bits = Literal["1", "2", "3", "4", "5", "6", "7", "8"]
Table = dict[Bits, PositiveFloat]


class Costs(BaseModel):
    """Schema of costs.toml.

    Attributes:
        unit: `ps`, picoseconds measured on the machine that `source` names; `instructions`, counted or estimated.
        source: machine and command, or how it was estimated.
        conv, gemm, depthwise: cost of a multiply-accumulate by bits of a weight. A width that isn't there costs what
            the next wider one does: that is how a table says that narrower weights gain nothing.
    """

    model_config = ConfigDict(extra="forbid")
    unit: Literal["ps", "instructions"]
    source: str
    conv: Table = Field(default_factory=dict)
    gemm: Table = Field(default_factory=dict)
    depthwise: Table = Field(default_factory=dict)

    def of(self, kind: Kind, bits: int) -> float | None:
        """Cost of a multiply-accumulate with weights of `bits` bits, 1 to 8; None: the table doesn't say."""
        table: Table = getattr(self, kind)
        wider = [int(width) for width in table if int(width) >= bits]
        return table[str(min(wider))] if wider else None  # type: ignore[index]


def friendliness(row: Mapping[int, float]) -> float:
    """How far narrow weights pay off: 0 where they gain nothing, 1 where cost falls in proportion to bits.

    After SpaceEvo's Q-T score (arXiv 2303.08308), which asks what quality is to be had at each limit on cost: the bits
    that can be afforded, averaged over all limits below the cost of 8 bits, over the same for proportional cost.

    Args:
        row: cost by bits, 8 among them.
    """
    ideal = _affordable({bits: bits / 8 for bits in row})
    return _affordable({bits: cost / row[8] for bits, cost in row.items()}) / ideal if ideal else 0.0


def _affordable(row: Mapping[int, float]) -> float:
    """∫ of the most bits that a limit t allows, over t from 0 to 1; row: cost relative to 8 bits."""
    area, best, place = 0.0, 0, 0.0
    for cost, bits in sorted((cost, bits) for bits, cost in row.items() if cost < 1):
        area, place = area + best * (cost - place), cost
        best = max(best, bits)
    return area + best * (1 - place)


def load_costs(folder: Path) -> Costs | None:
    """The table in a target's folder, None where there is none.

    Raises:
        TargetError: it is broken.
    """
    path = folder / "costs.toml"
    if not path.is_file():
        return None
    try:
        return Costs.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError("a target has a broken costs.toml", where=str(path), why=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        hint = "docs/new-target.md lists the keys"
        raise TargetError(
            "a target has a broken costs.toml", where=f"{path}, {place}", why=first["msg"], hint=hint
        ) from error
