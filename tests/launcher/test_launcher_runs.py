"""Real runs of the command line: under mpirun, with programs that end, crash, hang and are interrupted."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

import pytest
from launcher_support import Command, needs_mpirun, needs_open_mpi, remote, run, script
from mpi_support import clean_environment, pythons
from support import Gate, Tally, wait_until

from job_stream.launcher import command as commands
from job_stream.launcher import run as running
from job_stream.launcher.command import LaunchPlan, alone
from job_stream.launcher.mpirun import OPEN_MPI, Mpirun, find_mpirun, folder_variable
from job_stream.launcher.run import LaunchedRun
from job_stream.launcher.signal_queue import SignalQueue

pytestmark = needs_mpirun
each_mpi = pytest.mark.parametrize("python", pythons())

SUM = """
    from job_stream import Work

    w = Work(range(100), checkpointInterval=0.05)

    @w.job
    def square(number):
        time.sleep(0.005)
        return number**2

"""


# --- ranks --------------------------------------------------------------------------------------------------------
@each_mpi
def test_ranks_are_one_world(tmp_path, python):
    text = """
    from job_stream.ranks.world import world

    print(len(w.run() or ()))
    print(world().size)
    """
    path = script(tmp_path, SUM + text)
    ended = run(tmp_path, "-n", "2", "--", python, path, python=python)
    assert ended.code == 0, ended.err
    assert sorted(ended.out.split()) == ["0", "100", "2", "2"]


@each_mpi
@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}])
def test_ranks_started_from_a_batch_script_or_the_shell_of_salloc_are_one_world(tmp_path, python, step):
    """Both look much like a task of srun, but the ranks are those that are started here."""
    env = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4", **step}
    path = script(tmp_path, "from job_stream.ranks.world import world; print(world().size)")
    ended = run(tmp_path, "-n", "2", "--", python, path, env=env, python=python)
    assert (ended.code, ended.out) == (0, "2\n2\n"), ended.err


@each_mpi
@pytest.mark.parametrize("code", [0, 3, 75])
def test_the_exit_status_is_that_of_the_program(tmp_path, python, code):
    path = script(tmp_path, f"sys.exit({code} if rank == 0 else 0)")
    assert run(tmp_path, "-n", "2", "--", python, path, python=python).code == code


@each_mpi
def test_a_rank_that_is_killed_is_named(tmp_path, python):
    path = script(tmp_path, SUM + "    w.result(lambda number: die())\n    w.run()")
    ended = run(tmp_path, "-n", "2", "--", python, path, python=python)
    assert ended.code == 137
    assert "job_stream: rank 0 (process " in ended.err
    assert "was killed by SIGKILL" in ended.err


@each_mpi
def test_an_exception_gives_1_and_a_traceback(tmp_path, python):
    path = script(tmp_path, SUM + "    w.job(lambda number: 1 // (number - 49))\n    w.run()")
    ended = run(tmp_path, "-n", "2", "--", python, path, python=python)
    assert ended.code == 1
    assert "ZeroDivisionError" in ended.err


@each_mpi
def test_ranks_have_an_empty_input(tmp_path, python):
    path = script(tmp_path, "print(rank, repr(sys.stdin.read()))")
    ended = run(tmp_path, "-n", "2", "--", python, path, python=python)
    assert sorted(ended.out.splitlines()) == ["0 ''", "1 ''"]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_early_ends_all(tmp_path, failing):
    """Open MPI's launcher may crash or hang then."""
    path = script(tmp_path, SUM + f"    os._exit(5) if rank == {failing} else w.run()")
    assert run(tmp_path, "-n", "2", "--", sys.executable, path).code == 5


@pytest.mark.parametrize("code", [0, 3, 75])
def test_one_rank_is_the_program_itself(tmp_path, code):
    path = script(tmp_path, f"print(os.getpid()); sys.exit({code})")
    with Command(tmp_path, "--", sys.executable, path) as command:
        ended = command.ended()
    assert ended == (code, f"{command.process.pid}\n", "")


def test_the_checkpoint_reaches_the_program(tmp_path):
    path = script(tmp_path, "print(os.environ['JOBS_CHECKPOINT'])")
    assert run(tmp_path, "--checkpoint", "state", "--", sys.executable, path).out == f"{tmp_path / 'state'}\n"


