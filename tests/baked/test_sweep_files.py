"""The files of a sweep: the table, the log of trials and how a later run goes on from it, and the picture."""

import errno
import functools
import json
import math
import os
import socket
import sys

import pytest
from support import Library, needs

from job_stream import rng
from job_stream.baked import sweep
from job_stream.baked.sweep.sources import source_of
from job_stream.errors import JobStreamError, PlanError

np = pytest.importorskip("numpy")
needs("scipy")
pandas = Library("pandas")

pytestmark = pytest.mark.libraries


def swept(variables, stage=None, **keywords):
    """A sweep that was run; its stage gives the sum of parameters and trial unless told."""
    with sweep(variables, **{"trials": 3, "showProgress": False, "cpus": 2, **keywords}) as w:
        w.job(stage or (lambda id, trial, **parameters: {"x": sum(parameters.values()) + trial}))
    return w


def refused(error=PlanError, **keywords):
    """What the error says that ends a sweep before any work."""

    def never(id, trial, **parameters):
        raise AssertionError("this is work")

    with pytest.raises(error) as caught:
        swept(**{"variables": {"a": [1]}, "stage": never, **keywords})
    return str(caught.value)


# --- the table --------------------------------------------------------------------------------------------------------


def read_json(path):
    return pandas.read_json(path).set_index("id")


READERS = {
    "table.csv": lambda path: pandas.read_csv(path, index_col="id"),
    "table": lambda path: pandas.read_csv(path, index_col="id"),
    "table.json": read_json,
    "table.parquet": lambda path: pandas.read_parquet(path),
}


