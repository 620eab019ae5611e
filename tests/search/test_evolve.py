"""Evolution with a predictor beats random search, repeats itself, and spends no more than it may."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.search.solvers.evolve import evolve
from edgeq.search.solvers.front import front_of, hypervolume
from edgeq.search.solvers.predictor import AccuracyPredictor
from edgeq.search.solvers.sampling import draw, random_search
from tests.search.landscape import Landscape


@pytest.mark.parametrize("seed", range(5))
def test_larger_hypervolume_than_random_search(seed: int) -> None:
    land = Landscape(seed=seed)
    evolved = evolve(land.space, land.cost, land.harm, land.judge, evaluations=48, seed=seed)
    drawn = random_search(land.space, land.cost, land.judge, evaluations=48, seed=seed)
    assert len(evolved) <= 48
    assert len(drawn) == 48
    worst = (max(each.cost for each in [*evolved, *drawn]), 0.0)
    areas = [hypervolume([(each.cost, each.accuracy) for each in found], worst) for found in (evolved, drawn)]
    assert areas[0] > areas[1]


def test_same_seed_same_search() -> None:
    land = Landscape(layers=6)
    runs = [evolve(land.space, land.cost, land.harm, land.judge, evaluations=24, seed=3) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != evolve(land.space, land.cost, land.harm, land.judge, evaluations=24, seed=4)


def test_nothing_is_judged_twice_and_a_small_space_ends() -> None:
    land = Landscape(layers=2)
    found = evolve(land.space, land.cost, land.harm, land.judge, evaluations=100, seed=0)
    keys = [tuple(sorted(each.forms.items())) for each in found]
    assert len(keys) == len(set(keys)) <= 36
    drawn = random_search(land.space, land.cost, land.judge, evaluations=100)
    assert len({tuple(sorted(each.forms.items())) for each in drawn}) == len(drawn) <= 36


def test_predictor_states_its_error() -> None:
    land, generator = Landscape(), np.random.default_rng(0)
    policies = [draw(land.space, generator) for _ in range(120)]
    predictor = AccuracyPredictor(land.space, land.harm)
    predictor.train(policies[:60], land.judge(policies[:60]))
    wrong = predictor.predict(policies[60:]) - np.array(land.judge(policies[60:]))
    error = float(np.sqrt(np.mean(wrong**2)))
    assert predictor.error is not None
    assert error / 2 < predictor.error < error * 2
    assert error < 0.7 * np.std(land.judge(policies[60:]))


def test_front_and_area() -> None:
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.9), (3.0, 0.7), (5.0, 1.0)]
    assert front_of(points, lambda p: p[0], lambda p: p[1]) == [(1.0, 0.5), (3.0, 0.9), (5.0, 1.0)]
    assert hypervolume(points, (4.0, 0.0)) == pytest.approx(3 * 0.5 + 1 * 0.4)
    assert hypervolume([], (4.0, 0.0)) == 0
