"""Processes as a user meets them: output, exit codes, Ctrl-C, sudden ends, and nothing left behind."""

import contextlib
import gc
import logging
import os
import re
import signal
import threading
from pathlib import Path

import pytest
from support import PROMPT_S, Script, descendants, gather, is_alive, reduce_to_sum, wait_until

from job_stream import Multiple, Work


class Wrong(Exception):
    pass


def a_run(**keywords):
    """A run that has every kind of process, and large values."""
    w = Work(range(20), cpus=2, **keywords)
    w.job(lambda work: bytes([work]) * 200_000)
    w.job(len)
    reduce_to_sum(w)
    assert w.run() == [20 * 200_000]


def a_failing_run():
    w = Work(range(20), cpus=2)

    @w.job
    def explode(work):
        if work == 10:
            raise Wrong
        return bytes([work]) * 200_000

    with pytest.raises(Wrong):
        w.run()


def a_deadly_run():
    w = Work(range(10), cpus=2, onError="skip")

    @w.job
    def deadly(work):
        if work == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes([work]) * 200_000

    assert len(w.run()) == 9


def a_run_that_stops_early():
    w = Work(iter(int, 1), cpus=2)
    w.job(lambda work: work)

    @w.result
    def stop(result):
        raise Wrong

    with pytest.raises(Wrong):
        w.run()


def open_files():
    """What each file descriptor of this process leads to."""
    gc.collect()
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[number] = re.sub(r"\d+", "", os.readlink(f"/proc/self/fd/{number}"))
    return found


every_run = pytest.mark.parametrize("run", [a_run, a_failing_run, a_deadly_run, a_run_that_stops_early])


# --- nothing is left behind ---------------------------------------------------------------------------------------
@every_run
def test_no_process_is_left_when_a_run_returns(run):
    before = descendants()
    run()
    assert descendants() == before


@every_run
def test_no_file_descriptor_is_left_when_a_run_returns(run):
    run()
    before = open_files()
    for _ in range(3):
        run()
    assert sorted(open_files().values()) == sorted(before.values())


def shared_memory():
    """The files in shared memory that this process maps, and those that are named after it."""
    gc.collect()
    mapped = [
        line.split(maxsplit=5)[5] for line in Path("/proc/self/maps").read_text().splitlines() if " rw-s " in line
    ]
    named = [path.name for path in Path("/dev/shm").glob("*") if re.search(rf"job.?stream|{os.getpid()}", path.name)]
    return sorted(mapped), sorted(named)


@every_run
def test_no_shared_memory_is_left_when_a_run_returns(run):
    run()
    before = shared_memory()
    run()
    assert shared_memory() == before


@every_run
def test_no_thread_is_left_when_a_run_returns(run):
    before = sorted(thread.name for thread in threading.enumerate())
    run()
    assert sorted(thread.name for thread in threading.enumerate()) == before


@every_run
def test_signal_handlers_are_the_scripts_own_after_a_run(run):
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGHUP, signal.SIGPIPE]
    before = [signal.getsignal(number) for number in numbers]
    run()
    assert [signal.getsignal(number) for number in numbers] == before


def test_no_zombie_is_left_when_a_run_returns(start):
    ended = start("""
        import os
        from pathlib import Path
        from job_stream import Work

        w = Work(range(10), cpus=2)
        w.job(lambda work: work)
        w.run()
        print(repr(Path(f'/proc/self/task/{os.getpid()}/children').read_text()))
    """).ended()
    assert (ended.code, ended.out) == (0, "''\n"), ended.err


def test_a_run_leaves_other_children_of_the_script_alone(start):
    ended = start("""
        import subprocess
        from job_stream import Work

        child = subprocess.Popen(['sh', '-c', 'read line; exit 7'], stdin=subprocess.PIPE)
        w = Work(range(10), cpus=2)
        w.job(lambda work: work)
        w.run()
        early = subprocess.run(['sh', '-c', 'exit 5']).returncode
        child.communicate(b'go')
        print(early, child.returncode)
    """).ended()
    assert (ended.code, ended.out) == (0, "5 7\n"), ended.err


