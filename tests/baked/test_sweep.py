"""sweep: combinations of parameters, each tried as often as its means need, and a table of what came of it."""

import math
import random

import pytest
from support import Tally, needs, wait_until, whole_text

import job_stream
from job_stream import Args, Multiple, Object, common, rng
from job_stream.baked import sweep
from job_stream.errors import PlanError

np = pytest.importorskip("numpy")
needs("scipy", "pandas")

pytestmark = pytest.mark.libraries


def table_of(stage, *arguments, **keywords):
    """The table of a sweep with one job."""
    with sweep(*arguments, **{"showProgress": False, "cpus": 2, **keywords}) as w:
        w.job(stage)
    return w.table


def recorded(record, **keywords):
    """A sweep that was run with the stages that ``record`` records."""
    with sweep(showProgress=False, cpus=1, **keywords) as w:
        record(w)
    return w


def refused(stage, *arguments, **keywords):
    """What the error says that a sweep with one job ends with."""
    with pytest.raises(PlanError) as caught:
        table_of(stage, *arguments, **keywords)
    return str(caught.value)


def noise(id, trial, **parameters):
    return {"x": 1 + rng().normal()}


# --- what the stages get ----------------------------------------------------------------------------------------------


def test_the_first_stage_gets_id_trial_and_the_parameters_as_keywords(tally):
    def stage(*, id, trial, a, b):
        tally.note(id, trial, a, b)
        return {"x": 0}

    table_of(stage, {"a": [1, 2], "b": ["u", "v"]}, trials=2)
    expected = [(0, 1, "u"), (1, 1, "v"), (2, 2, "u"), (3, 2, "v")]
    assert sorted(tally.lines()) == [f"{id} {trial} {a} {b}" for id, a, b in expected for trial in (0, 1)]


def test_a_list_of_dicts_is_taken_as_it_is():
    table = table_of(lambda id, trial, a, b: {"x": a * b}, [{"a": 1, "b": 2}, {"b": 30, "a": 3}])
    assert list(zip(table.a, table.b, table.x, strict=True)) == [(1, 2, 2), (3, 30, 90)]


def test_without_variables_there_is_one_combination():
    table = table_of(lambda id, trial: {"x": 4}, trials=5)
    assert table.to_dict("list") == {"trials": [5], "x": [4.0], "x_dev": [0.0], "x_err": [0.0]}


@pytest.mark.parametrize("values", [range(3), (0, 1, 2), np.arange(3), {0: "a", 1: "b", 2: "c"}.keys()])
def test_any_iterable_gives_the_values_of_a_variable(values):
    assert list(table_of(lambda id, trial, a: {"x": a}, {"a": values}).x) == [0, 1, 2]


def test_stages_may_fan_out_and_gather_within_a_trial():
    with sweep({"a": [1, 10]}, trials=3, showProgress=False, cpus=2) as w:

        @w.job
        def parts(id, trial, a):
            return Multiple(Args(a, i) for i in range(4))

        @w.job
        def weigh(a, i):
            return a * i

        @w.reduce(store=lambda: Object(sum=0), emit=lambda store: {"sum": store.sum})
        def add(store, works, others):
            store.sum += sum(works) + sum(other.sum for other in others)

    assert list(w.table["sum"]) == [6, 60]
    assert list(w.table["sum_dev"]) == [0, 0]


def test_stages_may_be_a_frame():
    with sweep({"limit": [10, 100]}, trials=2, showProgress=False, cpus=2) as w:

        @w.frame(store=lambda: Object(number=1, steps=0), emit=lambda store: {"steps": store.steps})
        def until(store, id, trial, limit):
            if store.number < limit:
                return store.number

        w.job(lambda number: 2 * number)

        @w.frameEnd
        def keep(store, number):
            store.number, store.steps = number, store.steps + 1

    assert list(w.table.steps) == [4, 7]