@pytest.mark.parametrize("name", READERS)
def test_the_table_is_saved_as_its_suffix_says(tmp_path, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    table = swept({"a": [1, 2], "b": ["u", "v"]}, lambda id, trial, a, b: {"x": a / 3 + trial / 7}, output=path).table
    pandas.testing.assert_frame_equal(READERS[name](path), table)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_table_that_is_there_is_replaced(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("something else")
    swept({"a": [1]}, output=path)
    assert path.read_text().startswith("id,trials,a,x,x_dev,x_err\n")


FILES = {"output": "table.csv", "plot": "plot.png"}


def written_by(keyword, path):
    """Has a file written at a path, which is all that is made there."""
    if keyword == "plot":
        pytest.importorskip("matplotlib")
    before = {entry.name for entry in path.parent.iterdir()}
    swept({"a": [1, 2]}, **{keyword: path})
    return {entry.name for entry in path.parent.iterdir()} - before


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("keyword", FILES)
def test_a_file_is_written_where_a_link_leads_and_the_link_stays(tmp_path, keyword, is_there):
    link, target = tmp_path / FILES[keyword], tmp_path / "elsewhere" / f"real-{FILES[keyword]}"
    target.parent.mkdir()
    link.symlink_to(target)
    if is_there:
        target.write_text("old")
    written_by(keyword, link)
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_bytes()[:4] in (b"id,t", b"\x89PNG")
    assert [entry.name for entry in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("keyword", FILES)
def test_a_file_that_is_replaced_keeps_its_rights(tmp_path, keyword):
    path = tmp_path / FILES[keyword]
    path.touch(mode=0o600)
    assert written_by(keyword, path) == set()
    assert path.stat().st_size > 0
    assert path.stat().st_mode & 0o777 == 0o600


def plant_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("plant", [os.mkfifo, plant_socket])
@pytest.mark.parametrize("is_link", [True, False])
@pytest.mark.parametrize("keyword", [*FILES, "log"])
def test_what_is_no_regular_file_is_refused_before_any_work_and_left_alone(tmp_path, keyword, is_link, plant):
    path = tmp_path / FILES.get(keyword, "log")
    special = tmp_path / "special" if is_link else path
    plant(special)
    if is_link:
        path.symlink_to(special)
    before = special.lstat()
    assert f"{keyword} {str(path)!r} is no regular file" in refused(**{keyword: path})
    assert (special.lstat().st_ino, special.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("keyword", FILES)
def test_what_takes_the_place_of_a_file_during_the_run_is_left_alone(tmp_path, keyword):
    path = tmp_path / FILES[keyword]

    def stage(id, trial, a):
        if trial == 0:
            os.mkfifo(path)
        return {"x": trial}

    with pytest.raises(PlanError, match="is no regular file"):
        swept({"a": [1]}, stage, **{keyword: path})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.is_fifo()


def test_a_table_that_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def half(self, file):
        file.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pandas.DataFrame, "to_csv", half)
    with pytest.raises(OSError, match="No space left"):
        swept({"a": [1]}, output=path)
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"table.csv": "old"}


def test_files_of_the_user_beside_the_table_are_left_alone(tmp_path):
    mine = tmp_path / ".table.csv.part"
    mine.write_text("mine")
    swept({"a": [1]}, output=tmp_path / "table.csv")
    assert mine.read_text() == "mine"


def test_an_unknown_suffix_is_refused_before_any_work(tmp_path):
    text = refused(output=tmp_path / "table.cvs")
    assert "has the suffix '.cvs', which is none of .csv, .json, .parquet; did you mean '.csv'" in text


@pytest.mark.parametrize("keyword", ["output", "log", "plot"])
def test_a_missing_folder_is_refused_before_any_work(tmp_path, keyword):
    pytest.importorskip("matplotlib")
    path = tmp_path / "missing" / "file.png"
    text = refused(**{keyword: path if keyword != "output" else path.with_suffix(".csv")})
    assert f"missing' of {keyword} " in text
    assert "does not exist: create it first" in text


def test_a_folder_is_no_file(tmp_path):
    assert "is a folder: give the name of a file" in refused(output=tmp_path)


def test_parameters_that_parquet_cannot_hold_are_refused_before_any_work(tmp_path):
    pytest.importorskip("pyarrow")
    assert "cannot hold the parameters" in refused(output=tmp_path / "table.parquet", variables={"a": [1, "u", object]})


# --- the log ----------------------------------------------------------------------------------------------------------


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_trial_is_logged_with_its_parameters_and_values(tmp_path):
    path = tmp_path / "trials.jsonl"
    swept({"a": [10, 20], "b": [0.5]}, log=path, seed=6)
    lines = lines_of(path)
    assert len({line.pop("code") for line in lines}) == 1
    assert sorted(lines, key=lambda line: (line["id"], line["trial"])) == [
        {"id": id, "trial": trial, "parameters": {"a": a, "b": 0.5}, "values": {"x": a + 0.5 + trial}, "seed": 6}
        for id, a in enumerate([10, 20])
        for trial in range(3)
    ]


def test_a_trial_is_logged_as_soon_as_it_has_ended(tmp_path):
    path = tmp_path / "trials.jsonl"

    def stage(id, trial, a):
        return {"x": len(path.read_text().splitlines()) if trial else 0}

    table = swept({"a": [1]}, stage, log=path, trials=5, cpus=1).table
    assert table.x[0] == (0 + 1 + 2 + 3 + 4) / 5


def test_trials_before_an_error_are_in_the_log(tmp_path):
    path = tmp_path / "trials.jsonl"

    def stage(id, trial, a):
        if trial == 4:
            raise ArithmeticError
        return {"x": trial}

    with pytest.raises(ArithmeticError):
        swept({"a": [1]}, stage, log=path, trials=9, cpus=1)
    assert [line["trial"] for line in lines_of(path)] == [0, 1, 2, 3]


def test_trials_that_were_skipped_are_not_in_the_log(tmp_path):
    path = tmp_path / "trials.jsonl"
    swept({"a": [0, 1]}, lambda id, trial, a: {"x": 1 / a}, log=path, onError="skip")
    assert {line["id"] for line in lines_of(path)} == {1}


def test_a_log_that_exists_is_not_written_to_unless_the_run_goes_on_from_it(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text("")
    assert "exists already: give resume=True" in refused(log=path)


def test_parameters_that_json_cannot_hold_are_refused_before_any_work(tmp_path):
    text = refused(log=tmp_path / "log", variables={"a": [object()]})
    assert "log= cannot note the parameters a=<object" in text
    assert "JSON has nothing for object" in text


# --- going on from a log ----------------------------------------------------------------------------------------------


@pytest.fixture
def resumed(tmp_path, tally):
    """Runs a sweep with a log, going on from it; gives its table and the trials that were made."""

    def run(variables, stage=None, **keywords):
        tally.path.unlink(missing_ok=True)

        def noted(id, trial, **parameters):
            tally.note(*parameters.values(), trial)
            return stage(id, trial, **parameters) if stage else {"x": sum(parameters.values()) * 10 + trial}

        table = swept(variables, noted, log=tmp_path / "trials.jsonl", resume=True, **keywords).table
        return table, sorted(tally.lines())

    return run


def test_the_first_run_may_say_resume_too(resumed):
    table, made = resumed({"a": [1]})
    assert made == ["1 0", "1 1", "1 2"]
    assert list(table.x) == [11]


def test_a_logged_trial_is_not_repeated(resumed):
    before, _ = resumed({"a": [1, 2]})
    table, made = resumed({"a": [1, 2]})
    assert made == []
    pandas.testing.assert_frame_equal(table, before)


def test_more_values_extend_a_sweep(resumed):
    resumed({"a": [1, 3]})
    table, made = resumed({"a": [1, 2, 3]})
    assert made == ["2 0", "2 1", "2 2"]
    assert list(table.x) == [11, 21, 31]


def test_more_trials_extend_a_sweep(resumed):
    resumed({"a": [1]})
    table, made = resumed({"a": [1]}, trials=5)
    assert made == ["1 3", "1 4"]
    assert list(table.x) == [12]


def test_a_tighter_error_extends_a_sweep_as_if_it_had_been_asked_for_at_once(resumed, tmp_path):
    def stage(id, trial, a):
        return {"x": a + rng().normal()}

    keywords = {"trials": 0, "seed": 4, "cpus": 1}
    _, first = resumed({"a": [1, 2]}, stage, **keywords, trialsParms={"E": 0.5})
    table, more = resumed({"a": [1, 2]}, stage, **keywords, trialsParms={"E": 0.2})
    assert first
    assert more
    assert not set(first) & set(more)
    whole = swept({"a": [1, 2]}, stage, **keywords, trialsParms={"E": 0.2}).table
    pandas.testing.assert_frame_equal(table, whole)


def test_fewer_trials_than_are_logged_use_the_first_ones(resumed):
    resumed({"a": [1]}, trials=5)
    table, made = resumed({"a": [1]}, trials=2)
    assert made == []
    assert (table.trials[0], table.x[0]) == (2, 10.5)


def test_values_that_are_no_longer_asked_for_are_left_out(resumed):
    resumed({"a": [1, 2, 3]})
    table, made = resumed({"a": [3]})
    assert made == []
    assert list(table.x) == [31]


def test_equal_combinations_have_trials_of_their_own(resumed):
    resumed({"a": [1, 1]})
    _, made = resumed({"a": [1, 1]})
    assert made == []


def test_numbers_of_another_type_are_the_same_parameters(resumed):
    resumed({"a": [1, 2]})
    _, made = resumed({"a": np.array([1.0, 2.0])})
    assert made == []


def test_nan_is_logged_and_read(resumed):
    resumed({"a": [1]}, lambda id, trial, a: {"x": math.nan})
    table, made = resumed({"a": [1]})
    assert made == []
    assert math.isnan(table.x[0])


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_last_line_that_was_cut_off_is_a_trial_that_was_not_made(resumed, tmp_path, kept):
    resumed({"a": [1]}, cpus=1)
    path = tmp_path / "trials.jsonl"
    *complete, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(complete) + last[:kept])
    table, made = resumed({"a": [1]})
    assert made == ["1 2"]
    assert list(table.x) == [11]
    assert len(lines_of(path)) == 3


def test_a_trial_that_is_logged_twice_counts_once(resumed, tmp_path):
    resumed({"a": [1]}, cpus=1)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() * 2)
    table, made = resumed({"a": [1]})
    assert made == []
    assert (table.trials[0], table.x[0]) == (3, 11)


def going_on_fails(tmp_path, **keywords):
    return refused(JobStreamError, log=tmp_path / "trials.jsonl", resume=True, **keywords)


def test_a_log_with_other_parameters_is_refused(resumed, tmp_path):
    resumed({"a": [1]})
    text = going_on_fails(tmp_path, variables={"a": [1], "b": [2]})
    assert "trials.jsonl, line 1 has the parameters ['a'], this sweep ['a', 'b']" in text


def test_a_log_without_any_trial_of_this_sweep_is_refused(resumed, tmp_path):
    resumed({"a": [1]})
    text = going_on_fails(tmp_path, variables={"a": [5]})
    assert "none of its 3 trials has parameters of this sweep" in text


@pytest.mark.parametrize(("before", "now"), [(1, 2), (1, None), (None, 1)])
def test_a_log_with_another_seed_is_refused(resumed, tmp_path, before, now):
    resumed({"a": [1]}, seed=before)
    text = going_on_fails(tmp_path, seed=now)
    assert f"trials.jsonl, line 1: this trial was made with seed={before}, but the sweep has seed={now}" in text
    assert f"give seed={before} to go on, or log= another name" in text


def test_a_seed_of_another_type_is_the_same_seed(resumed):
    resumed({"a": [1]}, seed=np.int64(7))
    _, made = resumed({"a": [1]}, seed=7)
    assert made == []


def first_stage(id, trial, a):
    return {"x": a + trial}


def other_stage(id, trial, a):
    return {"x": 2 * a + trial}


def test_a_log_of_stages_with_other_code_is_told(tmp_path, capfd):
    keywords = {"log": tmp_path / "trials.jsonl", "resume": True}
    for stage, trials in ((first_stage, 3), (first_stage, 4)):
        swept({"a": [1]}, stage, trials=trials, **keywords)
    assert "WARNING" not in capfd.readouterr().err
    table = swept({"a": [1]}, other_stage, trials=5, **keywords).table
    warning = capfd.readouterr().err
    assert f"4 of the 4 trials in {tmp_path / 'trials.jsonl'} (line 1 is the first)" in warning
    assert "made with other code of the stages than there is now, and are taken as they are" in warning
    assert table.x[0] == (1 + 2 + 3 + 4 + 6) / 5
    swept({"a": [1]}, first_stage, trials=5, **keywords)
    assert "1 of the 5 trials in" in capfd.readouterr().err


def commented(id, trial, a):  # as the first one
    # nothing is different
    return {
        "x": a + trial,
    }


def body_of(function):
    return source_of(function).partition("\n")[2]


def test_comments_and_layout_make_no_other_code():
    assert body_of(commented) == body_of(first_stage) != body_of(other_stage)


def test_the_code_of_a_partial_function_is_that_of_the_function():
    assert source_of(functools.partial(first_stage, a=2)) == source_of(first_stage)


def test_the_keywords_of_a_stage_belong_to_its_code():
    def decorated(**keywords):
        return lambda function: function

    @decorated(emit=lambda store: store.x + 1)
    def stage(store):
        pass

    assert "store.x + 1" in source_of(stage)


@pytest.mark.parametrize("function", [len, eval("lambda id, trial: {}")], ids=["built in", "typed in"])
def test_what_has_no_source_has_no_code(function):
    assert source_of(function) == ""


def test_a_lambda_in_the_middle_of_a_statement_has_code(tmp_path):
    (function,) = [
        lambda id, trial: {"x": trial + 1},
    ]
    assert "trial + 1" in source_of(function)


def test_a_stage_that_gives_other_values_than_the_log_has_is_refused(resumed):
    resumed({"a": [1]})
    with pytest.raises(PlanError, match="lacks 'x' and has a new 'y', unlike trials before it"):
        resumed({"a": [1]}, lambda id, trial, a: {"y": 1}, trials=4)


@pytest.mark.parametrize("line", ["{", "[]", '{"id": 0}', '{"id": "0", "trial": 0, "parameters": {}, "values": {}}'])
def test_a_line_that_is_no_trial_is_named(resumed, tmp_path, line):
    resumed({"a": [1]})
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() + line + "\n")
    assert f"{path}, line 4 is no trial of a sweep" in going_on_fails(tmp_path)