# --- output -------------------------------------------------------------------------------------------------------
def test_what_jobs_print_reaches_the_terminal(start):
    ended = start("""
        import sys
        from job_stream import Work

        with Work(range(50), cpus=2) as w:
            @w.job
            def tell(work):
                print('out', work)
                print('err', work, file=sys.stderr)
    """).ended()
    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == sorted(f"out {i}" for i in range(50))
    assert sorted(line for line in ended.err.splitlines() if line.startswith("err ")) == sorted(
        f"err {i}" for i in range(50)
    )


def test_what_a_job_prints_without_a_line_end_reaches_the_terminal(start):
    ended = start("""
        from job_stream import Work

        with Work([1]) as w:
            @w.job
            def tell(work):
                print('no line end', end='')
    """).ended()
    assert (ended.code, ended.out) == (0, "no line end"), ended.err


def test_what_was_printed_before_a_job_raised_reaches_the_terminal(start):
    ended = start("""
        from job_stream import Work

        with Work([1]) as w:
            @w.job
            def tell(work):
                print('the last words')
                raise ValueError
    """).ended()
    assert ended.code != 0
    assert ended.out == "the last words\n"


def test_what_the_script_printed_before_a_run_is_printed_once(start):
    ended = start("""
        import sys
        from job_stream import Work

        sys.stdout.write('before ')
        w = Work(range(10), cpus=2)
        w.job(lambda work: print('in') )
        w.run()
        sys.stdout.write('after')
    """).ended()
    assert ended.code == 0, ended.err
    assert (ended.out.count("before"), ended.out.count("in\n"), ended.out.count("after")) == (1, 10, 1)


def test_what_jobs_log_reaches_the_terminal_once(start):
    ended = start("""
        import logging
        from job_stream import Work

        logging.basicConfig(level=logging.INFO)
        with Work(range(20), cpus=2) as w:
            @w.job
            def tell(work):
                logging.getLogger('mine').info('message <%d>', work)
                logging.debug('too fine')
    """).ended()
    assert ended.code == 0, ended.err
    assert all(ended.err.count(f"message <{i}>") == 1 for i in range(20))
    assert "too fine" not in ended.err


def test_warnings_of_jobs_reach_the_terminal_without_logging_set_up(start):
    ended = start("""
        import logging
        from job_stream import Work

        with Work([1]) as w:
            @w.job
            def tell(work):
                logging.warning('look out')
    """).ended()
    assert ended.code == 0, ended.err
    assert "look out" in ended.err


def test_logging_in_jobs_is_not_lost_on_the_way_to_a_handler_of_the_script(tmp_path):
    log = tmp_path / "log"
    logger = logging.getLogger("job_stream_tests")
    handler = logging.FileHandler(log)
    logger.addHandler(handler)
    try:
        w = Work(range(10), cpus=2)
        w.job(lambda work: logger.warning("record <%d>", work))
        w.run()
    finally:
        logger.removeHandler(handler)
        handler.close()
    text = log.read_text()
    assert all(text.count(f"record <{i}>") == 1 for i in range(10))


# --- the script's own affairs stay its own --------------------------------------------------------------------------
def test_what_the_script_does_at_its_exit_is_done_once(start):
    ended = start("""
        import atexit
        from job_stream import Work

        atexit.register(print, 'at exit')
        try:
            w = Work(range(10), cpus=2)
            w.job(lambda work: work)
            w.run()
        finally:
            print('finally')
        print('end')
    """).ended()
    assert (ended.code, ended.out.splitlines()) == (0, ["finally", "end", "at exit"]), ended.err


def test_objects_of_the_script_are_finalised_once(start):
    ended = start("""
        import os
        from job_stream import Work

        class Resource:
            def __del__(self):
                os.write(1, b'closed ')

        resource = Resource()
        with Work(range(10), cpus=2) as w:
            w.job(lambda work: work)
    """).ended()
    assert (ended.code, ended.out) == (0, "closed "), ended.err


