"""Ranks that exchange messages through MPI, where no death is survived.

Each message is one MPI message with the head and, where it is small, the body; a large body follows in pieces on a tag
of its own, sent from where its buffers lie. The head tells the sizes of the pieces, so that they can be received right
into their place. MPI keeps the order between two ranks on each tag; since bodies are received in the order of their
heads, that is all that is needed to match them.

Nothing here waits once the ranks have come together: all sends and receives are started and then tested.
"""

from __future__ import annotations

import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..memory.codec import INLINE_BYTES
from .base import GIVEN_UP, RanksTransport
from .channel import BODY, HEAD, Arriving, MpiChannel, Sending
from .cpus import Grant
from .meeting import meet
from .pieces import cut_up
from .transport import News, Room

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["MpiTransport"]

PIECE_BYTES = 512 << 20
HEADS_AT_ONCE = 256
"""Messages taken up in one poll, so that a flood doesn't keep it from returning."""

_PREFIX = struct.Struct("<BI")
_INLINE = 0x80


class MpiTransport(RanksTransport[MpiChannel]):
    """The ranks of MPI's world.

    Args:
        mpi: the initialised module ``mpi4py.MPI``.
        grant: CPUs of this rank.
        piece_bytes: size limit of the pieces of a body.

    Raises:
        WorldError: the ranks cannot come together, since one of them has died.
    """

    def __init__(self, mpi: Any, grant: Grant, piece_bytes: int = PIECE_BYTES) -> None:
        comm, grants, _ = meet(mpi, grant)
        super().__init__(mpi, comm, grants, [MpiChannel(rank) for rank in range(len(grants))])
        self._piece_bytes = piece_bytes
        self._status = mpi.Status()
        self._buried: list[Any] = []

    # sending ----------------------------------------------------------------------------------------------------------

    def _send(self, channel: MpiChannel, kind: int, head: bytes, views: list[memoryview], keep: object) -> None:
        if sum(view.nbytes for view in views) <= INLINE_BYTES:
            inline = b"".join(views)
            data = b"".join((_PREFIX.pack(kind | _INLINE, len(inline)), inline, head))
            self._start(channel, Sending(HEAD, data, None))
            return
        pieces = list(cut_up(views, self._piece_bytes))
        sizes = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))
        self._start(channel, Sending(HEAD, b"".join((_PREFIX.pack(kind, len(pieces)), sizes, head)), None))
        for piece in pieces:
            self._start(channel, Sending(BODY, piece, keep))

    def _start(self, channel: MpiChannel, sending: Sending) -> None:
        """Sends, or waits until there is room for it; what comes after something that waits does so, too."""
        if channel.waiting or not channel.may_start(sending):
            channel.waiting.append(sending)
        else:
            self._post(channel, sending)

    def _post(self, channel: MpiChannel, sending: Sending) -> None:
        data = sending.data
        sending.request = self._comm.Isend([data, len(data), self._mpi.BYTE], channel.rank, sending.tag)
        channel.sending.append(sending)
        channel.limited += sending.limited
        self._moving.add(channel)

    # receiving --------------------------------------------------------------------------------------------------------

    def _take_up(self, news: list[News]) -> None:
        """Starts to receive the heads that have arrived."""
        comm, mpi, status = self._comm, self._mpi, self._status
        for _ in range(HEADS_AT_ONCE):
            message = comm.Improbe(mpi.ANY_SOURCE, HEAD, status)
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

    def _move(self, channel: MpiChannel, room: Room, news: list[News]) -> None:
        sending, waiting, heads, arriving = channel.sending, channel.waiting, channel.heads, channel.arriving
        while sending and sending[0].request.Test():
            channel.limited -= sending.popleft().limited
        while waiting and channel.may_start(waiting[0]):
            self._post(channel, waiting.popleft())
        while heads and heads[0][1].Test():
            message = self._open(channel.rank, heads.popleft()[0], room)
            if message.kind == GIVEN_UP:
                self._arrived(channel, GIVEN_UP, message.head, None, news)  # what came before may never be whole
            else:
                arriving.append(message)
        while arriving and _is_whole(arriving[0].requests):
            message = arriving.popleft()
            self._arrived(channel, message.kind, message.head, message.token, news)

    def _open(self, rank: int, data: bytearray, room: Room) -> Arriving:
        """Reads a head, and starts to receive the body."""
        kind, count = _PREFIX.unpack_from(data)
        view = memoryview(data)[_PREFIX.size :]
        if kind & _INLINE:
            return Arriving(kind ^ _INLINE, bytes(view[count:]), _filled(view[:count], room), deque())
        sizes = struct.unpack_from(f"<{count}Q", view)
        body, token = room(sum(sizes))
        requests: deque[MPI.Request] = deque()
        start = 0
        for size in sizes:
            piece = body[start : start + size]
            requests.append(self._comm.Irecv([piece, size, self._mpi.BYTE], rank, BODY))
            start += size
        return Arriving(kind, bytes(view[8 * count :]), token, requests)

    # the end of ranks -------------------------------------------------------------------------------------------------

    def _expel(self, channel: MpiChannel) -> None:
        channel.waiting.clear()
        self._tell_given_up(channel, channel.rank)

    def _drop(self, channel: MpiChannel) -> None:
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
        self._stop_receiving(channel)

    def _bury(self, request: MPI.Request, data: object) -> None:
        """Keeps the memory of a request that MPI may still use."""
        with suppress(self._mpi.Exception):
            if not request.Test():
                self._buried.append((request, data))

    def _stop_receiving(self, channel: MpiChannel) -> None:
        channel.heads.clear()
        channel.arriving.clear()


def _is_whole(requests: deque[MPI.Request]) -> bool:
    while requests and requests[0].Test():
        requests.popleft()
    return not requests


def _filled(data: memoryview, room: Room) -> Any:
    """The token of a body that came with its head."""
    if not data:
        return None
    body, token = room(len(data))
    body[:] = data
    return token
