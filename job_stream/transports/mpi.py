"""Ranks that reach each other by MPI.

A message is a head (tag 1), which says how long the pieces of its body are, and these pieces (tag 2). Heads are found
by a matched probe, so their size need not be known; the receives of a body are posted as soon as its head is there,
in the order of the heads of that sender, and MPI matches them with the pieces in the order of sending. Small bodies
ride in the head. No call waits for another rank, and whatever MPI still reads or writes is referenced here.

Where the launcher tolerates failures (ULFM), MPI reports the death of a rank as an error of a probe, a send or a
receive. Such an error only says that it is time to look; ``Get_failed`` says who it was. It is asked now and then even
without an error, since a rank that only sends may never see one.
"""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import mpi4py

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
from mpi4py import MPI  # noqa: E402

from ..errors import WorldError  # noqa: E402
from .base import Buffer, Event, Left, Lost, Peer, Received, Room  # noqa: E402

__all__ = ["INLINE_BYTES", "JOIN_BYTES", "PIECE_BYTES", "MpiTransport", "exchange", "initialise", "pieces"]

PIECE_BYTES = 512 << 20
"""The longest piece: well below what a count of 32 bits can say."""
JOIN_BYTES = 64 << 10
"""Neighbouring buffers shorter than this are copied into one piece."""
INLINE_BYTES = 32 << 10
"""Bodies up to this size ride in the head."""
MESSAGES_AT_ONCE = 256
"""So many are taken in one poll, so that a flood of them leaves room for other work."""
WATCH_S = 0.25
"""How often to ask who died."""
DRAIN_S = 1.0
"""What a dead rank had sent is waited for so long."""
JOIN_POLL_S = 0.001
LEAVE_POLL_S = 0.01
NUDGES = 16
"""Polls that find nothing before a dead rank is taken to have nothing more on its way."""

_HEAD, _BODY = 1, 2
_MESSAGE, _LEAVING = 0, 1
_PREFIX = struct.Struct("<BII")
_FAREWELL = _PREFIX.pack(_LEAVING, 0, 0)
_DEATHS = frozenset((MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING))


class _Head(NamedTuple):
    """A head on its way in."""

    data: bytearray
    request: MPI.Request


class _Body(NamedTuple):
    """A message whose head is here; its body is on its way."""

    event: Event
    requests: list[MPI.Request]
    memory: memoryview | None


class _Sender:
    """What is arriving from one rank, in the order of sending."""

    __slots__ = ("bodies", "broken", "heads")

    def __init__(self) -> None:
        self.heads: deque[_Head] = deque()
        self.bodies: deque[_Body] = deque()
        self.broken = False

    def references(self) -> list[tuple[MPI.Request, Any]]:
        """All requests under way, with the memory that they write."""
        found: list[tuple[MPI.Request, Any]] = [(head.request, head.data) for head in self.heads]
        return found + [(request, body.memory) for body in self.bodies for request in body.requests]


class _Sending(NamedTuple):
    """A message on its way out, and all that MPI reads for it."""

    requests: list[MPI.Request]
    references: Any


def initialise() -> bool:
    """Starts MPI; False: somebody else has done so already, and will end it."""
    if MPI.Is_initialized():
        if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
            raise WorldError(
                "this script has initialised MPI for one thread only, but job_stream talks to it from a thread of its "
                "own: leave that to job_stream, or ask for MPI.THREAD_SERIALIZED or more"
            )
        return False
    if MPI.Init_thread(MPI.THREAD_SERIALIZED) < MPI.THREAD_SERIALIZED:
        raise WorldError(f"this MPI library does not support threads: {MPI.Get_library_version()}")
    return True


def exchange(record: bytes) -> tuple[MPI.Intracomm, list[bytes]]:
    """A communicator of all ranks, and the record of each. Ranks may come minutes apart; waiting for them is cheap."""
    comm = MPI.COMM_WORLD.Dup()
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    records = bytearray(len(record) * comm.Get_size())
    request = comm.Iallgather([record, MPI.BYTE], [records, MPI.BYTE])
    while not request.Test():
        time.sleep(JOIN_POLL_S)
    return comm, [bytes(records[start : start + len(record)]) for start in range(0, len(records), len(record))]