FOREIGN = {
    "a table": 'a,b\n1,2\nthe last line has no newline',
    "one line of text": "precious",
    "one line of JSON": '{"precious": "one line of JSON"}',
    "JSON that begins like a trial": '{"id": 5, "name": "precious"}',
    "the beginning of other JSON": '{"id": 5, "name": "prec',
    "a number": "12",
    "zeros": "\0" * 100,
    "lines": "one\ntwo\n",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_file_that_is_no_log_is_refused_and_stays_as_it_was(tmp_path, text):
    path = tmp_path / "log"
    path.write_text(text)
    said = refused(JobStreamError, log=path, resume=True, trials=3)
    assert f"{path}, line 1 is no trial of a sweep" in said
    assert path.read_text() == text


@pytest.mark.parametrize("tail", [text for text in FOREIGN.values() if text.strip("\0")], ids=lambda text: text[:9])
def test_what_somebody_has_added_to_a_log_is_told_and_stays(resumed, tmp_path, tail):
    resumed({"a": [1]})
    path = tmp_path / "trials.jsonl"
    path.write_text(before := path.read_text() + tail)
    assert f"{path}, line 4 is no trial of a sweep" in going_on_fails(tmp_path)
    assert path.read_text() == before


@pytest.mark.parametrize("change", [{"seed": 9}, {"variables": {"b": [1]}}, {"variables": {"a": [9]}}])
def test_the_log_of_another_sweep_stays_as_it_was(resumed, tmp_path, change):
    resumed({"a": [1]})
    path = tmp_path / "trials.jsonl"
    path.write_text(before := path.read_text()[:-9])
    with pytest.raises(JobStreamError):
        swept(**{"variables": {"a": [1]}, "log": path, "resume": True, **change})
    assert path.read_text() == before


@pytest.mark.parametrize("zeros", [1, 5000])
def test_zeros_that_a_power_failure_left_at_the_end_of_a_log_are_cut_off(resumed, tmp_path, zeros):
    resumed({"a": [1]})
    path = tmp_path / "trials.jsonl"
    whole = path.read_text()
    path.write_text(whole + "\0" * zeros)
    assert resumed({"a": [1]})[1] == []
    assert path.read_text() == whole


def test_a_log_of_two_kinds_of_sweep_is_refused(resumed, tmp_path):
    resumed({"a": [1]})
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() + path.read_text().replace('"x"', '"y"'))
    assert "line 4 has the values ['y'], line 1 ['x']" in going_on_fails(tmp_path)


