"""A small training loop: progress, checkpoints, resume, the same on CPU and CUDA."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgeq.errors import DataError, EdgeqError, UsageError
from edgeq.qat.module import QatModule
from edgeq.qat.node import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
#: What a checkpoint of this form holds.
_VERSION = 1
#: Scales learn this much more slowly than weights.
SCALE_RATE = 0.1


class TrainingError(EdgeqError):
    """Training went wrong: the loss is not finite."""


@dataclass(frozen=True)
class Progress:
    """Where a training run is.

    Attributes:
        epoch, epochs: finished and wanted.
        loss: mean over the epoch.
        accuracy: share of the epoch's samples whose largest output was the label; None where labels aren't classes.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None

    def __str__(self) -> str:
        right = "" if self.accuracy is None else f", {self.accuracy:.1%} right"
        return f"epoch {self.epoch}/{self.epochs}: loss {self.loss:.4f}{right}"


def fit(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    epochs: int,
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    loss: Loss = functional.cross_entropy,
    device: str | torch.device = "cpu",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Progress]:
    """Train a module (prepared or float) with AdamW and a cosine schedule; it ends in evaluation mode.

    Args:
        module: from `edgeq.qat.prepare`, or any other.
        batches: (inputs, labels); read from the start in every epoch, so a DataLoader or a list, not an iterator.
        epochs: how often.
        lr: of the weights at the beginning; scales learn with a tenth of it.
        weight_decay: of the weights.
        loss: of (outputs, labels).
        device: cpu, cuda …: module and batches are moved there.
        checkpoint: file that is written after each epoch; where it exists already, training goes on from it.
        progress: called after each epoch.

    Returns:
        One entry per epoch, those before a resume included.

    Raises:
        UsageError: no epochs, or batches that can be read once only. DataError: the checkpoint is of another run.
        TrainingError: the loss is NaN or infinite.
    """
    if epochs < 1 or iter(batches) is batches:
        raise UsageError("fit needs at least one epoch, and batches that can be read again in every epoch")
    path = None if checkpoint is None else Path(checkpoint)
    state = None if path is None or not path.exists() else _load(path, module, epochs)
    # Brevitas makes new parameters for its scales when a state is loaded: the optimizer comes after that.
    module.to(device)
    optimizer = torch.optim.AdamW(_groups(module, lr), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    history = [] if state is None or path is None else _resume(path, state, optimizer, schedule)
    for epoch in range(len(history) + 1, epochs + 1):
        module.train()
        mean, right = _epoch(module, batches, optimizer, loss, torch.device(device))
        schedule.step()
        history.append(Progress(epoch, epochs, mean, right))
        if path is not None:
            _save(path, module, optimizer, schedule, history)
        if progress is not None:
            progress(history[-1])
    module.eval()
    return history


def _groups(module: nn.Module, lr: float) -> Any:
    return module.parameter_groups(lr, lr * SCALE_RATE) if isinstance(module, QatModule) else module.parameters()


def _epoch(
    module: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    device: torch.device,
) -> tuple[float, float | None]:
    total, right, seen = 0.0, 0, 0
    classes = True
    for inputs, labels in batches:
        x, y = inputs.to(device), labels.to(device)
        optimizer.zero_grad()
        outputs = module(x)
        value = loss(outputs, y)
        if not math.isfinite(float(value)):
            raise TrainingError("the loss is not a number", hint="lower the learning rate")
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total, seen = total + float(value) * len(y), seen + len(y)
        classes = classes and y.dim() == 1 and not y.is_floating_point()
        right += int((outputs.argmax(-1) == y).sum()) if classes else 0
    if not seen:
        raise UsageError("there are no batches to train on")
    return total / seen, right / seen if classes else None


def _save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any, history: list[Progress]
) -> None:
    state = {
        "version": _VERSION,
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": [(p.epoch, p.epochs, p.loss, p.accuracy) for p in history],
        "random": torch.get_rng_state(),
    }
    scratch = path.with_name(f".{path.name}.tmp")
    torch.save(state, scratch)
    os.replace(scratch, path)


def _load(path: Path, module: nn.Module, epochs: int) -> dict[str, Any]:
    """Read a checkpoint and put its weights into the module."""
    try:
        # weights_only: a checkpoint from elsewhere can't run code.
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if state["version"] != _VERSION:
            raise ValueError(f"version {state['version']}")
        if any(entry[1] != epochs for entry in state["history"]):
            raise ValueError(f"it is of a run of {state['history'][0][1]} epochs, not {epochs}")
        module.load_state_dict(state["module"])
    except Exception as error:  # whatever a foreign or truncated file makes torch raise
        raise _cannot_resume(path, error) from error
    return state


def _resume(path: Path, state: dict[str, Any], optimizer: torch.optim.Optimizer, schedule: Any) -> list[Progress]:
    try:
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        return [Progress(*entry) for entry in state["history"]]
    except Exception as error:  # as above
        raise _cannot_resume(path, error) from error


def _cannot_resume(path: Path, error: Exception) -> DataError:
    return DataError(
        "the checkpoint can't be resumed",
        where=str(path),
        why=" ".join(str(error).split())[:300],
        hint="delete it to start from the beginning",
    )
