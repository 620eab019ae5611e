"""What isn't weights: found, costed, measured, chosen, and written so that compiling makes what was judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import UsageError
from edgeq.quantize.policy import Policy
from edgeq.search import harm_forms
from edgeq.search.costs import cost as costing
from edgeq.search.costs.networks import Network, Step
from edgeq.search.costs.probes import Probe, other_probes, without_effect
from edgeq.search.costs.tables import by_place, no_better, no_gain
from edgeq.search.evaluate import Workers
from edgeq.search.limits import Limits
from edgeq.search.places import DEFAULT_KINDS, KINDS
from edgeq.search.problem import Problem, load_problem
from edgeq.search.result.final import final_graph
from edgeq.search.result.write import policy_text
from edgeq.search.run import find_policy
from edgeq.search.searcher import judge_assignment
from edgeq.search.space import Choice, Form, Place, Space, Variant, choice_of, find_space, place_name
from edgeq.search.store import Store
from tests.cli.helpers import edgeq
from tests.quantize.test_transformers import CHANNELS, TOKENS, WORDS, Maker

TARGET = "x86-avx2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with everything there is to choose, and data: attention, GELU, Tanh, a tensor that needs 16 bits."""
    folder = tmp_path_factory.mktemp("places")
    m = Maker()
    x = m.input("x", 1, TOKENS, CHANNELS)
    gains = np.ones(CHANNELS, np.float32)
    gains[-1] = 3000
    wide = m.node("MatMul", [x, m.constant(np.diag(gains))], ["wide"])
    y = m.node("MatMul", [wide, m.constant(np.diag(1 / gains))], ["back"])
    y = m.node("Add", [y, m.attention(y)], ["sum"])
    y = m.linear(m.gelu(m.linear(y, CHANNELS, 32)), 32, CHANNELS)
    y = m.node("ReduceMean", [m.node("Tanh", [y], ["tanh"]), m.shape(1)], ["mean"], keepdims=0)
    m.graph(folder, m.node("MatMul", [y, m.weights(CHANNELS, 5)], ["logits5"]))
    data = np.random.default_rng(1).standard_normal((48, TOKENS, CHANNELS)).astype(np.float32)
    np.savez(folder / "calib.npz", x=data)
    return folder


@pytest.fixture(scope="module")
def problem(folder: Path) -> Problem:
    return load_problem(folder / "model.onnx", folder / "calib.npz", TARGET, metric="divergence")


@pytest.fixture(scope="module")
def space(problem: Problem) -> Space:
    return find_space(problem.prepared.plan, (8, 4), kinds=KINDS)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("search") / "facts.sqlite")


def test_every_kind_is_found(space: Space, problem: Problem) -> None:
    found = {place.kind: place for place in space.others}
    assert set(found) == set(KINDS) - {"weights", "scale", "tables"}
    assert Form(8, shifts=True) in space.weighted[1].forms
    layers = {layer.name for layer in problem.prepared.plan.topology.layers}
    assert all(place.touches <= layers and place.base in place.forms for place in space.others)
    promoted = [place for place in space.others if place.kind == "activations" and len(place.forms) > 1]
    assert {place.base for place in promoted} == {Variant("activations", "activation", "s16")}
    assert found["sides"].forms == tuple(Variant("sides", "weight_bits", bits) for bits in (8, 7))
    assert [str(form) for form in found["gelu"].forms] == ["gelu:lut", "gelu:shiftgelu", "gelu:shiftgelu_paper"]
    assert {place.kind for place in find_space(problem.prepared.plan).places} == {"weights"}
    assert all(choice_of(json.loads(json.dumps(list(f)))) == f for place in space.places for f in place.forms)


def test_what_the_policy_names_is_decided(folder: Path) -> None:
    policy = folder / "decided.yaml"
    policy.write_text(
        "layers: {p: {softmax: exp2}, gelu: {gelu: lut}, logits: {weight_bits: 8}, wide: {activation: s16}, "
        "tanh: {nonlinear: table}, sum: {requantize: narrow}, back: {weight_bits: 8, scale: real}}"
    )
    decided = load_problem(folder / "model.onnx", folder / "calib.npz", TARGET, metric="divergence", policy=policy)
    space = find_space(decided.prepared.plan, (8, 4), kinds=KINDS)
    kinds = [place.kind for place in space.others]
    assert {"softmax", "gelu", "activations", "nonlinear"}.isdisjoint(kinds)
    assert kinds.count("sides") == 1
    back = next(place for place in space.weighted if "back" in place.name)
    assert back.forms == (Form(8),)


