"""What a run came to: the program's exit status, and whether it crashed or ended by its own doing. No clock, no input.

The rule. Ranks that fail take the others down, so the *first* end that is not 0 is the cause of all. If the program
ended by itself, with an exit code, that is its answer: Python ends so after an exception, and so does ``sys.exit``.
If it was killed by a signal, or is gone without a word with its host, it crashed; exit codes above 128 are what shells
make of signals. Ctrl-C is no crash. Where MPI survives the death of ranks, such ends count for rank 0 only, and for
ranks that the others still wait for. What mpirun ends with is asked only where no rank has an answer.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

from ..ground.texts import signal_name

__all__ = ["INTERRUPTED", "End", "Outcome", "cause", "exit_code", "judge"]

_SIGNALLED = 128
INTERRUPTED = _SIGNALLED + signal.SIGINT
LOST = _SIGNALLED + signal.SIGKILL
"""The exit status where a rank is gone and nobody knows how."""
_ABORTED = 1, 14, 120
"""How other ranks end when mpirun is lost with a host: MPI ends them with 1, as Python does after an exception, or with
its unknown error, 14 in Open MPI; 120 is Python's when nobody takes its output any more."""


class End(NamedTuple):
    """How the program ended at a rank.

    Attributes:
        rank: its number.
        status: exit code; a signal as a negative number; None: gone without a word.
        host: name of its machine.
        pid: its usher's process.
        joined: whether the rank had found the others before.
    """

    rank: int
    status: int | None
    host: str = ""
    pid: int = 0
    joined: bool = False

    def __str__(self) -> str:
        where = f"rank {self.rank} (process {self.pid} on {self.host})"
        if self.status is None:
            return f"{where} is lost"
        if self.status < 0:
            return f"{where} was killed by {signal_name(-self.status)}"
        return f"{where} ended with {self.status}"


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        code: exit status to end with.
        is_crash: something outside of the program's will ended it, so it may be worth another try.
        why: what happened, where it did not end by its own doing.
    """

    code: int
    is_crash: bool = False
    why: str = ""


def cause(ends: Sequence[End], recovers: bool) -> End | None:
    """The end that was the cause of all others; None: no rank has failed.

    Args:
        ends: in the order in which they came.
        recovers: MPI survives the death of ranks other than 0, once all have joined.
    """
    lost = None
    for end in ends:
        is_survived = recovers and end.rank and end.joined and (end.status is None or end.status < 0)
        lost = lost or (end if end.status is None else None)
        if end.status != 0 and not is_survived:
            return lost if lost and end.status in _ABORTED else end
    return None


def judge(ends: Sequence[End], running: int, launcher: int, recovers: bool) -> Outcome:
    """What a run came to whose launcher has ended.

    Args:
        ends: of ranks, in the order in which they came, without those that the launcher had to bring about.
        running: ranks whose program still ran then.
        launcher: exit code of mpirun; a signal as a negative number.
        recovers: MPI survives the death of ranks other than 0.
    """
    failed = cause(ends, recovers)
    if failed is not None:
        code = LOST if failed.status is None else exit_code(failed.status)
        is_crash = code > _SIGNALLED and code != INTERRUPTED
        return Outcome(code, is_crash, str(failed) if is_crash else "")
    if any(end.rank == 0 for end in ends):
        return Outcome(0)
    code = exit_code(launcher)
    if running:
        return Outcome(code or 1, True, f"mpirun ended with {code} while {running} ranks were running")
    if code == 0:
        return Outcome(0)
    return Outcome(code, True, f"mpirun ended with {code} before any rank had come up")


def exit_code(status: int) -> int:
    """A status as shells have it: 128 and the number of the signal where it was one."""
    return _SIGNALLED - status if status < 0 else status