class MpiTransport:
    """The ranks of a communicator.

    Args:
        comm: a communicator that is used for nothing else.
        peers: one for each rank.
        recovers: MPI reports the death of a rank, and goes on without it.
        pieceBytes: a longer buffer is sent in pieces.
    """

    def __init__(
        self, comm: MPI.Intracomm, peers: tuple[Peer, ...], recovers: bool = False, pieceBytes: int = PIECE_BYTES
    ) -> None:
        comm.Set_errhandler(MPI.ERRORS_RETURN)
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.peers = peers
        self.recovers = recovers
        self._comm = comm
        self._group = comm.Get_group()
        self._pieceBytes = pieceBytes
        self._status = MPI.Status()
        self._lock = threading.RLock()
        self._closed = False
        self._outgoing: dict[int, deque[_Sending]] = {}
        self._incoming: dict[int, _Sender] = {}
        self._more = False
        self._dead: set[int] = set()
        self._left: set[int] = set()
        self._gone: set[int] = set()
        self._farewells: list[MPI.Request] = []
        self._doomed: dict[int, float] = {}
        self._dropped: list[tuple[MPI.Request, Any]] = []
        self._watch = time.monotonic() + WATCH_S

    @property
    def busy(self) -> bool:
        return bool(self._outgoing or self._incoming or self._more or self._doomed)

    @property
    def whole(self) -> bool:
        """Whether no rank died or was given up."""
        return not self._dead and self._gone == self._left

    def send(self, rank: int, head: bytes, buffers: Sequence[Buffer] = (), keep: Any = None) -> None:
        with self._lock:
            if not self._closed and rank not in self._gone:
                self._send(rank, _MESSAGE, head, buffers, keep)

    def poll(self, room: Room) -> list[Event]:
        with self._lock:
            return [] if self._closed else self._poll(room)

    def giveUp(self, rank: int) -> None:
        with self._lock:
            self._forget(rank)

    def close(self) -> None:
        self.leave()

    def leave(self, patience_s: float | None = None) -> bool:
        """Tells all others, and waits for those that live to leave, too; False: some did not, within ``patience_s``."""
        end = None if patience_s is None else time.monotonic() + patience_s
        with self._lock:
            if not self._closed:
                self._sayFarewell()
        while self._inCompany():
            if end is not None and time.monotonic() > end:
                return False
            time.sleep(LEAVE_POLL_S)
        return True

    def _sayFarewell(self) -> None:
        self._closed = True
        for rank in set(range(self.size)) - {self.rank} - (self._gone - self._left):
            try:
                self._farewells.append(self._comm.Isend([_FAREWELL, MPI.BYTE], rank, _HEAD))
            except MPI.Exception as error:
                self._noticed(error)

    def _inCompany(self) -> bool:
        """Whether others are still there, or have not been told yet."""
        with self._lock:
            self._poll(None)
            self._farewells = [request for request in self._farewells if not _over(request)]
            return len(self._gone) < self.size - 1 or bool(self._farewells)

    # out --------------------------------------------------------------------------------------------------------------

    def _send(self, rank: int, kind: int, head: bytes, buffers: Sequence[Buffer], keep: Any) -> None:
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        if size <= INLINE_BYTES:
            data, body = b"".join((_PREFIX.pack(kind, len(head), 0), head, *buffers)), []
        else:
            body = pieces(buffers, self._pieceBytes)
            lengths = struct.pack(f"<{len(body)}Q", *map(len, body))
            data = b"".join((_PREFIX.pack(kind, len(head), len(body)), lengths, head))
        sending = _Sending([], (data, body, keep))
        try:
            sending.requests.append(self._comm.Isend([data, MPI.BYTE], rank, _HEAD))
            for piece in body:
                sending.requests.append(self._comm.Isend([piece, MPI.BYTE], rank, _BODY))
            complete = _complete(sending.requests)
        except MPI.Exception as error:
            self._dropped += [(request, sending.references) for request in sending.requests]
            self._noticed(error)
            return
        if not complete:
            self._outgoing.setdefault(rank, deque()).append(sending)

    def _reap(self) -> None:
        """Lets go of what is sent."""
        for rank, sendings in list(self._outgoing.items()):
            try:
                while sendings and _complete(sendings[0].requests):
                    sendings.popleft()
            except MPI.Exception as error:
                self._noticed(error)
                self._dropSendings(rank)
                continue
            if not sendings:
                del self._outgoing[rank]

    # in ---------------------------------------------------------------------------------------------------------------

    def _poll(self, room: Room | None) -> list[Event]:
        if self._outgoing:
            self._reap()
        events: list[Event] = []
        self._accept(events, room)
        for rank in list(self._incoming):
            self._advance(rank, events, room)
        if self.recovers and time.monotonic() > self._watch:
            self._look()
        if self._doomed:
            self._report(events, room)
        return events

    def _accept(self, events: list[Event], room: Room | None) -> None:
        """Takes the heads that have come."""
        self._more = True
        for _ in range(MESSAGES_AT_ONCE):
            try:
                message = self._comm.Improbe(MPI.ANY_SOURCE, _HEAD, self._status)
                if message is None:
                    self._more = False
                    return
                rank, size = self._status.Get_source(), self._status.Get_count(MPI.BYTE)
                data = bytearray(size)
                head = _Head(data, message.Irecv([data, MPI.BYTE]))
            except MPI.Exception as error:
                self._more = False
                self._noticed(error)
                return
            if rank in self._gone:
                self._dropped.append((head.request, head.data))
                continue
            self._incoming.setdefault(rank, _Sender()).heads.append(head)
            self._advance(rank, events, room)

    def _advance(self, rank: int, events: list[Event], room: Room | None) -> None:
        """Takes what is complete from one sender."""
        sender = self._incoming.get(rank)
        if sender is None or sender.broken:
            return
        try:
            while sender.heads and sender.heads[0].request.Test():
                body = self._opened(rank, sender.heads.popleft().data, room)
                if body is not None:
                    sender.bodies.append(body)
            while sender.bodies and _complete(sender.bodies[0].requests):
                events.append(sender.bodies.popleft().event)
        except MPI.Exception as error:
            sender.broken = True
            self._noticed(error)
            return
        if not sender.heads and not sender.bodies:
            del self._incoming[rank]
        if events and type(events[-1]) is Left and events[-1].rank == rank:
            self._left.add(rank)
            self._forget(rank)

    def _opened(self, rank: int, data: bytearray, room: Room | None) -> _Body | None:
        """A message whose head has come: its body is received into the room given. Without room it is dropped."""
        kind, length, count = _PREFIX.unpack_from(data)
        if kind == _LEAVING:
            return _Body(Left(rank), [], None)
        if room is None:
            return None
        start = _PREFIX.size + 8 * count
        head, inline = bytes(data[start : start + length]), len(data) - start - length
        if not count:
            return _Body(Received(rank, head, _filled(room, memoryview(data)[-inline:]) if inline else None), [], None)
        lengths = struct.unpack_from(f"<{count}Q", data, _PREFIX.size)
        memory, token = room(sum(lengths))
        ends = list(itertools.accumulate(lengths))
        requests = [
            self._comm.Irecv([memory[end - size : end], MPI.BYTE], rank, _BODY)
            for end, size in zip(ends, lengths, strict=True)
        ]
        return _Body(Received(rank, head, token), requests, memory)

    # ranks that are no longer there -----------------------------------------------------------------------------------

    def _noticed(self, error: MPI.Exception) -> None:
        """MPI reports an error: the death of a rank is ours to deal with, nothing else is."""
        if not self.recovers or error.Get_error_class() not in _DEATHS:
            raise WorldError(f"MPI failed on rank {self.rank}: {error}") from error
        self._look()

    def _look(self) -> None:
        """Asks who died."""
        self._watch = time.monotonic() + WATCH_S
        self._dropped = [entry for entry in self._dropped if not _over(entry[0])]
        failed = self._comm.Get_failed()
        count = failed.Get_size()
        if count > len(self._dead):
            self._comm.Ack_failed(count)
            dead = set(failed.Translate_ranks(None, self._group))
            for rank in dead - self._dead - self._gone:
                self._doomed[rank] = time.monotonic() + DRAIN_S
            self._dead |= dead
        failed.Free()

    def _report(self, events: list[Event], room: Room | None) -> None:
        """Tells of the dead from whom nothing more can come."""
        for _ in range(NUDGES):
            self._accept(events, room)
        for rank, deadline in list(self._doomed.items()):
            self._advance(rank, events, room)
            sender = self._incoming.get(rank)
            if sender is None or sender.broken or time.monotonic() > deadline:
                self._forget(rank)
                events.append(Lost(rank))

    def _forget(self, rank: int) -> None:
        """Drops what is under way to and from a rank; MPI may still read and write that memory."""
        self._gone.add(rank)
        self._doomed.pop(rank, None)
        self._dropSendings(rank)
        sender = self._incoming.pop(rank, None)
        if sender is not None:
            self._dropped += sender.references()

    def _dropSendings(self, rank: int) -> None:
        for sending in self._outgoing.pop(rank, ()):
            self._dropped += [(request, sending.references) for request in sending.requests]


