"""How workers end: in order and in bounded time, and nothing of what they have started is left."""

import atexit
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import joblib
import pytest
from support import DEADLINE_S, die, is_alive, stretched, wait_until

import job_stream
from job_stream import Work
from job_stream.workers import nursery

FOREVER = ["sleep", "3600"]
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(3600)"
kept = []
"""What jobs keep for the rest of their worker's life."""


class Wrong(Exception):
    pass


def received(queue, count):
    """So many messages of a queue, taken by a thread while the script goes on; gives what waits for them."""
    got = []
    thread = threading.Thread(target=lambda: [got.append(queue.get(timeout=DEADLINE_S)) for _ in range(count)])
    thread.start()

    def all_of_them():
        thread.join()
        return got

    return all_of_them


# --- in order -----------------------------------------------------------------------------------------------------
def test_what_jobs_put_into_a_queue_of_multiprocessing_arrives_run_after_run():
    queue = multiprocessing.Queue()
    for _ in range(3):
        messages = received(queue, 200)
        job_stream.map(lambda number: queue.put((number, "x" * 2000)), range(200), cpus=2)
        assert sorted(number for number, _ in messages()) == list(range(200))
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize("used", [False, True], ids=["executor of the script", "and executors of jobs"])
def test_workers_of_a_run_in_a_thread_of_an_executor_end_without_a_word(start, used):
    ended = start("""
        import sys
        from concurrent.futures import ThreadPoolExecutor
        import job_stream

        def job(number):
            if sys.argv[1] == "True":
                kept = ThreadPoolExecutor(1)
                return kept.submit(abs, number).result()
            return number

        with ThreadPoolExecutor(2) as executor:
            print(list(executor.map(lambda work: sum(job_stream.map(job, range(work), cpus=2)), [3, 4, 5])))
    """, used).ended()
    assert (ended.code, ended.out, ended.err) == (0, "[3, 6, 10]\n", "")


def test_jobs_can_put_into_a_queue_that_the_script_has_put_into():
    queue = multiprocessing.Queue()
    messages = received(queue, 11)
    queue.put(-1)  # the script has a thread for the queue now; workers need their own
    job_stream.map(queue.put, range(10), cpus=2)
    assert sorted(messages()) == list(range(-1, 10))
    queue.close()
    queue.join_thread()


def test_each_worker_speaks_to_a_manager_on_its_own():
    with multiprocessing.get_context("fork").Manager() as manager:
        squares = manager.dict({number: number**2 for number in range(500)})
        assert squares[2] == 4  # the script has a connection now; workers that shared it would get others' answers
        assert job_stream.map(squares.__getitem__, range(500), cpus=3) == [number**2 for number in range(500)]


def note_when_open(gate, tally, number):
    gate.wait()
    tally.note(number)


def test_workers_wait_for_threads_that_are_no_daemons(tally, gate):
    def start_thread(number):
        threading.Thread(target=note_when_open, args=(gate, tally, number)).start()
        threading._register_atexit(gate.open)  # when a worker begins to leave

    job_stream.map(start_thread, range(6), cpus=2)
    assert sorted(tally.numbers()) == list(range(6))


def test_workers_of_a_run_in_a_thread_wait_for_threads_too(tally, gate):
    def start_thread(number):
        threading.Thread(target=note_when_open, args=(gate, tally, number)).start()
        threading._register_atexit(gate.open)

    thread = threading.Thread(target=lambda: job_stream.map(start_thread, range(6), cpus=2))
    thread.start()
    thread.join()
    assert sorted(tally.numbers()) == list(range(6))


@pytest.mark.parametrize("executor", [concurrent.futures.ThreadPoolExecutor, concurrent.futures.ProcessPoolExecutor])
def test_workers_wait_for_what_they_have_given_to_an_executor(executor, tally, gate):
    def submit(number):
        kept.append(executor(1))
        kept[-1].submit(note_when_open, gate, tally, number)
        threading._register_atexit(gate.open)

    job_stream.map(submit, range(4), cpus=2)
    assert sorted(tally.numbers()) == list(range(4))


def test_exit_functions_of_jobs_are_called_and_those_of_the_script_are_not(start, tmp_path):
    script = start(
        """
        import atexit, os, sys, job_stream
        from pathlib import Path

        folder = Path(sys.argv[1])

        def note(name):
            with open(folder / name, "a") as file:
                file.write(f"{os.getpid()}\\n")

        atexit.register(note, "script")
        pids = job_stream.map(lambda number: atexit.register(note, "job") and os.getpid(), [1, 2, 3], cpus=1)
        (folder / "pids").write_text("\\n".join(map(str, [os.getpid(), *pids])))
        """,
        tmp_path,
    )
    assert script.ended() == (0, "", "")
    own, *pids = (tmp_path / "pids").read_text().split()
    assert (tmp_path / "job").read_text().split() == pids
    assert (tmp_path / "script").read_text().split() == [own]


