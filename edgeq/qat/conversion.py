"""From a torch module to one that trains as it will run, and from there to the integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgeq.errors import DataError, UsageError
from edgeq.frontend import load_module
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.proof import prove
from edgeq.qat.module import QatModule
from edgeq.quantize.calibrate import calibrate
from edgeq.quantize.integerize import check_supported
from edgeq.quantize.observers import DEFAULT
from edgeq.quantize.policy import Policy
from edgeq.quantize.topology import Topology


def prepare(
    module: nn.Module,
    calibration: torch.Tensor | tuple[torch.Tensor, ...],
    policy: Policy | Mapping[str, Any] | str | Path | None = None,
    *,
    observer: str = DEFAULT,
) -> QatModule:
    """A module for quantization-aware training that starts from the trained weights of another.

    The module is exported in evaluation mode and simplified as for `edgeq.compile`: BatchNorm is folded into the
    weights that are trained, dropout is gone.

    Args:
        module: trained in float; it is left as it is.
        calibration: typical inputs [samples, …], a tuple where the module takes several; scales start from them.
        policy: a Policy, the same as a mapping, or a YAML file (docs/policy.md): weight_bits 1 … 8, activation_bits
            2 … 8, activation, softmax, gelu … per layer; None = 8 bits everywhere.
        observer: how ranges are found.

    Returns:
        A module with the same inputs and outputs, on the CPU.

    Raises:
        UsageError: no calibration samples. DataError: they don't belong together.
        PolicyError: the policy is wrong. UnsupportedOpError: a layer has no integer form or no gradient.
    """
    samples = calibration if isinstance(calibration, tuple) else (calibration,)
    if not samples or len({len(part) for part in samples}) != 1 or len(samples[0]) == 0:
        raise UsageError("prepare needs calibration samples", why="there are none, or not as many for every input")
    samples = tuple(part.detach().cpu() for part in samples)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    graph = load_module(module, tuple(part[:1].to(device) for part in samples))
    if len(graph.inputs) != len(samples):
        raise DataError(f"The module has {len(graph.inputs)} inputs, calibration gives {len(samples)}")
    chosen, topology = _policy(policy), Topology(graph)
    check_supported(topology)
    chosen.check(topology.names())
    data = {str(v.name): np.ascontiguousarray(part.numpy()) for v, part in zip(graph.inputs, samples, strict=True)}
    ranges = calibrate(graph, data, observer)
    return QatModule(graph, ranges, chosen)


def convert(module: QatModule) -> IntegerGraph:
    """The integer graph of a trained module, with its widths proven; `edgeq.compile` takes it.

    Raises:
        UsageError: the module wasn't made by `prepare`. CompileError: a sum could leave its width.
    """
    if not isinstance(module, QatModule):
        raise UsageError(
            "only a prepared module can be converted", where=type(module).__name__, hint="edgeq.qat.prepare makes one"
        )
    graph = module.integer_graph()
    prove(graph)
    return graph


def _policy(given: Policy | Mapping[str, Any] | str | Path | None) -> Policy:
    if given is None:
        return Policy()
    if isinstance(given, Policy):
        return given
    return Policy.of(given) if isinstance(given, Mapping) else Policy.load(given)
