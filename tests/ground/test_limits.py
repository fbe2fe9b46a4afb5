"""Runs that meet a limit of the system: processes, open files, the number of workers. They go on with less, or end with
an error that names the limit."""

import errno
import os
import resource

import pytest

from job_stream.errors import LimitError
from job_stream.ground.limits import explained
from job_stream.workers.links import open_pair, receive, send, try_send

# --- processes ----------------------------------------------------------------------------------------------------
FEW_PROCESSES = """
import os, resource, sys, threading
from job_stream import Work
from job_stream.errors import LimitError

def run(items):
    w = Work(items, cpus=4)
    w.job(abs)
    return sorted(w.run())

def run_with(limit):
    files = sorted(os.listdir('/proc/self/fd'))
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(50_000 + os.getpid() % 10_000)
        os.setuid(50_000 + os.getpid() % 10_000)
    try:
        print(run(items(range(4))))
    except LimitError as error:
        print(error)
    assert threading.enumerate() == [threading.main_thread()]
    assert sorted(os.listdir('/proc/self/fd')) == files
    try:
        os.waitpid(-1, os.WNOHANG)
        print('a child is left')
    except ChildProcessError:
        pass

items, limits = {'list': list, 'iterator': iter}[sys.argv[1]], map(int, sys.argv[2:])
assert run(items(range(4))) == [0, 1, 2, 3]  # everything has been imported
for limit in limits:
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        run_with(limit)
        break
    assert os.waitpid(child, 0)[1] == 0, limit
"""
NAMES_THE_LIMIT = "(EAGAIN): this user, or the container, may have no more processes and threads (ulimit -u;"


def test_a_run_without_a_single_process_says_which_limit_it_met(start):
    ended = start(FEW_PROCESSES, "list", 1).ended()
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"no process for the workers can be started {NAMES_THE_LIMIT}"), ended.out
    assert ended.err == ""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who has no process yet")
@pytest.mark.parametrize("items", ["list", "iterator"])
def test_a_run_with_too_few_processes_and_threads_says_which_limit_it_met(start, items):
    """Whatever it is that cannot be started: the thread of the run or of its source, the first worker or the last."""
    limits = range(2, 13)  # four workers have two threads each
    ended = start(FEW_PROCESSES, items, *limits).ended()
    assert (ended.code, ended.err) == (0, ""), (ended.out, ended.err)
    texts = ended.out.splitlines()
    assert len(texts) == len(limits), ended.out
    told = [text for text in texts if text != "[0, 1, 2, 3]"]
    assert all(NAMES_THE_LIMIT in text for text in told), texts
    assert any(text.startswith("worker process number") for text in told), texts
    assert texts[-1] == "[0, 1, 2, 3]"


# --- files --------------------------------------------------------------------------------------------------------
FEW_FILES = """
import os, resource, sys
from job_stream import Work
import numpy

soft, hard, cpus = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""
ARRAYS = (
    FEW_FILES
    + """
SIZE = int(sys.argv[4])
w = Work((numpy.full(SIZE, number % 256, numpy.uint8) for number in range(100)), cpus=cpus)

@w.job
def turn(array):
    assert array[0] == array[-1]
    return numpy.full(SIZE, 255 - array[0], numpy.uint8), int(array[0])

@w.reduce(store=list)
def keep(store, works, others):
    store.extend(works)
    for other in others:
        store.extend(other)

((*results,),) = w.run()
assert all(array[0] == array[-1] == 255 - first and len(array) == SIZE for array, first in results)
print(sorted(first for _, first in results) == sorted(number % 256 for number in range(100)))
"""
)
TOGETHER = (
    FEW_FILES
    + """
from pathlib import Path

started = Path(sys.argv[4])
started.mkdir()
w = Work(range(cpus), cpus=cpus)

@w.job
def meet(work):
    import time
    (started / str(work)).touch()
    while len(os.listdir(started)) < cpus:
        time.sleep(0.05)