def test_a_script_without_a_main_guard_runs_once(start):
    ended = start("""
        from job_stream import Work

        print('module')
        w = Work(range(10), cpus=2)
        w.job(lambda work: work + 1)
        print(sorted(w.run()))
    """).ended()
    assert (ended.code, ended.out) == (0, "module\n" + str(list(range(1, 11))) + "\n"), ended.err


def test_classes_of_the_script_travel(start):
    ended = start("""
        from job_stream import Work

        class Point:
            def __init__(self, x):
                self.x = x

        w = Work([Point(1), Point(2)])

        @w.job
        def move(point):
            assert type(point) is Point
            return Point(point.x + 10)

        print(sorted(point.x for point in w.run() if type(point) is Point))
    """).ended()
    assert (ended.code, ended.out) == (0, "[11, 12]\n"), ended.err


def test_a_run_needs_no_standard_streams(start):
    ended = start("""
        import os, sys
        from job_stream import Work

        sys.stdout = sys.stderr = None
        w = Work(range(10), cpus=2)
        w.job(lambda work: print(work) or work)
        os._exit(sum(w.run()))
    """).ended()
    assert ended.code == 45, ended.err


# --- exit codes and messages ----------------------------------------------------------------------------------------
def test_a_script_that_succeeds_exits_with_zero(start):
    ended = start("""
        from job_stream import Work

        with Work([1]) as w:
            w.job(lambda work: work)
    """).ended()
    assert ended.code == 0, ended.err


def test_an_error_nobody_catches_is_told_with_its_stage_and_a_non_zero_exit(start):
    ended = start("""
        from job_stream import Work

        with Work(['the item']) as w:
            @w.job
            def explode(work):
                raise ValueError('the users error')
    """).ended()
    assert ended.code == 1
    traceback, target = (
        ended.err.index("raise ValueError('the users error')"),
        ended.err.index("While processing work with target: explode"),
    )
    assert traceback < target
    assert "'the item'" in ended.err
    assert ended.err.rstrip().splitlines()[-1].startswith("ValueError: the users error")


@pytest.mark.parametrize(("part", "target"), [("store", "fold (store)"), ("emit", "fold (emit)"), ("function", "fold")])
def test_an_error_in_a_reduction_nobody_catches_is_told_with_its_part(start, part, target):
    ended = start(
        """
        import sys
        from job_stream import Work

        def at(part):
            if part == sys.argv[1]:
                raise ValueError(part)

        with Work([1]) as w:
            @w.reduce(store=lambda: at('store') or [], emit=lambda store: at('emit'))
            def fold(store, works, others):
                at('function')
    """,
        part,
    ).ended()
    assert ended.code != 0
    assert f"While processing work with target: {target}" in ended.err
    assert f"ValueError: {part}" in ended.err


def test_a_dead_process_nobody_survives_is_told_with_its_signal_and_a_non_zero_exit(start):
    ended = start("""
        import os, signal
        from job_stream import Work

        with Work(['the item']) as w:
            @w.job
            def deadly(work):
                os.kill(os.getpid(), signal.SIGKILL)
    """).ended()
    assert ended.code == 1
    assert "LaneDied" in ended.err
    assert "SIGKILL" in ended.err
    assert "While processing work with target: deadly" in ended.err


