"""The quantization of every tensor: from ranges, ties and policy to a type, a scale and a zero point each.

s8   scale = (high − low) / 255, zero point = round(−128 − low / scale); zero is representable exactly.
     What probabilities are multiplied with does without −128, so that processors may sum such products in 16 bits;
     the right side of a product of two computed tensors has 7 bits where the policy gives weights 7 or fewer
s16  scale = max(|low|, |high|) / 32767, symmetric, from the observed extremes: 16 bits need no clipping
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ModelError
from edgeq.integer.graph import Quant
from edgeq.quantize.calibrate import Ranges
from edgeq.quantize.histogram import TensorStatistics
from edgeq.quantize.logits import SOFTMAX, Scaled, find_accumulators, find_masks
from edgeq.quantize.observers import get
from edgeq.quantize.policy import LayerPolicy, Policy
from edgeq.quantize.steps import compared_range
from edgeq.quantize.ties import Given, Ties
from edgeq.quantize.topology import Layer, Topology, is_float, name_of

if TYPE_CHECKING:
    from edgeq.quantize.integerize.weights import QuantizedWeights

S8, S16, S32 = np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.int32)

#: Probabilities: 8 bits with scale 1/256, 16 bits with scale 2^−15.
PROBABILITY_S8 = Quant(S8, 1 / 256, -128)
PROBABILITY_S16 = Quant(S16, 2.0**-15, 0)
#: Masks: exactly 0 and 1; sums of them: exact counts.
MASK, COUNT = Quant(S8, 1.0, 0), Quant(S16, 1.0, 0)

#: A tensor with readers besides the Concat joins the Concat's scale if its steps grow by no more than this.
CONCAT_COARSENING = 2.0

#: Bits of a computed right side where weights have as many or fewer: a byte times such a number, twice, is 16 bits.
RIGHT_BITS = 7


def quant_s8(low: float, high: float, bits: int = 8, *, even: bool = False) -> Quant:
    """Asymmetric int8 over [low, high], widened to hold zero; scale 1 where both are zero.

    Fewer bits: integers of [−2^(bits−1), 2^(bits−1) − 1]. Even: without the lowest of them.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    bottom, top = int(even) - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    ends = (bottom, top) if bits < 8 or even else (None, None)
    if high - low <= np.finfo(np.float32).tiny * 256:
        return Quant(S8, 1.0, 0, *ends)
    scale = (high - low) / (top - bottom)
    zero_point = int(np.clip(np.rint(bottom - low / scale), bottom, top))
    return Quant(S8, float(scale), zero_point, *ends)


