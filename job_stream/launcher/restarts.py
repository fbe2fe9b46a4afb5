"""Starting a program again after a crash: with growing pauses, within the time limit, never against the user's will.

A program that ended by its own doing is not started again, nor one that was asked to end. ``verdict`` has the rule for
what is a crash. When nothing came up at all, the first time, the mistake is in the command, and there is no second try.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping
from time import monotonic
from typing import NamedTuple, Protocol

from ..ground.environment import TIME_LIMIT
from .signal_queue import SignalQueue
from .verdict import Outcome, exit_code

__all__ = ["FIRST_PAUSE_S", "LONGEST_PAUSE_S", "Limits", "keep_running", "say"]

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LEAST_S = 5.0
"""Time that has to be left for another try."""
UNLUCKY = 213
"""What mpirun ends with when its own server could not begin, because of what others do or have left on this machine."""


class Limits(NamedTuple):
    """What may be spent.

    Attributes:
        restarts: how often to start again.
        seconds: for all together; None: no limit.
    """

    restarts: int
    seconds: float | None


class Running(Protocol):
    """A run under way."""

    @property
    def came_up(self) -> bool: ...

    def wait(self) -> Outcome: ...


def keep_running(start: Callable[[Mapping[str, str]], Running], limits: Limits, signal_queue: SignalQueue) -> int:
    """Runs a program to its end.

    Args:
        start: starts it, with additions to the environment.
        limits: what may be spent.
        mailbox: of signals.

    Returns:
        The exit status.
    """
    end = None if limits.seconds is None else monotonic() + limits.seconds
    came_up = False
    for attempt in range(limits.restarts + 1):
        run, outcome = _tried(lambda: start(_what_is_left(end)), signal_queue)
        came_up = came_up or run.came_up
        if signal_queue.ending is not None:
            return outcome.code if run.came_up else exit_code(-signal_queue.ending)
        if outcome.why:
            say(outcome.why)
        if not outcome.is_crash or not came_up or attempt == limits.restarts:
            break
        pause_s = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
        if end is not None and monotonic() + pause_s + LEAST_S > end:
            say("there is no time left to start again")
            break
        say(f"starting again in {pause_s:g} s ({attempt + 1} of {limits.restarts})")
        _sleep(pause_s, signal_queue)
        if signal_queue.ending is not None:
            return exit_code(-signal_queue.ending)
    return outcome.code


def _what_is_left(end: float | None) -> dict[str, str]:
    """The time limit of a try, as an addition to its environment."""
    return {} if end is None else {TIME_LIMIT.name: f"{end - monotonic():.1f}"}


def _tried(start: Callable[[], Running], signal_queue: SignalQueue) -> tuple[Running, Outcome]:
    """A run to its end; where mpirun had bad luck at its start there is another try."""
    run = start()
    outcome = run.wait()
    if outcome.code == UNLUCKY and not run.came_up and signal_queue.ending is None:
        run = start()
        outcome = run.wait()
    return run, outcome


def _sleep(seconds: float, signal_queue: SignalQueue) -> None:
    """Sleeps until somebody asks for the end."""
    end = monotonic() + seconds
    while signal_queue.ending is None and (left := end - monotonic()) > 0:
        select.select([signal_queue], [], [], left)
        signal_queue.take()


def say(text: str) -> None:
    """Tells the user."""
    print(f"job_stream: {text}", file=sys.stderr, flush=True)
