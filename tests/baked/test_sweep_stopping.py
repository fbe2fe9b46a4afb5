"""The stopping rule of sweeps: a pure module, against textbook formulas and in any order of events."""

import math
import statistics
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import needs

from job_stream.baked.sweep.coverage import VARIABLES, measured
from job_stream.baked.sweep.rules import Moments, OtherKeys, Rule, Trials, first_trials, quantile

needs("scipy")

pytestmark = pytest.mark.libraries

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50)


def moments_of(values):
    moments = Moments()
    for value in values:
        moments.add(value)
    return moments


# --- means, deviations and intervals ----------------------------------------------------------------------------------


@given(VALUES)
def test_mean_and_deviation_are_those_of_all_values(values):
    moments = moments_of(values)
    assert moments.count == len(values)
    assert moments.mean == pytest.approx(statistics.fmean(values), rel=1e-9, abs=1e-6)
    assert moments.deviation == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_merged_moments_are_those_of_both(left, right):
    merged, whole = moments_of(left), moments_of(left + right)
    merged.merge(moments_of(right))
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert merged.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([math.inf], math.inf),
        ([1, math.inf, 1], math.inf),
        ([-math.inf, 1, 1], -math.inf),
        ([1, math.inf, -math.inf], math.nan),
        ([math.nan, 1], math.nan),
        ([1e308, -1e308, 1.5e308], 0.5e308),
    ],
)
def test_the_mean_is_right_where_values_are_infinite_or_very_large(values, mean):
    assert moments_of(values).mean == pytest.approx(mean, nan_ok=True)
    merged = moments_of(values[:2])
    merged.merge(moments_of(values[2:]))
    assert merged.mean == pytest.approx(mean, nan_ok=True)


def test_a_large_mean_does_not_swallow_a_small_deviation():
    assert moments_of([1e9 + 1, 1e9 + 2, 1e9 + 3]).deviation == 1


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (9, 2.262), (29, 2.045), (1000, 1.962)])
def test_quantiles_are_those_of_students_table(freedom, t):
    assert quantile(freedom) == pytest.approx(t, abs=5e-4)


def test_the_half_width_is_that_of_the_95_percent_interval():
    assert moments_of([1, 2, 3, 4]).half_width == pytest.approx(3.182 * statistics.stdev([1, 2, 3, 4]) / 2, abs=1e-3)


@pytest.mark.parametrize("values", [[], [4]])
def test_less_than_two_values_have_no_deviation(values):
    assert math.isnan(moments_of(values).deviation)
    assert math.isnan(moments_of(values).half_width)


# --- how many trials are needed ---------------------------------------------------------------------------------------


def needed(values, **rule):
    return Rule(**rule).needed({"x": moments_of(values)})


def known(count, mean, deviation):
    return {"x": Moments(count, mean, deviation**2 * (count - 1))}


@pytest.mark.parametrize(("count", "mean", "deviation"), [(20, 1, 0.5), (100, 10, 9), (50, -2, 1)])
def test_needed_is_the_square_of_quantile_times_deviation_over_error(count, mean, deviation):
    expected = math.ceil((quantile(count - 1) * deviation / (0.1 * abs(mean))) ** 2)
    assert Rule().needed(known(count, mean, deviation)) == expected


def test_the_wider_of_relative_and_absolute_error_counts():
    relative, absolute = Rule(relative=0.1, absolute=0), Rule(relative=0, absolute=0.5)
    both = Rule(relative=0.1, absolute=0.5)
    for values in (known(50, 1, 2), known(50, 100, 20)):
        assert both.needed(values) == min(relative.needed(values), absolute.needed(values))


@pytest.mark.parametrize(("count", "extra"), [(15, 1), (16, 0)])
def test_one_more_is_needed_while_there_are_few(count, extra):
    bare = math.ceil((quantile(count - 1) / 0.1) ** 2)
    assert Rule(least=1).needed(known(count, 1, 1)) == bare + extra