def test_a_mistake_in_the_stream_is_told_at_its_line(start):
    ended = start("""
        from job_stream import Work

        w = Work([1])

        @w.reduce
        def fold(store, works):
            pass
    """).ended()
    assert ended.code == 1
    assert "PlanError" in ended.err
    assert "fold" in ended.err


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------
BUSY = """
    import os, signal, sys, time
    from job_stream import Multiple, Work

    def note(name):
        with open(name, 'w'):
            pass

    kind, ready = sys.argv[1:3]

    def source():
        yield 0
        note(ready)
        time.sleep(3600)

    sources = {'endless source': iter(int, 1), 'blocked source': source()}
    w = Work(sources.get(kind, range(100)), kind != 'blocked threads', cpus=2)

    @w.job
    def work(number):
        note(ready)
        if kind in ('blocked jobs', 'blocked threads'):
            time.sleep(3600)
        while kind == 'busy jobs':
            pass
        return number

    if kind == 'blocked handler':
        @w.result
        def handle(result):
            time.sleep(3600)
    elif kind == 'endless source':
        @w.result
        def handle(result):
            pass
    elif kind == 'endless multiple':
        @w.job
        def spread(number):
            return Multiple(iter(int, 1))

        @w.job
        def drop(number):
            return None
    elif kind == 'endless frame':
        @w.frame
        def begin(store, first):
            return first

        @w.frameEnd
        def end(store, item):
            return item
    elif kind == 'stopped lane':
        @w.job
        def stop(number):
            os.kill(os.getpid(), signal.SIGSTOP)

    try:
        w.run()
    except KeyboardInterrupt:
        print('interrupted')
        if 'again' in sys.argv:
            raise
"""
KINDS = [
    "blocked jobs",
    "blocked threads",
    "blocked source",
    "busy jobs",
    "blocked handler",
    "endless source",
    "endless multiple",
    "endless frame",
    "stopped lane",
]


def started(start, tmp_path, kind, *arguments) -> Script:
    """A script whose jobs are under way."""
    ready = tmp_path / "ready"
    script = start(BUSY, kind, ready, *arguments)
    wait_until(lambda: ready.exists() or script.process.poll() is not None, "the jobs to begin")
    assert script.process.poll() is None, script.err.read_text()
    return script


def none_living(script):
    return wait_until(lambda: not script.living(), f"the end of {script.living()}", PROMPT_S)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_ends_the_run_at_once_and_leaves_no_process(start, tmp_path, kind):
    script = started(start, tmp_path, kind)
    os.kill(script.pid, signal.SIGINT)
    ended = script.ended(PROMPT_S)
    assert (ended.code, ended.out) == (0, "interrupted\n"), ended.err
    none_living(script)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_from_the_terminal_goes_to_all_processes_and_ends_the_run_as_well(start, tmp_path, kind):
    script = started(start, tmp_path, kind)
    os.killpg(script.pid, signal.SIGINT)
    ended = script.ended(PROMPT_S)
    assert (ended.code, ended.out) == (0, "interrupted\n"), ended.err
    none_living(script)


def test_an_interrupt_nobody_catches_ends_the_script_as_one(start, tmp_path):
    script = started(start, tmp_path, "blocked jobs", "again")
    os.killpg(script.pid, signal.SIGINT)
    ended = script.ended(PROMPT_S)
    assert ended.code == -signal.SIGINT
    assert len([line for line in ended.err.splitlines() if line.startswith("KeyboardInterrupt")]) == 1, ended.err


def test_a_second_interrupt_does_no_harm(start, tmp_path):
    script = started(start, tmp_path, "blocked jobs")
    os.killpg(script.pid, signal.SIGINT)
    os.killpg(script.pid, signal.SIGINT)
    script.ended(PROMPT_S)
    none_living(script)


def test_a_stream_can_run_after_an_interrupt(start, tmp_path):
    ready = tmp_path / "ready"
    script = start(
        """
        import sys, time
        from job_stream import Work

        w = Work(range(4), cpus=2)

        @w.job
        def block(work):
            open(sys.argv[1], 'w').close()
            time.sleep(3600)

        try:
            w.run()
        except KeyboardInterrupt:
            w = Work(range(4), cpus=2)
            w.job(lambda work: work + 1)
            print(sorted(w.run()))
    """,
        ready,
    )
    wait_until(ready.exists, "the jobs to begin")
    os.killpg(script.pid, signal.SIGINT)
    ended = script.ended()
    assert (ended.code, ended.out) == (0, "[1, 2, 3, 4]\n"), ended.err


# --- sudden ends ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_its_script(start, tmp_path, kind, number):
    script = started(start, tmp_path, kind)
    os.kill(script.pid, number)
    assert script.ended(PROMPT_S).code == -number
    none_living(script)


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_script_that_leaves_in_a_handler_ends_with_its_code_and_all_processes(start, leave):
    script = start(f"""
        import os, sys
        from job_stream import Work

        w = Work(range(100), cpus=2)
        w.job(lambda work: work)

        @w.result
        def leave(result):
            {leave}(5)

        w.run()
    """)
    assert script.ended().code == 5
    none_living(script)


