"""Ranks that exchange messages through MPI.

Each message is one MPI message with the head and, where it is small, the body; a large body follows in pieces on a tag
of its own, sent from where its buffers lie. The head tells the sizes of the pieces, so that they can be received right
into their place. MPI keeps the order between two ranks on each tag; since bodies are received in the order of their
heads, that is all that is needed to match them.

Nothing here waits once the ranks have come together: all sends and receives are started and then tested.

With fault tolerance (``mpirun --with-ft ulfm``) MPI reports dead ranks; the others go on exchanging messages. A rank
is reported as lost only after what it had sent has been taken. MPI cannot be finalised after that: it would hang.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from ..cpus import Grant, shares
from ..errors import EngineError
from .base import Buffer, Left, Lost, News, Peer, Received, Room
from .channel import BODY, HEAD, Arriving, Channel, Sending
from .meeting import meet, recovers
from .pieces import cutUp

__all__ = ["MpiTransport"]

PIECE_BYTES = 512 << 20
INLINE_BYTES = 32 << 10
"""Bodies up to this size travel with the head."""
HEADS_AT_ONCE = 256
"""Messages taken up in one poll, so that a flood doesn't keep it from returning."""

MESSAGE, LEAVING, GIVEN_UP = range(3)
_PREFIX = struct.Struct("<BI")
_RANK = struct.Struct("<I")

WATCH_S = 0.25
"""How often to ask for dead ranks, for those that MPI reports to nobody because nothing was under way with them."""
DRAIN_S = 0.05
"""A dead rank is lost when nothing has come from it for so long."""
ABORT_S = 5
"""How long MPI may take to end this process: some libraries wait for hosts that are gone."""
LEAVE_POLL_S = 10e-3
BUSY_POLL_S = 1e-3