# --- the picture ------------------------------------------------------------------------------------------------------


def picture(tmp_path, variables, stage=None, name="sweep.png"):
    """The bytes of the plot of a sweep."""
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    swept(variables, stage, plot=path)
    return path.read_bytes()


def drawn(monkeypatch, tmp_path, variables, stage=None):
    """The axes of the plot of a sweep."""
    figure = pytest.importorskip("matplotlib.figure")
    figures = []
    save = figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *rest: figures.append(self) or save(self, *rest))
    picture(tmp_path, variables, stage)
    return figures[0].axes


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a.jpg", b"\xff\xd8")]
)
def test_the_suffix_of_the_plot_says_its_format(tmp_path, name, start):
    assert picture(tmp_path, {"a": [1, 2]}, name=name).startswith(start)


def test_one_parameter_makes_a_curve_with_error_bars(monkeypatch, tmp_path):
    (axes,) = drawn(monkeypatch, tmp_path, {"a": [4, 1, 2]})
    (bars,) = axes.containers
    assert bars[0].get_xydata().tolist() == [[1, 2], [2, 3], [4, 5]]
    half = 4.3027 / math.sqrt(3)
    ((low, high), *_) = (segment[:, 1] for segment in bars[2][0].get_segments())
    assert (low, high) == (pytest.approx(2 - half, rel=1e-4), pytest.approx(2 + half, rel=1e-4))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "x")


