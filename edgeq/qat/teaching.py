"""The float network as teacher: what it says of a batch stands for the labels (Hinton et al., arXiv 1503.02531).

    batches = qat.taught(batches, net)
    qat.search(module, batches, epochs, most=.3, loss=qat.imitation())

A network that knows its training data by heart learns nothing from its labels about the function it had in float; from
the teacher's logits it does, moved and mirrored images included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn import functional

from edgeq.errors import UsageError
from edgeq.qat.node import Tensor
from edgeq.qat.training import Loss


class _Taught:
    """Batches that can be read again, with the teacher's outputs in place of labels."""

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], teacher: nn.Module) -> None:
        self._batches, self._teacher = batches, teacher

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        was = self._teacher.training
        self._teacher.eval()
        try:
            for x, _ in self._batches:
                with torch.no_grad():
                    answers = self._teacher(x)
                yield x, answers
        finally:
            self._teacher.train(was)


def taught(batches: Iterable[tuple[Tensor, Tensor]], teacher: nn.Module) -> Iterable[tuple[Tensor, Tensor]]:
    """The same inputs with what a teacher answers instead of labels, asked anew whenever they are read.

    Args:
        batches: (inputs, anything), read from the start in every epoch.
        teacher: on the inputs' device; it isn't changed.

    Raises:
        UsageError: batches that can be read once only.
    """
    if iter(batches) is batches:
        raise UsageError("a teacher needs batches that can be read again in every epoch")
    return _Taught(batches, teacher)


def imitation(temperature: float = 4.0) -> Loss:
    """A loss of (logits, teacher's logits), classes last: their divergence (nats) at a temperature, times its square.

    Raises:
        UsageError: a temperature that isn't positive.
    """
    if not temperature > 0:
        raise UsageError("a temperature is positive", where="temperature", why=str(temperature))

    def loss(logits: Tensor, answers: Tensor) -> Tensor:
        classes = logits.shape[-1]
        found, wanted = (
            functional.log_softmax(each.reshape(-1, classes) / temperature, -1) for each in (logits, answers)
        )
        return functional.kl_div(found, wanted, log_target=True, reduction="batchmean") * temperature**2

    return loss
