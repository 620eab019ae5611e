"""Runs a suite: graphs first, then artifacts, in parallel; finished parts come from a cache named by their content."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgeq.cache import cache_dir, content_key
from edgeq.errors import EdgeqError, UsageError
from edgeq.report.artifacts import ARTIFACT, measure_artifact
from edgeq.report.graphs import Job, measure_graph
from edgeq.report.results import Entry, GraphFacts, Results, title_of
from edgeq.report.suite import ModelCase, Suite, target_path
from edgeq.report.timing import Loader, paired, step_ratios

if TYPE_CHECKING:
    from edgeq.compiler import KernelBuilder
    from edgeq.compiler.target import Target
    from edgeq.report.boards import Boards

Progress = Callable[[str, int, int], None]
M = TypeVar("M", bound=BaseModel)
FACTS = "facts.json"
# Their results may differ in the last bit between versions, or their code does.
LIBRARIES = ("numpy", "onnxruntime", "apache-tvm", "ziglang")


@dataclass(frozen=True)
class RunOptions:
    """How a suite is run.

    Attributes:
        jobs: measurements at the same time.
        reuse: take finished parts from the cache.
        baseline_artifacts: folder with the baseline's artifacts, for paired times.
        progress: called with (stage, done, total).
        boards: devices that run and time some of the targets.
        loader: opens an artifact for timing; `edgeq.runtime.load` by default.
    """

    jobs: int = 2
    reuse: bool = True
    baseline_artifacts: Path | None = None
    progress: Progress | None = None
    boards: Boards | None = None
    loader: Loader | None = None


@dataclass
class Run:
    """What a run gave: the results, and where each artifact lies in the cache."""

    results: Results
    artifacts: dict[tuple[str, str, str], Path] = field(default_factory=dict)


def run_suite(suite: Suite, folder: Path, options: RunOptions | None = None) -> Run:
    """Measure everything that a suite asks for.

    Args:
        suite: from `load_suite`. folder: where its paths start.
        options: how.

    Raises:
        EdgeqError: a model, its data or a target don't work; the place says which pair it was.
    """
    from edgeq import __version__
    from edgeq.compiler.target import load_variants

    options = options or RunOptions()
    targets = {name: load_variants(target_path(name, folder)) for name in suite.targets}
    jobs = [
        Job(name, policy, case, folder, folder / file if file else None, suite.measure.agreement_samples)
        for name, case in suite.models.items()
        for policy, file in suite.policies.items()
        if case.policies is None or policy in case.policies
    ]
    work, parts = _Work(options), _Parts(options.reuse)
    graphs = work.each(
        "graphs", [(title_of(job.model, job.policy), partial(_graph, job, _graph_key(job), parts)) for job in jobs]
    )
    pairs = [
        (job, at, name) for job, (_, at) in zip(jobs, graphs, strict=True) for name in _targets_of(job.case, suite)
    ]
    with _builders(options.jobs) as pool:
        measured = work.each(
            "artifacts",
            [
                (
                    title_of(job.model, job.policy, name),
                    partial(_artifact, job, at, targets[name], suite, pool, parts),
                )
                for job, at, name in pairs
            ],
        )
    entries, places = [], {}
    for (job, _, name), (entry, at) in zip(pairs, measured, strict=True):
        named = entry.model_copy(update={"model": job.model, "policy": job.policy, "target": name})
        entries.append(named)
        places[named.key] = _product(at)
    loaders: list[Loader | None] = [
        (options.loader or _load) if any(t.runs_here() for t in targets[e.target]) else None for e in entries
    ]
    if options.boards:
        from edgeq.report.boards import run_on_boards

        parts_of = [(entry, places[entry.key], at) for entry, (_, at, _) in zip(entries, pairs, strict=True)]
        for index, loader in run_on_boards(options.boards, parts_of, options.progress).items():
            loaders[index] = loader
    if suite.measure.time:
        _time(suite, entries, places, loaders, options)
    named_graphs = [
        g.model_copy(update={"model": j.model, "policy": j.policy}) for j, (g, _) in zip(jobs, graphs, strict=True)
    ]
    created = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Run(
        Results(suite=suite.name, edgeq=__version__, created=created, graphs=named_graphs, entries=entries), places
    )


def _graph(job: Job, key: str, parts: _Parts) -> tuple[GraphFacts, Path]:
    return parts.get("graph", key, GraphFacts, partial(measure_graph, job))


def _artifact(
    job: Job, at: Path, targets: Sequence[Target], suite: Suite, pool: _Pool, parts: _Parts
) -> tuple[Entry, Path]:
    measure = suite.measure.model_dump_json()
    key = content_key(
        [
            _content(at),
            _sources(),
            *(_folder_digest(f) for t in targets for f in (t.folder, *t.bases)),
            measure,
            job.model,
        ]
    )

    def build(made: Path) -> Entry:
        with pool.take() as builder:
            return measure_artifact((job.model, job.policy), at, targets, suite.measure, builder, made)

    return parts.get("artifact", key, Entry, build)


def _targets_of(case: ModelCase, suite: Suite) -> list[str]:
    return suite.targets if case.targets is None else case.targets


class _Work:
    """Runs tasks on threads and tells how far they are. The first error stops what hasn't begun."""

    def __init__(self, options: RunOptions) -> None:
        self._jobs = max(1, options.jobs)
        self._progress = options.progress

    def each(self, stage: str, tasks: Sequence[tuple[str, Callable[[], tuple[M, Path]]]]) -> list[tuple[M, Path]]:
        """Results in the order of the tasks, which are (title, function).

        Raises:
            EdgeqError: of the first task that failed, with its title as place.
        """
        done, lock = [0], threading.Lock()

        def one(title: str, task: Callable[[], tuple[M, Path]]) -> tuple[M, Path]:
            try:
                result = task()
            except EdgeqError as error:
                error.where = f"{title}; {error.where}" if error.where else title
                raise
            with lock:
                done[0] += 1
                if self._progress:
                    self._progress(stage, done[0], len(tasks))
            return result

        with ThreadPoolExecutor(self._jobs) as threads:
            futures = [threads.submit(one, title, task) for title, task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                for future in futures:
                    future.cancel()
        # A task that failed first stands before those that were cancelled because of it.
        for future in futures:
            if future.done() and not future.cancelled():
                future.result()
        return [future.result() for future in futures]


class _Pool:
    """Code generators, one for each job: a builder serves one compilation at a time."""

    def __init__(self, count: int) -> None:
        from edgeq.compiler import KernelBuilder

        cores = len(os.sched_getaffinity(0))
        self._free = [KernelBuilder(max(1, cores // count)) for _ in range(count)]
        self._all = list(self._free)
        self._lock = threading.Lock()

    @contextmanager
    def take(self) -> Iterator[KernelBuilder]:
        with self._lock:
            builder = self._free.pop()
        try:
            yield builder
        finally:
            with self._lock:
                self._free.append(builder)

    def close(self) -> None:
        for builder in self._all:
            builder.__exit__(None, None, None)


@contextmanager
def _builders(count: int) -> Iterator[_Pool]:
    pool = _Pool(max(1, count))
    try:
        yield pool
    finally:
        pool.close()


class _Parts:
    """Finished parts of this and earlier runs, in folders named by their content.

    Args:
        reuse: take parts of earlier runs; those of this run are taken anyway.
    """

    def __init__(self, reuse: bool) -> None:
        self._reuse = reuse
        self._made: set[Path] = set()
        self._locks: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, kind: str, key: str, facts: type[M], build: Callable[[Path], M]) -> tuple[M, Path]:
        """Facts and folder of a part; built where it isn't there or is damaged, once for all tasks with its key."""
        final = cache_dir("regress", kind) / key
        with self._guard:
            lock = self._locks.setdefault(final, threading.Lock())
        with lock:
            if (self._reuse or final in self._made) and (final / FACTS).is_file():
                try:
                    return facts.model_validate_json((final / FACTS).read_text(encoding="utf-8")), final
                except (ValidationError, UnicodeDecodeError):
                    shutil.rmtree(final)
            found = self._build(final, build)
            self._made.add(final)
            return found, final

    @staticmethod
    def _build(final: Path, build: Callable[[Path], M]) -> M:
        scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=final.parent))
        try:
            found = build(scratch)
            # The facts come last: a folder that has them is complete.
            (scratch / FACTS).write_text(found.model_dump_json(), encoding="utf-8")
            if final.exists():
                os.replace(final, scratch.with_suffix(".old"))
            os.replace(scratch, final)
        except OSError as error:
            # Another process was here first with the same content: its folder is as good.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not (final / FACTS).is_file():
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.rmtree(scratch.with_suffix(".old"), ignore_errors=True)
        return found


def _graph_key(job: Job) -> str:
    settings = job.case.model_dump(mode="json", exclude={"limits", "targets", "policies", "better"})
    parts: list[bytes | str] = [_sources(), json.dumps(settings, sort_keys=True), str(job.agreement)]
    for file in job.files():
        parts += [file.name, _content(file)]
    return content_key(parts)


def _content(path: Path) -> bytes:
    """Digest of a file, or of all files of a folder."""
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != FACTS)
        return content_key(part for p in files for part in (str(p.relative_to(path)), _content(p))).encode()
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            state.update(block)
    return state.digest()


