"""Which kernels Cortex-M with DSP instructions uses in place of the general ones."""

from __future__ import annotations

from typing import Any

from edgeq.compiler.kernels.base import KernelSpec
from edgeq.compiler.kernels.conv import ConvSpec
from edgeq.compiler.kernels.paired_conv import PairedConvSpec, pairable


def specialise(spec: KernelSpec, constants: dict[str, Any]) -> KernelSpec:
    """Convolutions of bytes take two weights a halfword wherever their sums allow it."""
    if isinstance(spec, ConvSpec) and pairable(spec, constants):
        return PairedConvSpec(spec)
    return spec
