"""Which kernels Cortex-M with DSP instructions uses in place of the general ones."""

from __future__ import annotations

from typing import Any

from edgeq.compiler.kernels.base import KernelSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
from edgeq.compiler.kernels.micro.dsp_depthwise import DspDepthwiseSpec, wordwise
from edgeq.compiler.kernels.micro.paired_conv import PairedConvSpec, pairable


def specialise(spec: KernelSpec, constants: dict[str, Any]) -> KernelSpec:
    """Convolutions of bytes: two weights a halfword wherever sums allow it; depthwise by words of four channels."""
    if isinstance(spec, ConvSpec) and pairable(spec, constants):
        return PairedConvSpec(spec)
    if isinstance(spec, DepthwiseSpec) and wordwise(spec):
        return DspDepthwiseSpec(spec)
    return spec
