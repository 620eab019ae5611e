"""What was measured, as files hold it: the baseline, the history and `--json` are the same format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeq.errors import UsageError
from edgeq.files import write_text

FORMAT = "edgeq-results"
SCHEMA = 1
M = TypeVar("M", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Node(_Part):
    """One node of the integer graph. Digests are BLAKE2b-64, hex.

    Attributes:
        name, op: as in the graph.
        attributes: digest of the attributes (zero points, clamps, windows).
        constants: digest of weights, biases, multipliers and tables. weight_bits: bits that the weights' values need.
        output: digest of what it computes for the traced samples.
        sqnr: of the output against the float model, dB; None where the float model has no such tensor, 999: exact.
    """

    name: str
    op: str
    attributes: str
    constants: str
    weight_bits: int | None = None
    output: str = ""
    sqnr: float | None = None


class GraphFacts(_Part):
    """A model under a policy, before any target.

    Attributes:
        metric: name of the accuracy. accuracy: its value on the integer arithmetic. float_accuracy: of the float model.
        samples: how many were scored. sqnr: of the first output against the float model, dB.
        outputs: digest of all outputs for the scored samples.
        calibrated: False: calibrated with random data. nodes: in execution order.
    """

    model: str
    policy: str
    metric: str | None = None
    accuracy: float | None = None
    float_accuracy: float | None = None
    samples: int = 0
    sqnr: float | None = None
    outputs: str = ""
    calibrated: bool = True
    nodes: list[Node] = Field(default_factory=list)


class Step(_Part):
    """One kernel call. code_bytes: of its kernel (shared by all steps with that kernel); seconds: median of a run."""

    name: str
    op: str
    kernel: str = ""
    macs: int = 0
    weight_bytes: int = 0
    code_bytes: int = 0
    instructions: int | None = None
    seconds: float | None = None


class Place(_Part):
    """A buffer in the arena: bytes [offset, offset + size) during the steps first … last (−1: before the first)."""

    name: str
    role: str
    offset: int
    size: int
    first: int
    last: int


class Timing(_Part):
    """Both artifacts in turns in one process.

    Attributes:
        seconds, baseline_seconds: medians of a run. ratio: median of new / old over the rounds.
        low, high: the noise band: a 99 % confidence interval of that median. rounds: pairs.
        steps: the new artifact's step → new / old, where they can be matched.
    """

    seconds: float
    baseline_seconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    steps: list[float | None] = Field(default_factory=list)


class Entry(_Part):
    """One artifact: a model under a policy for a target.

    Attributes:
        arena, stack, weights, code, file: bytes. instructions: of a run, None where they can't be counted.
        compile_seconds: wall time. seconds: median of a run here or on the board, None where it runs on neither.
        ran: how it was run. golden: golden vectors that passed. agreement_samples: samples whose outputs were compared
            with the integer graph's; differing: values that differ.
        digest: of the artifact. steps, memory: inside. notes: what couldn't be measured and why.
    """

    model: str
    policy: str
    target: str
    arena: int
    stack: int | None = None
    weights: int
    code: int
    file: int
    instructions: int | None = None
    compile_seconds: float | None = None
    seconds: float | None = None
    timing: Timing | None = None
    ran: Literal["native", "emulated", "board", "no"] = "no"
    golden: int = 0
    agreement_samples: int = 0
    differing: int = 0
    disagreement: str | None = None
    digest: str = ""
    steps: list[Step] = Field(default_factory=list)
    memory: list[Place] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        """(model, policy, target)."""
        return self.model, self.policy, self.target

    @property
    def title(self) -> str:
        """For people; the policy is named where it isn't the default one."""
        return title_of(*self.key)


def title_of(model: str, policy: str, target: str = "") -> str:
    """'digits on arm', 'digits [small] on arm', 'digits'."""
    name = model if policy in ("", "default") else f"{model} [{policy}]"
    return f"{name} on {target}" if target else name