def test_the_most_demanding_value_counts():
    values = {"calm": Moments(50, 1.0, 0.01), "wild": Moments(50, 1.0, 50.0)}
    assert Rule().needed(values) == Rule().needed({"wild": values["wild"]}) > Rule().needed({"calm": values["calm"]})


def test_values_that_do_not_vary_need_no_more_than_the_least():
    assert needed([5, 5, 5]) == 3
    assert needed([0, 0, 0], relative=0.1, absolute=0) == 3


def test_a_mean_of_zero_without_absolute_error_needs_the_most():
    assert needed([1, -1, 1, -1], absolute=0, most=500) == 500


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_asks_for_nothing(value):
    assert needed([1, value, 200, 3]) == 3
    assert needed([value]) == 3


def test_a_single_trial_asks_for_a_second_one():
    assert needed([7], least=1) == 2


@given(VALUES, st.integers(1, 20), st.integers(20, 100))
def test_needed_lies_between_least_and_most(values, least, most):
    assert least <= needed(values, least=least, most=most) <= most


@pytest.mark.parametrize(
    ("rule", "cpus", "combinations", "first"),
    [
        (Rule(), 1, 1, 3),
        (Rule(), 8, 1, 8),
        (Rule(), 8, 2, 4),
        (Rule(), 8, 100, 3),
        (Rule(most=5), 8, 1, 5),
        (Rule(least=20), 8, 1, 20),
        (Rule(least=7, most=7), 64, 1, 7),
    ],
)
def test_the_first_trials(rule, cpus, combinations, first):
    assert first_trials(rule, cpus, combinations) == first


# --- which trials are begun -------------------------------------------------------------------------------------------


def finished(rule, values, pick=min, first=3, earlier=()):
    """The trials at their end; ``pick`` chooses which of those under way ends next, ``earlier`` are known before."""
    trials = Trials(rule, first)
    for number in earlier:
        trials.take(number, values(number))
    under_way = set(trials.due())
    while under_way:
        number = pick(under_way)
        under_way.remove(number)
        trials.take(number, values(number))
        under_way.update(trials.due())
    return trials


def wave(number):
    """A value that wanders about a mean of 1."""
    return {"x": 1 + math.sin(1000 * number**1.5)}


def test_trials_go_on_until_the_rule_is_satisfied():
    trials = finished(Rule(), wave)
    assert trials.counted >= Rule().needed(trials.values)
    assert trials.counted > 100


def test_no_trial_is_begun_that_the_rule_does_not_ask_for():
    trials = Trials(Rule(), 3)
    begun = trials.due()
    assert begun == [0, 1, 2]
    while begun:
        number = begun.pop(0)
        trials.take(number, wave(number))
        more = trials.due()
        assert all(number < Rule().needed(trials.values) for number in more)
        begun += more


@given(st.randoms(use_true_random=False), st.integers(3, 30))
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_trials_end_changes_nothing(random, first):
    ended = finished(Rule(), wave, lambda under_way: random.choice(sorted(under_way)), first)
    in_order = finished(Rule(), wave, first=first)
    assert ended.counted == in_order.counted
    assert ended.values["x"].mean == in_order.values["x"].mean
    assert ended.values["x"].squares == in_order.values["x"].squares


def test_a_trial_is_begun_once():
    begun = []
    trials = Trials(Rule(), 3)
    while due := trials.due():
        begun += due
        for number in reversed(due):
            trials.take(number, wave(number))
    assert len(begun) == len(set(begun))


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_the_same_trial_has_other_keys_whichever_ends_first(order):
    trials = Trials(Rule(least=4, most=4), 4)
    trials.due()

    def end_all():
        for number in order:
            trials.take(number, {"x": 1.0} if number else {"x": 1.0, "rare": 2.0})

    with pytest.raises(OtherKeys) as raised:
        end_all()
    assert (raised.value.number, raised.value.difference) == (1, "lacks 'rare'")


def test_a_trial_that_was_skipped_has_no_keys_to_compare():
    trials = Trials(Rule(least=4, most=4), 4)
    trials.due()
    for number, values in ((3, None), (1, {"x": 1.0}), (0, None), (2, {"x": 2.0})):
        trials.take(number, values)
    assert (trials.counted, trials.lost) == (4, 2)


