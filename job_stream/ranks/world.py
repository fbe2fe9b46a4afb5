"""The world: which ranks there are, told by the launcher's environment variables, and how this process joins them.

A script that no launcher started is a world of its own and needs no MPI. One that was started with others joins them
through MPI, once per process, and takes part in the end of the world too: ranks come to their ends at very different
times, and none may make the others wait for ever.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import JobStreamError, WorldError
from ..ground.environment import RANKS, USHER, WORLD_PID, number_in
from .cpus import Grant, narrow_binding, own_grant, shares
from .local import LocalTransport
from .transport import Transport

if TYPE_CHECKING:
    from .base import RanksTransport

__all__ = ["Launch", "is_the_rank", "launched", "rank_of", "size_of", "world"]

GRACE_S = 1.0
"""How long rank 0 waits for the others to end when all have failed with the same exception."""

UNBOUND = {
    "Open MPI": "mpirun --bind-to none",
    "MPICH": "mpiexec -bind-to none",
    "Slurm": "srun --cpu-bind=none",
}


class Launch(NamedTuple):
    """What a launcher says about this process.

    Attributes:
        launcher: ``Open MPI``, ``MPICH`` (and its relatives) or ``Slurm``.
        rank: number of this process.
        size: how many there are.
        local_rank: number of this process on its host; None: not known.
        local_size: how many there are on its host; None: not known.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int | None
    local_size: int | None


