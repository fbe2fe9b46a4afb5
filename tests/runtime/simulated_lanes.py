"""What is around the simulated shell: lanes that are threads or processes, their nursery, and another rank."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from simulated_cases import Boom, Case
from simulated_threads import Poll

from job_stream.engine import messages as m
from job_stream.evaluate.failures import UserFailure
from job_stream.evaluate.packing import unpack_any
from job_stream.lanes.pool import Death
from job_stream.memory.codec import RankCodec
from job_stream.memory.exceptions import pack_error
from job_stream.memory.payload import Blob, Live, Parts, pack, unpack
from job_stream.ranks.protocol import KINDS, Hello, RunFailed, Through
from job_stream.ranks.transport import Lost, Peer, Received
from job_stream.stream.fingerprint import fingerprint

if TYPE_CHECKING:
    from simulated_shell import Shell

EPOCH = b"\x01\0\0\0"
REPLIES, REPORTS = 11, 12


class Answers:
    """What lanes make of loans: every third item is skipped, or ends the run.

    Attributes:
        answered: how many items lanes here are through with.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        self.answered = 0

    def answer(self, lend: m.Lend) -> m.Repaid | UserFailure:
        """What a lane makes of a loan."""
        products: list[m.Product] = []
        for _, work in lend.units:
            for value in self._values(work):
                if value % 3 == 1 and self._case.trouble == "job":
                    return UserFailure("job", repr(value), "", 0, "", Boom("job"))
                if value % 3 == 1:
                    products.append(m.Skip(0, "job", self._packed([value]), 1, "no", work.scope))
                else:
                    products.append(m.Output(work.scope, work.place + 1, 1, self._packed([value])))
        names = tuple(name for name, _ in lend.units)
        self.answered += len(names)
        samples = ((0, len(names), max(self._case.job_s, 1e-6)),) if self._case.is_measured else ()
        return m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), tuple(products), samples=samples)

    def answer_of_rank(self, lend: m.Lend) -> m.Repaid:
        """What another rank makes of a loan."""
        products: list[m.Product] = []
        for _, work in lend.units:
            for value in self._values(work):
                packed = self._boxed([value])
                skip = m.Skip(0, "job", packed, 1, "no", m.HOME)
                products.append(skip if value % 3 == 1 else m.Output(m.HOME, 1, 1, packed))
        return m.Repaid(0, lend.loan, ((lend.loan, tuple(name for name, _ in lend.units)),), tuple(products))

    def _values(self, work: m.WorkBatch) -> list[int]:
        payload = work.payload
        if type(payload) is m.SourceSlice:
            return list(range(payload.start, payload.stop))[work.skip :]
        if type(payload) is m.RangeSlice:
            return list(range(*payload))[work.skip :]
        if type(payload) is Parts:
            return list(unpack(payload.frames))[work.skip :]
        return list(unpack_any(payload))[work.skip :]

    def _packed(self, values: list[int]) -> Any:
        if not (self._case.processes or self._case.journal):
            return Live(values)
        return self._boxed(values)

    def _boxed(self, values: list[int]) -> Blob:
        (frame,) = pack(values).frames
        return Blob([len(frame)], None, 0, bytes(frame))


class Forwarding:
    def start(self) -> None: ...

    def close(self) -> None: ...


class OtherRank:
    """The way to another rank, and what that does."""

    size, recovers, busy, expelled = 2, True, False, False

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._codec = RankCodec(KINDS)
        self._coming: list[tuple[float, Any]] = []
        self.rank = shell.case.rank
        self.peers = (Peer("here", shell.case.cpus, 1), Peer("there", 1, 2))
        self.under_way: dict[int, int] = {}
        if self.rank == 0:
            self._say(Hello(fingerprint(shell.plan)))
            self._say(m.Ask(1, True))
        elif not shell.case.items:
            self._end()

    def send(self, rank: int, head: bytes, buffers: Any = (), keep: Any = None) -> None:
        self._shell.sim.point()
        if type(keep) is m.Lend:
            self._say_instead(self._shell.answers.answer_of_rank(keep))
        elif type(keep) is m.Ask and self.rank and self._shell.case.items and not self._shell.has_lent:
            self._shell.has_lent = True
            work = m.WorkBatch(1, 0, self._shell.case.items, m.RangeSlice(0, self._shell.case.items, 1))
            self._say(m.Lend(0, 1, ((0, work),)))
        elif type(keep) is m.Repaid:
            self._end()

    def _end(self) -> None:
        """The primary: the stream is over, and so is the script's part."""
        self._say(m.Halt())
        self._say_instead(Through())

    def _say_instead(self, message: Any) -> None:
        """Says it, or dies or fails before."""
        case = self._shell.case
        if case.other == "dies":
            self._come(Lost(1 - self.rank))
            self._shell.counts["rank lost"] += 1
        else:
            self._say(RunFailed(pack_error(Boom("there"))) if case.other == "fails" else message)

    def _say(self, message: Any) -> None:
        head, buffers = self._codec.encode(message)
        body = b"".join(buffers)
        self._come(Received(1 - self.rank, EPOCH + head, body or None))

    def _come(self, news: Any) -> None:
        sim = self._shell.sim
        earliest = self._coming[-1][0] if self._coming else sim.now
        self._coming.append((max(earliest, sim.now + sim.chance.choice([0.0, 1e-3, 0.02])), news))

    def poll(self, room: Any) -> list[Any]:
        self._shell.sim.point()
        now = self._shell.sim.now
        come = [news for due, news in self._coming if due <= now]
        self._coming = self._coming[len(come) :]
        return come

    def give_up(self, rank: int) -> None: ...