def test_unknown_kinds_are_named(problem: Problem, folder: Path) -> None:
    with pytest.raises(UsageError, match="nothing called 'softmx' can be searched") as caught:
        find_space(problem.prepared.plan, kinds=("softmx",))
    assert "did you mean 'softmax'" in (caught.value.hint or "")
    done = edgeq("search", folder / "model.onnx", "--data", folder / "calib.npz", "--space", "weights,moon")
    assert done.code == 2
    assert "all, or some of weights, scale" in done.err


def favouring(kind: str) -> Callable[..., costing.Costs]:
    """Costs after which every form of one kind that isn't there anyway saves a lot."""
    plain = costing.measure

    def measure(problem: Problem, space: Space, *given: object) -> costing.Costs:
        costs = plain(problem, space, *given)  # type: ignore[arg-type]
        for place in space.others:
            for form in place.forms:
                saved = -1e6 if form != place.base and place.kind == kind else 0.0
                for resource in costs.tables:
                    costs.tables[resource][place.name][form] = saved
        return costs

    return measure


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("weights", "scale", "tables")])
def test_what_pays_is_chosen_and_compiled(
    kind: str, problem: Problem, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import edgeq as package

    monkeypatch.setattr("edgeq.search.survey.measure", favouring(kind))
    monkeypatch.setattr("edgeq.search.survey.effective", lambda problem, space, progress: space)
    found = find_policy(problem, Limits(), objective="weights", store=store, widths=(8,), kinds=(kind,))
    changed = {name: form for name, form in found.best.forms.items() if not isinstance(form, Form)}
    usual = {place.name: place.base for place in found.space.others}
    chosen = {name: form for name, form in changed.items() if form != usual[name]}
    assert chosen
    assert {form.kind for form in chosen.values()} == {kind}
    text = policy_text(found, Policy(), "model.onnx", TARGET)
    for name, form in chosen.items():
        said = Policy.parse(text).layer(next(place.layer for place in found.space.others if place.name == name))
        assert form.change.over(said) == said
    policy = folder / f"{kind}.yaml"
    policy.write_text(text)
    made = package.quantize(folder / "model.onnx", folder / "calib.npz", policy=policy).graph
    graphs = [made, final_graph(problem, found.best.forms)]
    constants = [{k: v.const_value.numpy() for k, v in g.model.graph.initializers.items()} for g in graphs]
    assert constants[0].keys() == constants[1].keys()
    assert all(np.array_equal(constants[0][name], constants[1][name]) for name in constants[0])
    assert [step.node.op_type for step in made.steps()] == [step.node.op_type for step in graphs[1].steps()]


def test_tables_are_places(tmp_path: Path) -> None:
    m = Maker()
    table = m.constant(m.random.normal(0, 1, (WORDS, 64)).astype(np.float32))
    rows = m.node("Gather", [table, m.integers("ids", 1, TOKENS)], ["rows"])
    m.graph(tmp_path, m.node("MatMul", [rows, m.weights(64, 5)], ["logits"]))
    np.savez(tmp_path / "calib.npz", ids=np.random.default_rng(2).integers(0, WORDS, (24, TOKENS)))
    problem = load_problem(tmp_path / "model.onnx", tmp_path / "calib.npz", TARGET, metric="divergence")
    found = find_policy(problem, Limits(), objective="weights", store=Store(), widths=(8,), kinds=("tables",))
    ((name, form),) = [(n, f) for n, f in found.best.forms.items() if isinstance(f, Variant)]
    assert found.space.places[-1].forms == tuple(Variant("tables", "weight_bits", bits) for bits in (8, 4, 2))
    assert form == found.space.places[-1].forms[-1]
    saved = found.uniform.predicted["weights"] - found.best.predicted["weights"]
    assert saved == WORDS * (64 - 16) - 2 * WORDS  # 64 numbers of 2 bits are 16 bytes; each row has a multiplier
    ops = {step.node.op_type for step in final_graph(problem, found.best.forms).steps()}
    assert "ScaledEmbedding" in ops
    said = Policy.parse(policy_text(found, Policy(), "model.onnx", TARGET)).layer(name.removeprefix("tables of "))
    assert said.weight_bits == form.value


def test_scales_of_shifts_are_forms_of_weights(problem: Problem, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = costing.measure

    def measure(*given: object) -> costing.Costs:
        costs = plain(*given)  # type: ignore[arg-type]
        for row in costs.tables["weights"].values():
            for form in row:
                row[form] += 0.0 if isinstance(form, Form) and form.shifts else 1e6
        return costs

    monkeypatch.setattr("edgeq.search.survey.measure", measure)
    found = find_policy(
        problem, Limits(), objective="weights", store=store, widths=(8,), kinds=("weights", "scale"), narrowest_edge=2
    )
    assert set(found.best.forms.values()) == {Form(8, shifts=True)}
    assert found.best.accuracy < found.uniform.accuracy
    text = policy_text(found, Policy(), "model.onnx", TARGET)
    assert all(choice.scale == "pow2" for choice in Policy.parse(text).layers.values())


def test_a_whole_search_over_everything(problem: Problem, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"objective": "instructions", "store": store, "widths": (8, 4), "kinds": DEFAULT_KINDS}
    found = find_policy(problem, Limits(drop=0.05), **settings)  # type: ignore[arg-type]
    assert found.best.accuracy >= -0.05
    assert found.best.predicted["instructions"] <= found.uniform.predicted["instructions"]
    assert any("left out, because nothing is won by it" in note for note in found.costs.notes)
    monkeypatch.setattr(harm_forms._Meter, "_run", lambda *given: pytest.fail("measured again"))
    again = find_policy(problem, Limits(drop=0.05), **settings)  # type: ignore[arg-type]
    assert again.best == found.best
    evolved = find_policy(problem, Limits(drop=0.05), solver="nsga2", evaluations=12, **settings)  # type: ignore[arg-type]
    assert evolved.best.accuracy >= -0.05


def test_a_cluster_judges_every_kind(problem: Problem, space: Space) -> None:
    from distributed import LocalCluster

    from edgeq.compiler import KernelBuilder

    everything = {place.name: place.forms[-1] for place in space.places}
    policies = [space.uniform(8), everything]
    with KernelBuilder() as builder:
        expected = {i: judge_assignment(problem, forms, builder, 1) for i, forms in enumerate(policies)}
    assert expected[0] > expected[1]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Workers(problem.judge, scheduler=cluster.scheduler_address) as workers,
    ):
        assert dict(workers.scores([problem.integerize(forms) for forms in policies])) == expected


# Costs ---------------------------------------------------------------------------------------------------------------

A, B, C = (Variant("k", "softmax", value) for value in "abc")


def other(
    layer: str, *touches: str, forms: tuple[Choice, ...] = (A, B), base: Choice = A, pinned: bool = False
) -> Place:
    return Place(
        place_name("k", layer), 0, 0, forms, default=base, touches=frozenset(touches or [layer]), pinned=pinned
    )


def network(*steps: tuple[str, str]) -> Network:
    return Network(Form(8), [Step(name, kernel, "f", 0, 0, 4, 8, None) for name, kernel in steps], 0)


def test_probes_change_what_touches_nothing_in_common() -> None:
    places = (other("x", "x", "y"), other("y", "y", "z"), other("z"), other("u", forms=(A, B, C)))
    probes = other_probes(Space((Place("w", 1, 1, (Form(8),)), *places)))
    assert [sorted(probe.changed) for probe in probes] == [["k of u", "k of x", "k of z"], ["k of u", "k of y"]]
    assert [probe.changed["k of u"] for probe in probes] == [B, C]
    assert all(probe.assignment["w"] == Form(8) for probe in probes)


def test_a_difference_belongs_to_the_place_that_touches_it() -> None:
    space = Space((Place("w", 1, 1, (Form(8), Form(4))), other("x", "x", "w"), other("y")))
    usual, narrow = Probe(space.uniform(8), Form(8)), Probe(space.uniform(4), Form(4))
    (probe,) = other_probes(space)
    networks = [
        network(("w", "a"), ("x", "b"), ("y", "c")),
        network(("w", "d"), ("x", "b"), ("y", "c")),
        network(("w", "e"), ("x", "b"), ("y", "c"), ("copy", "f")),
    ]
    rows = [[8.0, 2.0, 3.0, 0.5], [4.0, 2.0, 3.0, 0.5], [9.0, 1.5, 3.0, 0.4, 0.7]]
    table, rest = by_place(space, [usual, narrow, probe], networks, rows)
    assert table["w"] == {Form(8): 8.0, Form(4): 4.0}
    # One more in w, half less in x; the copy is nobody's and shared.
    assert table["k of x"] == {A: 0.0, B: pytest.approx(0.5 + 0.2)}
    assert table["k of y"] == {A: 0.0, B: pytest.approx(0.2)}
    assert rest == pytest.approx(5.5)


def test_forms_without_effect_and_without_gain() -> None:
    space = Space((Place("w", 1, 1, (Form(8),)), other("x"), other("y"), other("z", pinned=True)))
    base = network(("x", "a"), ("y", "b"), ("z", "c"))
    (probe,) = other_probes(space)
    same = without_effect(space, base, [(probe, network(("x", "a"), ("y", "B"), ("z", "c")))])
    assert same == {"k of x": [B], "k of z": [B]}
    stray = network(("x", "a"), ("y", "b"), ("z", "c"), ("copy", "d"))
    assert without_effect(space, base, [(probe, stray)]) == {}
    assert costing.common([{"p": [A, B]}, {"p": [B]}]) == {"p": [B]}
    assert [place.name for place in costing.without(space, same).others] == ["k of y"]
    table = {"k of x": {A: 0.0, B: -0.5}, "k of y": {A: 0.0, B: -2.0}, "k of z": {A: 0.0, B: 1.0}}
    assert no_gain(space, {"t": table}, {"t": 1000.0}, 1e-3) == {"k of x": [B], "k of y": [], "k of z": [B]}
    harm = {name: {A: 0.0, B: 0.1} for name in table}
    assert no_better(space, {"t": table}, harm) == {"k of x": [], "k of y": [], "k of z": [B]}


def test_a_pinned_place_stays_as_long_as_another_is_free() -> None:
    space = Space((Place("w", 1, 1, (Form(8),)), other("x", pinned=True), other("y", pinned=True)))
    one = space.restricted({"k of x": [A]})
    assert [len(place.forms) for place in one.others] == [1, 2]
    assert one.restricted({"k of y": [A]}).others == ()
    assert space.changes({**space.uniform(8), "k of y": B}) == {"w": Form(8), "k of y": B}


def test_losses_rise_from_the_finest_form() -> None:
    place = other("x", forms=(A, B, C), base=B)
    assert harm_forms._rising(place, {A: 0.2, C: 0.3}) == pytest.approx({A: 0.0, B: 0.2, C: 0.5})
    assert harm_forms._rising(other("x"), {B: 0.1}) == {A: 0.0, B: 0.1}


def test_a_form_with_too_large_an_arena_is_no_choice() -> None:
    space = Space((Place("w", 1, 1, (Form(8),)), other("x"), other("y")))
    tables = {"weights": {"w": {Form(8): 1.0}, "k of x": {A: 0.0, B: -1.0}, "k of y": {A: 0.0, B: -1.0}}}
    costs = costing.Costs(tables, {"weights": 0.0}, 100, "native", [], {("k of x", B): 300, ("k of y", B): 120})
    assert costs.restricted(space).arena == 300
    small = costing.fitting(space, costs, 200)
    assert [place.name for place in small.others] == ["k of y"]
    assert costs.restricted(small).arena == 120
    assert costing.fitting(space, costs, None) == space
    worst = costing.worst_of({"a": costs, "b": costing.Costs(tables, {"weights": 0.0}, 90, "native")})
    assert worst.arenas == costs.arenas