@cache
def _folder_digest(folder: Path) -> bytes:
    return _content(folder)


@cache
def _sources() -> str:
    """Digest of everything in edgeq that decides what a measurement gives, and of the libraries' versions."""
    import edgeq
    from edgeq.runtime.sources import runtime_root

    package = Path(edgeq.__file__).parent
    rooms = ("artifact", "compiler", "evaluate", "frontend", "integer", "quantize", "runtime")
    files = [p for room in rooms for p in (package / room).rglob("*.py")]
    files += [package / "report" / name for name in ("artifacts.py", "graphs.py", "results.py")]
    files += [p for p in runtime_root().rglob("*.[ch]") if "tests" not in p.parts]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return content_key([*versions, *(part for p in sorted(files) for part in (p.name, p.read_bytes()))])


def _product(folder: Path) -> Path:
    """The artifact of a measurement, or the static library of a microcontroller."""
    artifact = folder / ARTIFACT
    return artifact if artifact.is_file() else next(folder.glob("lib*.a"), artifact)


def artifact_name(key: tuple[str, str, str], suffix: str = ".edgeq") -> str:
    """File name of an artifact in a folder of artifacts; '/' of a target's folder would leave it."""
    return "--".join(part.replace("/", "_") for part in key) + suffix


def save_artifacts(run: Run, folder: Path) -> None:
    """Copy all artifacts into a folder: the next release's `--baseline-artifacts`."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, path in run.artifacts.items():
        shutil.copyfile(path, folder / artifact_name(key, path.suffix))


def _time(
    suite: Suite,
    entries: list[Entry],
    places: dict[tuple[str, str, str], Path],
    loaders: Sequence[Loader | None],
    options: RunOptions,
) -> None:
    """Times of what runs here or on a board, one after the other: nothing else of the suite runs meanwhile."""
    from edgeq.report.judge import limits_of

    timed = [(entry, load) for entry, load in zip(entries, loaders, strict=True) if load is not None]
    for done, (entry, load) in enumerate(timed, start=1):
        new, threads = load(places[entry.key]), suite.measure.threads
        profile = new.profile(repeats=20, threads=threads)
        for step, found in zip(entry.steps, profile.steps, strict=True):
            step.seconds = found.median_ns * 1e-9
        entry.seconds = profile.total_median_ns * 1e-9
        old_path = options.baseline_artifacts / artifact_name(entry.key) if options.baseline_artifacts else None
        if old_path is not None and old_path.is_file():
            old = load(old_path)
            tolerance = (limits_of(suite, entry.key).time.increase or 0.0) / 100
            timing = paired(old, new, rounds=suite.measure.rounds, threads=threads, tolerance=tolerance)
            if timing.low > 1 + tolerance or timing.high < 1 - tolerance:
                timing.steps = step_ratios(old, new, threads)
            entry.timing, entry.seconds = timing, timing.seconds
        elif old_path is not None:
            entry.notes.append(f"time not compared: no {old_path.name} among the baseline's artifacts")
        if options.progress:
            options.progress("times", done, len(timed))


def _load(path: Path) -> Any:
    from edgeq import runtime

    return runtime.load(path, emulate=False)


def check_artifacts_folder(folder: Path | None) -> None:
    """Raises UsageError unless it is None or a folder."""
    if folder is not None and not folder.is_dir():
        raise UsageError(
            "no folder with the baseline's artifacts",
            where=str(folder),
            hint="`edgeq regress --artifacts FOLDER` of the last release writes it",
        )
