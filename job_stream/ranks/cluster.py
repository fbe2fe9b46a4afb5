"""The other ranks, as the runtime sees them: who they are, what is sent to them, and how it shows that one is gone.

All ranks run the same script, so the streams of a script have the same numbers (*epochs*) everywhere. A message of an
epoch that this rank has not reached waits, one of an epoch that is over is dropped. Each rank first tells rank 0 the
fingerprint of its plan, so that ranks with different scripts are found out at once.

The functions of the script that handle results run on the primary, when all work may be done long ago. What they raise
is raised everywhere, so the others stay in the stream until they hear that the primary is through.
"""

from __future__ import annotations

import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from threading import Event, Thread
from typing import Any, NamedTuple

from ..engine.polling import pause_between_looks
from ..errors import EngineError, JobStreamError, PlanError, WorldError
from ..ground.texts import told
from ..memory.buffers import plain_room
from ..memory.codec import Message, RankCodec
from ..memory.exceptions import pack_error, unpack_error
from ..memory.payload import pack, unpack
from ..stream.fingerprint import Stages, differences, fingerprint
from ..stream.plan import Plan
from . import silence
from .protocol import KINDS, Hello, Ping, Pong, RunFailed, Shared, Through
from .silence import Silence
from .transport import Left, Received, Room, Transport
from .world import world

__all__ = ["Cluster", "Gone", "cluster"]

GATHER_S = 2e-4
_EPOCH = struct.Struct("<I")
_LEFT = b"left"
"""Stands, in place of a head, for the end of a rank's script."""


_SHARING: Stages = (("call of", "share", 0),)
"""What stands for ``share`` among the streams of a script."""


class Gone(NamedTuple):
    """A rank will not be heard of again. ``left``: its script came to its end."""

    rank: int
    left: bool


News = Gone | BaseException | tuple[int, Any]
"""What comes from other ranks: the end of one, an error to end with, or a rank and its message."""