def test_temporary_folders_of_jobs_are_removed_and_those_of_the_script_stay():
    with tempfile.TemporaryDirectory() as outer:

        def keep_folder(number):
            kept.append(tempfile.TemporaryDirectory(dir=outer))
            return kept[-1].name

        folder = tempfile.TemporaryDirectory(dir=outer)
        made = job_stream.map(keep_folder, range(3), cpus=2)
        assert len(set(made)) == 3
        assert os.listdir(outer) == [Path(folder.name).name]
        folder.cleanup()


def test_processes_of_the_script_are_not_ended_with_workers():
    context = multiprocessing.get_context("fork")
    helper = context.Process(target=signal.pause, daemon=True)
    helper.start()
    program = subprocess.Popen(FOREVER)
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        assert job_stream.map(abs, [-2], cpus=1) == [2]
        with pytest.raises(Wrong):
            job_stream.map(fail, [1], cpus=1)
        assert executor.submit(abs, -3).result() == 3
    assert is_alive(helper.pid)
    assert program.poll() is None
    helper.kill()
    helper.join()
    program.kill()
    program.wait()


def fail(item):
    raise Wrong


def test_an_error_at_the_end_of_a_worker_is_told_and_keeps_nothing_else_from_being_done(start, tally):
    script = start(
        """
        import atexit, sys, threading, job_stream
        from pathlib import Path

        def register(number):
            atexit.register(Path(sys.argv[1]).write_text, "1\\n")
            atexit.register(exec, "raise ValueError('at exit')")
            threading._register_atexit(exec, "raise ValueError('of a thread')")

        print(job_stream.map(register, [1], cpus=1))
        """,
        tally.path,
    )
    ended = script.ended()
    assert (ended.code, ended.out, tally.numbers()) == (0, "[None]\n", [1])
    assert "at exit" in ended.err
    assert "of a thread" in ended.err


# --- in bounded time ----------------------------------------------------------------------------------------------
def test_a_worker_that_does_not_end_is_killed_after_a_while_and_that_is_told(capfd, monkeypatch):
    monkeypatch.setattr(nursery, "LEAVE_S", 0.1)
    job_stream.map(lambda number: threading.Thread(target=signal.pause).start(), [1], cpus=1)
    assert "worker process" in (told := capfd.readouterr().err)
    assert "no daemon" in told


def test_an_interrupt_does_not_wait_for_a_worker_that_does_not_end(start, gate):
    script = start(
        """
        import os, signal, sys, threading, job_stream
        from pathlib import Path

        from job_stream.workers import nursery

        nursery.LEAVE_S = 3600

        def hold():
            Path(sys.argv[1]).touch()
            threading.Event().wait()

        def leave_thread(number):
            import atexit

            atexit.register(hold)

        try:
            job_stream.map(leave_thread, [1], cpus=1)
        except KeyboardInterrupt:
            print("interrupted")
        """,
        gate.path,
    )
    gate.wait()
    os.kill(script.pid, signal.SIGINT)
    assert script.ended() == (0, "interrupted\n", "")


def test_a_worker_that_has_nothing_to_do_ends_in_order_when_another_fails(tally):
    w = Work([0, 1], cpus=2)

    @w.job
    def register_or_fail(number):
        if number:
            wait_until(tally.lines, "the other worker")
            raise Wrong
        atexit.register(tally.note, "left")
        tally.note("registered")

    with pytest.raises(Wrong):
        w.run()
    assert tally.lines() == ["registered", "left"]


def test_a_worker_between_two_short_calls_ends_in_order_when_another_fails(tally):
    w = Work(range(1_000_000_000), cpus=2)

    @w.job
    def register_or_fail(number):
        if not kept:
            kept.append(atexit.register(tally.note, "left"))
            tally.note("registered")
        if number == 0:
            wait_until(lambda: len(tally) == 2, "the other worker")
            raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert tally.lines() == ["registered", "registered", "left", "left"]


# --- what workers have started ------------------------------------------------------------------------------------
def start_program(number):
    return subprocess.Popen(FOREVER).pid


def start_session(number):
    return subprocess.Popen(FOREVER, start_new_session=True).pid


def start_in_background(number):
    return int(subprocess.run("sleep 3600 >/dev/null & echo $!", shell=True, stdout=subprocess.PIPE, check=True).stdout)


