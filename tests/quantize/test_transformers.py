"""Transformers in integers: masks that are exact, logits that are never rounded, forms by policy, padding left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgeq.compiler.kernels.matmul.matmul import MatMulSpec
from edgeq.compiler.lower.lower import lower
from edgeq.compiler.target import load_target
from edgeq.errors import UnsupportedOpError
from edgeq.frontend import FloatGraph
from edgeq.integer import oracle, reference
from edgeq.integer.graph import Quant
from edgeq.quantize import Policy, QuantizeOptions, QuantizeResult, calibrate, quantize
from edgeq.quantize.plan import MASK, Plan
from edgeq.quantize.report import quantize_inputs
from edgeq.quantize.samples.tokens import find_tokens
from edgeq.quantize.topology import Topology, embedding_table
from tests.quantize.models import ModelMaker

TOKENS, CHANNELS, HEADS, WORDS = 6, 16, 2, 30
FAST = QuantizeOptions(compare_samples=0, promote=False)


class Maker(ModelMaker):
    """The parts of a transformer."""

    def integers(self, name: str, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, shape))
        return name

    def shape(self, *dims: int) -> str:
        return self.constant(np.array(dims, np.int64))

    def linear(self, x: str, rows: int, columns: int) -> str:
        bias = self.constant(self.random.normal(0, 0.1, columns).astype(np.float32))
        return self.node("Add", [self.node("MatMul", [x, self.weights(rows, columns)]), bias])

    def norm(self, x: str) -> str:
        gamma = self.constant(self.random.normal(1, 0.1, CHANNELS).astype(np.float32))
        beta = self.constant(self.random.normal(0, 0.1, CHANNELS).astype(np.float32))
        return self.node("LayerNormalization", [x, gamma, beta], axis=-1)

    def heads(self, x: str, *perm: int) -> str:
        split = self.node("Reshape", [x, self.shape(1, TOKENS, HEADS, CHANNELS // HEADS)])
        return self.node("Transpose", [split], perm=list(perm))

    def attention(self, x: str, added: str | None = None) -> str:
        q, k, v = (self.linear(x, CHANNELS, CHANNELS) for _ in range(3))
        logits = self.node("MatMul", [self.heads(q, 0, 2, 1, 3), self.heads(k, 0, 2, 3, 1)], ["logits"])
        logits = self.node("Mul", [logits, self.constant(np.float32((CHANNELS / HEADS) ** -0.5))], ["scaled"])
        if added is not None:
            logits = self.node("Add", [logits, added], ["added"])
        mixed = self.node("MatMul", [self.node("Softmax", [logits], ["p"], axis=-1), self.heads(v, 0, 2, 1, 3)])
        back = self.node("Transpose", [mixed], perm=[0, 2, 1, 3])
        return self.linear(self.node("Reshape", [back, self.shape(1, TOKENS, CHANNELS)]), CHANNELS, CHANNELS)

    def gelu(self, x: str) -> str:
        root = self.constant(np.float32(2**0.5))
        bell = self.node("Add", [self.node("Erf", [self.node("Div", [x, root])]), self.constant(np.float32(1))])
        half = self.constant(np.float32(0.5))
        return self.node("Mul", [self.node("Mul", [x, bell]), half], ["gelu"])


def bert(folder: Path) -> FloatGraph:
    """Tokens, positions, masked attention, GELU, mean over the tokens that count, unit length."""
    m = Maker()
    ids, mask = m.integers("ids", 1, TOKENS), m.integers("mask", 1, TOKENS)
    table = m.constant(m.random.normal(0, 1, (WORDS, CHANNELS)).astype(np.float32))
    places = m.constant(m.random.normal(0, 1, (1, TOKENS, CHANNELS)).astype(np.float32))
    x = m.norm(m.node("Add", [m.node("Gather", [table, ids]), places]))
    kept = m.node("Cast", [mask], to=TensorProto.FLOAT)
    wide = m.node("Unsqueeze", [kept, m.shape(1, 2)])
    away = m.node("Sub", [m.constant(np.float32(1)), wide])
    x = m.norm(m.node("Add", [x, m.attention(x, m.node("Mul", [away, m.constant(np.float32(-10000))]))]))
    x = m.norm(m.node("Add", [x, m.linear(m.gelu(m.linear(x, CHANNELS, 32)), 32, CHANNELS)]))
    each = m.node("Unsqueeze", [kept, m.shape(2)])
    total = m.node("ReduceSum", [m.node("Mul", [x, each]), m.shape(1)], keepdims=0)
    mean = m.node("Div", [total, m.node("ReduceSum", [each, m.shape(1)], ["count"], keepdims=0)])
    length = m.node("Sqrt", [m.node("ReduceSum", [m.node("Mul", [mean, mean]), m.shape(1)], keepdims=1)])
    return m.graph(folder, m.node("Div", [mean, length], ["unit"]))


def sentences(count: int = 24, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    ids = random.integers(1, WORDS, (count, TOKENS))
    mask = (np.arange(TOKENS) < random.integers(2, TOKENS + 1, count)[:, None]).astype(np.int64)
    return {"ids": ids * mask, "mask": mask}


def run(result: QuantizeResult, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Reference and ONNX Runtime agree; the output in real units."""
    found = reference.run(result.graph, feeds)
    for name, array in oracle.run(result.graph, feeds).items():
        np.testing.assert_array_equal(array, found[name])
    (name,) = found
    quant = result.graph.quant(result.graph.outputs[0])
    return np.asarray((found[name].astype(np.float64) - quant.zero_point) * quant.scale)