def test_lanes_of_a_host_are_those_that_are_asked_for(tmp_path):
    path = script(tmp_path, SUM + "    w.run(); print(__import__('job_stream').getHostCpuCount())")
    ended = run(tmp_path, "--host", "localhost", "cpus=3", "--", sys.executable, path)
    assert ended == (0, "3\n", "")


@each_mpi
def test_each_host_has_a_rank_with_its_lanes_and_the_environment(tmp_path, python):
    path = script(tmp_path, "print(os.uname().nodename, os.environ.get('JOBS_CPUS'), os.environ['ROSE'], sys.argv[1:])")
    (tmp_path / "hosts").write_text("alpha\nbeta cpus=3\n")
    env = {**remote(tmp_path), "ROSE": "red; $HOME"}
    ended = run(tmp_path, "--hostfile", "hosts", "--", python, path, "a b", "*", env=env, python=python)
    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == [
        "alpha None red; $HOME ['a b', '*']",
        "beta 3 red; $HOME ['a b', '*']",
    ]


@each_mpi
def test_ranks_on_hosts_are_one_world(tmp_path, python):
    path = script(tmp_path, SUM + "    print(len(w.run() or ()))")
    ended = run(tmp_path, "--host", "alpha,beta", "--", python, path, env=remote(tmp_path), python=python)
    assert sorted(ended.out.split()) == ["0", "100"]


def test_a_job_of_pbs_runs_on_all_of_its_nodes(tmp_path):
    path = script(tmp_path, "print(os.uname().nodename)")
    (tmp_path / "nodes").write_text("alpha\nalpha\nbeta\nbeta\n")
    env = {**remote(tmp_path), "PBS_NODEFILE": str(tmp_path / "nodes")}
    ended = run(tmp_path, "--", sys.executable, path, env=env)
    assert sorted(ended.out.split()) == ["alpha", "beta"]


# --- another try --------------------------------------------------------------------------------------------------
@each_mpi
def test_a_run_goes_on_from_its_checkpoint_after_a_crash(tmp_path, python):
    text = """
    Tally(here / "starts").note(rank)

    @w.result
    def show(number):
        Tally(here / "results").note(number)
        if len(Tally(here / "results")) == 50 and Once(here)():
            while not (here / "state.previous").exists():
                time.sleep(0.01)
            die()

    w.run()
    """
    path = script(tmp_path, SUM + text)
    ended = run(tmp_path, "-n", "2", "--checkpoint", "state", "--restarts", "3", "--", python, path, python=python)
    assert ended.code == 0, ended.err
    assert "starting again in 1 s (1 of 3)" in ended.err
    assert "going on from" in ended.err
    assert sorted(Tally(tmp_path / "starts").numbers()) == [0, 0, 1, 1]
    assert set(Tally(tmp_path / "results").numbers()) == {number**2 for number in range(100)}
    assert len(Tally(tmp_path / "results")) <= 101, "only the call that was under way may be repeated"


def test_tries_come_to_an_end(tmp_path):
    path = script(tmp_path, "Tally(here / 'starts').note(rank); die()")
    ended = run(tmp_path, "--checkpoint", "state", "--restarts", "1", "--", sys.executable, path)
    assert ended.code == 137
    assert len(Tally(tmp_path / "starts")) == 2


@each_mpi
def test_a_mistake_in_the_program_is_not_tried_again(tmp_path, python):
    text = """
    Tally(here / "starts").note(rank)
    w.job(lambda number: 1 // (number - 49))
    w.run()
    """
    path = script(tmp_path, SUM + text)
    ended = run(tmp_path, "-n", "2", "--checkpoint", "state", "--restarts", "3", "--", python, path, python=python)
    assert ended.code == 1
    assert len(Tally(tmp_path / "starts")) == 2
    assert "starting again" not in ended.err


@each_mpi
def test_a_run_stops_before_its_time_limit(tmp_path, python):
    path = script(tmp_path, SUM + "    w.job(lambda number: time.sleep(number) or number)\n    w.run()")
    words = ("-n", "2", "--checkpoint", "state", "--time-limit", "1", "--restarts", "2")
    ended = run(tmp_path, *words, "--", python, path, python=python)
    assert ended.code == 75, ended.err
    assert (tmp_path / "state").exists()


