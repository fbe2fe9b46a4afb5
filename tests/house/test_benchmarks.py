"""What the benchmarks' harness promises: fair turns, honest values and verdicts, and a report that hides nothing.

Nothing is timed here: contenders are functions that give the readings of a script. Only the workloads on ranks are run,
at their smallest size, to see that their programs work and give right answers under mpirun.
"""

import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from support import DEADLINE_S, REPOSITORY, SCRIPT_MARK, marked, wait_until

sys.path.insert(0, str(REPOSITORY))

from benchmarks.__main__ import main, make_parser
from benchmarks.budgets import Better, Budget, Verdict
from benchmarks.builds.chains import LENGTH, expected
from benchmarks.contenders import WrongAnswer, clock, expect
from benchmarks.harness import SUBJECT, Case, Contender, Outcome, Pace, Race, Settings, Size, Workload, run_race
from benchmarks.metrics import cost, efficiency, rate
from benchmarks.peers import Peer, find_peers
from benchmarks.ranks import launch
from benchmarks.report import make_lines, render_number, render_table, to_json
from benchmarks.workloads import ALL, arrays, builds, ranks

SPEED = rate("speed", "items/s")
THREE_TIMES = Settings(repeat=3)


def scripted(tool: str, *readings: float, startups: tuple[float, ...] = (), work: float = 100.0) -> Contender:
    """A contender with these readings, one for each repetition."""
    left, left_startups = iter(readings), iter(startups)
    return Contender(tool, work, lambda: next(left), (lambda: next(left_startups)) if startups else None)


def run(case: Case, *contenders: Contender, settings: Settings = THREE_TIMES) -> Outcome:
    return run_race(Race(case, contenders), settings, lambda text: None)


def always(tool: str, reading: float) -> Contender:
    return scripted(tool, reading, reading, reading)


def table_row(table: str, start: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(start))


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [(0.9, Verdict.MISSED), (1.0, Verdict.REACHED), (1.9, Verdict.REACHED), (2.0, Verdict.AIM)],
)
def test_more_is_better_for_a_speed(figure: float, verdict: Verdict) -> None:
    assert Budget(at_least=1.0, aim=2.0).judge(figure, Better.HIGHER) is verdict


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [(3.1, Verdict.MISSED), (3.0, Verdict.REACHED), (1.6, Verdict.REACHED), (1.5, Verdict.AIM)],
)
def test_less_is_better_for_a_cost(figure: float, verdict: Verdict) -> None:
    assert Budget(at_least=3.0, aim=1.5).judge(figure, Better.LOWER) is verdict


def test_a_budget_without_a_promise_is_never_missed() -> None:
    assert Budget(aim=2.0).judge(1.0, Better.HIGHER) is Verdict.BELOW_AIM


def test_a_budget_without_an_aim_is_reached_at_best() -> None:
    assert Budget(at_least=2.0).judge(100.0, Better.HIGHER) is Verdict.REACHED


def test_without_a_figure_there_is_no_verdict() -> None:
    assert Budget(at_least=2.0).judge(None, Better.HIGHER) is Verdict.UNKNOWN


def test_a_budget_against_a_peer_is_about_the_ratio_of_the_values() -> None:
    outcome = run(Case("w", SPEED, (Budget(at_least=0.5, against="pool"),)), always("job_stream", 4), always("pool", 1))
    (line,) = make_lines([outcome])
    assert (line.figure, line.verdict) == (0.25, Verdict.MISSED)


@pytest.mark.parametrize("others", [[], ["joblib"]])
def test_a_budget_against_a_peer_that_is_not_there_has_no_verdict(others: list[str]) -> None:
    case = Case("w", SPEED, (Budget(at_least=0.5, against="pool"),))
    (line,) = make_lines([run(case, always("job_stream", 4), *(always(other, 1) for other in others))])
    assert line.verdict is Verdict.UNKNOWN


# --- turns and values -------------------------------------------------------------------------------------------------


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    def note(turn: str) -> float:
        turns.append(turn)
        return 1.0

    run(
        Case("w", SPEED),
        Contender("job_stream", 1.0, lambda: note("job_stream"), lambda: note("start-up")),
        Contender("pool", 1.0, lambda: note("pool")),
    )
    assert turns == ["start-up", "job_stream", "pool"] * 3


