"""Policies judged side by side: in processes of this machine, or on the workers of a Dask cluster.

A task is an integer graph; the worker compiles it for its own machine (kernels come from its cache) and scores it on
the data it was given once. A worker that dies loses its task to another one.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgeq.errors import ToolError, UsageError
from edgeq.search.judge import Judge

if TYPE_CHECKING:
    from edgeq.integer import IntegerGraph

#: How often a task is given to another worker after its own died.
RETRIES = 3
CONNECT_SECONDS = 20

_judge: dict[str, Judge] = {}


def score_graph(graph: bytes, judge: Judge, threads: int) -> float:
    """The judge's value of an integer graph (ONNX), through kernels compiled for this machine."""
    import onnx
    import onnx_ir as ir

    from edgeq.compiler import KernelBuilder
    from edgeq.compiler.target import load_target
    from edgeq.integer import IntegerGraph
    from edgeq.search.problem import write_artifact

    loaded = IntegerGraph(ir.from_proto(onnx.ModelProto.FromString(graph)))
    with tempfile.TemporaryDirectory(prefix="edgeq-judge-") as folder, KernelBuilder() as builder:
        path = Path(folder) / "model.edgeq"
        write_artifact(loaded, load_target("host"), path, builder)
        return judge.score(path, threads)


def _begin(judge: Judge) -> None:
    _judge["judge"] = judge


def _score_here(graph: bytes, threads: int) -> float:
    return score_graph(graph, _judge["judge"], threads)


class Workers:
    """Scores integer graphs elsewhere; a context manager.

    Args:
        judge: sent once to every worker. jobs: processes of this machine. scheduler: address of a Dask scheduler
            instead, such as tcp://host:8786. threads: samples each worker judges at a time.

    Raises:
        ToolError: dask.distributed isn't installed, or the scheduler doesn't answer.
    """

    def __init__(self, judge: Judge, *, jobs: int = 1, scheduler: str | None = None, threads: int = 1) -> None:
        self._threads = threads
        self._client: Any = None
        if scheduler is None:
            self._executor: Any = concurrent.futures.ProcessPoolExecutor(
                jobs, multiprocessing.get_context("spawn"), _begin, (judge,)
            )
            return
        self._client = _connect(scheduler)
        self._judge = self._client.scatter(judge, broadcast=True)
        self._executor = self._client.get_executor(retries=RETRIES, pure=False)

    def scores(self, graphs: Sequence[IntegerGraph]) -> Iterator[tuple[int, float]]:
        """(index, value) of each graph, as they get ready.

        Raises:
            ToolError: workers died again and again.
        """
        import onnx_ir as ir

        sent = {self._submit(ir.to_proto(g.model).SerializeToString()): i for i, g in enumerate(graphs)}
        for done in concurrent.futures.as_completed(sent):
            yield sent[done], self._value(done)

    def _submit(self, graph: bytes) -> concurrent.futures.Future[float]:
        if self._client is None:
            return self._executor.submit(_score_here, graph, self._threads)  # type: ignore[no-any-return]
        return self._executor.submit(score_graph, graph, self._judge, self._threads)  # type: ignore[no-any-return]

    def _value(self, done: concurrent.futures.Future[float]) -> float:
        died: list[type[Exception]] = [concurrent.futures.process.BrokenProcessPool]
        if self._client is not None:
            from distributed.scheduler import KilledWorker

            died.append(KilledWorker)
        try:
            return done.result()
        except tuple(died) as error:
            raise ToolError(
                "workers of the search died",
                why=str(error) or type(error).__name__,
                hint="start it again: what was judged is kept; fewer workers need less memory",
            ) from error

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if self._client is None:
            self._executor.shutdown(wait=kind is None, cancel_futures=True)
            return
        self._executor.shutdown(wait=kind is None)
        self._client.close()


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ToolError(
            "dask.distributed is not installed", where="--scheduler", hint="pip install 'edgeq[cluster]'"
        ) from error
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        raise UsageError("no scheduler's address", where=scheduler, hint="for instance tcp://host:8786") from error
    except OSError as error:
        raise ToolError(
            "the scheduler doesn't answer",
            where=scheduler,
            why=str(error),
            hint="start one with `dask scheduler`, and `dask worker ADDRESS` where edgeq is installed",
        ) from error