def quant_picture(low: float, high: float) -> Quant:
    """int8 for pictures: the smallest scale at which both ends fit with a zero point that needs no rounding.

    Pixels k/127.5 − 1 would lie exactly between the steps of 2/255: rounding to even merges every other pair of levels.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    plain = quant_s8(low, high)
    below = plain.zero_point + 128
    if high == low or (below == 0 and low < 0) or (below == 255 and high > 0):
        return plain
    scale = max(-low / below if below else 0.0, high / (255 - below) if below < 255 else 0.0)
    return Quant(S8, float(scale), plain.zero_point)


def quant_s16(low: float, high: float) -> Quant:
    """Symmetric int16 that holds low and high; scale 1 where both are zero."""
    largest = max(abs(low), abs(high))
    return Quant(S16, float(largest / 32767) if largest > np.finfo(np.float32).tiny * 65536 else 1.0, 0)


@dataclass(frozen=True)
class TensorPlan:
    """Quantization of a tensor and how it came about.

    Attributes:
        quant: type, scale, zero point.
        low, high: range the observer chose.
        reason: why the type is what it is: `default`, `policy`, `promoted`, `softmax`, `shiftmax`, `model` (scale given
            there), `trained`, `accumulator` (logits), `mask`.
    """

    quant: Quant
    low: float
    high: float
    reason: str


class Plan:
    """Quantization of every float value of a graph.

    Attributes:
        topology, ties, ranges, policy: what it was made from.
        promoted: representatives of the type groups that are s16 because promotion said so.
        weights: by layer name, integers that an algorithm chose instead of rounding to nearest.
        constants: ranges of constants by name, shared with plans of the same model at other shapes.

    Args:
        fixed: quantizations decided elsewhere (trained), by the name of a value: they hold for its whole scale group.
    """

    def __init__(
        self,
        topology: Topology,
        ranges: Ranges,
        policy: Policy,
        promoted: Collection[str] = (),
        weights: Mapping[str, QuantizedWeights] | None = None,
        fixed: Mapping[str, Quant] | None = None,
        constants: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        self.topology, self.ranges, self.policy = topology, ranges, policy
        self.promoted = frozenset(promoted)
        self.weights = dict(weights or {})
        self.constants = {} if constants is None else constants
        self.ties = Ties(topology)
        self._accumulators = find_accumulators(topology)
        self._masks = find_masks(topology, self._zero_or_one())
        self._fixed = self._fix_probabilities()
        self._narrow: frozenset[str] = frozenset()
        self._tie_concats()
        self._weighted = self._find_weighted()
        self._members = self.ties.scales.groups()
        self._narrow = self._find_narrow()
        self._decided: dict[str, Quant] = {}
        self.decide(fixed or {})
        self._ranges: dict[str, tuple[float, float]] = {}
        self._wide = self._find_wide()

    def decide(self, fixed: Mapping[str, Quant]) -> None:
        """Set quantizations from elsewhere (training), by the name of a value of each scale group."""
        self._decided.update({self.ties.scales.find(name): quant for name, quant in fixed.items()})

    def with_weights(self, weights: Mapping[str, QuantizedWeights]) -> Plan:
        """The same plan with other integers for its weights."""
        result = copy.copy(self)
        result.weights, result.constants = dict(weights), dict(self.constants)
        return result

    # Which scale -----------------------------------------------------------------------------------------------------

    def _fix_probabilities(self) -> dict[str, str]:
        """Values with the scale of a probability, and the Softmax each comes from."""
        return {name_of(layer.output): layer.name for layer in self.topology.layers if layer.op in SOFTMAX}

    def _tie_concats(self) -> None:
        """Let the inputs of a Concat share its output's scale where that costs at most a bit of their precision."""
        for layer in self.topology.layers:
            if layer.op != "Concat":
                continue
            output = name_of(layer.output)
            low, high = self.group_range(output)
            for value in layer.inputs:
                source = name_of(value)
                if not is_float(value) or self._is_probability(source):
                    continue
                own_low, own_high = self.group_range(source)
                fine = (high - low) <= CONCAT_COARSENING * (own_high - own_low)
                if fine or self._only_leads_to(source, output):
                    self.ties.tie(source, output)

    def _is_probability(self, name: str) -> bool:
        group = self.ties.scales.find(name)
        return any(self.ties.scales.find(fixed) == group for fixed in self._fixed)

    def _products(self) -> list[tuple[Layer, str, str]]:
        """Products of two computed tensors: layer, left and right side."""
        found = []
        for layer in self.topology.layers:
            names = [name_of(value) for value in layer.node.inputs[:2] if value is not None]
            if layer.op == "MatMul" and all(name in self.ties.scales for name in names):
                found.append((layer, names[0], names[1]))
        return found

    def _find_weighted(self) -> frozenset[str]:
        """Scale groups that are multiplied with probabilities: the values of attention."""
        return frozenset(
            self.ties.scales.find(right) for _, left, right in self._products() if self._is_probability(left)
        )

    def _find_narrow(self) -> frozenset[str]:
        """Scale groups of right sides to which the policy of their product gives RIGHT_BITS: keys and values of
        attention, if nothing else reads them."""
        wanted = {}
        for layer, _, right in self._products():
            bits = self.policy.layer(*layer.names).weight_bits
            if bits is not None and bits <= RIGHT_BITS:
                wanted[self.ties.scales.find(right)] = right
        return frozenset(group for group in wanted if self._only_on_the_right(group))

    def right_sides(self) -> list[tuple[Layer, str]]:
        """Products of two computed tensors whose right side may have RIGHT_BITS, with its scale group."""
        found = [(layer, self.ties.scales.find(right)) for layer, _, right in self._products()]
        return [(layer, group) for layer, group in found if self._only_on_the_right(group)]

    def _only_on_the_right(self, group: str) -> bool:
        """Whether nothing but movement and products whose right side they are reads the values of a scale group."""
        rights = {(layer.name, right) for layer, _, right in self._products()}
        members = set(self._members[group])
        ends = {name_of(value) for value in (*self.topology.graph.inputs, *self.topology.graph.outputs)}
        return members.isdisjoint(ends) and all(
            (reader.name, name) in rights or members.issuperset(name_of(v) for v in reader.outputs if is_float(v))
            for name in members
            for reader in self.topology.readers(name)
        )

    def _only_leads_to(self, source: str, target: str) -> bool:
        """Whether nothing but movement and the layer that makes `target` reads the values tied to `source`."""
        scales = self.ties.scales
        group, goal = scales.find(source), self.topology.producer[target]
        for name in scales.groups()[group]:
            producer = self.topology.producer.get(name)
            outputs = producer.outputs if producer else self.topology.graph.inputs
            value = next(value for value in outputs if name_of(value) == name)
            if value.is_graph_output() or value.is_graph_input():
                return False
            for reader in self.topology.readers(name):
                if reader is not goal and any(scales.find(name_of(v)) != group for v in reader.outputs if is_float(v)):
                    return False
        return True

    def constant_range(self, name: str, array: NDArray[Any]) -> tuple[float, float]:
        """(low, high) of a constant, zero included. The first plan that asks decides for all that share `constants`:
        positions for 32 tokens get the scale of those for 128."""
        low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
        return self.constants.setdefault(name, (low, high))

    def roots(self, name: str) -> list[str]:
        """Values of the same scale group that are computed, not moved: their distributions decide the scale."""
        group = self.ties.scales.find(name)
        return [member for member in self.ties.scales.groups()[group] if self.ties.is_root(member)]

    def group_range(self, name: str, observer: str | None = None) -> tuple[float, float]:
        """Range of the scale group a value is in, by its observer."""
        roots = self.roots(name) or [name]
        chosen = observer or self.layer_policy(roots[0]).observer
        if chosen is None and any(root in self.ranges.images for root in roots):
            chosen = "minmax"
        merged: TensorStatistics | None = None
        for root in roots:
            statistics = self.ranges.statistics[root]
            if merged is None:
                merged = statistics if len(roots) == 1 else statistics.copy()
            else:
                merged.merge(statistics)
        if merged is None or not merged.sample_lows:
            raise ModelError(
                "a tensor was not calibrated", where=name, hint="calibrate the same graph that is quantized"
            )
        near = None if chosen else self._compared(name, merged)
        low, high = near or get(chosen or self.ranges.observer)(merged, 2 ** self.activation_bits(name))
        return min(low, 0.0), max(high, 0.0)

    def _compared(self, name: str, found: TensorStatistics) -> tuple[float, float] | None:
        return compared_range(self.topology, self._members_of(name), found.low, found.high)

    def _members_of(self, name: str) -> Collection[str]:
        return self.ties.scales.groups()[self.ties.scales.find(name)]

    def activation_bits(self, name: str) -> int:
        """Bits of a tensor that is s8. Defaults of the policy leave the graph's ends alone: those keep 8 bits."""
        members = self._members_of(name)
        ends = {name_of(value) for value in (*self.topology.graph.inputs, *self.topology.graph.outputs)}
        at_end = not ends.isdisjoint(members)
        for root in self.roots(name) or [name]:
            layer = self.topology.producer.get(root)
            names = layer.names if layer else (root,)
            found = (self.policy.named(*names) if at_end else self.policy.layer(*names)).activation_bits
            if found is not None:
                return found
        return RIGHT_BITS if self.ties.scales.find(name) in self._narrow else 8

    def layer_policy(self, value: str) -> LayerPolicy:
        """Policy of the layer that makes a value."""
        layer = self.topology.producer.get(value)
        return self.policy.layer(*(layer.names if layer else (value,)))

    # Which type ------------------------------------------------------------------------------------------------------

    def _find_wide(self) -> dict[str, str]:
        """Type groups that are s16, with the reason."""
        types = self.ties.types
        wide = dict.fromkeys(self.promoted, "promoted")
        for layer in self.topology.layers:
            if layer.op not in SOFTMAX:
                continue
            if self.policy.layer(*layer.names).softmax == "shiftmax":
                wide[types.find(name_of(layer.output))] = "shiftmax"
            if self._reaches_output(layer):
                wide[types.find(name_of(layer.output))] = "softmax"
                source = name_of(layer.inputs[0])
                if self._computed(source):
                    wide[types.find(source)] = "softmax"
        for value in self.topology.values():
            name = name_of(value)
            decided = self.layer_policy(name).activation if self.ties.is_root(name) else None
            if decided == "s16":
                wide[types.find(name)] = "policy"
            elif decided == "s8":
                wide.pop(types.find(name), None)
        for layer in self.topology.layers:
            if self._reads_s16_table(layer) and self._computed(name_of(layer.inputs[0])):
                wide.setdefault(types.find(name_of(layer.inputs[0])), "policy")
        return wide

    def _reads_s16_table(self, layer: Layer) -> bool:
        return self.topology.is_unary(layer) and self.policy.layer(*layer.names).nonlinear == "interp"

    def _computed(self, name: str) -> bool:
        """Whether a type group is made by arithmetic (not a graph input), so that 16 bits carry something."""
        group = self.ties.types.find(name)
        members = self.ties.types.groups()[group]
        return all(member in self.topology.producer for member in members if self.ties.is_root(member))

    def _reaches_output(self, layer: Layer) -> bool:
        group = self.ties.types.find(name_of(layer.output))
        return any(
            self.ties.types.find(name_of(value)) == group
            for value in self.topology.graph.outputs
            if name_of(value) in self.ties.types
        )

    def candidates(self) -> dict[str, list[str]]:
        """Type groups that promotion may decide on: representative -> the values rounded in it."""
        result = {}
        for group, members in self.ties.types.groups().items():
            roots = [name for name in members if self.ties.is_root(name) and not self.is_exact(name)]
            decided = any(self.layer_policy(name).activation or self.activation_bits(name) < 8 for name in roots)
            given = any(name in self.ties.given for name in members)
            # 16 bits would tell no more about what is compared with a threshold only.
            fine = any(self._compared(name, self.ranges.statistics[name]) for name in roots)
            if roots and not (decided or given or fine) and (group not in self._wide or group in self.promoted):
                result[group] = roots
        return result

    # The answer ------------------------------------------------------------------------------------------------------

    def tensor(self, name: str) -> TensorPlan:
        """Quantization of a value."""
        if name in self._accumulators:
            return self._accumulator(name)
        if name in self._masks:
            exact = MASK if self._masks[name] == "mask" else COUNT
            return TensorPlan(exact, 0.0, self.ranges.statistics[name].high, "mask")
        scale_group, type_group = self.ties.scales.find(name), self.ties.types.find(name)
        if scale_group not in self._ranges:
            self._ranges[scale_group] = self.group_range(name)
        low, high = self._ranges[scale_group]
        decided = self._decided_elsewhere(name)
        if decided is not None:
            return TensorPlan(decided[0], low, high, decided[1])
        if self._is_probability(name):
            wide = type_group in self._wide
            return TensorPlan(PROBABILITY_S16 if wide else PROBABILITY_S8, 0.0, 1.0, "softmax")
        if type_group in self._wide:
            extremes = [self.ranges.statistics[root] for root in self.roots(name)]
            low, high = min(s.low for s in extremes), max(s.high for s in extremes)
            return TensorPlan(quant_s16(low, high), low, high, self._wide[type_group])
        picture = self._is_picture(name)
        bits = self.activation_bits(name)
        quant = quant_picture(low, high) if picture and bits == 8 else self._s8(scale_group, low, high, bits)
        return TensorPlan(quant, low, high, "default" if bits == 8 else "policy")

    def _decided_elsewhere(self, name: str) -> tuple[Quant, str] | None:
        """A quantization that was trained or came with the model, and which of the two."""
        group = self.ties.scales.find(name)
        if group in self._decided:
            return self._decided[group], "trained"
        given = [self.ties.given[member] for member in self._members[group] if member in self.ties.given]
        return (_given_quant(name, given[0]), "model") if given else None

    def _is_picture(self, name: str) -> bool:
        """Whether a value is an input that looks like pictures, or moved from one, and nothing else."""
        roots = self.roots(name)
        return bool(roots) and all(root in self.ranges.images for root in roots)

    def _accumulator(self, name: str) -> TensorPlan:
        """A 32-bit accumulator: the scales of both sides of the product, times what was multiplied behind it."""
        statistics, factor = self.ranges.statistics[name], 1.0
        found = self._accumulators[name]
        while isinstance(found, Scaled):
            factor, found = factor * found.factor, self._accumulators[found.source]
        left, right = (self.s8(name_of(value)) for value in found.inputs)
        quant = Quant(S32, factor * left.scale * right.scale, 0)
        return TensorPlan(quant, statistics.low, statistics.high, "accumulator")

    def accumulator_factor(self, name: str) -> float | None:
        """What a value is times the accumulator it comes from; None for a product itself and anything else."""
        found = self._accumulators.get(name)
        return found.factor if isinstance(found, Scaled) else None

    def is_accumulator(self, name: str) -> bool:
        """Whether a value stays a 32-bit accumulator: logits on their way from a product to a softmax."""
        return name in self._accumulators

    def is_exact(self, name: str) -> bool:
        """Whether a value is never rounded: an accumulator, a mask, a count."""
        return name in self._accumulators or name in self._masks

    def _zero_or_one(self) -> frozenset[str]:
        """Values cast from integers or truth values that calibration never saw outside 0 … 1."""
        casts = [name_of(layer.output) for layer in self.topology.layers if layer.op == "Cast"]
        seen = {name: self.ranges.statistics[name] for name in casts if name in self.ranges.statistics}
        return frozenset(name for name, found in seen.items() if found.low >= 0 and found.high <= 1)

    def quant(self, name: str) -> Quant:
        """Type, scale and zero point of a value."""
        return self.tensor(name).quant

    def s8(self, name: str) -> Quant:
        """What a value would be in s8 (its scale group's), whatever its type is."""
        tensor = self.tensor(name)
        if tensor.quant.dtype != S16:
            return tensor.quant
        if self._is_probability(name):
            return PROBABILITY_S8
        group = self.ties.scales.find(name)
        return self._s8(group, *self._ranges[group], self.activation_bits(name))

    def _s8(self, scale_group: str, low: float, high: float, bits: int) -> Quant:
        return quant_s8(low, high, bits, even=scale_group in self._weighted)


def _given_quant(name: str, given: Given) -> Quant:
    """A scale from the model; u8 becomes s8 by moving the zero point unless its integers fit anyway, int16 stays."""
    step, zero, dtype = given.scale, given.zero_point, given.dtype.lower()
    low, high = given.low, given.high
    if dtype in ("uint8", "u8"):
        if high is not None and high <= 127 and zero <= 127:
            return Quant(S8, step, zero, low or 0, high)
        return Quant(S8, step, zero - 128, None if low is None else low - 128, None if high is None else high - 128)
    if dtype in ("int8", "s8"):
        return Quant(S8, step, zero, low, high)
    if dtype in ("int16", "s16") and zero == 0:
        return Quant(S16, step, 0, low, high)
    raise ModelError(
        "a quantization given in the model can't be kept",
        where=name,
        why=f"dtype {given.dtype} with zero point {zero}",
        hint="int8 and uint8 with any zero point and int16 with zero point 0 are supported",
    )
