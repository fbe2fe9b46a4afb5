"""Samplers: lists of combinations for the variables of a sweep."""

import math

import pytest
from support import needs

from job_stream.baked import latinHypercube, randomPoints, sobol, sweep, zipped
from job_stream.errors import PlanError

needs("scipy")

pytestmark = pytest.mark.libraries

SAMPLERS = [randomPoints, latinHypercube, sobol]
SPACE = {"rate": (1e-4, 1.0, "log"), "size": (2, 6), "layers": range(1, 5), "kind": ["small", "large"]}

each_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)


@each_sampler
@pytest.mark.parametrize("count", [1, 7, 32])
def test_points_lie_in_the_space(sampler, count):
    points = sampler(SPACE, count)
    assert len(points) == count
    for point in points:
        assert list(point) == list(SPACE)
        assert 1e-4 <= point["rate"] < 1
        assert 2 <= point["size"] < 6
        assert isinstance(point["size"], float)
        assert point["layers"] in range(1, 5)
        assert point["kind"] in ("small", "large")


@each_sampler
def test_the_same_seed_gives_the_same_points(sampler):
    assert sampler(SPACE, 10) == sampler(SPACE, 10, seed=0) != sampler(SPACE, 10, seed=1)


@each_sampler
def test_a_logarithmic_range_is_even_in_the_logarithm(sampler):
    rates = [point["rate"] for point in sampler(SPACE, 64)]
    assert 10 <= sum(rate < 1e-3 for rate in rates) <= 26
    assert 10 <= sum(rate > 1e-2 and rate < 1e-1 for rate in rates) <= 26


@pytest.mark.parametrize("sampler", [latinHypercube, sobol])
def test_each_point_lies_in_another_part_of_a_range(sampler):
    parts = [math.floor(point["size"] * 4) for point in sampler({"size": (2, 6), "other": (0, 1)}, 16)]
    assert sorted(parts) == list(range(8, 24))


@each_sampler
def test_a_sampler_gives_the_variables_of_a_sweep(sampler):
    points = sampler(SPACE, 5)
    with sweep(points, trials=1, showProgress=False, cpus=1) as w:
        w.job(lambda id, trial, rate, size, layers, kind: {"x": rate * size})
    assert list(w.table.x) == [point["rate"] * point["size"] for point in points]


@each_sampler
@pytest.mark.parametrize(
    ("space", "phrase"),
    [
        ({}, "the space to draw from has no parameters"),
        ({"a": 3}, "'a' must be .* a list or a range, not 3"),
        ({"a": []}, "'a' must be .* a list or a range, not "),
        ({"a": (1, 2, 3)}, "is a tuple, but not"),
        ({"a": ("u", "v")}, "to choose from values give a list"),
        ({"a": (1,)}, "is a tuple, but not"),
        ({"a": (False, True)}, "to choose from values give a list"),
        ({"a": (2, 1)}, "low must be below high$"),
        ({"a": (0, 1, "log")}, "low must be below high, and above 0"),
    ],
    ids=str,
)
def test_a_space_that_makes_no_sense_is_refused(sampler, space, phrase):
    with pytest.raises(PlanError, match=phrase):
        sampler(space, 3)


@each_sampler
@pytest.mark.parametrize(("count", "seed", "what"), [(0, 0, "count"), (2.5, 0, "count"), (3, -1, "seed")])
def test_count_and_seed_are_whole_numbers(sampler, count, seed, what):
    with pytest.raises(PlanError, match=f"{what} must be a whole number"):
        sampler(SPACE, count, seed)


def test_zipped_takes_values_side_by_side():
    assert zipped({"a": [1, 2], "b": "uv"}) == [{"a": 1, "b": "u"}, {"a": 2, "b": "v"}]


def test_zipped_wants_equal_lengths():
    with pytest.raises(PlanError, match=r"equal length, not {'a': 2, 'b': 3}"):
        zipped({"a": [1, 2], "b": [3, 4, 5]})
