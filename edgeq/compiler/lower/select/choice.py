"""Which kernel computes a layer: of those that can, exactly, the one with the lowest estimated cost, or the one that a
schedule names. Candidates of dense layers; those of depthwise layers and of products of two tensors are in forms.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from edgeq.compiler.kernels.base import Epilogue
from edgeq.compiler.kernels.dense.conv import ConvSpec
from edgeq.compiler.kernels.dense.weights import Storage
from edgeq.compiler.kernels.windowed import WindowedSpec, accumulator_bounds
from edgeq.compiler.kernels.winograd.winograd import MIN_CHANNELS, WinogradSpec, is_exact, word_product
from edgeq.compiler.target import Target

if TYPE_CHECKING:
    from edgeq.compiler.kernels.depthwise.depthwise import DepthwiseSpec
    from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
    from edgeq.compiler.lower.context import Lowering

Layer: TypeAlias = "ConvSpec | WinogradSpec | DepthwiseSpec | MatMulSpec"

# A form with more memory traffic or a larger artifact has to be that much faster by estimate.
_WINOGRAD_GAIN = 1.1
# Stored transforms take four to eight times the weights' bytes: worth it by default where they halve the time.
_STORED_GAIN = {"auto": 2.0, "fast": 1.05}
STORED_BYTES = 64 * 1024  # most that stored transforms may add to an artifact, a layer
# Direct forms a search looks at: estimated to take at most this much longer than the best, and so many of them.
WORTH_TRYING, MOST_TRIED = 1.35, 10


@dataclass(frozen=True)
class Candidate:
    """A kernel that computes a layer.

    Attributes:
        label: names it in schedules.
        cost: estimate, with the gain it has to bring.
    """

    label: str
    spec: Layer
    cost: float


@dataclass(frozen=True)
class Decision:
    """What was chosen for a layer, for `edgeq tune`.

    Attributes:
        layer: its name.
        key: of its shape: layers with the same key differ in numbers only, not in work.
        candidates: the default first.
        chosen: the one that was taken.
        constants: of the layer, as `pack` takes them.
    """

    layer: str
    key: str
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    constants: Mapping[str, np.ndarray]


def shape_key(direct: ConvSpec) -> str:
    """Readable name of a layer's shape with a digest of all that may change its time."""
    work = (
        direct.x, direct.y, direct.x_dtype, direct.window, direct.groups, direct.lowest_weight, direct.depth,
        direct.bits, *epilogue_work(direct.epilogue),
    )  # fmt: skip
    return f"{window_name(direct)} {direct.x_dtype} {digest_of(work)}"


def window_name(spec: WindowedSpec) -> str:
    """Window and sizes of a convolution, for people."""
    x, y = spec.x, spec.y
    kind = f"{spec.kh}x{spec.kw}" + (f"/{spec.stride_h}" if spec.stride_h > 1 else "")
    return f"{kind} {x.h}x{x.w}x{x.c} to {y.h}x{y.w}x{y.c}"


def epilogue_work(e: Epilogue) -> tuple[object, ...]:
    """What of an epilogue may change a kernel's time."""
    residual = None if e.residual is None else (e.residual.image, e.residual.dtype)
    return e.form, e.dtype, e.per_channel, e.lut, residual


def digest_of(work: tuple[object, ...]) -> str:
    """Hex name of all that may change a layer's time."""
    return hashlib.blake2b(repr(work).encode(), digest_size=6).hexdigest()


def candidates(
    direct: ConvSpec, constants: Mapping[str, np.ndarray], target: Target, storage: Storage = "auto"
) -> tuple[Candidate, ...]:
    """Every kernel that is worth a try and computes what `direct` computes, to the bit; the default first.

    Args:
        direct: without a choice of its own.
        constants: of the layer, as `ConvSpec.pack` takes them.
        storage: how much its weights may take.
    """
    ranked = direct.choices(target)
    limit = ranked[0][0] * WORTH_TRYING
    found: list[Candidate] = []
    whole = direct.in_words(target, constants)
    if whole is not None and (best := whole.choices(target)[0])[0] < ranked[0][0]:
        tile = "x".join(map(str, best[1].tile))
        found.append(Candidate(f"16-bit sums {tile}", whole, best[0]))
    for cost, choice in [entry for entry in ranked if entry[0] <= limit][:MOST_TRIED]:
        label = f"direct {choice.product} {'x'.join(map(str, choice.tile))}"
        # The best one goes without saying: kernels of layers that were never tuned keep their names.
        found.append(Candidate(label, direct if not found else replace(direct, choice=choice), cost))
    found += _winograd(direct, constants, target, storage)
    return tuple(sorted(found, key=lambda candidate: candidate.cost))


def _winograd(
    direct: ConvSpec, constants: Mapping[str, np.ndarray], target: Target, storage: Storage
) -> list[Candidate]:
    if direct.bits < 8 or not _suits_winograd(direct, target):
        return []
    taps = constants["w"].astype(np.int64).reshape(direct.y.c, -1)
    bias = np.asarray(constants["bias"], np.int64).reshape(-1)
    low, high = accumulator_bounds(taps, bias, direct.x_dtype, direct.x_zero_point)
    found = []
    for m in (2, 4):
        if min(direct.y.h, direct.y.w) < m or not is_exact(m, direct.epilogue, low, high, constants.get("shift")):
            continue
        for stored in (False, True):
            spec = WinogradSpec(
                direct.x, direct.y, direct.x_dtype, m, direct.epilogue, stored, direct.x_zero_point
            )  # fmt: skip
            if stored and storage == "small":
                continue
            if not stored or 2 * spec.weight_elements(target) - taps.size <= STORED_BYTES:
                gain = _WINOGRAD_GAIN * (_STORED_GAIN[storage] if stored else 1.0)
                label = f"winograd {m}" + (" stored" if stored else "")
                found.append(Candidate(label, spec, spec.cost(target) * gain))
    return found


def _suits_winograd(direct: ConvSpec, target: Target) -> bool:
    window = direct.window
    return (
        (window.kh, window.kw, window.stride_h, window.stride_w) == (3, 3, 1, 1)
        and window.dilation_h == window.dilation_w == 1
        and direct.groups == 1
        and direct.x.c >= MIN_CHANNELS
        and direct.x_dtype in ("u8", "s8")
        and word_product(target) is not None
        and not target.bare_metal  # microcontrollers have paired products of their own and little room for scratch
    )


def choose(ctx: Lowering, direct: ConvSpec, constants: Mapping[str, np.ndarray], storage: Storage) -> Layer:
    """The kernel of a dense layer. Lean programs leave out those that need scratch memory."""
    found = candidates(direct, constants, ctx.target, storage)
    if ctx.lean:
        found = tuple(candidate for candidate in found if not isinstance(candidate.spec, WinogradSpec))
    return decide(ctx, found, shape_key(direct), constants)


def decide(ctx: Lowering, found: Sequence[Candidate], key: str, constants: Mapping[str, np.ndarray]) -> Layer:
    """The schedule's kernel for this layer where there is one, else the first."""
    label = ctx.schedule.choices.get(key) if ctx.schedule else None
    chosen = next((candidate for candidate in found if candidate.label == label), found[0])
    ctx.program.decisions.append(Decision(ctx.group_name, key, tuple(found), chosen, constants))
    return chosen.spec