@pytest.mark.parametrize(("last", "scale"), [(50, "linear"), (1000, "log")])
def test_values_of_very_different_size_stand_on_a_logarithmic_axis(monkeypatch, tmp_path, last, scale):
    (axes,) = drawn(monkeypatch, tmp_path, {"a": [1, 10, last]})
    assert axes.get_xscale() == scale


def test_names_stand_on_the_axis_of_values_that_are_no_numbers(monkeypatch, tmp_path):
    (axes,) = drawn(monkeypatch, tmp_path, {"a": ["slow", "fast"]}, lambda id, trial, a: {"x": len(a)})
    assert [label.get_text() for label in axes.get_xticklabels()] == ["slow", "fast"]


def test_two_parameters_make_a_heat_map(monkeypatch, tmp_path):
    axes, bar = drawn(monkeypatch, tmp_path, {"a": [20, 10], "b": [1, 2, 3]})
    assert axes.images[0].get_array().tolist() == [[12, 22], [13, 23], [14, 24]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "20"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3"]
    assert "12\n±2.5" in {text.get_text() for text in axes.texts}
    assert bar.get_ylabel() == "x"


def test_not_all_of_many_values_are_named_on_an_axis(monkeypatch, tmp_path):
    names = [f"n{i:02}" for i in range(30)]
    table = {"a": range(100, 140), "b": names}
    axes, _ = drawn(monkeypatch, tmp_path, table, lambda id, trial, a, b: {"x": a})
    assert axes.images[0].get_array().shape == (30, 40)
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(a) for a in range(100, 140, 4)]
    assert axes.get_xticks().tolist() == list(range(0, 40, 4))
    assert [label.get_text() for label in axes.get_yticklabels()] == names[::3]