def _complete(requests: list[MPI.Request]) -> bool:
    """Whether all requests are; those that are complete are taken out, from the end."""
    while requests and requests[-1].Test():
        requests.pop()
    return not requests


def _over(request: MPI.Request) -> bool:
    """Whether MPI has done with the memory of a request, for good or bad."""
    try:
        return bool(request.Test())
    except MPI.Exception:
        return True


def _filled(room: Room, data: memoryview) -> Any:
    memory, token = room(len(data))
    memory[: len(data)] = data
    return token


def pieces(buffers: Sequence[Buffer], limit_bytes: int) -> list[Buffer]:
    """Buffers as pieces to send: none longer than the limit; short neighbours are joined, which copies them."""
    return [
        piece[start : start + limit_bytes]
        for piece in _joined(buffers, min(JOIN_BYTES, limit_bytes))
        for start in range(0, len(piece), limit_bytes)
    ]


def _joined(buffers: Sequence[Buffer], limit_bytes: int) -> Iterator[memoryview]:
    """Buffers as bytes, with neighbours that are short together as one; empty ones are left out."""
    short: list[memoryview] = []
    size = 0
    for view in (memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes):
        if size + len(view) > limit_bytes and short:
            yield _one(short)
            short, size = [], 0
        if len(view) > limit_bytes:
            yield view
        else:
            short.append(view)
            size += len(view)
    if short:
        yield _one(short)


def _one(views: list[memoryview]) -> memoryview:
    return views[0] if len(views) == 1 else memoryview(b"".join(views))
