"""The suite file: which models, targets and policies are measured, on what data, and what is still good enough.

    version: 1
    models:
      digits: {path: digits.onnx, calib: calib.npz, data: eval.npz, metric: top1}
    targets: [x86-avx2, arm]
    limits:
      accuracy: {drop: 0.2}
      arena: {max: 64 KiB, increase: 0}

Paths are relative to the suite file.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edgeq.errors import UsageError
from edgeq.quantize.policy import ObserverName

DEFAULT_POLICY = "default"
_UNITS = {"b": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2}


def parse_size(value: Any) -> Any:
    """'64 KiB' → 65536; numbers pass. A text that is no size is left for the schema to refuse."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kKmM]?i?[bB])\s*", value) if isinstance(value, str) else None
    return int(float(found[1]) * _UNITS[found[2].lower()]) if found else value


Size = Annotated[float, BeforeValidator(parse_size)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quality(_Part):
    """A limit of something that should be high (or, for metrics with `better: lower`, low).

    Attributes:
        worst: value that is still good enough, in the metric's own unit (0.97 for 97 %).
        drop: how much worse than the baseline is still good enough: percentage points for top1 and top5, dB for sqnr,
            the metric's unit otherwise.
    """

    worst: float | None = None
    drop: float | None = Field(default=None, ge=0)


class Cost(_Part):
    """A limit of something that should be low.

    Attributes:
        max: largest value allowed: bytes ("64 KiB", "64 KB"), instructions, or seconds.
        increase: percent above the baseline that is still good enough.
    """

    max: Size | None = Field(default=None, ge=0)
    increase: float | None = Field(default=None, ge=0)


class Limits(_Part):
    """What is checked. A check that is left out has the default that is given here; `{}` switches one off.

    Attributes:
        accuracy: the model's metric on the integer arithmetic.
        sqnr: of the outputs against the float model, dB.
        bits: "same": every value of the integer graph is that of the baseline; "any": changes are only told.
        instructions: of a run under the emulator. stack: bytes that run takes.
        time: paired with the baseline's artifact on this machine; percent of the median, outside the noise band.
        arena, weights, code, file: bytes.
        compile_seconds: wall time of compiling; depends on caches and the machine, so only an absolute limit is kept.
    """

    accuracy: Quality = Quality(drop=0.2)
    sqnr: Quality = Quality()
    bits: Literal["same", "any"] = "same"
    instructions: Cost = Cost(increase=0)
    stack: Cost = Cost(increase=0)
    time: Cost = Cost(increase=5)
    arena: Cost = Cost(increase=0)
    weights: Cost = Cost(increase=0)
    code: Cost = Cost(increase=0)
    file: Cost = Cost(increase=0)
    compile_seconds: Cost = Cost()

    def over(self, base: Limits) -> Limits:
        """These limits, where they were written down, on top of others."""
        return base.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class ModelCase(_Part):
    """One model: a float model with calibration data, or an integer graph, and the data that judges it.

    Attributes:
        path: ONNX file. calib: calibration data of a float model, or "random".
        data: evaluation data; labels `y` in it are needed for a metric.
        metric: top1, top5, auc, mse, path.py:function, or null. better: which way is good (mse: lower).
        samples: of the evaluation data, the first so many; null: all.
        policies, targets: of the suite that apply here; null: all.
        calib_samples, observer, preprocess, batch, shapes, seed: as for `edgeq quantize`.
        limits: over those of the suite.
    """

    path: str
    calib: str | None = None
    data: str
    metric: str | None = "top1"
    better: Literal["higher", "lower"] | None = None
    samples: int | None = Field(default=None, ge=1)
    policies: list[str] | None = None
    targets: list[str] | None = None
    calib_samples: int | None = Field(default=None, ge=1)
    observer: ObserverName | None = None
    preprocess: str | None = None
    batch: int | None = Field(default=None, ge=1)
    shapes: dict[str, list[int]] | None = None
    seed: int = 0
    limits: Limits = Limits()

    @property
    def higher_is_better(self) -> bool:
        """Which way the metric is good."""
        return self.better == "higher" if self.better else self.metric != "mse"


class Measure(_Part):
    """What is measured beside sizes, accuracy and bits.

    Attributes:
        instructions: count them under the emulator, where one has the processor's features.
        time: pair each artifact with the baseline's on this machine, for targets that run here.
        rounds: bursts of either artifact. threads: of a run.
        agreement_samples: evaluation samples that every target runs and that must give the integer graph's bits.
        max_threads: as for `edgeq compile`.
    """

    instructions: bool = True
    time: bool = False
    rounds: int = Field(default=41, ge=11)
    threads: int = Field(default=1, ge=1, le=64)
    agreement_samples: int = Field(default=8, ge=1)
    max_threads: int = Field(default=4, ge=1, le=64)


class Override(_Part):
    """Limits for some models and targets (shell patterns). Later ones win."""

    model: str = "*"
    policy: str = "*"
    target: str = "*"
    limits: Limits


class Waiver(_Part):
    """A regression that is accepted for a while.

    Attributes:
        model, policy, target, check: shell patterns of what it covers.
        reason: for those who read the report.
        until: last day it counts (YYYY-MM-DD).
        limit: largest value (smallest, for accuracy and sqnr) it covers; null: any.
    """

    model: str
    policy: str = "*"
    target: str = "*"
    check: str
    reason: str = Field(min_length=3)
    until: dt.date
    limit: Size | None = None


class Suite(_Part):
    """The whole file."""

    version: Literal[1]
    name: str = "edgeq"
    models: dict[str, ModelCase] = Field(min_length=1)
    targets: list[str] = Field(min_length=1)
    policies: dict[str, str | None] = Field(default={DEFAULT_POLICY: None}, min_length=1)
    measure: Measure = Measure()
    limits: Limits = Limits()
    overrides: list[Override] = Field(default_factory=list)
    waivers: list[Waiver] = Field(default_factory=list)


def load_suite(path: str | Path) -> Suite:
    """Read and check a suite file.

    Raises:
        UsageError: unreadable, not YAML, an unknown key or a value that isn't allowed, a name that isn't defined.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "the suite file can't be read",
            where=str(path),
            why=getattr(error, "strerror", None) or str(error),
            hint="`edgeq regress --init` writes one",
        ) from error
    except yaml.YAMLError as error:
        raise UsageError("the suite is not YAML", where=str(path), why=" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise UsageError("the suite is not a mapping", where=str(path), hint="`edgeq regress --init` writes one")
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise _readable(error, str(path)) from error
    _check_names(suite, str(path))
    return suite


def _readable(error: ValidationError, path: str) -> UsageError:
    fault = error.errors()[0]
    keys = [str(part) for part in fault["loc"]]
    where = f"{path}, {'.'.join(keys)}" if keys else path
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(keys[-1], [key for key in _known_keys() if key != keys[-1]], 1)
        hint = f"did you mean {near[0]!r}?" if near else "docs/regress.md lists the keys"
        return UsageError(f"unknown key {keys[-1]!r} in the suite", where=where, hint=hint)
    if fault["type"] == "missing":
        return UsageError(f"the suite lacks {keys[-1]!r}", where=where, hint="docs/regress.md lists the keys")
    given = repr(fault["input"])
    return UsageError(
        "a value in the suite is not allowed",
        where=where,
        why=f"{fault['msg']}, got {given if len(given) < 80 else given[:77] + '…'}",
        hint="docs/regress.md lists the keys",
    )


def _known_keys() -> list[str]:
    parts = (Suite, ModelCase, Measure, Limits, Quality, Cost, Waiver, Override)
    return sorted({key for part in parts for key in part.model_fields})


def _check_names(suite: Suite, path: str) -> None:
    for name, case in suite.models.items():
        for kind, known in (("policies", list(suite.policies)), ("targets", suite.targets)):
            for wanted in getattr(case, kind) or ():
                if wanted not in known:
                    raise UsageError(
                        f"model {name!r} names {wanted!r}, which is not among the suite's {kind}",
                        where=f"{path}, models.{name}.{kind}",
                        hint=f"there are {', '.join(known)}",
                    )


def target_path(name: str, folder: Path) -> str:
    """A target's name, or its folder relative to the suite's."""
    return str(folder / name) if "/" in name else name


STARTER = """\
# edgeq regress: what is measured, and what is still good enough. Every key: docs/regress.md
version: 1
name: {name}
models:
  {model}:
    path: {path}        # a float ONNX model, or an integer graph of `edgeq quantize`
    calib: calib.npz    # not for integer graphs
    data: eval.npz      # inputs, and labels as y
    metric: top1        # top1, top5, auc, mse, path.py:function, or null
targets: [x86-avx2, arm]
# policies: {{default: null, small: policy.yaml}}
measure:
  instructions: true    # exact counts under QEMU, the same on every machine
  time: false           # true: paired with the baseline's artifacts (--baseline-artifacts) on this machine
limits:
  accuracy: {{drop: 0.2}}       # percentage points below the baseline
  bits: same                  # every value as in the baseline; any: only told
  instructions: {{increase: 0}} # percent above the baseline
  arena: {{max: 256 KiB, increase: 0}}
  weights: {{increase: 0}}
  code: {{increase: 0}}
# waivers:
#   - {{model: {model}, target: arm, check: instructions, reason: "new kernel, tuned in #123", until: 2030-01-31}}
"""