class ThreadLanes:
    """Lanes that are threads."""

    def __init__(self, shell: Shell, post: Callable[[Any], None]) -> None:
        self._shell = shell
        self._post = post
        self._inboxes: dict[int, list[Any]] = {}
        self._is_closed = False
        self._strands: list[Any] = []

    def __contains__(self, lane: int) -> bool:
        return lane in self._inboxes

    def start(self, lane: int) -> None:
        inbox = self._inboxes[lane] = []
        self._strands.append(self._shell.sim.start(f"lane {lane}", lambda: self._run(inbox)))

    def _run(self, inbox: list[Any]) -> None:
        shell = self._shell
        while shell.sim.wait(lambda: bool(inbox) or self._is_closed, None) and inbox and not self._is_closed:
            message = inbox.pop(0)
            if type(message) is m.Lend:
                shell.sim.sleep(shell.case.job_s)
                self._post(shell.answers.answer(message))

    def send(self, lane: int, message: Any) -> None:
        self._inboxes[lane].append(message)

    def take_back(self, lane: int) -> list[Any]:
        taken = self._inboxes[lane][:]
        self._inboxes[lane].clear()
        return taken

    def spent_ns(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        self._is_closed = True
        sim = self._shell.sim
        sim.wait(lambda: all(strand.is_over for strand in self._strands), sim.now + 0.5)


class LaneProcess:
    """A lane that is a process: an actor."""

    def __init__(self, shell: Shell, pool: Processes, number: int) -> None:
        self._shell = shell
        self._pool = pool
        self.number = number
        self.inbox: list[Any] = []
        self.working: m.Lend | None = None
        self._free_at = 0.0

    @property
    def due(self) -> float | None:
        return self._free_at if self.working or self.inbox else None

    def step(self) -> None:
        sim, case = self._shell.sim, self._shell.case
        if self.working is not None:
            self._finish(self.working, sim.chance.random() < case.deaths)
            return
        message = self.inbox.pop(0)
        if type(message) is m.Lend:
            self.working, self._free_at = message, sim.now + case.job_s

    def _finish(self, lend: m.Lend, dies: bool) -> None:
        pool = self._pool
        if dies and pool.deaths < 2:  # three of one item would be its end
            pool.deaths += 1
            self._shell.counts["lanes died"] += 1
            self._shell.sim.actors.remove(self)
            pool.dead.append(self)
        else:
            self.working = None
            pool.sent.append(self._shell.answers.answer(lend))


class Processes:
    """Lanes that are processes, with a nursery."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._lanes: dict[int, LaneProcess] = {}
        self.sent: list[Any] = []
        self.dead: list[LaneProcess] = []
        self.deaths = 0
        self.stopped = False
        self.closed = 0

    def register(self, poll: Poll) -> None:
        poll.register(REPLIES, select.POLLIN)
        poll.register(REPORTS, select.POLLIN)

    def __contains__(self, lane: int) -> bool:
        return lane in self._lanes

    def start(self, lane: int) -> None:
        self._lanes[lane] = LaneProcess(self._shell, self, lane)
        self._shell.sim.actors.append(self._lanes[lane])

    def send(self, lane: int, message: Any) -> None:
        self._lanes[lane].inbox.append(message)

    def take_back(self, lane: int) -> list[Any]:
        taken = self._lanes[lane].inbox[:]
        self._lanes[lane].inbox.clear()
        return taken

    def is_ready(self, ready: set[int]) -> tuple[bool, bool]:
        return REPORTS in ready, bool({REPORTS, REPLIES} & ready)

    def reports(self) -> list[LaneProcess]:
        dead, self.dead[:] = self.dead[:], []
        return dead

    def replies(self) -> list[Any]:
        sent, self.sent[:] = self.sent[:], []
        return sent

    def bury(self, lane: LaneProcess) -> Death:
        self._lanes.pop(lane.number)
        assert lane.working is not None
        return Death(lane.number, "died", (lane.working.units[0][0], 0, 0, lane.working.loan), False)

    def wants_room(self) -> bool:
        return False

    def make_room(self) -> None: ...

    def enforce(self) -> None: ...

    def spent_ns(self) -> tuple[int, int]:
        return 0, 0

    def close(self) -> None:
        self.closed += 1
        self._shell.sim.sleep(1e-3)
        self._shell.sim.actors.clear()