def test_stages_may_be_classes():
    class Square(common.Job):
        def handleWork(self, work):
            self.emit({"x": work**2})

    with sweep({"a": [2, 3]}, showProgress=False, cpus=2) as w:
        w.job(lambda id, trial, a: a)
        w.job(Square)
    assert list(w.table.x) == [4, 9]


def test_a_decorator_gives_the_function_back():
    with sweep(trials=1, showProgress=False, cpus=1) as w:

        def stage(id, trial):
            return {"x": 1}

        assert w.job(stage) is stage
        assert w.job(retries=1)(dict) is dict


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_has_trials_parameters_and_three_columns_for_each_value():
    table = table_of(lambda id, trial, a: {"x": trial, "y": 2}, {"a": [7]}, trials=4)
    assert table.index.name == "id"
    assert list(table.columns) == ["trials", "a", "x", "x_dev", "x_err", "y", "y_dev", "y_err"]


def test_the_table_tells_mean_deviation_and_half_width():
    (row,) = table_of(lambda id, trial: {"x": [2, 3, 7][trial]}, trials=3).itertuples()
    assert (row.trials, row.x) == (3, 4)
    assert row.x_dev == pytest.approx(math.sqrt(7))
    assert row.x_err == pytest.approx(4.3027 * math.sqrt(7 / 3), rel=1e-4)


def test_the_rows_stand_in_the_order_of_the_combinations():
    table = table_of(lambda id, trial, a: {"x": a}, {"a": range(50)})
    assert list(table.index) == list(table.a) == list(table.x) == list(range(50))


def test_the_table_is_printed(capsys):
    table_of(lambda id, trial, a: {"x": a + 0.5}, {"a": range(100)}, trials=2)
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["id", "trials", "a", "x", "x_dev", "x_err"]
    assert rows == [[str(a), "2", str(a), f"{a}.5", "0.0", "0.0"] for a in range(100)]


def test_nan_gives_a_nan_mean_and_asks_for_no_more_trials():
    table = table_of(lambda id, trial, a: {"x": math.nan if trial == a else trial, "y": 1}, {"a": [0, 2]})
    assert table.x.isna().all()
    assert list(table.trials) == [3, 3]
    assert list(table.y) == [1, 1]


@pytest.mark.parametrize(
    "number", [True, 3, 2.5, np.float32(2.5), np.int8(3), np.bool_(True), np.array(2.5)], ids=lambda each: repr(each)
)
def test_every_kind_of_number_is_a_number(number):
    assert list(table_of(lambda id, trial: {"x": number}).x) == [float(number)]


def test_there_is_no_table_before_the_run():
    with sweep(showProgress=False) as w:
        assert w.table is None
        w.job(lambda id, trial: {"x": 1})


def test_nothing_runs_when_the_block_raises(tally):
    def record(w):
        w.job(lambda id, trial: tally.note(trial))
        raise KeyError

    with pytest.raises(KeyError):
        recorded(record)
    assert not len(tally)


# --- how many trials --------------------------------------------------------------------------------------------------


def test_exactly_so_many_trials_are_made():
    assert list(table_of(noise, {"a": range(3)}, trials=17).trials) == [17, 17, 17]


def test_trials_are_numbered_from_0_on(tally):
    def stage(id, trial):
        tally.note(trial)
        return noise(id, trial)

    (count,) = table_of(stage, seed=1).trials
    assert sorted(tally.numbers()) == list(range(count))
    assert count > 20


def test_trials_go_on_until_the_mean_is_known_well_enough():
    (row,) = table_of(noise, seed=2).itertuples()
    assert row.x_err <= max(0.1 * row.x, 0.01)
    assert 100 < row.trials < 1000


def test_a_tighter_error_needs_more_trials():
    counts = [table_of(noise, seed=2, trialsParms={"E": E}).trials[0] for E in (0.5, 0.2)]
    assert counts == sorted(counts)
    assert counts[0] < counts[1]