def test_a_value_is_made_of_the_median() -> None:
    outcome = run(Case("w", SPEED), scripted("pool", 50.0, 2.0, 1.0))
    assert outcome.values == {"pool": 50.0}
    assert outcome.scores["pool"].record.readings == [50.0, 2.0, 1.0]


def test_the_median_of_the_start_ups_is_taken_off_the_median_of_the_runs() -> None:
    contender = scripted("job_stream", 2.0, 90.0, 1.0, startups=(0.4, 30.0, 0.1))
    score = run(Case("w", SPEED), contender).scores["job_stream"]
    assert score.value == pytest.approx(100 / 1.6)
    assert score.with_startup == pytest.approx(100 / 2.0)
    assert not score.uncertain


def test_a_run_that_is_mostly_start_up_is_marked_and_stays_finite() -> None:
    contender = scripted("job_stream", 1.0, 1.0, 1.0, startups=(1.5, 1.5, 1.5))
    score = run(Case("w", SPEED), contender).scores["job_stream"]
    assert score.uncertain
    assert score.value == pytest.approx(100 / 0.1)


@pytest.mark.parametrize(
    ("metric", "value"), [(rate("m", "u", 1e3), 0.025), (cost("m", "u", 1e-3), 40.0), (efficiency(2), 1250.0)]
)
def test_a_metric_makes_a_value_of_reading_and_work(metric, value: float) -> None:
    assert metric.convert(4.0, 100.0) == pytest.approx(value)


def test_a_contender_that_raises_leaves_the_others_running() -> None:
    def fail() -> float:
        attempts.append(1)
        raise OSError("no such pool")

    attempts: list[int] = []
    outcome = run(Case("w", SPEED), Contender("joblib", 1.0, fail), always("pool", 1.0))
    assert outcome.scores["joblib"].record.error == "OSError: no such pool"
    assert outcome.values == {"pool": 100.0}
    assert len(attempts) == 1


def test_a_contender_that_takes_too_long_leaves_the_race() -> None:
    forever = Contender("joblib", 1.0, lambda: float(Event().wait()))
    outcome = run(Case("w", SPEED), forever, settings=Settings(repeat=1, timeout_s=0.01))
    assert outcome.scores["joblib"].record.error.startswith("TimeoutError")


def test_a_wrong_answer_is_an_error() -> None:
    with pytest.raises(WrongAnswer, match=r"expected \[1, 2\], got \[2, 1\]"):
        clock(lambda: [2, 1], expect([1, 2]))


def test_sums_of_arrays_may_differ_in_their_last_digits() -> None:
    check = arrays.expect_sums([2.0, 3.0])
    check([3.0000000000000004, 2.0])
    for wrong in ([2.0, 3.000001], [2.0]):
        with pytest.raises(WrongAnswer):
            check(wrong)


def test_short_runs_are_repeated_more_and_slow_ones_less() -> None:
    quick = Settings(size=Size.QUICK)
    assert quick.repetitions(Pace.SHORT) > quick.repetitions(Pace.NORMAL) > quick.repetitions(Pace.SLOW)
    assert {replace(quick, repeat=7).repetitions(pace) for pace in Pace} == {7}


def test_at_full_size_everything_is_repeated_at_least_three_times() -> None:
    assert min(Settings().repetitions(pace) for pace in Pace) >= 3


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_table_shows_values_ratio_bounds_and_verdict() -> None:
    case = Case("noop", SPEED, (Budget(at_least=0.5, aim=1.0, against="pool"),), name="small")
    outcome = run(case, scripted("job_stream", *[2.0] * 3, startups=(0.4,) * 3), always("pool", 1.0))
    row = table_row(render_table([outcome], ["joblib", "pool"]), "noop small").split("  ")
    assert [cell.strip() for cell in row if cell] == [
        "noop small",
        "speed",
        "items/s",
        "62.5",
        "50",
        "-",
        "100",
        "-",
        "0.625x pool",
        ">= 0.5x pool",
        ">= 1x pool",
        "reached",
    ]