class Results(_Part):
    """Everything that one run of a suite measured."""

    format: Literal["edgeq-results"] = "edgeq-results"
    # Any number: another one is refused with a message of its own.
    schema_version: int = Field(default=SCHEMA, alias="schema")
    suite: str
    edgeq: str
    created: str = ""
    graphs: list[GraphFacts]
    entries: list[Entry]

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def graph(self, model: str, policy: str) -> GraphFacts | None:
        """Of that model and policy."""
        return next((g for g in self.graphs if (g.model, g.policy) == (model, policy)), None)

    def entry(self, key: tuple[str, str, str]) -> Entry | None:
        """Of that model, policy and target."""
        return next((e for e in self.entries if e.key == key), None)

    def without_times(self) -> Results:
        """What is the same on every machine: for baselines that are kept in a repository."""
        bare = {"compile_seconds": None, "seconds": None, "timing": None}
        entries = [
            e.model_copy(update={**bare, "steps": [s.model_copy(update={"seconds": None}) for s in e.steps]})
            for e in self.entries
        ]
        return self.model_copy(update={"entries": entries, "created": ""})


def to_json(model: BaseModel) -> str:
    """JSON text, short: what is unset or has its default is left out."""
    data = model.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(model, Results):
        data = {"format": FORMAT, "schema": model.schema_version, **data}
    return _compact(data) + "\n"


def _compact(data: Any, depth: int = 0) -> str:
    """JSON with a line for each entry, node and step, so that a baseline's diff can be read."""
    pad, inner = "  " * depth, "  " * (depth + 1)
    if isinstance(data, dict) and data and depth < 4 and any(isinstance(v, list | dict) for v in data.values()):
        lines = [f"{inner}{json.dumps(k)}: {_compact(v, depth + 1)}" for k, v in data.items()]
        return "{\n" + ",\n".join(lines) + f"\n{pad}}}"
    if isinstance(data, list) and data and isinstance(data[0], list | dict):
        return "[\n" + ",\n".join(inner + _compact(v, depth + 1) for v in data) + f"\n{pad}]"
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def save_results(results: Results, path: str | Path) -> None:
    """Write results in one step."""
    write_text(path, to_json(results))


def load_results(path: str | Path, what: str) -> Results:
    """Read a baseline or an entry of the history.

    Args:
        path: the file.
        what: what it is for the reader of an error: "baseline", "history entry".

    Raises:
        UsageError: missing, no JSON, of another format or schema, or damaged.
    """
    file = Path(path)
    hint = f"delete or restore {file.name}"
    if what == "baseline":
        hint = "write one with `edgeq regress --update-baseline`"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"no {what}", where=str(path), why=error.strerror, hint=hint) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"the {what} is damaged", where=str(path), why=str(error), hint=hint) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UsageError(f"the {what} is no file of edgeq regress", where=str(path), hint=hint)
    if data.get("schema") != SCHEMA:
        raise UsageError(
            f"the {what} has another schema",
            where=str(path),
            why=f"schema {data.get('schema')!r}, this edgeq reads {SCHEMA}",
            hint=hint,
        )
    return validated(Results, data, what, str(path), hint)


def validated(kind: type[M], data: Any, what: str, where: str, hint: str) -> M:
    """`data` as a model. Raises UsageError with the first fault."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise UsageError(f"the {what} is damaged", where=f"{where}, {place}", why=fault["msg"], hint=hint) from error


def load_history(folder: str | Path) -> list[Results]:
    """All runs of a history folder, oldest first. A folder that isn't there is an empty history.

    Raises:
        UsageError: one of the files is damaged or of another schema.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise UsageError("the history is no folder", where=str(folder), hint="give --history a folder of its own")
    return [load_results(file, "history entry") for file in sorted(path.glob("*.json"))]


def append_history(folder: str | Path, results: Results) -> Path:
    """Put a run into the history; never replaces one."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    stamp = results.created.replace(":", "").replace("-", "")
    names: Iterable[str] = (stamp if n == 0 else f"{stamp}-{n}" for n in range(10_000))
    file = next(path / f"{name}.json" for name in names if not (path / f"{name}.json").exists())
    # Steps and nodes explain a change, sparklines need none of them.
    slim = results.model_copy(
        update={
            "graphs": [g.model_copy(update={"nodes": []}) for g in results.graphs],
            "entries": [e.model_copy(update={"steps": [], "memory": []}) for e in results.entries],
        }
    )
    save_results(slim, file)
    return file