def test_eps_is_an_error_in_the_unit_of_the_value():
    (row,) = table_of(noise, seed=2, trialsParms={"E": 0, "eps": 0.3}).itertuples()
    assert 0.2 < row.x_err <= 0.3


@pytest.mark.parametrize(("cpus", "count", "first"), [(1, 1, 3), (5, 1, 5), (5, 2, 3), (8, 2, 4)])
def test_a_combination_begins_with_its_share_of_the_cpus_but_with_min_at_least(cpus, count, first):
    table = table_of(lambda id, trial, a: {"x": 1}, {"a": range(count)}, cpus=cpus)
    assert list(table.trials) == [first] * count


def test_max_limits_the_first_trials_too():
    assert list(table_of(lambda id, trial: {"x": 1}, cpus=6, trialsParms={"max": 4}).trials) == [4]


def test_there_are_min_trials_at_least_and_max_at_most():
    assert list(table_of(lambda id, trial: {"x": 1}, trialsParms={"min": 9}).trials) == [9]
    assert list(table_of(noise, trialsParms={"max": 9}).trials) == [9]


@pytest.mark.parametrize(("trials", "count"), [(-9, 9), (-2, 2), (-1, 1)])
def test_negative_trials_are_a_limit(trials, count):
    assert list(table_of(noise, trials=trials).trials) == [count]
    assert list(table_of(lambda id, trial: {"x": 1}, trials=trials).trials) == [min(count, 3)]


def test_one_trial_has_no_deviation():
    (row,) = table_of(lambda id, trial: {"x": 6}, trials=1).itertuples()
    assert row.x == 6
    assert math.isnan(row.x_dev)
    assert math.isnan(row.x_err)


def test_several_combinations_are_under_way_but_not_all(tmp_path):
    begun, seen = Tally(tmp_path / "begun"), Tally(tmp_path / "seen")

    def stage(id, trial, a):
        begun.note(id)
        if id < 2:
            wait_until(lambda: {0, 1} <= set(begun.numbers()), "the other combination to begin")
            seen.note(*sorted({*begun.numbers()}))
        return {"x": 1}

    table_of(stage, {"a": range(6)}, trials=1, cpus=2)
    assert set(begun.numbers()) == set(range(6))
    assert seen.lines()[0] == "0 1"


def test_one_combination_keeps_all_cpus_busy(tmp_path):
    begun = Tally(tmp_path / "begun")

    def stage(id, trial):
        begun.note(trial)
        wait_until(lambda: len(begun) == 4, "the other trials to begin")
        return {"x": 1}

    table_of(stage, cpus=4)
    assert sorted(begun.numbers()) == [0, 1, 2, 3]


# --- the same numbers every time --------------------------------------------------------------------------------------


def seeded(**keywords):
    return table_of(noise, {"a": [1, 2, 3]}, seed=5, **{"trialsParms": {"E": 0.3}, **keywords})


def test_with_a_seed_the_table_is_the_same_each_time():
    assert seeded().equals(seeded())


def test_with_a_seed_the_table_is_the_same_in_processes_and_threads():
    assert seeded().equals(seeded(useMultiprocessing=False))


@pytest.mark.parametrize("cpus", [1, 3])
def test_with_a_seed_the_table_does_not_depend_on_how_many_cpus_work(cpus):
    assert seeded().equals(seeded(cpus=cpus))


def draws(variables, tally, **keywords):
    """The numbers that trials drew, by parameter and trial."""
    tally.path.unlink(missing_ok=True)

    def stage(id, trial, a):
        number = rng().integers(1 << 62)
        tally.note(a, trial, number)
        return {"x": number % 7}

    table_of(stage, variables, seed=3, **keywords)
    return {tuple(line.split()[:2]): line.split()[2] for line in tally.lines()}