class Cluster:
    """This rank and the others, for as long as the script runs.

    Args:
        transport: the way to them.

    Attributes:
        has_told: whether an error has been told that ends the stream.
    """

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.rank = transport.rank
        self.size = transport.size
        self._epoch = 0
        self._load = [0]
        self._early: deque[tuple[int, int, bytes, Any]] = deque()
        self._codec = RankCodec(KINDS)
        self._gone: dict[int, Gone] = {}
        self._silence = Silence(self._ping)
        self._begun: set[int] = set()
        self._stages: Stages = ()
        self._primary_has_begun = False
        self.has_told = False
        self._is_open = self._is_through = False
        self._failure: BaseException | None = None
        self._attendant: Thread | None = None
        self._attended = Event()

    def begin(self, plan: Plan) -> list[Gone]:
        """The next stream begins; returns the ranks that are gone already.

        Raises:
            WorldError: this rank has been given up by the others.
        """
        return self._begin(fingerprint(plan))

    def _begin(self, stages: Stages) -> list[Gone]:
        if self.transport.expelled:
            raise _expulsion(self.rank)
        self._epoch += 1
        self._stages = stages
        self._silence.begin()
        self._primary_has_begun = False
        self._begun.clear()
        self._is_open, self.has_told, self._is_through, self._failure = True, False, False, None
        if self.rank:
            self.send(0, Hello(self._stages))
        return list(self._gone.values())

    @property
    def is_spokesman(self) -> bool:
        """Whether no rank before this one is left."""
        return all(rank in self._gone for rank in range(self.rank))

    def send(self, rank: int, message: Message) -> None:
        """Sends without waiting; what goes to a rank that is gone is dropped."""
        if rank in self._gone:
            return
        head, buffers = self._codec.encode(message)
        keep = _Burden(message, self._load, sum(map(len, buffers))) if buffers else message
        self.transport.send(rank, _EPOCH.pack(self._epoch) + head, buffers, keep)

    @property
    def load(self) -> int:
        """How many bytes of large payloads are on their way to others."""
        return self._load[0]

    def tell(self, error: BaseException) -> None:
        """Has the stream end with this error everywhere: rank 0 hears of it, and tells everybody."""
        self.has_told = True
        message = RunFailed(_packed(error))
        for rank in [0] if self.rank else range(1, self.size):
            self.send(rank, message)

    # the end of a stream ----------------------------------------------------------------------------------------------

    def attend(self) -> None:
        """Answers the others from now on, in a thread of its own, until the stream is over for the script, too."""
        self._attended.clear()
        self._attendant = Thread(target=self._attend, name="job_stream-attendant", daemon=True)
        self._attendant.start()

    def _attend(self) -> None:
        since = time.monotonic()
        with suppress(Exception):  # what is wrong shows when the others are needed again
            while not self._attended.wait(_pause(since)):
                self.news(plain_room)

    def end(self, plan: Plan, error: BaseException | None) -> None:
        """The stream is over for the script of this rank. All others end with the same error, if there is one; if not,
        they go on when the primary does.

        Raises:
            WorldError: this rank has been given up by the others.
        """
        if self._attendant is not None:
            self._attended.set()
            self._attendant.join()
            self._attendant = None
        if not self._is_open:  # it has not even begun, and the others wait
            self.begin(plan)
        if error is not None and not self.has_told:
            self.tell(error)
        elif error is None and self.rank == 0:
            for rank in range(1, self.size):
                self.send(rank, Through())
        self._is_open, self.has_told, self._failure = False, False, None

    def share(self, value: Any) -> Any:
        """A value of the primary on all ranks, which come here at the same point of their scripts.

        Raises:
            PayloadError: it cannot be pickled.
            WorldError: the primary is lost.
        """
        self._begin(_SHARING)
        try:
            return self._give(value) if self.rank == 0 else self._receive()
        except BaseException as error:
            if self.rank == 0:
                self.tell(error)
            raise
        finally:
            self._is_open = False

    def _give(self, value: Any) -> Any:
        message = Shared(pack(value))
        for rank in range(1, self.size):
            self.send(rank, message)
        since = time.monotonic()
        while self.transport.under_way or not self.is_complete:  # who runs a stream instead is found out here
            _messages(self.news(plain_room))
            time.sleep(_pause(since))
        return value

    def _receive(self) -> Any:
        since = time.monotonic()
        while True:
            for _, message in _messages(self.news(plain_room)):
                if type(message) is Shared:
                    return unpack(message.value.frames())
            if 0 in self._gone:
                raise self.without_primary(self._gone[0])
            self.silent(set)
            time.sleep(_pause(since))

    def await_primary(self, room: Room, is_stopped: Callable[[], bool]) -> None:
        """Waits until the primary is through with the stream.

        Raises:
            WorldError: it is lost.
            the exception that ended the stream there.
        """
        since = time.monotonic()
        while not (self._is_through or is_stopped()):
            if self._failure is not None:
                raise self._failure
            if 0 in self._gone:
                raise self.without_primary(self._gone[0])
            self.silent(set)
            time.sleep(_pause(since))
            self.news(room)

    def without_primary(self, gone: Gone) -> WorldError:
        """What is to be said where the primary is gone in the midst of a stream."""
        how = "has ended its script, but this stream is not over" if gone.left else "died"
        return WorldError(f"{self.name_of(0)}, the primary, {how}")

    # what comes -------------------------------------------------------------------------------------------------------

    def news(self, room: Room) -> list[News]:
        """What has come: ranks that are gone, an error to end with, and pairs of a rank and a message."""
        found: list[News] = []
        for _ in range(len(self._early)):
            self._take(found, *self._early.popleft())
        for event in self.transport.poll(room):
            if isinstance(event, Received):
                (epoch,) = _EPOCH.unpack_from(event.head)
                self._take(found, epoch, event.rank, event.head[_EPOCH.size :], event.body)
            elif event.rank == self.rank:
                self._failure = _expulsion(self.rank)
                found.append(self._failure)
            elif event.rank not in self._gone:
                self._take_end(found, Gone(event.rank, isinstance(event, Left)))
        return found

    def _take_end(self, found: list[News], gone: Gone) -> None:
        """Takes note of a rank's end, unless that comes after streams which this rank has not come to."""
        ahead = [epoch for epoch, rank, *_ in self._early if rank == gone.rank]
        if gone.left and ahead:
            self._early.append((max(ahead), gone.rank, _LEFT, None))
        else:
            found.append(self._lose(gone))

    def _lose(self, gone: Gone) -> Gone:
        """Takes note of a rank's end; the primary tells the user where that was not to be expected."""
        self._gone[gone.rank] = gone
        if not gone.left and self.rank == 0:
            print(f"job_stream: {self.name_of(gone.rank)} is lost; the others go on", file=sys.stderr, flush=True)
        return gone

    def gather(self, kind: type, room: Room, patience_s: float) -> dict[int, Any]:
        """The message of this kind that each rank which is in the stream sends at its end, if it comes in time."""
        found: dict[int, Any] = {}
        deadline = time.monotonic() + patience_s
        while self._begun - self._gone.keys() - found.keys() and time.monotonic() < deadline:
            for news in self.news(room):
                if not isinstance(news, (Gone, BaseException)) and type(news[1]) is kind:
                    found[news[0]] = news[1]
            time.sleep(GATHER_S)
        return found

    @property
    def is_complete(self) -> bool:
        """Whether all that are left have begun with the stream; only rank 0 hears of it."""
        return self.rank > 0 or len(self._begun | self._gone.keys()) >= self.size - 1

    def fate(self, rank: int) -> Gone | bool:
        """How a rank has gone; if it has not, whether it has begun with the stream."""
        return self._gone.get(rank, rank in self._begun)

    def _take(self, found: list[News], epoch: int, rank: int, head: bytes, body: Any) -> None:
        if epoch > self._epoch:
            self._early.append((epoch, rank, head, body))
            return
        if head is _LEFT:
            self._take_end(found, Gone(rank, True))
            return
        if epoch < self._epoch or rank in self._gone:
            return
        self._silence.heard(rank)
        self._primary_has_begun |= rank == 0
        message = self._decoded(rank, head, body)
        kind = type(message)
        if kind is Ping:
            self.send(rank, Pong())
        elif kind is Hello:
            self._begun.add(rank)
            self._compare(found, rank, message.stages)
        elif kind is RunFailed:
            self._failure = _unpacked(message.error)
            found.append(self._failure)
        elif kind is Through:
            self._is_through = True
        elif kind is not Pong and (kind is not Shared or self._stages == _SHARING):
            found.append((rank, message))

    def _decoded(self, rank: int, head: bytes, body: Any) -> Any:
        try:
            return self._codec.decode(head, body)
        except EngineError as error:
            raise WorldError(
                f"what {self.name_of(rank)} has sent cannot be read ({error}): start the same version of job_stream "
                "and of Python on all ranks"
            ) from error

    def _compare(self, found: list[News], rank: int, theirs: Stages) -> None:
        difference = next(differences(self._stages, theirs), None)
        if difference is None:
            return
        number, _, here, there = difference
        what = f"{here} on rank 0 and {there} on rank {rank}"
        if difference.is_of_code:
            what = f"{here}, whose code or targets are others on rank {rank} than on rank 0"
        found.append(PlanError(
            f"the ranks run different streams: stage number {number} is {what}; start the same script with the "
            "same stages and the same version of Python everywhere"
        ))  # fmt: skip

    def silent(self, debtors: Callable[[], set[int]]) -> list[Gone]:
        """Ranks that should answer and have not for long; asks those that might.

        These are ranks that owe something, and the primary: it may be late for a stream, but then is there to its end.

        Args:
            debtors: finds out who owes something; called a few times a second at most.

        Raises:
            WorldError: one of them is lost, and this rank cannot go on without it.
        """

        def watched() -> set[int]:
            primary = {0} if self.rank and self._primary_has_begun else set()
            return (debtors() | primary) - self._gone.keys()

        return [self._give_up(rank, limit) for rank, limit in self._silence.too_long(watched)]

    def _ping(self, rank: int) -> None:
        self.send(rank, Ping())

    def _give_up(self, rank: int, limit: float) -> Gone:
        """Goes on without a rank; nobody can do without the primary, and whoever misses it may be the one cut off."""
        if rank == 0 or not self.transport.recovers:
            self.transport.expelled = self.transport.recovers
            raise WorldError(
                f"{self.name_of(rank)} has not answered for {limit:g} s: it has been stopped, or its host is down, or "
                f"there is no way to it from {self.transport.peers[self.rank].host}"
            )
        self.transport.give_up(rank)
        return self._lose(Gone(rank, False))

    def name_of(self, rank: int) -> str:
        """A rank with its host."""
        return f"rank {rank} on {self.transport.peers[rank].host}"


