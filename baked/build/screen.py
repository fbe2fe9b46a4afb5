"""What a run says, on stderr: counts before it, failures at once, and one line at the end."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .joblogs import log_path
from .mishaps import JobTraceback, text_of

if TYPE_CHECKING:
    from .errands import JobOutcome
    from .job import BuildJob
    from .outcome_report import BuildReport
    from .planning import BuildPlan
    from .running import BuildRun

__all__ = ["Screen", "last_line", "place_in"]

INTERVAL_S = 10.0
"""The least time between two lines of progress where there is no terminal."""


class Screen:
    """The lines of one build.

    Args:
        is_quiet: whether only failures and warnings are said.
        logs: the folder with outputs of jobs.
        name: what lines begin with.
    """

    def __init__(self, is_quiet: bool, logs: str, name: str = "build") -> None:
        self.name = name
        self._is_quiet = is_quiet
        self._logs = logs
        self._warned: set[str] = set()
        self._last = time.monotonic()
        self._width = 0

    def say(self, text: str) -> None:
        """A line, whatever happens to those of others."""
        self._wipe()
        _write(f"{text}\n")

    def warn(self, text: str) -> None:
        """A line that is said once, unless only failures are to be said."""
        if text not in self._warned and not self._is_quiet:
            self._warned.add(text)
            self.say(f"{self.name}: {text}")

    def plan(self, plan: BuildPlan, limit: int | None) -> None:
        if not self._is_quiet:
            self.say("\n".join([plan.summary, *plan.lines(limit)]))

    def end(self, report: BuildReport) -> None:
        if not self._is_quiet:
            self._wipe()
            self.say(str(report))

    # while it runs ----------------------------------------------------------------------------------------------------

    def progress(self, run: BuildRun) -> None:
        """One line that changes at a terminal; else a line every now and then."""
        if self._is_quiet:
            return
        now, is_live = time.monotonic(), _is_terminal()
        if now - self._last < (0.1 if is_live else INTERVAL_S):
            return
        self._last = now
        text = run.told()
        if is_live:
            width = max(os.get_terminal_size(2).columns - 1, 20)
            _write(f"\r{text[:width]:<{min(self._width, width)}}")
            self._width = len(text)
        else:
            self.say(text)

    def _wipe(self) -> None:
        if self._width:
            _write(f"\r{'':<{self._width}}\r")
            self._width = 0

    def failed(self, job: BuildJob, error: BaseException) -> None:
        """At once, whatever else is said."""
        self.say(f"{self.name}: {job.shown} failed: {last_line(error)}{self.log_of(job.id)}")

    def log_of(self, job_id: str) -> str:
        """Where its output is, if there is any."""
        paths = [log_path(self._logs, job_id, suffix) for suffix in ("err", "out")]
        found = [path for path in paths if os.path.exists(path) and os.path.getsize(path)]
        return f" (log: {found[0]})" if found else ""

    def echo(self, job: BuildJob, outcome: JobOutcome) -> None:
        for line in (outcome.stdout + outcome.stderr).splitlines():
            self.say(f"{job.id}: {line}")

    def failures(self, failures: Mapping[str, BaseException], jobs: Mapping[str, BuildJob]) -> str:
        """All about the failures: why each ran, what it said last, where, and its log."""
        lines = [f"{len(failures)} of the jobs failed:"]
        for job_id, error in failures.items():
            reasons = "; ".join(jobs[job_id].reasons) if job_id in jobs else ""
            place = place_in(error)
            lines.append(f"  {job_id}{f' ({reasons})' if reasons else ''}: {last_line(error)}"
                         f"{f' at {place}' if place else ''}{self.log_of(job_id)}")  # fmt: skip
        return "\n".join(lines)


def _write(text: str) -> None:
    """That nobody can read it any more (a closed pipe, a full disk, no stderr at all) is no reason to end a build.

    Where stderr is a file, nothing stays in its buffer: Python would fail to write it at the end of the script.
    """
    with suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
        if isinstance(sys.stderr, io.TextIOWrapper) and isinstance(sys.stderr.buffer, io.BufferedWriter):
            os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, sys.stderr.errors or "strict"))
        else:
            sys.stderr.write(text)
            sys.stderr.flush()


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty() and os.isatty(2)
    except (AttributeError, ValueError):
        return False


def last_line(error: BaseException) -> str:
    """Class and text, in one line."""
    lines = text_of(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def place_in(error: BaseException) -> str:
    """The innermost file and line of the user's that the traceback names."""
    cause: Any = error.__cause__
    return str(cause.args[1]) if isinstance(cause, JobTraceback) and len(cause.args) > 1 else ""