# --- what jobs find in their process --------------------------------------------------------------------------------
def test_the_processes_that_worked_have_ended_when_a_run_returns(tally):
    w = Work(range(10), cpus=2)

    @w.job
    def note(work):
        tally.note(os.getpid())

    w.run()
    assert not any(is_alive(pid) for pid in tally.numbers())


def test_jobs_can_start_programs(start):
    ended = start("""
        import subprocess
        from job_stream import Work

        w = Work(range(4), cpus=2)
        w.job(lambda work: subprocess.run(['echo', str(work)], capture_output=True, text=True, check=True).stdout)
        print(sorted(w.run()))
    """).ended()
    assert (ended.code, ended.out) == (0, str([f"{i}\n" for i in range(4)]) + "\n"), ended.err


def test_number_libraries_use_one_thread_in_each_process():
    pytest.importorskip("numpy")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if not threadpoolctl.threadpool_info():
        pytest.skip("numpy has no thread pool here")
    w = Work(range(4), cpus=2)
    w.job(lambda work: [pool["num_threads"] for pool in threadpoolctl.threadpool_info()])
    assert all(set(counts) <= {1} for counts in w.run())


def test_a_module_that_a_job_imports_first_is_fine():
    w = Work([1, 2])

    @w.job
    def use(work):
        import colorsys

        return colorsys.rgb_to_hsv(work, 0, 0)[2]

    assert sorted(w.run()) == [1, 2]


def test_deep_recursion_in_a_job_is_an_error_of_that_job():
    w = Work([1])

    @w.job
    def recurse(work):
        return recurse(work)

    with pytest.raises(RecursionError):
        w.run()


def test_many_lines_printed_at_once_do_not_block(start):
    ended = start("""
        from job_stream import Work

        with Work(range(20), cpus=2) as w:
            @w.job
            def tell(work):
                for line in range(2000):
                    print(work, line, 'x' * 50)
    """).ended()
    assert ended.code == 0, ended.err
    assert len(ended.out.splitlines()) == 40_000


def test_a_run_goes_on_when_results_that_had_piled_up_are_taken(start):
    ended = start("""
        from job_stream import Work

        taken = []
        w = Work(range(40), cpus=2)
        w.job(lambda number: bytes(4 << 20))
        w.result(lambda result: taken.append(len(result)))
        w.run()
        print(len(taken))
    """).ended()
    assert (ended.code, ended.out) == (0, "40\n"), ended.err


def test_a_run_in_a_script_that_has_threads():
    """Threads of the script are not in its forked processes, and must not be waited for."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        w = Work(range(20), cpus=2)
        w.job(lambda work: threading.active_count())
        w.reduce(gather, store=list, emit=Multiple)
        assert len(w.run()) == 20
    finally:
        end.set()
        thread.join()


# --- libraries with threads of their own --------------------------------------------------------------------------
BLAS_SCRIPT = """
import numpy
from threadpoolctl import threadpool_info
from job_stream import Work

def threads(work=None):
    return [library['num_threads'] for library in threadpool_info()]

before = threads()
w = Work([1])
w.job(threads)
print(set(w.run()[0]), threads() == before)
"""


def test_numeric_libraries_have_one_thread_in_each_process(start, monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert start(BLAS_SCRIPT).ended().out.split() == ["{1}", "True"]


def test_the_user_may_say_how_many_threads_numeric_libraries_have(start, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert start(BLAS_SCRIPT).ended().out.split() == ["{2}", "True"]


def test_items_that_wait_for_each_other_get_a_worker_each_however_many_there_are(tmp_path):
    """More workers than are started without a question, though nothing is known of what an item takes."""
    w = Work(range(24), cpus=24)

    @w.job
    def meet(number):
        (tmp_path / str(number)).touch()
        wait_until(lambda: len(os.listdir(tmp_path)) == 24, "the others")
        return number

    assert sorted(w.run()) == list(range(24))
