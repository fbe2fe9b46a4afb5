"""Fixtures, and what holds for every test: it ends, and it leaves no process behind."""

from __future__ import annotations

import compileall
import ctypes
import gc
import os
import signal
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import (
    DEADLINE_S,
    PROMPT_S,
    QUIET,
    REPOSITORY,
    Counter,
    Gate,
    Once,
    Script,
    Tally,
    descendants,
    describe,
    stretched,
    wait_until,
)

from job_stream.evaluate.context import current, leave

PR_SET_CHILD_SUBREAPER = 36
TEST_LIMIT_S = 2 * DEADLINE_S

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the conversations of ranks anew")


def pytest_configure(config: pytest.Config) -> None:
    os.environ.update(QUIET)
    sys.dont_write_bytecode = False  # else pytest would compile all tests anew each time, in each of its processes
    if not hasattr(config, "workerinput"):
        _compile()
    # An orphan comes back to this process instead of to init, and so is still found below it.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _hear_the_keyboard()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tests mostly wait for processes, so of all there are two at a time for each core; those of a room are over before
    so many workers have begun, and of a few files before one has."""
    paths = [Path(name.partition("::")[0]).resolve() for name in config.args]
    if config.option.capture == "no" or all(path.is_file() for path in paths):
        return 0
    all_rooms = not {REPOSITORY, REPOSITORY / "tests"}.isdisjoint(paths)
    return min(len(os.sched_getaffinity(0)) * (2 if all_rooms else 1), 16)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First come those that must not run beside each other, and so keep one worker busy for long; last those that make
    the process large that all others fork."""
    items.sort(key=lambda item: (_is_marked(item, "libraries"), not _is_marked(item, "xdist_group")))


def pytest_collection_finish() -> None:
    """Thousands of tests need not be looked through at each collection of garbage, here and in all that is forked."""
    gc.collect()
    gc.freeze()


def _is_marked(item: pytest.Item, name: str) -> bool:
    return item.get_closest_marker(name) is not None


def _compile() -> None:
    """Compiles what programs import, once. Where Python is to leave no bytecode, each would do so anew; elsewhere, one
    with a limit for the size of files might leave half of it."""
    for folder, depth in (("job_stream", 9), ("baked", 9), ("tests", 0)):
        compileall.compile_dir(REPOSITORY / folder, maxlevels=depth, quiet=2)


def _hear_the_keyboard() -> None:
    """A shell has what it starts in the background ignore Ctrl-C, and so all that tests start from there."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _runs_outside_of_lanes():
    """Fails a test that leaves its thread in the state of a lane: all streams after it would be nested ones."""
    yield
    evaluator = current()
    if evaluator is not None:
        leave(None)
        pytest.fail("the test's thread is that of a lane now; run the lane in another one")


@pytest.fixture(autouse=True)
def _ends():
    """Fails a test that hangs, at the place where it hangs."""

    begin = time.monotonic()

    def too_late(_signal, _frame):
        if time.monotonic() - begin > stretched(TEST_LIMIT_S):
            pytest.fail(f"the test has not ended after {time.monotonic() - begin:.0f} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT_S, 15)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _leaves_no_process(_ends):
    """Fails a test after which processes are left, and ends them so that other tests are not disturbed."""
    before = descendants()
    yield
    left = _left_after(PROMPT_S, before)
    described = [describe(pid) for pid in sorted(left)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    _left_after(PROMPT_S, before)
    _reap()
    assert not left, f"processes left behind: {described}"


def _left_after(deadline_s: float, before: set[int]) -> set[int]:
    with suppress(AssertionError):
        wait_until(lambda: descendants() <= before, "the end of all processes", deadline_s)
    return descendants() - before


def _reap() -> None:
    """Buries the orphans that came back to this process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path / "tally")


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def once(tmp_path):
    return Once(tmp_path)


@pytest.fixture
def script(tmp_path):
    """``script(source)`` writes a script and gives its path."""

    def write(source: str) -> Path:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return path

    return write


@pytest.fixture
def start(tmp_path):
    """``start(source, *arguments)`` starts a script; it is killed at the end of the test if it still runs."""
    started = []

    def start_script(source: str, *arguments: object) -> Script:
        path = tmp_path / f"script{len(started)}.py"
        path.write_text(textwrap.dedent(source))
        started.append(Script(path, arguments))
        return started[-1]

    yield start_script
    for script in started:
        script.kill()