def test_each_budget_of_a_case_has_its_line() -> None:
    case = Case("w", SPEED, (Budget(at_least=1.0), Budget(at_least=2.0, against="pool")))
    table = render_table([run(case, always("job_stream", 1.0), always("pool", 1.0))], ["pool"])
    assert [line.split()[-1] for line in table.splitlines() if line.startswith("w ")] == ["reached", "MISSED"]


def test_an_error_of_job_stream_is_shown_in_the_table_and_told_below() -> None:
    def fail() -> float:
        raise ImportError("No module named 'job_stream'")

    case = Case("w", SPEED, (Budget(at_least=1.0),))
    table = render_table([run(case, Contender("job_stream", 1.0, fail))], [])
    assert table_row(table, "w ").split()[-1] == "error"
    assert "w, job_stream: ImportError: No module named 'job_stream'" in table


def test_contenders_without_a_column_are_references() -> None:
    table = render_table([run(Case("w", SPEED), always("pool", 1.0), always("serial", 4.0))], ["pool"])
    assert "serial 25" in table_row(table, "w ")


def test_notes_are_told_once() -> None:
    cases = [Case("w", SPEED, name=name, notes=("w: a note",)) for name in "ab"]
    assert render_table([run(case, always("pool", 1.0)) for case in cases], ["pool"]).count("w: a note") == 1


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.01234, "0.0123"), (1.5, "1.5"), (99.96, "100"), (300000.0, "300,000")]
)
def test_numbers_have_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert render_number(value) == text


def test_the_json_keeps_every_reading() -> None:
    case = Case("w", SPEED, (Budget(at_least=1.0),))
    contender = scripted("job_stream", 1.0, 2.0, 3.0, startups=(0.1, 0.2, 0.3))
    told = json.loads(json.dumps(to_json([run(case, contender)], THREE_TIMES, {"cores": 2})))
    assert told["machine"] == {"cores": 2}
    assert told["settings"]["size"] == "full"
    (measured,) = told["cases"]
    assert measured["tools"]["job_stream"]["readings"] == [1.0, 2.0, 3.0]
    assert measured["tools"]["job_stream"]["startup_readings"] == [0.1, 0.2, 0.3]
    assert measured["budgets"][0]["verdict"] == "reached"


@pytest.mark.libraries
@pytest.mark.filterwarnings("default")  # what matplotlib warns of is not ours
def test_the_chart_is_drawn_also_of_a_case_that_failed(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.chart import draw_chart

    def fail() -> float:
        raise OSError

    case = Case("w", SPEED, (Budget(at_least=1.0, aim=2.0, against="pool"),))
    good = run(case, always("job_stream", 1.0), always("pool", 500.0))
    bad = run(Case("v", SPEED), Contender("job_stream", 1.0, fail))
    draw_chart([good, bad], "title", tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


# --- ranks ------------------------------------------------------------------------------------------------------------

SMOKE = Settings(size=Size.SMOKE, repeat=1, timeout_s=60.0)
NO_RANKS = launch.why_not()
NEEDS_DEATHS = "ranks-death"
# Leaves a process outside of its process group, tells which, and does what is put in its place.
LEAVES_ONE = """
import os, signal, subprocess, sys
left = subprocess.Popen(["sleep", "600"], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open(sys.argv[1], "w") as file:
    file.write(str(left.pid))
"""


def told_by_ranks(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, object]) -> list[dict[str, object]]:
    """Let ranks tell these, launch by launch; returns the keywords of the launches so far."""
    launches: list[dict[str, object]] = []

    def run_ranks(_ranks: int, _module: str, _program: str, **keywords: object) -> dict[str, object]:
        launches.append(keywords)
        return answers[len(launches) - 1]

    monkeypatch.setattr(ranks, "run_ranks", run_ranks)
    return launches


def living(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "environ").read_bytes() != b""
    except OSError:
        return False


@pytest.mark.skipif(bool(NO_RANKS), reason=NO_RANKS)
@pytest.mark.parametrize("workload", ranks.RANK_WORKLOADS, ids=lambda workload: workload.name)
def test_on_ranks_everybody_gives_the_right_answer(workload: Workload) -> None:
    if workload.name == NEEDS_DEATHS and launch.why_not(tolerant=True):
        pytest.skip(launch.why_not(tolerant=True))
    races = iter(workload.build(SMOKE, []))  # its files are there as long as it is
    race = next(races)
    once = [contender for contender in race.contenders if not contender.tool.startswith(f"{ranks.FUTURES} ")]
    outcome = run_race(Race(race.case, once), SMOKE, lambda text: None)
    assert {tool: score.record.error for tool, score in outcome.scores.items()} == {
        contender.tool: "" for contender in once
    }
    assert SUBJECT in outcome.values


@pytest.mark.skipif(bool(NO_RANKS), reason=NO_RANKS)
@pytest.mark.parametrize("module", ["ours", "futures"])
def test_a_program_that_fails_on_ranks_is_an_error_with_its_exception(module: str) -> None:
    with pytest.raises(RuntimeError, match=r"TypeError: .*'float' and 'str'"):
        launch.run_ranks(2, f"benchmarks.ranks.{module}", "tasks", durations=["soon"])


def test_where_ranks_cannot_be_started_the_table_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "why_not", lambda tolerant: "there is no mpirun")
    outcomes = [
        run_race(race, SMOKE, lambda text: None)
        for workload in ranks.RANK_WORKLOADS
        for race in workload.build(SMOKE, [])
    ]
    table = render_table(outcomes, [])
    for workload in ranks.RANK_WORKLOADS:
        assert f"{workload.name}: left out, there is no mpirun." in table


