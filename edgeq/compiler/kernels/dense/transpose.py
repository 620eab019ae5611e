"""Transposed convolution as ordinary convolutions, one for each phase of the output grid: nothing multiplies a gap.

Output j of an axis sums w[k] · x[i] over all i·s + k·d = j + p (s stride, d dilation, p leading pad). With j = φ + s·q
the taps that meet any input satisfy k·d ≡ φ + p (mod s): an arithmetic progression k₀, k₀ + s/g, … with g = gcd(s, d).
Read backwards they are a convolution over q with stride 1 and dilation d/g. The s·s convolutions write disjoint grids
of the output, and each goes to a dense or depthwise kernel with the epilogue of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd

import numpy as np

from edgeq.compiler.kernels.base import Image
from edgeq.errors import CompileError

Pads = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class AxisPhase:
    """One phase along one axis.

    Attributes:
        offset: first output index φ; the others follow at `stride`.
        stride: of the output grid.
        count: outputs of the phase.
        taps: kernel indices in the order in which the convolution meets them; empty: only the bias arrives.
        dilation: of the convolution.
        first: input index of the first tap of the first output; negative: before the image.
    """

    offset: int
    stride: int
    count: int
    taps: tuple[int, ...]
    dilation: int
    first: int

    @property
    def kernel(self) -> int:
        """Taps of the convolution; without any a zero weight stands in."""
        return max(1, len(self.taps))

    @property
    def span(self) -> int:
        """Input elements the phase reads."""
        return self.count + (self.kernel - 1) * self.dilation


@dataclass(frozen=True)
class Phase:
    """One convolution of the decomposition, stride 1.

    Attributes:
        rows, columns: the phase along H and W.
        weights: int8 [N, C/group, kernel_h, kernel_w], as a convolution has them.
    """

    rows: AxisPhase
    columns: AxisPhase
    weights: np.ndarray

    def input_image(self, padded: Image, pads: Pads) -> tuple[Image, int]:
        """What the phase reads of the padded input, and the element where that begins.

        Args:
            padded: the input image with `pads` of zero points around it.
            pads: of `input_padding`, or more.
        """
        row, column = self.rows.first + pads[0], self.columns.first + pads[1]
        image = replace(padded, h=self.rows.span, w=self.columns.span)
        return image, row * padded.row_stride + column * padded.pixel_stride

    def output_image(self, y: Image) -> tuple[Image, int]:
        """The grid the phase writes (or reads a residual from), and the element where it begins."""
        image = replace(
            y,
            h=self.rows.count,
            w=self.columns.count,
            row_stride=y.row_stride * self.rows.stride,
            pixel_stride=y.pixel_stride * self.columns.stride,
        )
        return image, self.rows.offset * y.row_stride + self.columns.offset * y.pixel_stride


def phases(
    weights: np.ndarray,
    y_size: Sequence[int],
    *,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int,
) -> list[Phase]:
    """The convolutions that a transposed convolution consists of.

    Args:
        weights: int8 [C, N/group, kh, kw].
        y_size: height and width of the output (output_padding included).
        strides, dilations: [2]. pads: ONNX's [4], cropped from the output.
        group: number of groups.

    Raises:
        CompileError: weights and group don't go together.
    """
    convolution = as_convolution(weights, group)
    axes = [_axis_phases(weights.shape[2 + i], y_size[i], strides[i], pads[i], dilations[i]) for i in (0, 1)]
    return [Phase(rows, columns, _select(convolution, rows, columns)) for rows, columns in product(*axes)]


def input_padding(found: Sequence[Phase], x_size: Sequence[int]) -> Pads:
    """Zero points that the phases read around an input of this height and width: top, left, bottom, right."""
    top = max(0, *(-p.rows.first for p in found))
    left = max(0, *(-p.columns.first for p in found))
    bottom = max(0, *(p.rows.first + p.rows.span - x_size[0] for p in found))
    right = max(0, *(p.columns.first + p.columns.span - x_size[1] for p in found))
    return top, left, bottom, right


def as_convolution(weights: np.ndarray, group: int) -> np.ndarray:
    """[C, N/group, kh, kw] -> [N, C/group, kh, kw], taps not turned."""
    channels, per_group, kh, kw = weights.shape
    if group < 1 or channels % group:
        raise CompileError(
            "a transposed convolution's weights and groups don't go together",
            where=f"weights {list(weights.shape)}, group {group}",
            why="the first axis holds the input's channels, which the groups share equally",
        )
    split = weights.reshape(group, channels // group, per_group, kh, kw)
    by_output: np.ndarray = split.transpose(0, 2, 1, 3, 4)
    return by_output.reshape(group * per_group, channels // group, kh, kw)


def _axis_phases(kernel: int, outputs: int, stride: int, pad: int, dilation: int) -> list[AxisPhase]:
    common = gcd(stride, dilation)
    result = []
    for offset in range(min(stride, outputs)):
        count = -(-(outputs - offset) // stride)
        taps = [k for k in range(kernel) if (offset + pad - k * dilation) % stride == 0]
        first = (offset + pad - taps[-1] * dilation) // stride if taps else 0
        result.append(AxisPhase(offset, stride, count, tuple(reversed(taps)), dilation // common, first))
    return result


def _select(convolution: np.ndarray, rows: AxisPhase, columns: AxisPhase) -> np.ndarray:
    if not rows.taps or not columns.taps:
        return np.zeros((*convolution.shape[:2], rows.kernel, columns.kernel), convolution.dtype)
    return np.ascontiguousarray(convolution[:, :, list(rows.taps)][:, :, :, list(columns.taps)])