def test_the_numbers_of_a_trial_depend_on_its_parameters_and_its_number(tally):
    few = draws({"a": [1, 2]}, tally, trials=5)
    many = draws({"a": [0, 1, 2, 3]}, tally, cpus=3)
    assert len(few) == 10
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many)


def test_equal_combinations_draw_different_numbers():
    table = table_of(noise, {"a": [1, 1]}, trials=10, seed=1)
    assert table.x[0] != table.x[1]


# --- mistakes in what is given ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "phrase"),
    [
        ({"variables": [{"a": 1}, {"a": 2, "b": 3}]}, r"must have same keys; found \{'a', 'b'\} against \{'a'\}"),
        ({"variables": {"a": []}}, "variable 'a' has no values"),
        ({"variables": {"a": 3}}, "variable 'a' must be a sequence of values, not 3"),
        ({"variables": []}, "variables is an empty list"),
        ({"variables": 5}, "variables must be a dict of sequences or a list of dicts, not int"),
        ({"variables": [3]}, "variables must be a list of dicts; it holds 3"),
        ({"variables": {"trial": [1]}}, "a variable cannot be named 'trial'"),
        ({"variables": {"id": [1]}}, "a variable cannot be named 'id'"),
        ({"variables": {3: [1]}}, "the name of a variable must be text, not int: 3"),
        ({"trials": 1.5}, "trials must be a whole number, not 1.5"),
        ({"trialsParms": {"min": 5, "max": 4}}, "min is 5, which is more than the 4 trials at most"),
        ({"trialsParms": {"min": 5}, "trials": -4}, "min is 5, which is more than the 4 trials at most"),
        ({"trialsParms": {"min": 5}, "trials": 9}, "min has no meaning with trials=9"),
        ({"trialsParms": {"max": 5}, "trials": 9}, "max has no meaning with trials=9"),
        ({"trialsParms": {"max": 5}, "trials": -9}, "max has no meaning with trials=-9"),
        ({"trialsParms": {"E": 0, "eps": 0}}, "E and eps are both 0"),
        ({"trialsParms": {"mn": 3}}, "trialsParms does not know 'mn'; did you mean 'min'"),
        ({"trialsParms": {"E": -1}}, "E must be a number from 0 on, not -1"),
        ({"trialsParms": {"min": 0}}, "min must be a whole number from 1 on, not 0"),
        ({"trialsParms": [3]}, r"trialsParms must be a dict of E, eps, min, max, not \[3\]"),
        ({"trialsParms": {"E": True}}, "E must be a number from 0 on, not True"),
        (
            {"variables": dict.fromkeys("abcdef", range(100))},
            r"would make 1000000000000 combinations \(100 x .* x 100\), which is more than 10000000: .* latinHypercube",
        ),
        ({"variables": {"a": "abc"}}, r"variable 'a' must be a sequence of values, not 'abc': write \['abc'\]"),
        ({"variables": {"a": {"x": 1}}}, "variable 'a' must be a sequence of values, not {'x': 1}"),
        ({"trialsParms": {"max": 2.5}}, "max must be a whole number from 1 on, not 2.5"),
        ({"variabels": {}}, "sweep does not know the keyword 'variabels'; did you mean 'variables'"),
        ({"initialWork": []}, "sweep does not know the keyword 'initialWork'"),
        ({"onEror": "skip"}, "sweep does not know the keyword 'onEror'; did you mean 'onError'"),
        ({"resume": True}, "resume=True needs a log"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_named_before_any_work(keywords, phrase):
    with pytest.raises(PlanError, match=phrase):
        sweep(**keywords)


def test_numbers_may_be_those_of_numpy():
    parms = {"min": np.int64(2), "E": np.float32(0.5), "eps": np.float64(0)}
    table = table_of(lambda id, trial, a: {"x": a}, {"a": np.arange(1, 3)}, trials=np.int64(-4), trialsParms=parms)
    assert list(table["trials"]) == [2, 2]


def test_a_parameter_may_have_any_name():
    names = ("self", "store", "function", "place", "class")
    table = table_of(lambda id, trial, **parameters: {"x": len(parameters)}, {name: [1] for name in names}, trials=1)
    assert list(table["x"]) == [len(names)]


def test_a_sweep_has_no_result_finish_or_run():
    w = sweep(showProgress=False)
    for mistake in (lambda: w.result(print), lambda: w.finish(print), lambda: w.run()):
        with pytest.raises(PlanError, match="a sweep"):
            mistake()


def test_a_sweep_without_stages_is_refused():
    with pytest.raises(PlanError, match="the sweep has no stages"):
        recorded(lambda w: None)


def test_the_users_frames_begin_and_end_within_the_sweep():
    w = sweep(showProgress=False)
    with pytest.raises(PlanError, match="frameEnd 'f' has no frame"):

        @w.frameEnd
        def f(store, item): ...

    with pytest.raises(PlanError, match="a frame in the sweep has no end"):
        recorded(lambda w: w.frame(lambda store, id, trial: None))


def test_what_an_init_function_returns_is_no_work_for_a_sweep():
    def record(w):
        w.init(lambda: 5)
        w.job(lambda id, trial: {"x": 1})

    with pytest.raises(PlanError, match="an init function in a sweep must return nothing"):
        recorded(record)


# --- mistakes in what a trial gives -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2])
def test_the_last_stage_cannot_emit_multiple(count):
    assert "cannot emit Multiple" in refused(lambda id, trial: Multiple([{"x": 1}] * count))


def test_a_frame_as_the_last_stage_cannot_emit_multiple():
    def record(w):
        w.frame(lambda store, id, trial: None, emit=lambda store: Multiple([{"x": 1}, {"x": 2}]))
        w.frameEnd(lambda store, item: None)

    with pytest.raises(PlanError, match="cannot emit Multiple"):
        recorded(record)


@pytest.mark.parametrize(
    ("answer", "phrase"),
    [
        (None, r"trial \d of combination 0 \(a=7\) gave nothing: the last stage must return one dict of numbers"),
        (5, r"trial \d of combination 0 \(a=7\) gave int 5: the last stage must return one dict of numbers"),
        ([{"x": 1}], "gave list .*: the last stage must return one dict"),
        (Args(1, 2), r"gave Args Args\(1, 2\): the last stage must return one dict"),
        ({}, "gave dict {}: the last stage must return one dict of numbers"),
        ({"x": "1"}, "gave 'x' = str '1': it must be a number"),
        ({"x": None}, "gave 'x' = NoneType None: it must be a number"),
        ({"x": 10**400}, "gave a whole number that is too large for a float"),
        ({"x": 1j}, "gave 'x' = complex 1j: it must be a number"),
        ({"x": np.zeros(1)}, "gave 'x' = ndarray .*: it must be a number"),
        ({3: 1}, "gave a value whose name is no text: 3"),
        ({"a": 1}, "the key 'a' of a result is the name of a parameter"),
        ({"trials": 1}, "would make two columns 'trials'"),
        ({"x": 1, "x_dev": 2}, "would make two columns 'x_dev'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_dict_of_numbers_is_refused(answer, phrase):
    with pytest.raises(PlanError, match=phrase):
        table_of(lambda id, trial, a: answer, {"a": [7]})


@pytest.mark.parametrize(
    ("odd", "phrase"),
    [
        ({"x": 1}, r"trial 2 of combination 0 \(no parameters\) lacks 'y', unlike trials before it"),
        ({"x": 1, "y": 1, "z": 1}, r"trial 2 of .* has a new 'z', unlike trials before it"),
        ({"x": 1, "z": 1}, r"trial 2 of .* lacks 'y' and has a new 'z', unlike trials before it"),
    ],
    ids=str,
)
def test_every_trial_must_return_the_same_keys(odd, phrase):
    with pytest.raises(PlanError, match=phrase):
        table_of(lambda id, trial: odd if trial == 2 else {"x": 1, "y": 1}, trials=3, cpus=1)


def test_a_trial_that_is_overtaken_is_compared_with_those_that_overtook_it(gate, tally):
    def simulate(id, trial):
        if trial == 0:
            gate.wait()
            return {"x": 1, "rare": 1}
        tally.note(trial)
        if len(tally) == 3:
            gate.open()
        return {"x": 1}

    with pytest.raises(PlanError, match=r"trial 1 of .* lacks 'rare', unlike trials before it"):
        table_of(simulate, trials=4, cpus=2)


def test_every_combination_must_return_the_same_keys():
    assert "lacks 'x' and has a new 'y', unlike others" in refused(
        lambda id, trial, a: {a: 1}, {"a": ["x", "y"]}, trials=2, cpus=1
    )


def test_a_mistake_names_the_stage_that_made_it():
    def simulate(id, trial):
        return Multiple([])

    with pytest.raises(PlanError) as caught:
        recorded(lambda w: w.job(simulate))
    assert caught.value.__cause__.stage == "simulate"


def test_a_stages_own_exception_ends_the_sweep():
    def stage(id, trial):
        raise ArithmeticError("too steep")

    with pytest.raises(ArithmeticError, match="too steep") as caught:
        table_of(stage)
    assert "While processing work with target: stage" in whole_text(caught.value)


# --- trials that fail -------------------------------------------------------------------------------------------------


def fails_sometimes(id, trial):
    if trial % 4 == 1:
        raise ArithmeticError
    return {"x": 2}


def test_trials_that_are_skipped_do_not_count():
    table = table_of(fails_sometimes, trials=8, onError="skip")
    assert (table.trials[0], table.x[0]) == (6, 2)


def test_a_stage_may_say_that_its_failures_are_skipped():
    with sweep(trials=8, showProgress=False, cpus=2) as w:
        w.job(onError="skip")(fails_sometimes)
    assert w.table.trials[0] == 6
    assert len(w.failures) == 2


def test_trials_that_are_skipped_are_made_up_for():
    assert table_of(fails_sometimes, onError="skip", trialsParms={"min": 9}).trials[0] == 9


def test_a_combination_without_a_result_has_an_empty_row():
    def stage(id, trial, a):
        return {"x": 1 / a}

    table = table_of(stage, {"a": [0, 1]}, onError="skip")
    assert list(table.trials) == [0, 3]
    assert table.x.isna().tolist() == [True, False]


def test_a_mistake_in_a_result_is_not_skipped():
    assert "it must be a number" in refused(lambda id, trial: {"x": "?"}, onError="skip")


def test_trials_are_tried_again_where_that_is_wanted(once):
    def stage(id, trial):
        if once(trial):
            raise ArithmeticError
        return {"x": trial}

    assert table_of(stage, trials=4, retries=1).x[0] == 1.5


# --- where a sweep may stand ------------------------------------------------------------------------------------------


def test_several_sweeps_in_a_script_run_one_after_the_other():
    for factor in (2, 3):
        assert list(table_of(lambda id, trial, a, factor=factor: {"x": factor * a}, {"a": [1, 2]}).x) == [
            factor,
            2 * factor,
        ]


def test_a_sweep_inside_a_job_runs_there():
    def inner(a):
        return list(table_of(lambda id, trial, b: {"x": a * b}, {"b": [1, 2]}, cpus=None).x)

    assert job_stream.map(inner, [1, 10], cpus=2) == [[1, 2], [10, 20]]


def test_many_combinations():
    numbers = list(range(300))
    random.Random(1).shuffle(numbers)
    table = table_of(lambda id, trial, a: {"x": a + trial}, {"a": numbers}, trials=3)
    assert list(table.x) == [number + 1 for number in numbers]
