"""What a job does about the programs that it starts: they are no ranks, and end with it, whatever ends it.

A job in a process of its own adopts what its programs leave running, and is asked to end, not killed, when its worker
dies: then it ends all of them first. Where the job itself is killed, the kernel ends the program.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .isolation import descendants

__all__ = ["be_guardian", "dying_with_starter", "end_children", "environment_without_ranks"]

_RANK_VARIABLES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "MPI_LOCAL", "HYDRA_", "HYDI_")
"""By these a program would take itself for a rank of this run."""

_PDEATHSIG, _SUBREAPER = 1, 36
"""Numbers of ``prctl``."""


def environment_without_ranks(added: Mapping[str, str]) -> dict[str, str]:
    """That of this process, in which a program is no rank, with these variables."""
    return {**{name: text for name, text in os.environ.items() if not name.startswith(_RANK_VARIABLES)}, **added}


def _prctl() -> Callable[..., object]:
    from ctypes import CDLL

    found: Callable[..., object] = CDLL(None).prctl
    return found


def dying_with_starter() -> Callable[[], object]:
    """What a program calls before it begins (``preexec_fn``): it ends with the process that started it."""
    prctl = _prctl()
    return lambda: prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def be_guardian(say: Callable[[], object] = lambda: None) -> None:
    """In a process that a job has for itself: has all that it starts end with it; ``say`` is called before that."""

    def end(*_: Any) -> None:
        end_children()
        with suppress(OSError, ValueError):  # nothing is to keep this process alive
            say()
        os.kill(os.getpid(), signal.SIGKILL)

    prctl = _prctl()
    signal.signal(signal.SIGTERM, end)
    prctl(_SUBREAPER, 1, 0, 0, 0)
    prctl(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_children() -> None:
    """Ends all that came of this process's programs, and what that starts meanwhile; what is another user's stays."""
    is_done = False
    while not is_done:
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        is_done = True
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                is_done = False
                with suppress(ChildProcessError):  # of a child, which will be ours
                    os.waitpid(pid, 0)