# rank, size, rank on the host, size on the host; the first that are there count, since MPI launchers run inside Slurm.
# A batch script of Slurm is no rank, though it has SLURM_PROCID=0 and SLURM_NTASKS: only tasks of srun know a step.
_LAUNCHERS = (
    (
        *("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        *("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ),
    ("MPICH", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    ("Slurm", "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
    ("Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", ""),
)


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What the launcher says about this process; None: there was none, or JOBS_RANKS=1 says to be alone.

    Raises:
        WorldError: JOBS_RANKS is not 1.
    """
    if RANKS.read(environment):
        return None
    for launcher, rank_name, size_name, local_rank, local_size in _LAUNCHERS:
        numbers = (number_in(environment.get(name, "")) for name in (rank_name, size_name, local_rank, local_size))
        rank, size, *local = numbers
        if rank is not None and size:
            return Launch(launcher, rank, size, *local)
    return None


def is_the_rank() -> bool:
    """Whether this process is the one that was launched: its children inherit what says so, but are no ranks."""
    return WORLD_PID.read() == str(os.getpid())


def rank_of() -> int:
    """The rank of this process; known before MPI is initialised, and in lanes too."""
    launch = launched()
    return launch.rank if launch else 0


def size_of() -> int:
    """How many ranks there are; known before MPI is initialised, and in lanes too."""
    launch = launched()
    return launch.size if launch else 1


class _World:
    """The world of this process, joined when it is first asked for.

    Attributes:
        status: the exit code by which the script tells that it was asked to end; 0: it was not.
    """

    def __init__(self) -> None:
        self.status = 0
        self._renew()
        os.register_at_fork(after_in_child=self._renew)
        self._transport: Transport | None = None
        self._ending: _Ending | None = None
        self._asked = False
        if launched({**os.environ, RANKS.name: ""}):
            os.environ.setdefault(WORLD_PID.name, str(os.getpid()))
            atexit.register(self._attend)

    def _renew(self) -> None:
        """Also in a forked process: another thread may have been joining the others, and would have the lock for ever.
        """
        self._lock = threading.Lock()

    def __call__(self) -> Transport:
        with self._lock:
            self._asked = True
            if self._transport is None:
                self._transport = self._join()
            return self._transport

    def _attend(self) -> None:
        """Joins the others at the end of a script that never did: they may be waiting for it inside MPI, for ever.

        Open MPI's launcher ends them at once if this rank has failed. A script that uses MPI itself is left alone.
        """
        if self._asked or not is_the_rank() or "mpi4py.MPI" in sys.modules:
            return
        error = getattr(sys, "last_value", None)
        if not _others_wait(failed=error is not None):
            return
        with suppress(JobStreamError):  # then the others fail by themselves, too
            self()
            if self._ending is not None and self.status:
                self._ending.abort(self.status)
            elif self._ending is not None:
                self._ending.end(error)

    def _join(self) -> Transport:
        launch, grant = launched(), own_grant()
        if launch is None or not is_the_rank():
            return LocalTransport(shares([grant])[0])
        if launch.size == 1:
            _warn(narrow_binding([grant], UNBOUND[launch.launcher]))
            return LocalTransport(shares([grant])[0])
        transport = _join_mpi(launch, grant)
        self._ending = _Ending(transport)
        return transport


world = _World()
"""``world()``: the transport to the other ranks, or one without others. The first call joins them, and waits for them.

Raises:
    WorldError: the ranks cannot come together.
    PlanError: JOBS_CPUS is not a number above 0.
"""


def _others_wait(failed: bool) -> bool:
    """Whether there are others that would wait inside MPI for a process that ends without having joined them."""
    if RANKS.is_set():
        return False
    launch = launched()
    if launch is None or launch.size == 1 or (failed and launch.launcher == "Open MPI"):
        return False
    return launch.launcher != "Slurm" or "PMIX_RANK" in os.environ


def _join_mpi(launch: Launch, grant: Grant) -> Transport:
    from .rollcall import RollCall

    with RollCall(launch.rank, launch.size, launch.local_size):
        transport = _met(launch, grant)
    _tell_usher()
    if transport.rank == 0:
        _warn(narrow_binding(transport.grants, UNBOUND[launch.launcher]))
    return transport


def _met(launch: Launch, grant: Grant) -> RanksTransport[Any]:
    """Comes together with the others."""
    from .meeting import recovers, start

    one_host = launch.local_size == launch.size
    mpi = start(one_host)
    size = mpi.COMM_WORLD.Get_size()
    if size != launch.size:
        library = mpi.Get_library_version().splitlines()[0].strip(" \0,")
        mpi.Finalize()
        raise WorldError(_mismatch(launch, size, library))
    return _with_sockets(mpi, grant, one_host) if recovers() else _through_mpi(mpi, grant)


def _with_sockets(mpi: Any, grant: Grant, one_host: bool) -> RanksTransport[Any]:
    from .addresses import own_addresses
    from .sockets import SocketTransport

    return SocketTransport(mpi, grant, [] if one_host else own_addresses())


def _through_mpi(mpi: Any, grant: Grant) -> RanksTransport[Any]:
    from .mpi import MpiTransport

    return MpiTransport(mpi, grant)


def _tell_usher() -> None:
    """Tells who started this rank for ``job_stream`` that it has joined the others, which can do without it now."""
    if name := USHER.read():
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.sendto(b"joined", socket.MSG_DONTWAIT, f"\0{name}")


def _mismatch(launch: Launch, size: int, library: str) -> str:
    found = f"{launch.launcher} started {launch.size} processes, but MPI ({library}) sees {size}"
    if launch.launcher == "Slurm":
        return (
            f"{found}: start them with srun --mpi=pmix (srun --mpi=list shows what there is) or with mpirun, "
            "or set JOBS_RANKS=1 to let each process work alone"
        )
    return f"{found}: use the mpirun of the same MPI library (which mpirun; python -m mpi4py --mpi-lib-version)"


def _warn(text: str | None) -> None:
    if text is not None:
        print(text, file=sys.stderr, flush=True)


class _Ending:
    """The end of this process as a rank.

    A rank that comes to its end waits, asleep, until all have: only then may MPI be finalised. One that fails ends all
    the others, unless they failed together.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._pid = os.getpid()
        self._error: BaseException | None = None
        self._untold: tuple[Any, Any, Any] | None = None
        self._hook = sys.excepthook
        sys.excepthook = self._failed
        atexit.register(self.end)

    def _failed(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() == self._pid:
            self._error = error
            if _is_shared(error) and self._transport.rank and not self._transport.expelled:
                self._untold = kind, error, trace
                return
            if isinstance(error, KeyboardInterrupt) and isinstance(error.__context__, KeyboardInterrupt):
                error.__context__ = None  # the same key press: another rank told of it before it came here
        self._hook(kind, error, trace)

    def end(self, error: BaseException | None = None) -> None:
        """Ends this process's part; ``error`` has ended the script."""
        if os.getpid() != self._pid:
            return
        self._error = self._error or error
        try:
            if not self._left_on_key_press():
                self._transport.abort()
        except BaseException:
            self._transport.abort()
            raise

    def abort(self, status: int) -> None:
        """Ends all ranks with an exit code."""
        self._transport.abort(status)

    def _left_on_key_press(self) -> bool:
        try:
            return self._left()
        except KeyboardInterrupt:
            if not isinstance(self._error, KeyboardInterrupt):
                raise
            return self._left()  # the same key press: another rank told of it before it came here

    def _left(self) -> bool:
        """Whether all ranks have come to their ends."""
        if self._transport.expelled or (self._error is not None and not _is_shared(self._error)):
            return False
        if not self._transport.leave(self._poll_policy()):
            if self._untold is not None:  # rank 0 would have ended this process before, had it the same to say
                self._hook(*self._untold)
            return False
        self._transport.close()
        return True

    def _poll_policy(self) -> float | None:
        """How long to wait for the others. Rank 0 has the traceback to print, and so is the first to lose patience."""
        if self._error is None:
            return None
        return 3 * GRACE_S if self._transport.rank else GRACE_S


def _is_shared(error: BaseException) -> bool:
    """Whether all ranks raise this exception, so that one of them may speak for all; a key press reaches all, too."""
    return isinstance(error, KeyboardInterrupt) or bool(getattr(error, "_job_stream_shared", False))
