"""External programs: what invoke gives, how it fails, and that nothing outlives its caller."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mpi_support import mpirun
from support import descendants, is_alive, wait_until

import job_stream
from job_stream import Work, invoke
from job_stream.errors import JobStreamError, ProgramError
from job_stream.invoke import program as program_module

PYTHON = sys.executable


def shell(text: str, *arguments: object) -> list[object]:
    """A command that runs a shell with ``$1`` and on."""
    return ["sh", "-c", text, "sh", *arguments]


def program(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


# --- what it gives ---------------------------------------------------------------------------------------------------


def test_both_streams_come_as_text():
    assert invoke(shell("echo out; echo err >&2")) == ("out\n", "err\n")


def test_arguments_are_text_bytes_paths_and_numbers(tmp_path):
    command = [PYTHON, "-c", "import sys; print(*sys.argv[1:], sep='|')", "a b", b"c", tmp_path, 3, 0.5, ""]
    assert invoke(command)[0] == f"a b|c|{tmp_path}|3|0.5|\n"


def test_no_shell_looks_at_the_arguments():
    assert invoke(["echo", "$HOME", "*", ";", "`id`"]) == ("$HOME * ; `id`\n", "")


def test_numbers_of_numpy_are_numbers():
    numpy = pytest.importorskip("numpy")
    assert invoke(["echo", numpy.float64(0.5), numpy.int32(3)])[0] == "0.5 3\n"


def test_any_amount_may_be_written_to_both_streams():
    source = """if True:
        import sys
        for _ in range(64):
            sys.stdout.write("o" * 500_000)
            sys.stderr.write("e" * 500_000)
    """
    out, err = invoke([PYTHON, "-c", source])
    assert (len(out), set(out), len(err), set(err)) == (32_000_000, {"o"}, 32_000_000, {"e"})


def test_bytes_that_are_no_text_are_shown_as_numbers():
    assert invoke(["printf", r"caf\303\251 \377 \r\n"])[0] == "café \\xff \r\n"


def test_standard_input_is_empty():
    assert invoke(["cat"]) == ("", "")


def test_a_program_that_closes_its_streams_is_waited_for(tmp_path):
    invoke(shell('exec >&- 2>&-; sleep 0.2; touch "$1"', tmp_path / "done"))
    assert (tmp_path / "done").exists()


# --- which program ---------------------------------------------------------------------------------------------------


def test_a_bare_name_is_looked_for_on_the_path(tmp_path, monkeypatch):
    program(tmp_path / "my-program", "#!/bin/sh\necho mine\n")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path}")
    assert invoke(["my-program"])[0] == "mine\n"


def test_a_relative_path_counts_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "mine", "#!/bin/sh\npwd\n")
    monkeypatch.chdir(tmp_path)
    assert invoke(["bin/mine"])[0] == f"{tmp_path}\n"


@pytest.mark.parametrize("name", ["no-such-program", "./no-such-program", "/no/such/program"])
def test_a_program_that_is_not_there(name):
    with pytest.raises(RuntimeError, match=f"^Program not found: {name} "):
        invoke([name])


def test_a_bare_name_that_is_only_in_the_working_folder(tmp_path, monkeypatch):
    program(tmp_path / "mine", "#!/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramError, match=r"Program not found: mine .*; the one in the working folder is \./mine"):
        invoke(["mine"])


def test_a_file_that_is_not_executable(tmp_path, monkeypatch):
    file = program(tmp_path / "plain-file", "text", 0o644)
    with pytest.raises(RuntimeError, match=f"{file} is not executable: chmod"):
        invoke([file])
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path}")
    with pytest.raises(RuntimeError, match=f"{file} is not executable: chmod"):
        invoke(["plain-file"])


def test_a_folder_is_no_program(tmp_path):
    with pytest.raises(ProgramError, match="not executable: it is a folder"):
        invoke([tmp_path])


@pytest.mark.parametrize(("text", "why"), [("echo\n", "no program for this machine"), ("#!/no/sh\n", "interpreter")])
def test_a_file_that_cannot_be_executed_says_why(tmp_path, text, why):
    with pytest.raises(ProgramError, match=f"could not be started.*\n.*\n.*{why}") as caught:
        invoke([program(tmp_path / "script", text)])
    assert caught.value.code is None


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("ls -l", "takes a list.*shlex.split"),
        (b"ls", "takes a list"),
        (3, "takes a list"),
        ([], "has been given no program"),
        ([""], "has been given no program"),
        ([3], "the program of invoke must be text, bytes or a path, not int"),
        (["echo", None], "argument 1 of invoke must be .* not NoneType"),
        (["echo", "a", True], "argument 2 of invoke must be .* not bool"),
        (["echo", "a\0b"], "argument 1 of invoke holds a null character"),
    ],
)
def test_a_command_that_makes_no_sense(command, problem):
    with pytest.raises((TypeError, ValueError), match=problem):
        invoke(command)


@pytest.mark.parametrize("keywords", [{"transientErrors": "busy"}, {"transientErrors": [""]}, {"transientErrors": [3]},
                                      {"maxRetries": -1}, {"maxRetries": 1.5}])  # fmt: skip
def test_a_keyword_that_makes_no_sense(keywords):
    with pytest.raises((TypeError, ValueError), match=next(iter(keywords))):
        invoke(["true"], **keywords)


# --- failures --------------------------------------------------------------------------------------------------------


def test_a_failure_names_code_command_and_the_end_of_standard_error():
    with pytest.raises(RuntimeError) as caught:
        invoke(shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo; echo the end >&2; exit 7", "a b"))
    text = str(caught.value)
    assert "failed with exit code 7" in text
    assert "sh 'a b'" in text
    assert text.endswith("xxxthe end")
    assert len(text) < 3000
    assert caught.value.code == 7


def test_a_death_by_a_signal_is_named():
    with pytest.raises(ProgramError, match="was killed by SIGSEGV") as caught:
        invoke(shell("kill -SEGV $$"))
    assert caught.value.code == -signal.SIGSEGV


def test_the_error_travels_with_its_code():
    with pytest.raises(JobStreamError) as caught:
        invoke(["false"])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.code) == (ProgramError, str(caught.value), 1)


def test_arguments_that_are_no_text_can_be_named_in_an_error():
    with pytest.raises(ProgramError, match=r"\\xff") as caught:
        invoke(shell("exit 1", b"\xff"))
    str(caught.value).encode()


def test_the_error_of_a_job_is_the_error_of_the_run():
    w = Work([1])
    w.job(lambda item: invoke(shell("echo no licence >&2; exit 3")))
    with pytest.raises(ProgramError, match="no licence") as caught:
        w.run()
    assert caught.value.code == 3


def test_an_exit_code_that_is_lost_is_no_success(start):
    script = start("""
        import signal
        from job_stream import invoke

        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            invoke(["false"])
        except RuntimeError as error:
            print(error)
    """)
    ended = script.ended()
    assert "is not known" in ended.out
    assert ended.err == ""


# --- retries ---------------------------------------------------------------------------------------------------------

FAILS_TWICE = 'echo try >> "$1"; test $(wc -l < "$1") -gt 2 && exit 0; echo "$2" >&2; exit 1'


@pytest.mark.parametrize("message", ["the disk is busy", "No child processes"])
def test_a_transient_error_is_tried_again(tally, message):
    assert invoke(shell(FAILS_TWICE, tally.path, message), ["busy"]) == ("", "")
    assert len(tally) == 3


def test_another_error_is_not_tried_again(tally):
    with pytest.raises(ProgramError, match="the disk is broken"):
        invoke(shell(FAILS_TWICE, tally.path, "the disk is broken"), ["busy"])
    assert len(tally) == 1


def test_retries_are_limited(tally):
    with pytest.raises(ProgramError, match="failed with exit code 1, tried 2 times"):
        invoke(shell(FAILS_TWICE, tally.path, "busy"), ["busy"], maxRetries=1)
    assert len(tally) == 2


def test_success_is_not_tried_again_whatever_was_written(tally):
    assert invoke(shell('echo try >> "$1"; echo busy >&2', tally.path), ["busy"]) == ("", "busy\n")
    assert len(tally) == 1


def test_a_file_that_is_still_being_written_is_tried_again(tmp_path):
    with (tmp_path / "script").open("w") as file:
        file.write("#!/bin/sh\necho done\n")
        file.flush()
        Path(file.name).chmod(0o755)
        closer = threading.Timer(0.1, file.close)
        closer.start()
        assert invoke([file.name])[0] == "done\n"
        closer.join()


def test_pauses_leave_the_random_numbers_of_the_script_alone(tally):
    random.seed(1)
    expected = random.Random(1).random()
    invoke(shell(FAILS_TWICE, tally.path, "busy"), ["busy"])
    assert random.random() == expected


# --- environment -----------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in invoke(["env", "-0"])[0].split("\0"))


@pytest.mark.parametrize(
    "name",
    [
        *("OMPI_COMM_WORLD_RANK", "OMPI_UNIVERSE_SIZE", "PMIX_RANK", "PMIX_SERVER_URI41", "PRTE_LAUNCHED", "PMI_FD"),
        *("PMI_RANK", "HYDI_CONTROL_FD", "MPI_LOCALRANKID", "SLURM_PROCID", "SLURM_STEP_ID", "SLURM_STEPID"),
        *("JOBS_WORLD_PID", "JOBS_USHER", "JOBS_CHECKPOINT", "JOBS_CHECKPOINT_KEY", "JOBS_TIME_LIMIT"),
        "JOBS_COMMAND_LINE",
    ],
)
def test_what_makes_a_process_a_rank_or_part_of_the_stream_is_removed(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert name not in environment()


@pytest.mark.parametrize("name", ["MINE", "MPI_HOME", "SLURM_JOB_ID", "JOBS_CPUS", "OMPI_MCA_btl", "OMP_NUM_THREADS"])
def test_what_the_user_has_set_is_kept(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert environment()[name] == "1"


# --- ends ------------------------------------------------------------------------------------------------------------

SLEEP = 'echo $$ >> "$1"; exec sleep 1000'
FAMILY = 'echo $$ >> "$1"; sleep 1000 & echo $! >> "$1"; setsid sh -c \'echo $$ >> "$1"; sleep 1000\' sh "$1"'


def test_what_a_program_leaves_running_neither_delays_it_nor_stays(tally):
    assert invoke(shell('sleep 1000 & echo $! >> "$1"; echo done', tally.path)) == ("done\n", "")
    (pid,) = tally.numbers()
    wait_until(lambda: not is_alive(pid), "the program that was left to end")


def test_a_service_in_a_session_of_its_own_stays(tally):
    invoke(
        shell(
            'setsid sh -c \'echo $$ >> "$1"; exec sleep 1000\' sh "$1" & while ! test -s "$1"; do :; done', tally.path
        )
    )
    (pid,) = tally.numbers()
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_program_ends_with_all_that_came_of_it_when_its_caller_is_killed(start, tally):
    script = start("import sys; from job_stream import invoke; invoke(['sh', '-c', *sys.argv[1:]])",
                   FAMILY, "sh", tally.path)  # fmt: skip
    wait_until(lambda: len(tally) == 3, "the program to start")
    os.kill(script.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, tally.numbers())), "the program to end")
    script.ended()


def test_a_program_ends_when_the_process_group_of_its_caller_is_killed(start, tally):
    script = start("import sys; from job_stream import invoke; invoke(['sh', '-c', *sys.argv[1:]])",
                   SLEEP, "sh", tally.path)  # fmt: skip
    wait_until(lambda: len(tally) == 1, "the program to start")
    os.killpg(script.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(tally.numbers()[0]), "the program to end")
    script.ended()


def test_a_program_ends_when_its_worker_runs_out_of_time(tally):
    w = Work([1], timeout=0.5, onError="skip")
    w.job(lambda item: invoke(shell(FAMILY, tally.path)))
    assert w.run() == []
    assert "timed out" in w.failures[0].reason
    assert len(tally) == 3
    wait_until(lambda: not any(map(is_alive, tally.numbers())), "the program to end")


@pytest.mark.parametrize("useMultiprocessing", [True, False])
def test_a_program_ends_when_the_run_fails_elsewhere(tally, useMultiprocessing):
    w = Work(["sleep", "fail"], useMultiprocessing=useMultiprocessing, cpus=2)

    @w.job
    def run(item):
        if item == "sleep":
            invoke(shell(SLEEP, tally.path))
        wait_until(lambda: len(tally), "the program to start")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        w.run()
    wait_until(lambda: not is_alive(tally.numbers()[0]), "the program to end")


def test_a_thread_is_given_no_more_programs_once_its_run_is_over(tally):
    w = Work(["sleep", "fail"], useMultiprocessing=False, cpus=2)
    seen = []

    @w.job
    def run(item):
        if item == "fail":
            wait_until(lambda: len(tally), "the program to start")
            raise ZeroDivisionError
        for _ in range(2):
            try:
                invoke(shell(SLEEP, tally.path))
            except ProgramError as error:
                seen.append(str(error))

    with pytest.raises(ZeroDivisionError):
        w.run()
    wait_until(lambda: len(seen) == 2, "both programs to be given up")
    assert all("the run that it worked for is over" in text for text in seen)
    wait_until(lambda: not any(map(is_alive, tally.numbers())), "the programs to end")


def test_a_program_is_ended_though_its_caller_has_been_forked_meanwhile(tally, monkeypatch):
    def fork_and_give_up(self):
        pid = os.fork()
        if not pid:
            signal.pause()
        forks.append(pid)
        raise KeyboardInterrupt

    forks: list[int] = []
    monkeypatch.setattr(program_module.Program, "_read", fork_and_give_up)
    with pytest.raises(KeyboardInterrupt):
        invoke(shell(SLEEP, tally.path))
    assert not any(map(is_alive, tally.numbers()))
    os.kill(forks[0], signal.SIGKILL)
    os.waitpid(forks[0], 0)


def test_a_caller_that_is_stopped_before_it_could_tell_which_program_it_has_started(tally, monkeypatch):
    def interrupted(self, pid):
        wait_until(lambda: len(tally) == 3, "the program to start")
        raise KeyboardInterrupt

    monkeypatch.setattr(program_module._Watchdog, "tell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        invoke(shell(FAMILY, tally.path))
    assert not any(map(is_alive, tally.numbers()))


def test_ctrl_c_ends_a_program(start, tally):
    script = start("""
        import sys
        from job_stream import invoke

        try:
            invoke(["sh", "-c", *sys.argv[1:]])
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.stdin.read()
    """, FAMILY, "sh", tally.path)  # fmt: skip
    wait_until(lambda: len(tally) == 3, "the program to start")
    os.kill(script.pid, signal.SIGINT)
    wait_until(lambda: not any(map(is_alive, tally.numbers())), "the program to end")
    assert script.ended() == (0, "interrupted\n", "")


# --- many ------------------------------------------------------------------------------------------------------------


def test_hundreds_of_calls_leave_nothing_behind():
    invoke(["true"])
    files, threads = os.listdir("/proc/self/fd"), threading.active_count()
    for _ in range(300):
        invoke(["true"])
    assert os.listdir("/proc/self/fd") == files
    assert threading.active_count() == threads
    assert not descendants()
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
    assert children == "", "zombies"


def test_threads_call_at_the_same_time():
    def echo(number: int) -> str:
        return invoke(["echo", number])[0]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(echo, range(200))) == [f"{number}\n" for number in range(200)]


@pytest.mark.parametrize("useMultiprocessing", [True, False])
def test_jobs_call_it(useMultiprocessing):
    lines = job_stream.map(lambda n: invoke(["echo", n])[0], range(50), useMultiprocessing=useMultiprocessing)
    assert lines == [f"{number}\n" for number in range(50)]


RANKS = """
import sys
from job_stream import Work, getRank, invoke

PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "HYDI_", "MPI_LOCAL", "JOBS_WORLD")
NESTED = "import job_stream; print(job_stream.map(abs, [-1]), job_stream.getRank())"

with Work(range(200)) as w:
    @w.job
    def run(item):
        lines = invoke(["env"])[0].splitlines()
        nested = invoke([sys.executable, "-c", NESTED])[0] if item % 20 == 0 else ""
        return [line for line in lines if line.startswith(PREFIXES)], nested

    @w.finish
    def check(answers):
        print(sorted(answers) == [([], "")] * 190 + [([], "[1] 0\\n")] * 10, "MINE=1" in invoke(["env"])[0].split())
"""


def test_hundreds_of_programs_of_ranks_are_no_ranks(tmp_path):
    path = tmp_path / "ranks.py"
    path.write_text(RANKS)
    ended = mpirun(path, 4, env={"MINE": "1"}, options=("--bind-to", "none"))
    assert ended == (0, "True True\n", "")