w.run()
print(len(os.listdir(started)))
"""
)


@pytest.mark.parametrize(
    ("limit", "cpus", "size"), [(80, 2, 100_000), (96, 8, 100_000), (160, 40, 100_000), (80, 2, 1_100_000)]
)
def test_arrays_travel_where_few_files_may_be_open(start, limit, cpus, size):
    ended = start(ARRAYS, limit, limit, cpus, size).ended()
    assert (ended.code, ended.out) == (0, "True\n"), ended.err


@pytest.mark.parametrize("size", [100_000, 1_100_000])
@pytest.mark.parametrize("limit", [24, 36, 48])
def test_where_hardly_any_file_may_be_open_results_are_right_or_the_limit_is_named(start, limit, size):
    ended = start(ARRAYS, limit, limit, 2, size).ended()
    if ended.code:
        assert f"this process may have {limit} files open (ulimit -n)" in ended.err
    else:
        assert ended.out == "True\n", ended.err


def test_a_run_has_as_many_files_open_as_it_may_allow_itself(start, tmp_path):
    ended = start(TOGETHER, 40, 200, 30, tmp_path / "started").ended()
    assert (ended.code, ended.out) == (0, "30\n"), ended.err


def test_more_workers_than_files_may_be_open_for_are_refused_with_the_number(start, tmp_path):
    ended = start(TOGETHER, 64, 64, 50, tmp_path / "started").ended()
    assert ended.code == 1
    last = ended.err.strip().splitlines()[-1]
    assert "LimitError: worker process number" in last, ended.err
    assert "(EMFILE): this process may have 64 files open (ulimit -n)" in last, ended.err


@pytest.mark.parametrize(
    "ends", ["", "w.job(len)", "w.reduce(lambda store, works, others: store.extend(works), store=list)"]
)
def test_jobs_that_leave_no_file_to_open_end_with_the_limit(start, ends):
    ended = start(
        FEW_FILES
        + f"""
kept = []
w = Work(range(20), cpus=cpus)

@w.job
def hoard(work):
    try:
        while True:
            kept.append(os.open('/dev/null', os.O_RDONLY))
    except OSError:
        return bytes(200_000)

{ends}
w.run()
""",
        *(100, 100, 2),
    ).ended()
    if ends == "w.job(len)":  # nothing large leaves the worker
        assert ended.code == 0, ended.err
        return
    assert ended.code == 1
    assert "LimitError" in ended.err
    assert "this process may have 100 files open (ulimit -n)" in ended.err


def test_descriptors_that_are_lost_on_their_way_are_noticed():
    """The system drops what does not fit, and says so beside the message."""
    ours, theirs = open_pair()
    send(ours, b"message", [0, 0, 0, 0])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = sorted(os.listdir("/proc/self/fd"))
    first = min(set(range(len(before) + 1)) - set(map(int, before)))
    resource.setrlimit(resource.RLIMIT_NOFILE, (first + 1, limit[1]))
    try:
        with pytest.raises(LimitError, match=rf"has lost the files .*EMFILE.* {first + 1} files open \(ulimit -n\)"):
            receive(theirs)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert sorted(os.listdir("/proc/self/fd")) == before
    ours.close()
    theirs.close()


# --- workers ------------------------------------------------------------------------------------------------------
MANY_WORKERS = 320


def test_an_order_for_each_of_many_workers_has_no_room_in_a_socket():
    """Else the tests of many workers would show less than they are to."""
    ours, theirs = open_pair()
    with ours, theirs:
        assert not all(try_send(ours, b"\0" * 16, []) for _ in range(MANY_WORKERS))


def test_hundreds_of_workers_start_and_end(start):
    """More than orders to fork them have room in a socket."""
    ended = start(
        """
        import mmap, os, sys
        from job_stream import Work

        count = int(sys.argv[1])
        here, all_here = mmap.mmap(-1, count), os.eventfd(0, os.EFD_SEMAPHORE)
        w = Work(range(count), cpus=count)

        @w.job
        def wait_for_all(number):
            here[number] = 1
            if 0 not in here[:]:  # the last, or one of several that see it
                os.eventfd_write(all_here, count)
            os.eventfd_read(all_here)
            return os.getpid()

        print(len(set(w.run())))
        """,
        MANY_WORKERS,
    ).ended()
    assert (ended.code, ended.out) == (0, f"{MANY_WORKERS}\n"), ended.err


def test_hundreds_of_workers_that_have_hardly_begun_end_with_an_error(start):
    ended = start("""
        import signal
        from job_stream import Work

        w = Work(range(1200), cpus=600)

        @w.job
        def fail(work):
            if work == 5:
                raise LookupError
            signal.pause()
        w.run()
    """).ended()
    assert ended.code == 1
    assert ended.err.rstrip().endswith("LookupError"), ended.err


# --- words --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.EAGAIN, "ulimit -u"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENOMEM, "memory"),
    ],
)
def test_errors_of_limits_name_the_limit(number, words):
    error = explained(OSError(number, os.strerror(number)), "it cannot go on")
    assert type(error) is LimitError
    assert str(error).startswith(f"it cannot go on ({errno.errorcode[number]}): ")
    assert words in str(error)


def test_other_errors_stay_what_they_are():
    for error in (OSError(errno.EPERM, ""), RuntimeError("mine"), TimeoutError(), ValueError()):
        assert explained(error, "it cannot go on") is error
