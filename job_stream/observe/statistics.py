"""Statistics at the end of a run: how much of the time was spent in the user's functions.

*User time* is the wall time that lanes and keepers spend on parcels: in job, frame, frameEnd, reduce, store and emit
functions, and in unpacking what these are given. Init, result and finish functions run beside them in the script's
thread, and are not counted; nor is what a worker did that died of it. *User cpu* is the CPU time of the same threads
meanwhile. So it is never more than the user time; what other threads or programs use that a function starts is not in
it, and a function that sleeps, or waits for such a program, shows as user time without user cpu. Both are shares of
what was there: lanes times wall time of the run. *Quality* is the number of CPUs' worth of user code: user time by wall
time of the run.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from ..ground.environment import COMMAND_LINE, STATS
from ..ranks.cluster import Cluster, Gone
from ..ranks.protocol import Figures
from .observer import Observer, RunBegun, RunEnded

__all__ = ["Statistics", "least_seconds", "report"]

NOTEWORTHY_S = 0.1
"""From how many seconds on a run is reported where somebody looks and nothing else is said."""

PATIENCE_S = 0.25
"""How long the end of a run waits for ranks that don't tell their figures."""


class Statistics(Observer):
    """The statistics of one run, from when this is made.

    Attributes:
        text: of a run that is over, where it is wanted and on the primary.

    Raises:
        PlanError: JOBS_STATS says neither 0 nor 1.
    """

    def __init__(self) -> None:
        self._least = least_seconds()
        self._started = monotonic()
        self._ran = 0.0
        self._own: Figures | None = None
        self._joined: Cluster | None = None
        self.text = ""

    def begun(self, run: RunBegun) -> None:
        self._joined = run.joined

    def ended(self, run: RunEnded) -> None:
        """Other ranks than the primary tell it their figures. What failed has none."""
        if run.error is not None:
            return
        self._ran = monotonic() - self._started
        if self._joined is not None and self._joined.rank:
            with suppress(Exception):  # then they are missing there
                self._joined.send(0, run.figures)
        elif self._ran >= self._least:
            self._own = run.figures

    def gather(self, room: Callable[[int], tuple[memoryview, Any]]) -> None:
        """Hears the figures of the other ranks, if they are wanted. A run that went well does not fail here."""
        if self._own is None:
            return
        try:
            others = _figures_of_others(self._joined, room) if self._joined is not None else {}
            self.text = report(self._ran, {0: self._own, **others})
        except Exception as error:
            self.text = f"job_stream: no statistics of this run: {error}"

    def show(self) -> None:
        """Writes them to standard error, if that takes them."""
        if self.text:
            with suppress(OSError):
                print(self.text, file=sys.stderr, flush=True)


def _figures_of_others(cluster: Cluster, room: Callable[[int], tuple[memoryview, Any]]) -> dict[int, Figures | str]:
    found = cluster.gather(Figures, room, PATIENCE_S)
    return {rank: found.get(rank) or _why_none(cluster.fate(rank)) for rank in range(1, cluster.size)}


def _why_none(fate: Gone | bool) -> str:
    if isinstance(fate, Gone):
        return "ended its script before this run was over" if fate.left else "died; its figures are not known"
    return f"did not tell its figures within {PATIENCE_S:g} s" if fate else "had not come to this run when it was over"


def least_seconds() -> float:
    """How many seconds a run must take to be reported.

    A library says nothing unasked: without JOBS_STATS, runs are reported to who sits at a terminal, or has used the
    command ``job_stream``, which tells how things went anyway.

    Raises:
        PlanError: JOBS_STATS is something else than 0 (never) or 1 (always).
    """
    wanted = STATS.read()
    if wanted is None:
        return NOTEWORTHY_S if COMMAND_LINE.is_set() or _is_watched() else math.inf
    return 0.0 if wanted else math.inf


def _is_watched() -> bool:
    try:
        return bool(sys.stderr.isatty())
    except Exception:  # there is none, it is closed, or it is the script's own and raises what it likes
        return False


def report(ran_s: float, ranks: Mapping[int, Figures | str]) -> str:
    """The statistics as text: a line for each rank, and one for all.

    Args:
        ran_s: how long the run took.
        ranks: figures of each rank; text that says why where there are none.
    """
    known = [figures for figures in ranks.values() if isinstance(figures, Figures)]
    lines = [f"{rank} {_line(ran_s, ranks[rank])}" for rank in sorted(ranks)]
    total = Figures(*(sum(column) for column in zip(*known, strict=True)))
    quality = total.wall_ns / 1e9 / ran_s
    return "\n".join([*lines, f"C {_shares(ran_s, total)}, quality {quality:.2f} cpus, ran {ran_s:.3f}s"])


def _line(ran_s: float, figures: Figures | str) -> str:
    if isinstance(figures, str):
        return figures
    return f"{_shares(ran_s, figures)}, {figures.messages} messages"


def _shares(ran_s: float, figures: Figures) -> str:
    whole = figures.lanes * ran_s * 1e9
    return f"{figures.wall_ns / whole:.0%} user time, {figures.cpu_ns / whole:.0%} user cpu"