# --- signals ------------------------------------------------------------------------------------------------------
BUSY = (
    SUM
    + """
    @w.job
    def wait(number):
        if number == 99**2:
            while (here / "state.previous").exists() < 1:
                time.sleep(0.01)
            Gate(here / "busy").open()
            if not (here / "go on").exists():
                time.sleep(1e6)
        return number

    print(len(w.run() or ()))
"""
)


@pytest.fixture
def busy(tmp_path):
    """``busy(*words)`` is a command whose program is in the middle of its work, and has saved."""
    started = []

    def start(*words, python=sys.executable):
        path = script(tmp_path, BUSY)
        command = Command(tmp_path, "--checkpoint", "state", *words, "--", python, path, python=python)
        started.append(command)
        Gate(tmp_path / "busy").wait()
        return command

    yield start
    for command in started:
        command.__exit__()


@each_mpi
def test_sigterm_has_a_checkpoint_written_and_gives_75(busy, tmp_path, python):
    command = busy("-n", "2", python=python)
    before = (tmp_path / "state").stat().st_ino
    command.signal(signal.SIGTERM)
    assert command.ended().code == 75
    assert (tmp_path / "state").stat().st_ino != before
    command.gone()


@pytest.mark.parametrize("words", [("-n", "2"), ("--restarts", "1")])
def test_sigterm_is_no_crash(busy, words):
    command = busy(*words)
    command.signal(signal.SIGTERM)
    ended = command.ended()
    assert ended.code == 75
    assert "starting again" not in ended.err
    command.gone()


@each_mpi
def test_ctrl_c_ends_all_and_nothing_is_tried_again(busy, python):
    command = busy("-n", "2", "--restarts", "3", python=python)
    command.signal(signal.SIGINT)
    ended = command.ended()
    assert ended.code == 130
    assert "KeyboardInterrupt" in ended.err
    assert "starting again" not in ended.err
    command.gone()


@each_mpi
def test_sigusr1_has_a_checkpoint_written_and_the_run_goes_on(tmp_path, python):
    path = script(tmp_path, BUSY.replace("Interval=0.05", "Interval=1e6").replace("previous", "journal"))
    with Command(tmp_path, "-n", "2", "--checkpoint", "state", "--", python, path, python=python) as command:
        Gate(tmp_path / "busy").wait()
        command.signal(signal.SIGUSR1)
        wait_until((tmp_path / "state.previous").exists, "a checkpoint")
        assert command.process.poll() is None


@pytest.mark.parametrize("words", [("-n", "2"), ("--restarts", "1")])
def test_nothing_outlives_the_command(busy, words):
    command = busy(*words)
    command.signal(signal.SIGKILL)
    command.gone()


def test_nothing_outlives_the_command_on_other_hosts(tmp_path):
    path = script(tmp_path, "Tally(here / 'up').note(rank); time.sleep(1e6)")
    with Command(tmp_path, "--host", "alpha,beta", "--", sys.executable, path, env=remote(tmp_path)) as command:
        wait_until(lambda: len(Tally(tmp_path / "up")) == 2, "both ranks")
        command.signal(signal.SIGKILL)
        command.gone()


def test_a_second_sigterm_ends_what_does_not_listen(tmp_path):
    text = """
    signal.signal(signal.SIGTERM, lambda number, frame: Gate(here / "deaf").open())
    Tally(here / "up").note(rank)
    while True:
        time.sleep(1e6)
    """
    with Command(tmp_path, "-n", "2", "--", sys.executable, script(tmp_path, text)) as command:
        wait_until(lambda: len(Tally(tmp_path / "up")) == 2, "both ranks")
        command.signal(signal.SIGTERM)
        Gate(tmp_path / "deaf").wait()
        command.signal(signal.SIGTERM)
        assert command.ended().code in (137, 143)
        command.gone()


@needs_open_mpi
def test_the_death_of_ranks_is_survived_where_mpi_can(tmp_path):
    text = """
    import threading

    from job_stream.ranks.world import world

    def die_amid():
        Gate(here / "amid").wait()
        while world._transport is None:
            time.sleep(0.001)
        Tally(here / "dead").note(rank)
        die()

    @w.result
    def show(number):
        Gate(here / "amid").open()
        while len(Tally(here / "dead")) < 2:
            time.sleep(0.01)
        Tally(here / "results").note(number)

    if rank:
        threading.Thread(target=die_amid).start()
    w.run()
    """
    ended = run(tmp_path, "-n", "3", "--", sys.executable, script(tmp_path, SUM + text))
    assert ended.code == 0, ended.err
    assert sorted(Tally(tmp_path / "results").numbers()) == [number**2 for number in range(100)]