class _Burden:
    """A message with a body, which is kept for as long as that is read: so long it counts as under way."""

    __slots__ = ("_load", "_message", "_nbytes")

    def __init__(self, message: Message, load: list[int], nbytes: int) -> None:
        self._message, self._load, self._nbytes = message, load, nbytes
        load[0] += nbytes

    def __del__(self) -> None:
        self._load[0] -= self._nbytes


@cache
def cluster() -> Cluster:
    """The cluster of this process; joins it the first time."""
    return Cluster(world())


def _messages(news: list[News]) -> list[tuple[int, Any]]:
    """The messages of what has come, with their ranks; an error is raised."""
    messages: list[tuple[int, Any]] = []
    for each in news:
        if isinstance(each, BaseException):
            raise each
        if not isinstance(each, Gone):
            messages.append(each)
    return messages


def _pause(since: float) -> float:
    """How long to sleep where nothing is expected soon."""
    return pause_between_looks(time.monotonic() - since, calm=False, busy=False, awaits=False)


def _expulsion(rank: int) -> WorldError:
    limit = silence.SILENT_S
    return WorldError(f"rank {rank} was given up by the others after {limit:g} s of silence: has it been stopped?")


def _packed(error: BaseException) -> bytes:
    """An exception with its causes; of one that cannot travel its text and its story."""
    data = pack_error(error)
    if data:
        return data
    instead = JobStreamError(told(error))
    instead.__cause__ = error.__cause__
    return pack_error(instead)


def _unpacked(data: bytes) -> BaseException:
    return unpack_error(data) or JobStreamError("another rank failed, with an exception that cannot be unpickled here")
