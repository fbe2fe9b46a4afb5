"""The patience of ranks that wait for others inside MPI, where one that has died may be awaited for ever.

Ranks of a host see each other by sockets without content, whose names nobody else can have: who has begun to join holds
one. So a rank that has waited for too long knows who is missing, and ends with a status that counts as a crash.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from contextlib import suppress
from time import sleep
from types import TracebackType

from ..ground.environment import JOIN_LIMIT

__all__ = ["RollCall"]

USUAL_S = 60.0
FAREWELL_S = 1.0
"""How long to be seen after that: others are about to lose patience, too, and are not to name this one."""
CRASHED = 137
"""As if killed, which it would be by who waits longer: a command line with restarts starts all again."""
JOB = "PMIX_NAMESPACE"
"""Names the job of a launcher; no other on this host has this name."""


class RollCall:
    """As a context: if the others have not come before it is left, this process ends.

    Args:
        rank: of this process.
        size: how many there are.
        local_size: how many there are on this host; None: not known.

    Raises:
        WorldError: the limit makes no sense.
    """

    def __init__(self, rank: int, size: int, local_size: int | None) -> None:
        self._rank = rank
        self._size = size
        self._local_size = local_size
        self._limit = JOIN_LIMIT.read() or USUAL_S
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="job_stream-join", daemon=True)
        self._presence = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def __enter__(self) -> None:
        with suppress(OSError):  # then nobody here can see it, and it is only named as missing
            self._presence.bind(_name_of(self._rank))
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._presence.close()

    def _watch(self) -> None:
        if not self._is_over.wait(self._limit):
            print(f"job_stream: WorldError: {self._complaint()}", file=sys.stderr, flush=True)
            sleep(FAREWELL_S)
            os._exit(CRASHED)  # the thread that waits is inside MPI, and cannot be called back

    def _complaint(self) -> str:
        return (
            f"rank {self._rank} has waited for {self._limit:g} s for the others to join, and ends: {self._missing()}; "
            f"look above, or in the logs of the hosts, for what has become of it. {JOIN_LIMIT} lets it take longer"
        )

    def _missing(self) -> str:
        here = [rank for rank in range(self._size) if rank == self._rank or _is_there(rank)]
        host = socket.gethostname()
        if self._local_size == self._size and JOB in os.environ:
            absent = [str(rank) for rank in range(self._size) if rank not in here]
            if absent:
                return f"rank {' and rank '.join(absent)} did not come"
            return "all came, but one has died since, or hangs"
        if self._local_size is not None and len(here) < self._local_size and JOB in os.environ:
            return f"of the {self._local_size} ranks on {host}, only rank {' and rank '.join(map(str, here))} came"
        return f"one that is not on {host} did not come, or has died"


def _name_of(rank: int) -> str:
    return f"\0job_stream-{os.environ.get(JOB, os.getppid())}-{rank}"


def _is_there(rank: int) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.connect(_name_of(rank))
        return True
    return False