def ops(result: QuantizeResult) -> list[str]:
    return [str(step.node.op_type) for step in result.graph.steps()]


FORMS = {
    "exp2": (Policy(), {"MaskedSoftmax", "Lut"}),
    "shifts": (Policy.parse("defaults: {softmax: shiftmax, gelu: shiftgelu}"), {"MaskedShiftmax", "ShiftGelu"}),
    "paper": (Policy.parse("layers: {'*gelu*': {gelu: shiftgelu_paper}}"), {"MaskedSoftmax", "ShiftGeluPaper"}),
    "one layer": (Policy.parse("layers: {node_p: {softmax: shiftmax}}"), {"MaskedShiftmax", "Lut"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_bert_like_model(form: str, tmp_path: Path) -> None:
    graph, (policy, expected) = bert(tmp_path), FORMS[form]
    result = quantize(graph, sentences(), QuantizeOptions(policy=policy, compare_samples=0))
    assert expected | {"Embedding", "ToMask", "LayerNorm", "RmsNorm", "MatMul"} <= set(ops(result))
    cosines = []
    for ids, mask in zip(*sentences(6, seed=5).values(), strict=True):
        feeds = {"ids": ids[None], "mask": mask[None]}
        found, real = run(result, feeds), graph.run(feeds)["unit"]
        cosines.append(float((found * real).sum() / np.linalg.norm(found)))
    assert min(cosines) > (0.9 if form == "paper" else 0.99)


@pytest.mark.parametrize("bits", [1, 4, 7])
def test_narrow_table(bits: int, tmp_path: Path) -> None:
    """A table named in the policy gets a scale for each row; defaults speak of layers that multiply."""
    graph = bert(tmp_path)
    gather, source = next(
        (layer, table) for layer in Topology(graph).layers if (table := embedding_table(layer)) is not None
    )
    policy = Policy.parse(f"{{defaults: {{weight_bits: 7}}, layers: {{{gather.name}: {{weight_bits: {bits}}}}}}}")
    result = quantize(graph, sentences(), QuantizeOptions(policy=policy, compare_samples=0))
    step = next(step for step in result.graph.steps() if step.node.op_type == "ScaledEmbedding")
    table, multiplier = step.call.constant(0), step.call.constant(1)
    assert np.abs(table).max() == max(1, 2 ** (bits - 1) - 1)
    assert 2**13 <= multiplier.max() < 2**15
    quant = result.graph.quant(step.node.outputs[0])
    real = table * (multiplier * (2.0 ** -int(step.call.attrs["shift"]) * quant.scale))[:, None]
    assert ((real - source) ** 2).sum() / (source**2).sum() < {1: 0.45, 4: 0.02, 7: 0.0005}[bits]
    assert next(layer for layer in result.report.layers if layer.name == gather.name).weight_bits == bits
    plain = quantize(graph, sentences(), QuantizeOptions(weight_bits=4, compare_samples=0))
    assert "ScaledEmbedding" not in ops(plain)


def test_random_data_masks_nothing_out(tmp_path: Path) -> None:
    result = quantize(bert(tmp_path), None, FAST)
    assert not result.graph.calibrated
    assert {"MaskedSoftmax", "Embedding"} <= set(ops(result))


def test_what_is_masked_changes_no_bit(tmp_path: Path) -> None:
    result = quantize(bert(tmp_path), sentences(), FAST)
    ids, mask = np.array([[3, 7, 9, 0, 0, 0]]), np.array([[1, 1, 1, 0, 0, 0]])
    (first,) = reference.run(result.graph, {"ids": ids, "mask": mask}).values()
    (second,) = reference.run(result.graph, {"ids": np.array([[3, 7, 9, 5, 11, 29]]), "mask": mask}).values()
    np.testing.assert_array_equal(first, second)


def test_no_index_reads_outside_the_table(tmp_path: Path) -> None:
    result = quantize(bert(tmp_path), sentences(), FAST)
    mask = np.ones((1, TOKENS), np.int64)
    wild = run(result, {"ids": np.array([[-5, 10**12, -(2**62), 30, 29, 0]]), "mask": mask})
    tame = run(result, {"ids": np.array([[0, 29, 0, 29, 29, 0]]), "mask": mask})
    np.testing.assert_array_equal(wild, tame)


def test_logits_stay_accumulators_and_masks_exact(tmp_path: Path) -> None:
    graph = bert(tmp_path)
    plan = Plan(Topology(graph), calibrate(graph, sentences()), Policy())
    assert plan.quant("logits").dtype == plan.quant("scaled").dtype == np.int32
    assert plan.quant("scaled").scale == pytest.approx(plan.quant("logits").scale * (CHANNELS / HEADS) ** -0.5)
    assert plan.tensor("scaled").reason == "accumulator"
    cast = next(layer for layer in plan.topology.layers if layer.op == "Cast")
    assert plan.quant(str(cast.output.name)) == MASK
    assert plan.quant("count") == Quant(np.dtype(np.int16), 1.0, 0)
    assert not {"logits", "scaled", "count"} & {name for names in plan.candidates().values() for name in names}


def test_shiftmax_keeps_16_bits_up_to_the_product(tmp_path: Path) -> None:
    policy = Policy.parse("defaults: {softmax: shiftmax}")
    result = quantize(bert(tmp_path), sentences(), QuantizeOptions(policy=policy, compare_samples=0, promote=False))
    product = [step for step in result.graph.steps() if step.node.op_type == "MatMul"][1]
    assert product.call.type(0).dtype == np.int16
    assert {layer.nonlinear for layer in result.report.layers if "Softmax" in layer.op} == {"shiftmax"}


def test_values_of_attention_leave_out_the_lowest_integer(tmp_path: Path) -> None:
    """Their products with probabilities then stay in 16 bits for two steps."""
    result = quantize(bert(tmp_path), sentences(), FAST)
    product = [step.node for step in result.graph.steps() if step.node.op_type == "MatMul"][1]
    assert result.graph.quant(product.inputs[1]).limits == (-127, 127)
    assert result.graph.quant(product.inputs[0]).limits == (-128, 127)
    kernels = [step.spec for step in lower(result.graph, load_target("x86-avx2")).steps]
    logits, mixed = [spec for spec in kernels if isinstance(spec, MatMulSpec)]
    assert (logits.probability_bits, mixed.probability_bits, mixed.b_extent) == (0, 8, 127)


def test_keys_and_values_have_7_bits_where_weights_have(tmp_path: Path) -> None:
    """Both products of attention then run on bytes; a policy of the product alone decides as well."""
    options = QuantizeOptions(policy=Policy.parse("defaults: {weight_bits: 7}"), compare_samples=0, promote=False)
    graph = quantize(bert(tmp_path), sentences(), options).graph
    products = [step.node for step in graph.steps() if step.node.op_type == "MatMul"]
    assert [graph.quant(node.inputs[1]).limits for node in products] == [(-64, 63), (-63, 63)]
    assert [graph.quant(node.inputs[0]).limits for node in products] == [(-128, 127)] * 2
    kernels = [step.spec for step in lower(graph, load_target("x86-avx2")).steps]
    plans = [spec.plan(load_target("x86-avx2")) for spec in kernels if isinstance(spec, MatMulSpec)]
    assert [(plan.words, plan.product.depth > 0) for plan in plans] == [(False, True)] * 2
    only = QuantizeOptions(policy=Policy.parse("layers: {logits: {weight_bits: 4}}"), compare_samples=0, promote=False)
    graph = quantize(bert(tmp_path), sentences(), only).graph
    products = [step.node for step in graph.steps() if step.node.op_type == "MatMul"]
    assert [graph.quant(node.inputs[1]).limits for node in products] == [(-64, 63), (-127, 127)]


def test_padding_has_no_say_in_the_ranges(tmp_path: Path) -> None:
    graph = bert(tmp_path)
    tokens = find_tokens(Topology(graph))
    assert tokens is not None
    assert tokens.mask == "mask"
    assert tokens.axes["gelu"] == 1
    assert tokens.axes["logits"] == 2
    few, garbage = sentences(), sentences()
    garbage["ids"] = garbage["ids"] + (1 - garbage["mask"]) * np.random.default_rng(3).integers(0, WORDS, (24, TOKENS))
    a, b = calibrate(graph, few).statistics, calibrate(graph, garbage).statistics
    for name in ("gelu", "logits", "unit"):
        assert (a[name].low, a[name].high) == pytest.approx((b[name].low, b[name].high), abs=1e-5)


def test_inputs_without_a_mask_have_no_tokens(tmp_path: Path) -> None:
    m = Maker()
    assert find_tokens(Topology(m.graph(tmp_path, m.attention(m.input("x", 1, TOKENS, CHANNELS))))) is None


def test_position_bias_is_named_and_computed(tmp_path: Path) -> None:
    m = Maker()
    bias = m.constant(m.random.normal(0, 1, (1, HEADS, TOKENS, TOKENS)).astype(np.float32))
    graph = m.graph(tmp_path, m.attention(m.input("x", 1, TOKENS, CHANNELS), bias))
    data = {"x": np.random.default_rng(0).normal(0, 1, (16, TOKENS, CHANNELS)).astype(np.float32)}
    result = quantize(graph, data, QuantizeOptions(compare_samples=4))
    (warning,) = [w for w in result.report.warnings if "attention" in w]
    assert "attention 'node_p'" in warning
    assert "Add 'node_added'" in warning
    assert "op by op" in warning
    assert result.report.outputs[0].sqnr_db > 25


def test_plain_attention_has_no_warning(tmp_path: Path) -> None:
    m = Maker()
    graph = m.graph(tmp_path, m.attention(m.input("x", 1, TOKENS, CHANNELS)))
    data = {"x": np.random.default_rng(0).normal(0, 1, (16, TOKENS, CHANNELS)).astype(np.float32)}
    result = quantize(graph, data, QuantizeOptions(compare_samples=4))
    assert not [w for w in result.report.warnings if "attention" in w]
    assert result.report.outputs[0].sqnr_db > 30
    # Nothing between the product and the softmax.
    softmax = next(step for step in result.graph.steps() if step.node.op_type == "Softmax")
    assert softmax.call.type(0).dtype == np.int32


def test_numbers_given_as_integers_are_looked_up(tmp_path: Path) -> None:
    m = Maker()
    cast = m.node("Cast", [m.integers("age", 1, 4)], to=TensorProto.FLOAT)
    graph = m.graph(tmp_path, m.linear(cast, 4, 3))
    ages = np.random.default_rng(0).integers(0, 90, (32, 4))
    result = quantize(graph, {"age": ages}, FAST)
    feeds = {"age": ages[:1]}
    expected = next(iter(graph.run(feeds).values()))
    np.testing.assert_allclose(run(result, feeds), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize(("low", "high"), [(-3, 4), (0, 100_000)])
def test_integers_without_a_table_are_refused(low: int, high: int, tmp_path: Path) -> None:
    m = Maker()
    cast = m.node("Cast", [m.integers("age", 1, 4)], ["years"], to=TensorProto.FLOAT)
    graph = m.graph(tmp_path, m.linear(cast, 4, 3))
    with pytest.raises(UnsupportedOpError, match="can be looked up") as caught:
        quantize(graph, {"age": np.array([[low, high, 1, 2]])}, FAST)
    assert "node_years" in str(caught.value)


def test_gather_of_computed_data_at_computed_indices_is_refused(tmp_path: Path) -> None:
    m = Maker()
    x, at = m.input("x", 1, 5, 4), m.integers("at", 1, 2)
    graph = m.graph(tmp_path, m.node("Gather", [x, at], ["picked"], axis=1))
    data = {"x": np.ones((3, 5, 4), np.float32), "at": np.zeros((3, 2), np.int64)}
    with pytest.raises(UnsupportedOpError, match="its indices are computed"):
        quantize(graph, data, FAST)


def test_norm_over_several_axes_is_refused(tmp_path: Path) -> None:
    m = Maker()
    scale = m.constant(np.ones((3, 8), np.float32))
    graph = m.graph(tmp_path, m.node("LayerNormalization", [m.input("x", 1, 3, 8), scale], ["both"], axis=1))
    with pytest.raises(UnsupportedOpError, match="more than the last axis") as caught:
        quantize(graph, {"x": np.ones((4, 3, 8), np.float32)}, FAST)
    assert "node_both" in str(caught.value)


def test_sums_of_16_bits_leave_their_products_8(tmp_path: Path) -> None:
    graph = bert(tmp_path)
    wide = next(n.outputs[0].name for n in graph.nodes if n.op_type == "LayerNormalization")
    policy = Policy.parse(f"layers: {{{wide}: {{activation: s16}}}}")
    result = quantize(graph, sentences(), QuantizeOptions(policy=policy, compare_samples=0, promote=False))
    assert "GemmS16" not in ops(result)
    assert "Rescale" in ops(result)
    feeds = quantize_inputs(result.graph, {name: array[:1] for name, array in sentences().items()})
    run(result, feeds)