def test_two_parameters_that_make_no_grid_are_points(monkeypatch, tmp_path):
    points = [{"a": 1, "b": 2}, {"a": 3, "b": 5}, {"a": 4, "b": 4}]
    axes, _ = drawn(monkeypatch, tmp_path, points)
    assert axes.collections[0].get_offsets().tolist() == [[1, 2], [3, 5], [4, 4]]
    assert axes.collections[0].get_array().tolist() == [4, 9, 9]


def test_more_parameters_have_a_panel_each_and_values_a_row_each(monkeypatch, tmp_path):
    axes = drawn(
        monkeypatch,
        tmp_path,
        {"a": [0, 10], "b": [1, 3], "c": [100]},
        lambda id, trial, a, b, c: {"sum": a + b + c, "product": a * b * c},
    )
    assert [(panel.get_xlabel(), panel.get_ylabel()) for panel in axes] == [
        (name, value) for value in ("sum", "product") for name in "abc"
    ]
    assert axes[0].containers[0][0].get_xydata().tolist() == [[0, 102], [10, 112]]
    assert axes[1].containers[0][0].get_xydata().tolist() == [[1, 106], [3, 108]]


def test_parameters_of_any_kind_can_be_drawn(tmp_path):
    variables = {"a": [[1, 2], None], "b": [True, False], "c": [1.5, 2]}
    assert picture(tmp_path, variables, lambda id, trial, a, b, c: {"x": math.nan if b else c})


def test_a_combination_without_a_result_is_left_out_of_the_plot(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    swept({"a": [0]}, lambda id, trial, a: {"x": 1 / a}, onError="skip", plot=tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("keywords", "phrase"),
    [
        ({"plot": "sweep.pnng"}, "; did you mean '.png'?"),
        ({"plot": "sweep"}, "has the suffix '', which is none of"),
        ({"plot": "sweep.png", "variables": {}}, "needs at least one variable"),
    ],
    ids=str,
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_any_work(tmp_path, keywords, phrase):
    pytest.importorskip("matplotlib")
    assert phrase in refused(**{**keywords, "plot": tmp_path / keywords["plot"]})


# --- libraries that are missing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("library", "keywords", "purpose"),
    [
        ("scipy", {}, "a sweep"),
        ("pandas", {}, "a sweep"),
        ("pyarrow", {"output": "table.parquet"}, "output 'table.parquet'"),
        ("matplotlib", {"plot": "sweep.png"}, "plot 'sweep.png'"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_command(monkeypatch, tmp_path, library, keywords, purpose):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    text = refused(ImportError, **keywords)
    assert text == f"{purpose} needs {library}: install with  pip install 'job_stream[sweep]'"
