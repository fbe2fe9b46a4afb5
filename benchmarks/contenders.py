"""Makes contenders: job_stream, a peer, a reference in plain Python, or a script of its own process.

Only the run itself is on the clock. Starting a peer, checking the answer and collecting garbage are not.
"""

import gc
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import TypeVar

from benchmarks.harness import SUBJECT, Contender, Settings
from benchmarks.peers import Peer, started

ROOT = Path(__file__).resolve().parent.parent

Answer = TypeVar("Answer")
Check = Callable[[Answer], None]


class WrongAnswer(Exception):
    """A contender was done, but not with what it was asked for."""


def expect(expected: object) -> Check[object]:
    """A check that the answer equals `expected`."""

    def check(answer: object) -> None:
        if answer != expected:
            raise WrongAnswer(f"expected {shorten(expected)}, got {shorten(answer)}")

    return check


def unchecked(_answer: object) -> None:
    """A check for runs whose answer says nothing."""


def shorten(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def clock(run: Callable[[], Answer], check: Check[Answer]) -> float:
    """Wall seconds of `run()`."""
    gc.collect()
    begin = perf_counter()
    answer = run()
    reading = perf_counter() - begin
    check(answer)
    return reading


def ours(
    work: float,
    run: Callable[[ModuleType], Answer],
    startup: Callable[[ModuleType], object],
    check: Check[Answer] = unchecked,
    tool: str = SUBJECT,
) -> Contender:
    """job_stream doing `run(job_stream)`; `startup` is the same shape with one item. The run's summary is not shown."""

    def measure() -> float:
        library = importlib.import_module(SUBJECT)
        with redirect_stderr(io.StringIO()):
            return clock(lambda: run(library), check)

    def measure_startup() -> float:
        library = importlib.import_module(SUBJECT)
        with redirect_stderr(io.StringIO()):
            return clock(lambda: startup(library), unchecked)

    return Contender(tool, work, measure, measure_startup)


def theirs(
    peer_class: type[Peer],
    settings: Settings,
    work: float,
    run: Callable[[Peer], Answer],
    check: Check[Answer] = unchecked,
) -> Contender:
    """A peer doing `run(peer)`. It lives for one repetition, so that no idle pool stands beside another contender."""

    def measure() -> float:
        with started(peer_class, settings.workers) as peer:
            return clock(lambda: run(peer), check)

    return Contender(peer_class.name, work, measure)


def reference(tool: str, work: float, run: Callable[[], Answer], check: Check[Answer] = unchecked) -> Contender:
    """Plain serial Python doing the same work."""
    return Contender(tool, work, lambda: clock(run, check))


def run_python(*arguments: str, **variables: str) -> str:
    """The standard output of a fresh interpreter that finds this checkout, with these environment variables."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last_line = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(f"{shorten(' '.join(arguments))} ended with {done.returncode}: {last_line}")
    return done.stdout