def test_exactly_so_many_trials_are_made():
    assert finished(Rule(least=7, most=7), wave, first=7).counted == 7


def test_the_most_is_never_exceeded():
    assert finished(Rule(most=12), lambda number: {"x": 10.0**number}).counted == 12


def test_the_rule_is_not_asked_before_the_least_number_of_trials_is_there():
    trials = Trials(Rule(least=5), 5)
    assert trials.due() == [0, 1, 2, 3, 4]
    for number in range(4):
        trials.take(number, {"x": 10.0**number})
    assert trials.due() == []


def test_an_estimate_from_few_trials_does_not_start_very_many():
    trials = Trials(Rule(), 3)
    for number in trials.due():
        trials.take(number, {"x": 10.0**number})
    assert Rule().needed(trials.values) > 1000
    assert len(trials.due()) == 3


def test_when_many_more_are_needed_many_are_under_way():
    trials = Trials(Rule(relative=1e-4, absolute=0), 3)
    under_way = trials.due()
    for _ in range(200):
        number = under_way.pop(0)
        trials.take(number, wave(number))
        under_way += trials.due()
    assert len(under_way) >= 100


def test_a_trial_that_failed_counts_as_made_but_not_in_the_mean():
    trials = finished(Rule(least=10, most=10), lambda number: None if number % 2 else {"x": number}, first=10)
    assert (trials.counted, trials.lost) == (10, 5)
    assert trials.values["x"].mean == 4


def test_failed_trials_are_made_up_for():
    trials = finished(Rule(least=6), lambda number: None if number == 1 else {"x": 5.0}, first=6)
    assert trials.values["x"].count == 6


def test_a_combination_of_which_every_trial_fails_is_given_up():
    trials = finished(Rule(), lambda number: None)
    assert (trials.counted, trials.lost) == (3, 3)


# --- trials of an earlier run -----------------------------------------------------------------------------------------


def test_trials_that_are_known_are_not_begun_again():
    trials = Trials(Rule(least=5, most=5), 5)
    for number in (0, 2, 3):
        trials.take(number, wave(number))
    assert trials.due() == [1, 4]
    for number in (4, 1):
        trials.take(number, wave(number))
    assert trials.due() == []
    assert trials.counted == 5


def test_a_gap_below_a_known_trial_is_filled_so_that_it_counts():
    trials = Trials(Rule(), 3)
    for number in (0, 1, 2, 3, 9):
        trials.take(number, {"x": 1.0})
    assert trials.due() == [4, 5, 6, 7, 8]


@given(st.integers(0, 1 << 32), st.integers(3, 30))
@settings(max_examples=50, deadline=None)
def test_two_runs_make_together_the_trials_that_one_would_make(seed, first):
    random = Random(seed)
    values = [random.gauss(1, 0.7) for _ in range(2000)]
    taken = []

    def value(number):
        taken.append(number)
        return {"x": values[number]}

    whole = finished(Rule(relative=0.2), value, lambda under_way: random.choice(sorted(under_way)), first)
    for ended in range(whole.counted):
        both = finished(Rule(relative=0.2), value, first=first, earlier=sorted(taken[:ended]))
        assert (both.counted, both.values["x"].mean) == (whole.counted, whole.values["x"].mean)


def test_nothing_is_begun_where_the_known_trials_are_enough():
    trials = Trials(Rule(), 3)
    for number in range(4):
        trials.take(number, {"x": 1.0})
    assert trials.due() == []


# --- how often the interval covers the mean ---------------------------------------------------------------------------


@pytest.mark.parametrize("least", [10, 30])
def test_the_interval_covers_the_mean_of_a_normal_variable_as_often_as_it_says(least):
    normal = VARIABLES[1]
    assert 0.93 <= measured(normal, Rule(least=least), 400).covered <= 0.97


def test_an_interval_from_too_few_trials_covers_less_often_than_it_says():
    rare = VARIABLES[3]
    assert rare.name == "Bernoulli, mean 0.1"
    assert measured(rare, Rule(), 100).covered < 0.5