@needs_open_mpi
def test_a_rank_that_dies_before_it_has_joined_the_others_ends_all(monkeypatch, tmp_path):
    """MPI survives deaths, but only of ranks that have been there: for this one they would wait for ever."""
    monkeypatch.setattr(running, "FAILED_S", 0.1)
    text = """
    if rank == 1:
        die()
    from job_stream.ranks.world import world
    world()
    """
    for name, value in clean_environment().items():
        monkeypatch.setenv(name, value)
    mpirun, _ = find_mpirun()
    job = LaunchPlan((sys.executable, str(script(tmp_path, text))), ranks=3)
    with SignalQueue() as signal_queue:
        outcome = LaunchedRun(commands.command(job, mpirun), {}, 3, True, ["127.0.0.1"], signal_queue).wait()
    assert (outcome.code, outcome.is_crash) == (137, True)
    assert outcome.why.startswith("rank 1 ")


@needs_open_mpi
def test_a_rank_that_waits_for_too_long_for_another_has_all_started_again(tmp_path):
    text = """
    if rank == 1 and not (here / "tried").exists():
        (here / "tried").touch()
        time.sleep(1e6)
    print(sum(w.run() or ()))
    """
    path = script(tmp_path, SUM + text)
    words = ("-n", "2", "--checkpoint", "run", "--restarts", "1", "--", sys.executable, path)
    ended = run(tmp_path, *words, env={"JOBS_JOIN_LIMIT": "3"})
    assert ended.code == 0, ended.err
    assert sorted(ended.out.split()) == ["0", str(sum(number**2 for number in range(100)))]
    assert "rank 1 did not come" in ended.err
    assert "starting again" in ended.err


@needs_open_mpi
def test_an_mpirun_has_a_folder_of_its_own_which_one_that_was_killed_cannot_have_left(tmp_path):
    path = script(tmp_path, "print(Path(os.environ['PMIX_SERVER_TMPDIR']).parent.parent)")
    with tempfile.TemporaryDirectory() as folder:
        ended = run(tmp_path, "-n", "2", "--", sys.executable, path, env={"TMPDIR": folder})
        assert ended.code == 0, ended.err
        first, second = map(Path, ended.out.split())
        assert first == second
        assert first.parent == Path(folder)
        assert not first.exists()


def test_where_the_user_has_mpirun_keep_its_files_is_left_alone():
    mpirun = Mpirun("mpirun", OPEN_MPI, "5.0.11")
    assert folder_variable(mpirun, {})
    assert not folder_variable(mpirun, {"PRTE_MCA_prte_tmpdir_base": "/scratch"})


# --- launchers that don't end -------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", [0, 3])
def test_a_launcher_that_does_not_end_after_its_ranks_is_made_to(monkeypatch, status):
    for name in ("FAILED_S", "DONE_S", "FORCE_S"):
        monkeypatch.setattr(running, name, 0.1)
    usher = alone(LaunchPlan((sys.executable, "-c", f"raise SystemExit({status})")))
    launcher = ["sh", "-c", 'trap "" TERM; "$@"; while :; do sleep 1; done', "sh", *usher]
    with SignalQueue() as signal_queue:
        assert LaunchedRun(launcher, {}, 1, False, ["127.0.0.1"], signal_queue).wait().code == status


def test_ranks_whose_launcher_has_died_are_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(running, "FORCE_S", 0.1)
    up = tmp_path / "up"
    usher = alone(LaunchPlan(("sh", "-c", f"touch {up}; exec sleep 1000000")))
    launcher = ["sh", "-c", f'"$@" & until [ -e {up} ]; do sleep 0.01; done; kill -9 $$', "sh", *usher]
    with SignalQueue() as signal_queue:
        outcome = LaunchedRun(launcher, {}, 1, False, ["127.0.0.1"], signal_queue).wait()
    assert outcome.is_crash
    assert "mpirun ended with 137 while 1 ranks were running" in outcome.why