def test_one_launch_tells_the_run_and_its_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [{"reading": reading, "startup": startup, "answer": 1} for reading, startup in ((3.0, 1.0), (9.0, 2.0))]
    launches = told_by_ranks(monkeypatch, *told)
    record = (
        run(Case("w", SPEED), ranks.ours(1.0, expect(1), "noop"), settings=Settings(repeat=2)).scores[SUBJECT].record
    )
    assert (record.readings, record.startups) == ([3.0, 9.0], [1.0, 2.0])
    assert len(launches) == 2


@pytest.mark.parametrize("contender", [ranks.ours, ranks.futures])
def test_a_wrong_answer_of_ranks_is_an_error(contender, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by_ranks(monkeypatch, {"reading": 1.0, "startup": 0.5, "answer": 2})
    (score,) = run(Case("w", SPEED), contender(1.0, expect(1), "noop")).scores.values()
    assert score.record.error == "WrongAnswer: expected 1, got 2"


def test_a_rank_is_killed_after_half_of_the_undisturbed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    launches = told_by_ranks(monkeypatch, {"reading": 8.0, "answer": 1}, {"reading": 9.0, "answer": 1})
    monkeypatch.setattr(ranks.Path, "exists", lambda path: True)
    (race,) = ranks.build_death(SMOKE)
    assert run_race(race, SMOKE, lambda text: None).values == {ranks.UNDISTURBED: 8.0, SUBJECT: 9.0}
    assert [keywords.get("kill_after_s") for keywords in launches] == [None, 4.0]


def test_a_run_that_was_over_before_the_kill_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    told_by_ranks(monkeypatch, {"reading": 8.0, "answer": 1}, {"reading": 3.0, "answer": 1})
    (race,) = ranks.build_death(SMOKE)
    assert "no rank was killed" in run_race(race, SMOKE, lambda text: None).scores[SUBJECT].record.error


def test_nothing_is_left_of_a_launch(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    assert launch.run_marked([sys.executable, "-c", f"{LEAVES_ONE}print('done')", str(note)]) == (0, "done\n", "")
    assert not living(int(note.read_text()))


def test_nothing_is_left_of_a_launch_that_is_interrupted(tmp_path: Path) -> None:
    def interrupt(_signal: int, _frame: object) -> None:
        raise TimeoutError

    note = tmp_path / "pid"
    before = signal.signal(signal.SIGUSR1, interrupt)
    text = f"{LEAVES_ONE}os.kill({os.getpid()}, signal.SIGUSR1)\nsignal.pause()"
    try:
        with pytest.raises(TimeoutError):
            launch.run_marked([sys.executable, "-c", text, str(note)])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not living(int(note.read_text()))


# --- builds -----------------------------------------------------------------------------------------------------------


def test_builds_are_right_whatever_has_changed() -> None:
    told = {race.case.name: run_race(race, SMOKE, lambda text: None) for race in builds.build(SMOKE, [])}
    jobs = f"{2 * LENGTH} jobs"
    assert list(told) == [
        *(f"{change.name}, {jobs}" for change in builds.CHANGES), f"{builds.NEW.name}, {jobs}, {builds.PLAIN}",
    ]  # fmt: skip
    scores = {(name, tool): score for name, outcome in told.items() for tool, score in outcome.scores.items()}
    assert {key: score.record.error for key, score in scores.items() if score.record.error} == {}
    assert {tool for _, tool in scores} >= {SUBJECT, builds.PLAIN}


def test_a_build_that_does_not_notice_an_edit_is_wrong(tmp_path: Path) -> None:
    def make_once(folder: Path, count: int) -> None:
        for chain, text in enumerate(expected(folder, count)):
            end = folder / "made" / f"{chain}_{LENGTH - 1}.txt"
            end.write_text(text if not end.exists() else end.read_text(encoding="utf-8"), encoding="utf-8")

    project = builds.Project(tmp_path, 2, make_once)
    changes = {change.name: change for change in builds.CHANGES}
    assert builds.measure(project, changes["one touched"]) > 0
    with pytest.raises(WrongAnswer):
        builds.measure(project, changes["one edited"])


# --- the command line and the parts it finds --------------------------------------------------------------------------


def test_the_list_names_every_workload(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [workload.name for workload in ALL]


def test_only_takes_names_in_the_order_of_the_table() -> None:
    options = make_parser().parse_args(["--only", "skew,noop_map"])
    assert [workload.name for workload in options.only] == ["noop_map", "skew"]


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--repeat", "0"], ["--quick", "--smoke"]])
def test_arguments_that_make_no_sense_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(arguments)
    assert capsys.readouterr().err


def test_every_module_of_the_peers_folder_is_found() -> None:
    assert [peer.name for peer in find_peers()] == ["dask", "executor", "joblib", "pool", "ray"]


# --- the peers themselves ---------------------------------------------------------------------------------------------

PEERS = [
    pytest.param(peer, id=peer.name, marks=pytest.mark.skipif(not peer.available(), reason=f"no {peer.name} here"))
    for peer in find_peers()
]
# A process of its own for each: some peers start threads, or fork, or warn.
PEER_SCRIPT = """
import sys
from benchmarks.peers import find_peer, started
from benchmarks.tasks import unchanged

if __name__ == "__main__":
    with started(find_peer(sys.argv[1]), 2) as peer:
        print(peer.map(unchanged, range(25)))
        for chunk in (1, 10):
            handled = []
            peer.stream(unchanged, iter(range(25)), handled.append, chunk)
            print(sorted(handled))
"""


def run_marked_script(path: Path, text: str, *arguments: str) -> str:
    """What a script prints; when it has ended well, all that it has started must end, too."""
    path.write_text(text, encoding="utf-8")
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        env={**os.environ, SCRIPT_MARK: mark, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not marked(mark), "the processes of a peer to end")
    return done.stdout


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_maps_in_order_and_hands_over_every_result(peer: type[Peer], tmp_path: Path) -> None:
    printed = run_marked_script(tmp_path / "peer.py", PEER_SCRIPT, peer.name)
    assert printed.splitlines() == [str(list(range(25)))] * 3


@pytest.mark.parametrize("peer", PEERS)
def test_the_smallest_script_of_a_peer_prints_its_result(peer: type[Peer], tmp_path: Path) -> None:
    assert run_marked_script(tmp_path / "smallest.py", peer.startup_script.format(workers=2)) == "[42]\n"


# --- what libraries are handed ----------------------------------------------------------------------------------------


def test_what_libraries_are_handed_is_raced(tmp_path: Path) -> None:
    script = "import sys\nfrom benchmarks.__main__ import main\n\nif __name__ == '__main__':\n    main(sys.argv[1:])\n"
    results = tmp_path / "results.json"
    run_marked_script(tmp_path / "race.py", script, "--smoke", "--only", "futures", "--json", str(results))
    outcomes = json.loads(results.read_text(encoding="utf-8"))["cases"]
    errors = {(outcome["case"], tool): score["error"] for outcome in outcomes
              for tool, score in outcome["tools"].items() if score["error"]}  # fmt: skip
    assert errors == {}
    assert {"round trip", "submits", "Pool.map", "first result"} <= {outcome["case"] for outcome in outcomes}