class MpiTransport:
    """The ranks of MPI's world.

    Args:
        mpi: the initialised module ``mpi4py.MPI``.
        grant: CPUs of this rank.
        pieceBytes: size limit of the pieces of a body.

    Raises:
        WorldError: the ranks cannot come together, since one of them has died.
    """

    def __init__(self, mpi: Any, grant: Grant, pieceBytes: int = PIECE_BYTES) -> None:
        self._mpi = mpi
        self._pieceBytes = pieceBytes
        self.rank: int = mpi.COMM_WORLD.Get_rank()
        self.size: int = mpi.COMM_WORLD.Get_size()
        self._comm, self.grants = meet(mpi, grant)
        cpus = shares(self.grants)
        self.peers = tuple(Peer(each.host, cpus[rank], each.pid) for rank, each in enumerate(self.grants))
        self.recovers = recovers()
        self._status = mpi.Status()
        self._channels = [Channel(rank) for rank in range(self.size)]
        self._channels[self.rank].ended = True
        self._moving: set[Channel] = set()
        self._dying: list[Channel] = []
        self._buried: list[Any] = []
        self._nextWatch = monotonic() + WATCH_S
        self._lock = threading.RLock()
        self._state = _OPEN
        self._whole = True
        self.expelled = False

    # the seam ---------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(channel.large for channel in self._moving) or bool(self._dying)

    @property
    def underWay(self) -> dict[int, int]:
        return {channel.rank: channel.count for channel in self._moving}

    def send(self, rank: int, head: bytes, buffers: Sequence[Buffer] = (), keep: Any = None) -> None:
        with self._lock:
            if self._state != _OPEN:
                return
            if rank == self.rank:
                raise EngineError(f"rank {rank} sends a message to itself")
            self._send(self._channels[rank], MESSAGE, head, buffers, keep)

    def poll(self, room: Room) -> list[News]:
        with self._lock:
            news: list[News] = []
            if self._state == _CLOSED:
                return news
            self._takeUp()
            if self._moving:
                for channel in tuple(self._moving):
                    self._move(channel, room, news)
            if self.recovers:
                self._watch(news)
            return news

    def giveUp(self, rank: int) -> None:
        with self._lock:
            self._channels[rank].waiting.clear()  # so that it hears of it, if it can
            for channel in self._channels:
                self._send(channel, GIVEN_UP, _RANK.pack(rank), (), None)
            self._drop(self._channels[rank])

    # sending ----------------------------------------------------------------------------------------------------------

    def _send(self, channel: Channel, kind: int, head: bytes, buffers: Sequence[Buffer], keep: Any) -> None:
        farewell = kind == LEAVING and channel.left  # it has left, and waits for the others to leave, too
        if (channel.ended and not farewell) or channel.deadline is not None:
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
        if sum(view.nbytes for view in views) <= INLINE_BYTES:
            inline = b"".join(views)
            data = b"".join((_PREFIX.pack(kind | _INLINE, len(inline)), inline, head))
            self._start(channel, Sending(HEAD, data, None))
            return
        pieces = list(cutUp(views, self._pieceBytes))
        sizes = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))
        self._start(channel, Sending(HEAD, b"".join((_PREFIX.pack(kind, len(pieces)), sizes, head)), None))
        for piece in pieces:
            self._start(channel, Sending(BODY, piece, keep))

    def _start(self, channel: Channel, sending: Sending) -> None:
        """Sends, or waits until there is room for it; what comes after something that waits does so, too."""
        if channel.waiting or not channel.mayStart(sending):
            channel.waiting.append(sending)
        else:
            self._post(channel, sending)

    def _post(self, channel: Channel, sending: Sending) -> None:
        data = sending.data
        try:
            sending.request = self._comm.Isend([data, len(data), self._mpi.BYTE], channel.rank, sending.tag)
        except self._mpi.Exception as error:
            self._check(error)
            return
        channel.sending.append(sending)
        channel.limited += sending.limited
        self._moving.add(channel)

    # receiving --------------------------------------------------------------------------------------------------------

    def _takeUp(self) -> None:
        """Starts to receive the heads that have arrived."""
        comm, mpi, status = self._comm, self._mpi, self._status
        for _ in range(HEADS_AT_ONCE):
            try:
                message = comm.Improbe(mpi.ANY_SOURCE, HEAD, status)
            except mpi.Exception as error:
                self._check(error)
                return
            if message is None:
                return
            channel = self._channels[status.Get_source()]
            data = bytearray(status.Get_count(mpi.BYTE))
            request = message.Irecv([data, len(data), mpi.BYTE])
            if channel.ended:
                self._bury(request, data)
                continue
            channel.heads.append((data, request))
            self._moving.add(channel)
            if channel.deadline is not None:
                channel.deadline = monotonic() + DRAIN_S

    def _move(self, channel: Channel, room: Room, news: list[News]) -> None:
        """Moves on what is under way with one rank."""
        sending, waiting, heads, arriving = channel.sending, channel.waiting, channel.heads, channel.arriving
        while sending and self._sent(channel, sending[0].request):
            channel.limited -= sending.popleft().limited
        while waiting and channel.mayStart(waiting[0]):
            self._post(channel, waiting.popleft())
        while heads and self._received(channel, heads[0][1]):
            message = self._open(channel.rank, heads.popleft()[0], room)
            if message.kind == GIVEN_UP and _RANK.unpack(message.head) == (self.rank,):
                self._arrived(channel, message, news)  # what came before may never be whole
            else:
                arriving.append(message)
        while arriving and self._isWhole(channel, arriving[0].requests):
            self._arrived(channel, arriving.popleft(), news)
        if not channel.busy:
            self._moving.discard(channel)

    def _arrived(self, channel: Channel, message: Arriving, news: list[News]) -> None:
        if message.kind == LEAVING:
            channel.left = True
            news.append(Left(channel.rank))
            self._end(channel)
        elif message.kind == GIVEN_UP:
            (rank,) = _RANK.unpack(message.head)
            self._lose(rank, news)
        else:
            news.append(Received(channel.rank, message.head, message.token))

    def _open(self, rank: int, data: bytearray, room: Room) -> Arriving:
        """Reads a head, and starts to receive the body."""
        kind, count = _PREFIX.unpack_from(data)
        view = memoryview(data)[_PREFIX.size :]
        if kind & _INLINE:
            return Arriving(kind ^ _INLINE, bytes(view[count:]), _filled(view[:count], room), deque())
        sizes = struct.unpack_from(f"<{count}Q", view)
        body, token = room(sum(sizes))
        requests: deque[Any] = deque()
        start = 0
        for size in sizes:
            piece = body[start : start + size]
            requests.append(self._comm.Irecv([piece, size, self._mpi.BYTE], rank, BODY))
            start += size
        return Arriving(kind, bytes(view[8 * count :]), token, requests)

    def _isWhole(self, channel: Channel, requests: deque[Any]) -> bool:
        while requests and self._received(channel, requests[0]):
            requests.popleft()
        return not requests

    def _received(self, channel: Channel, request: Any) -> bool:
        # MPI takes a request that failed for finished when it is tested again.
        return not channel.broken and self._tested(request, lambda: setattr(channel, "broken", True))

    def _sent(self, channel: Channel, request: Any) -> bool:
        return self._tested(request, lambda: None, True)

    def _tested(self, request: Any, failed: Callable[[], None], answer: bool = False) -> bool:
        try:
            return bool(request.Test())
        except self._mpi.Exception as error:
            failed()
            self._check(error)
            return answer

    # the end of ranks -------------------------------------------------------------------------------------------------

    def _check(self, error: Exception) -> None:
        """Takes note of dead ranks where an error is about them."""
        dead = (self._mpi.ERR_PROC_FAILED, self._mpi.ERR_PROC_FAILED_PENDING)
        if not self.recovers or error.Get_error_class() not in dead:  # type: ignore[attr-defined]
            raise error
        self._noteDead()

    def _noteDead(self) -> None:
        group = self._comm.Get_failed()
        if group.Get_size():
            self._comm.Ack_failed()
            for rank in group.Translate_ranks(None, self._comm.Get_group()):
                channel = self._channels[rank]
                if not channel.ended and channel.deadline is None:
                    channel.deadline = monotonic() + DRAIN_S
                    self._dying.append(channel)
                    self._whole = False
        group.Free()

    def _watch(self, news: list[News]) -> None:
        now = monotonic()
        if now >= self._nextWatch:
            self._nextWatch = now + WATCH_S
            self._noteDead()
        for channel in tuple(self._dying):
            if channel.deadline is not None and now >= channel.deadline:
                if not channel.ended:
                    news.append(Lost(channel.rank))
                self._drop(channel)

    def _lose(self, rank: int, news: list[News]) -> None:
        """Another rank has given up this one or a third."""
        if rank == self.rank:
            self.expelled = True
        elif self._channels[rank].ended:
            return
        news.append(Lost(rank))
        self._drop(self._channels[rank])

    def _drop(self, channel: Channel) -> None:
        """Forgets a rank without its having left."""
        if channel.ended:
            return
        self._whole = False
        for sending in channel.sending:
            self._bury(sending.request, sending)
        for data, request in channel.heads:
            self._bury(request, data)
        for message in channel.arriving:
            for request in message.requests:
                with suppress(self._mpi.Exception):
                    request.Cancel()
                self._bury(request, message.token)
        channel.sending.clear()
        channel.waiting.clear()
        self._end(channel)

    def _bury(self, request: Any, data: Any) -> None:
        """Keeps the memory of a request that MPI may still use."""
        with suppress(self._mpi.Exception):
            if not request.Test():
                self._buried.append((request, data))

    def _end(self, channel: Channel) -> None:
        """Nothing more comes from a rank or is sent to it; what is on its way there goes on."""
        channel.ended = True
        channel.heads.clear()
        channel.arriving.clear()
        if channel in self._dying:
            self._dying.remove(channel)
        if not channel.busy:
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
                    self._send(channel, LEAVING, b"", (), None)
        while True:
            self.poll(_nowhere)
            if not self._moving and all(channel.ended for channel in self._channels):
                return True
            if self.expelled or (end is not None and monotonic() > end):
                return False
            sleep(BUSY_POLL_S if self._moving else LEAVE_POLL_S)

    def close(self) -> None:
        """Finalises MPI, after all have left."""
        with self._lock:
            self._state = _CLOSED
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
            _endWithin(ABORT_S)
            self._comm.Abort(status)


_OPEN, _LEAVING, _CLOSED = range(3)
_INLINE = 0x80


def _endWithin(seconds: float) -> None:
    """Has this process end with 1 after some time, whatever it is doing then: a call to MPI may never come back."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115 -- stays open until then
    faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)


def _nowhere(size: int) -> tuple[memoryview, Any]:
    """Room for what nobody will look at."""
    return memoryview(bytearray(size)), None


def _filled(data: memoryview, room: Room) -> Any:
    """The token of a body that came with its head."""
    if not data:
        return None
    body, token = room(len(data))
    body[:] = data
    return token
