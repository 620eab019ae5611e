"""Which kernels Cortex-M with integer vectors (MVE) uses in place of the general ones."""

from __future__ import annotations

from typing import Any

from edgeq.compiler.kernels.base import KernelSpec
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.micro.mve_conv import MveConvSpec


def specialise(spec: KernelSpec, constants: dict[str, Any]) -> KernelSpec:
    """Dense convolutions of bytes go through vmlava."""
    if isinstance(spec, ConvSpec) and spec.x_dtype == "s8" and spec.groups == 1:
        return MveConvSpec(spec)
    return spec