def start_stubborn(number):
    program = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    program.stdout.readline()
    return program.pid


def start_process(number):
    process = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
    process.start()
    return process.pid


def start_pool(number):
    kept.append(concurrent.futures.ProcessPoolExecutor(1))
    return kept[-1].submit(os.getpid).result()


def start_loky(number):
    return joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(os.getpid)() for _ in range(2))[0]


STARTS = [start_program, start_session, start_in_background, start_stubborn, start_process, start_pool, start_loky]
every_start = pytest.mark.parametrize("begin", STARTS)


@every_start
def test_nothing_that_jobs_have_started_is_left_when_the_run_is_over(begin):
    started = job_stream.map(begin, range(2), cpus=2)
    assert len(set(started)) == 2
    assert not any(map(is_alive, started))


@every_start
def test_nothing_that_jobs_have_started_is_left_when_the_run_fails(begin, tally):
    def begin_and_fail(number):
        tally.note(begin(number))
        raise Wrong

    with pytest.raises(Wrong):
        job_stream.map(begin_and_fail, [1], cpus=1)
    assert len(tally) == 1
    assert not is_alive(tally.numbers()[0])


@every_start
def test_what_a_worker_that_died_has_started_is_ended_with_the_run(begin, tally, once):
    def begin_and_die(number):
        if once():
            tally.note(begin(number))
            die()

    job_stream.map(begin_and_die, [1], cpus=1)
    assert not is_alive(tally.numbers()[0])


@every_start
def test_a_time_out_ends_what_the_call_has_started(begin, tally):
    w = Work([1, 2], cpus=1, onError="skip")
    left = []

    @w.job(timeout=stretched(2))  # a busy machine takes long to start what is to be ended
    def begin_and_hang(number):
        if number == 1:
            tally.note(begin(number))
            signal.pause()
        return number

    @w.result
    def look(number):
        wait_until(lambda: not is_alive(tally.numbers()[0]), "the program's end")  # while the run goes on
        left.append(number)

    w.run()
    assert left == [2]
    assert "timed out" in w.failures[0].reason


def test_a_killed_script_leaves_nothing_that_its_jobs_have_started(start, tally):
    script = start(
        """
        import os, signal, subprocess, sys, job_stream

        def begin(number):
            pid = subprocess.Popen(["sleep", "3600"], start_new_session=True).pid
            os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), f"{pid}\\n".encode())
            signal.pause()

        job_stream.map(begin, [1], cpus=1)
        """,
        tally.path,
    )
    wait_until(tally.lines, "the program")
    os.kill(script.pid, signal.SIGKILL)
    wait_until(lambda: not script.living(), "the end of all")


def test_nobody_holds_the_pipe_that_a_script_has_written_to(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import joblib, job_stream\n"
        "sums = job_stream.map(lambda n: sum(joblib.Parallel(2, backend='loky')(joblib.delayed(abs)(i)\n"
        "                                    for i in range(n))), [3, 4])\n"
        "print(sums)\n"
    )
    # ends when the last process that holds the pipe ends
    ended = subprocess.run([sys.executable, path], stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True)
    assert ended.stdout == b"[3, 6]\n"


# --- joblib -------------------------------------------------------------------------------------------------------
def pids_of_joblib(number, **keywords):
    return set(joblib.Parallel(n_jobs=2, **keywords)(joblib.delayed(os.getpid)() for _ in range(4))) - {os.getpid()}


def pids_of_chosen_joblib(number):
    with joblib.parallel_config("loky"):
        return pids_of_joblib(number)


def test_joblib_in_a_worker_makes_one_call_after_the_other():
    assert job_stream.map(pids_of_joblib, [1, 2], cpus=1) == [set(), set()]


def test_joblib_that_a_worker_imports_makes_one_call_after_the_other(start):
    script = start(
        """
        import os, sys, job_stream

        def pids(number):
            import joblib

            return set(joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(4))) - {os.getpid()}

        print(job_stream.map(pids, [1, 2], cpus=1), "joblib" in sys.modules)
        """
    )
    assert script.ended() == (0, "[set(), set()] False\n", "")


def test_joblib_in_a_worker_does_what_the_job_says():
    (by_argument,) = job_stream.map(lambda number: pids_of_joblib(number, backend="loky"), [1], cpus=1)
    (by_context,) = job_stream.map(pids_of_chosen_joblib, [1], cpus=1)
    assert by_argument
    assert by_context


def test_joblib_in_a_worker_does_what_the_script_has_said():
    with joblib.parallel_config("loky"):
        (pids,) = job_stream.map(pids_of_joblib, [1], cpus=1)
    assert pids
