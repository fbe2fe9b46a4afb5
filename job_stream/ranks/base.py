"""What all ways between ranks have in common: ranks leave, are given up, and come to an end.

How bytes travel is left to those that build on it: ``mpi`` and ``sockets``.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import struct
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import EngineError
from ..memory.buffers import plain_room
from ..memory.payload import Buffer
from .cpus import Grant, shares
from .transport import Left, Lost, News, Peer, Received, Room

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["GIVEN_UP", "LEAVING", "MESSAGE", "Channel", "RanksTransport"]

MESSAGE, LEAVING, GIVEN_UP = range(3)
"""The kinds of messages."""
_RANK = struct.Struct("<I")

ABORT_S = 5
"""How long MPI may take to end this process: some libraries wait for hosts that are gone."""
LEAVE_POLL_S = 10e-3
BUSY_POLL_S = 1e-3
_OPEN, _LEAVING, _CLOSED = range(3)


class Channel(ABC):
    """What is under way between this rank and another.

    Attributes:
        left: whether it has said that nothing more comes from it.
        ended: whether it has left or was lost.
    """

    __slots__ = ("ended", "left", "rank")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.ended = False
        self.left = False

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return self.count > 0

    @property
    @abstractmethod
    def count(self) -> int:
        """How many messages, or pieces of them, are under way."""

    @property
    @abstractmethod
    def large(self) -> bool:
        """Whether something is under way that is worth polling soon."""


C = TypeVar("C", bound=Channel)


class RanksTransport(ABC, Generic[C]):
    """The ranks of MPI's world, once they have come together.

    Args:
        mpi: the initialised module ``mpi4py.MPI``.
        comm: a communicator of our own.
        grants: of all ranks.
        channels: to all ranks.
    """

    recovers = False

    def __init__(self, mpi: Any, comm: MPI.Intracomm, grants: tuple[Grant, ...], channels: list[C]) -> None:
        self._mpi = mpi
        self._comm = comm
        self.grants = grants
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        cpus = shares(grants)
        self.peers = tuple(Peer(each.host, cpus[rank], each.pid, each.memory) for rank, each in enumerate(grants))
        self.expelled = False
        self._channels = channels
        self._channels[self.rank].ended = True
        self._moving: set[C] = set()
        self._lock = threading.RLock()
        self._state = _OPEN
        self._whole = True

    # the seam ---------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(channel.large for channel in self._moving)

    @property
    def under_way(self) -> dict[int, int]:
        return {channel.rank: channel.count for channel in self._moving}

    def send(self, rank: int, head: bytes, buffers: Sequence[Buffer] = (), keep: object = None) -> None:
        with self._lock:
            if self._state != _OPEN:
                return
            if rank == self.rank:
                raise EngineError(f"rank {rank} sends a message to itself")
            self._tell(self._channels[rank], MESSAGE, head, buffers, keep)

    def poll(self, room: Room) -> list[News]:
        with self._lock:
            news: list[News] = []
            if self._state == _CLOSED:
                return news
            self._take_up(news)
            if self._moving:
                for channel in tuple(self._moving):
                    self._move(channel, room, news)
                    if not channel.busy:
                        self._moving.discard(channel)
            self._watch(news)
            return news

    def give_up(self, rank: int) -> None:
        with self._lock:
            for channel in self._channels:
                if channel.rank != rank:
                    self._tell_given_up(channel, rank)
            self._expel(self._channels[rank])
            self._forget(self._channels[rank])

    def still(self) -> AbstractContextManager[Any]:
        return self._lock

    # how bytes travel -------------------------------------------------------------------------------------------------

    @abstractmethod
    def _send(self, channel: C, kind: int, head: bytes, views: list[memoryview], keep: object) -> None:
        """Starts to send a message; the views are not empty."""

    @abstractmethod
    def _take_up(self, news: list[News]) -> None:
        """Looks who has sent something."""

    @abstractmethod
    def _move(self, channel: C, room: Room, news: list[News]) -> None:
        """Moves on what is under way with one rank."""

    @abstractmethod
    def _expel(self, channel: C) -> None:
        """Tells a rank, if that is possible, that it has been given up."""

    @abstractmethod
    def _drop(self, channel: C) -> None:
        """Drops all that is under way with a rank."""

    @abstractmethod
    def _stop_receiving(self, channel: C) -> None:
        """Drops what has come from a rank that has left; what is on its way there goes on."""

    def _watch(self, news: list[News]) -> None:
        """Looks who has died, where that can be survived."""

    def _hang_up(self) -> None:
        """Frees what this process has for the others."""

    # what the messages mean -------------------------------------------------------------------------------------------

    def _tell(self, channel: C, kind: int, head: bytes, buffers: Sequence[Buffer] = (), keep: object = None) -> None:
        farewell = kind == LEAVING and channel.left  # it has left, and waits for the others to leave, too
        if not channel.ended or farewell:
            views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
            self._send(channel, kind, head, views, keep)

    def _tell_given_up(self, channel: C, rank: int) -> None:
        self._tell(channel, GIVEN_UP, _RANK.pack(rank))

    def _arrived(self, channel: C, kind: int, head: bytes, token: Any, news: list[News]) -> None:
        if kind == LEAVING:
            channel.left = channel.ended = True
            news.append(Left(channel.rank))
            self._stop_receiving(channel)
        elif kind == GIVEN_UP:
            (rank,) = _RANK.unpack(head)
            self._lose(rank, news)
        else:
            news.append(Received(channel.rank, head, token))

    def _lose(self, rank: int, news: list[News]) -> None:
        """A rank has died, or has been given up: perhaps this one."""
        if rank == self.rank:
            self.expelled = True
        elif self._channels[rank].ended:
            return
        news.append(Lost(rank))
        self._forget(self._channels[rank])

    def _forget(self, channel: C) -> None:
        """Forgets a rank without its having left."""
        if not channel.ended:
            self._whole = False
            channel.ended = True
            self._drop(channel)
            self._moving.discard(channel)

    # the end of this rank ---------------------------------------------------------------------------------------------

    def leave(self, patience_s: float | None) -> bool:
        """Tells the others that nothing more comes from here, and sleeps until all have left.

        Args:
            patience_s: how long to wait; None: as long as it takes.

        Returns: whether all have left.
        """
        end = None if patience_s is None else monotonic() + patience_s
        with self._lock:
            if self._state == _OPEN:
                self._state = _LEAVING
                for channel in self._channels:
                    self._tell(channel, LEAVING, b"")
        while True:
            self.poll(plain_room)
            if not self._moving and all(channel.ended for channel in self._channels):
                return True
            if self.expelled or (end is not None and monotonic() > end):
                return False
            sleep(BUSY_POLL_S if self._moving else LEAVE_POLL_S)

    def close(self) -> None:
        """Finalises MPI, after all have left. That would hang if one has died."""
        with self._lock:
            self._state = _CLOSED
            self._hang_up()
            if self._whole and not self._mpi.Is_finalized():
                self._mpi.Finalize()

    def abort(self, status: int = 1) -> None:
        """Ends all ranks at once, this one too; one that the others live on without ends alone."""
        with self._lock:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            if self.expelled:
                os.kill(os.getpid(), signal.SIGKILL)  # MPI reports no other death to the others
            _end_within(ABORT_S)
            self._comm.Abort(status)


def _end_within(seconds: float) -> None:
    """Has this process end with 1 after some time, whatever it is doing then: a call to MPI may never come back."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115 -- stays open until then
    faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
