"""The runtime of one rank with all around it simulated: lanes, another rank, the source, the script, signals, the disk.

What is under test is real: the main thread's side, the loop, the actions, the order of the end, the prefetching
threads, the saver with its writer, the engine. A seed says what the run is, what goes wrong in it, and in which order
threads go on. After each run it is known whether everything has ended, once and in order, and whether something was
lost.
"""

from __future__ import annotations

import random
import select
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from simulated_disk import FOLDER, SimulatedDisk
from simulated_threads import Abandoned, Deque, Hang, Poll, Queue, Scheduler, Wake

from job_stream.checkpoints import saver as saver_module
from job_stream.checkpoints.saver import Saver
from job_stream.checkpoints.stopping import STOPPED, TimeLimit
from job_stream.engine import messages as m
from job_stream.engine import polling, routing, stalls
from job_stream.engine.rank import Rank
from job_stream.errors import LimitError, WorldError
from job_stream.evaluate.failures import UserFailure
from job_stream.evaluate.packing import unpack_any
from job_stream.lanes.pool import Death
from job_stream.memory.codec import RankCodec
from job_stream.memory.exceptions import pack_error
from job_stream.memory.payload import Blob, Live, Parts, pack, unpack
from job_stream.ranks import cluster as cluster_module
from job_stream.ranks.cluster import Cluster
from job_stream.ranks.local import LocalTransport
from job_stream.ranks.protocol import KINDS, Hello, RunFailed, Through
from job_stream.ranks.transport import Lost, Peer, Received
from job_stream.runtime import loop, prefetch, runtime, shutdown, sleeping
from job_stream.runtime.runtime import Runtime
from job_stream.runtime.shutdown import Closing, Release
from job_stream.runtime.source import InitialWork
from job_stream.stream.fingerprint import fingerprint
from job_stream.stream.plan import Builder, Kind, Plan, Policy, Stage
from job_stream.values import Failure

SELDOM_S = 2e-3
"""Another rank is looked for no more often, since each look is a step."""
PATH = f"{FOLDER}/state"
EPOCH = b"\x01\0\0\0"
REPLIES, REPORTS = 11, 12
SLOW_S = 5.0
LATE_S = 1.0
"""So much later than after a call of the handler a run may end that is asked to stop."""
FEW = 2
"""More results than that must not wait for the script."""


class Boom(Exception):
    """What goes wrong on purpose."""


class Case(NamedTuple):
    """What a seed stands for.

    ``trouble``: what ends the run. ``step``: of the end, that raises. ``is_measured``: lanes tell how long items took,
    so that more are lent and asked for at once. ``dawdles``: the handler waits until the last item is through the
    lanes. ``rank``: of two; -1: there is only one. ``other``: what the other one does.
    """

    items: int
    cpus: int
    processes: bool
    source: str
    handler_s: float
    job_s: float
    deaths: float
    journal: str
    interval_s: float
    trouble: str
    step: str
    at: float
    signals: tuple[float, ...]
    is_measured: bool
    dawdles: bool
    rank: int
    other: str


def case_of(seed: int) -> Case:
    chance = random.Random(seed)
    journal = chance.choice(["", "", "call", "keep"])
    rank = -1 if journal else chance.choice([-1, -1, 0, 1])
    troubles = ["", "", "", "job", "source", "handler", "interrupt", "no thread", *(["sigterm"] * 3 if journal else [])]
    handler_s = chance.choice([0.0, 1e-4, 0.02, SLOW_S if rank < 0 else 0.1])
    is_slow = handler_s == SLOW_S
    at = chance.choice([0.0, 0.001, 0.01, 0.05, 10.0 if is_slow else 0.1]) * chance.random()
    return Case(
        items=chance.choice([0, 1, 2, 5]),
        cpus=chance.choice([1, 2]),
        processes=chance.random() < 0.5,
        source="list" if rank == 1 else chance.choice(["list", "pulled", "waiting", "bound"]),
        handler_s=handler_s,
        job_s=chance.choice([0.0, 1e-3, 0.01]),
        deaths=chance.choice([0.0, 0.0, 0.2]),
        journal=journal,
        interval_s=1e6 if is_slow else chance.choice([1e-3, 0.02, 1e6, 1e6]),
        trouble=chance.choice(troubles),
        step=chance.choice(Closing._fields[:-1]) if chance.random() < 0.1 else "",
        at=at,
        is_measured=chance.random() < 0.5,
        dawdles=False,
        rank=rank,
        other=chance.choice(["helps", "dies", "fails"]) if rank >= 0 else "",
        signals=(at, at + chance.choice([0.0, 1e-3, 0.05]) * chance.random()),
    )


class Shell:
    """One run, or more from checkpoint to checkpoint.

    Args:
        seed: of the case, and of the order.
        patch: puts what is simulated in its place.
        given: what does not come from the seed.

    Attributes:
        results: what the script was given.
        story: the steps of the end that were gone, and releases.
        wrong: what must not be.
        counts: how often things happened.
    """

    def __init__(self, seed: int, patch: pytest.MonkeyPatch, **given: Any) -> None:
        self.case = case_of(seed)._replace(**given)
        self.seed = seed
        self.results: list[int] = []
        self.failures: list[Failure] = []
        self.story: list[str] = []
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self._patch = patch
        self._disk = SimulatedDisk(random.Random(seed))

    def run(self) -> list[str]:
        """Runs the case; gives what went wrong."""
        self._live(0, self.case)
        if self.counts["stopped"]:
            calm = self.case._replace(trouble="", step="", signals=(), deaths=0.0, handler_s=0.0)
            if self.seed % 2:
                self._live(1, calm._replace(trouble="no writer"))
            self.counts["resumed"] += 1
            self._live(2, calm)
            self._check_results(None)
        return self.wrong

    # one life -----------------------------------------------------------------------------------------------------

    def _live(self, life: int, case: Case) -> None:
        self.sim = Scheduler(3 * self.seed + life)
        self.case = case
        self.story = []
        self._broken = self._answered = 0
        self.has_lent = False
        self._asked_at: float | None = None
        self._is_done = False
        self._install()
        error: BaseException | None = None
        try:
            self.sim.run(self._saved if case.journal else self._unsaved)
        except Hang as hang:
            self.wrong.append(f"it {hang}")
            return
        except BaseException as raised:
            error = raised
        if self._is_done:
            return
        self.wrong += [f"a thread was ended by {crash!r}" for crash in self.sim.crashes]
        self._check_error(error)
        self._check_end()
        if self._asked_at is not None and self.sim.now - self._asked_at > case.handler_s + LATE_S:
            self.wrong.append(f"asked to stop at {self._asked_at:.3f} s, it ended at {self.sim.now:.3f} s")
        self._check_results(error)

    def _unsaved(self) -> None:
        plan, error = self.plan, None
        try:
            self._runtime(None).run(self._take)
        except Abandoned:
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self.case.rank >= 0:
                self._joined.end(plan, error)

    def _saved(self) -> None:
        case = self.case
        saver = Saver(PATH, case.interval_s, TimeLimit(None), self.plan, case.journal, self._disk)
        self._disk.meanwhile = lambda: self.sim.sleep(self.sim.chance.choice([0.0, 1e-4, 1e-3]))
        if saver.ended is not None:  # it was asked to stop when all was done
            self._is_done = True
            return
        if case.journal == "keep":
            self.results.clear()  # they are given again
        with closing(saver):
            saver.initial_parts(list)
            saver.begin((case.items if case.source == "list" else None,))
            saver.failures = self.failures = [*saver.failures]
            saver.restore(self._take)
            if case.trouble == "sigterm":
                self.sim.signals = [(case.at, lambda: self._stop(saver))]
            self._runtime(saver).run(self._take)
            saver.stop_if_asked()
            if case.journal == "keep":
                with saver.finishing():
                    self.sim.point()
            saver.finish()

    def _runtime(self, saver: Saver | None) -> Runtime:
        if self.case.trouble == "interrupt":
            self.sim.signals = [(at, self._interrupt) for at in self.case.signals]
        refused = {"no thread": "job_stream-engine", "no writer": "job_stream-saver"}
        self.sim.refused = refused.get(self.case.trouble, "")
        source = InitialWork([] if self.case.rank == 1 else [self._items()])
        transport = OtherRank(self) if self.case.rank >= 0 else LocalTransport(self.case.cpus)
        self._joined = Cluster(transport)
        self.runtime = Runtime(self.plan, source, self.failures, self.case.cpus, None, False, saver,
                               joining=lambda: self._joined)  # fmt: skip
        return self.runtime

    def _stop(self, saver: Saver) -> None:
        self._asked_at = self.sim.now
        saver._on_signal(signal.SIGTERM, None)

    def _interrupt(self) -> None:
        """Ctrl-C; while the main thread leaves it is the second one."""
        if self.counts["interrupted"] or not self.runtime._shutdown.is_left:
            self.counts["interrupted"] += 1
            raise KeyboardInterrupt

    # the script ---------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        builder = Builder()
        builder.add(Stage(Kind.JOB, "job", print, self.case.processes, Policy(skip=self.case.trouble != "job")))
        return builder.plan()

    def _items(self) -> Any:
        if self.case.source == "list":
            return list(range(self.case.items))
        return self._bound() if self.case.source == "bound" else self._pulled()

    def _bound(self) -> Iterator[int]:
        return Bound(self._pulled())

    def _pulled(self) -> Iterator[int]:
        chance = random.Random(self.seed)
        for number in range(self.case.items):
            self.sim.sleep(chance.choice([0.0, 1e-4, 5e-3]))
            if self.case.trouble == "source" and number == self.case.items // 2:
                raise Boom("source")
            if self.case.source == "waiting" and number and not self.case.trouble:
                self.sim.wait(lambda: self._has_come(number), None)  # noqa: B023
            yield number

    def _has_come(self, count: int) -> bool:
        return len(self.results) + len(self.failures) >= count or self.runtime._shutdown.is_left

    def _take(self, values: list[int], base: int | None) -> None:
        for value in values:
            for _ in range(10):  # signals come in the midst of it
                self.sim.sleep(self.case.handler_s / 10)
            if self.case.trouble == "handler" and len(self.results) == self.case.items // 2:
                raise Boom("handler")
            self.results.append(value)
            if self.case.dawdles:
                self.sim.wait(lambda: self._answered == self.case.items, None)

    # what is around the runtime -------------------------------------------------------------------------------------

    def _install(self) -> None:
        sim, set_ = self.sim, self._patch.setattr
        threads = sim.threading()
        self.wake = Wake(sim)
        self.pool = Processes(self)
        set_(shutdown, "deque", lambda items=(): Deque(sim, items))
        set_(shutdown, "SimpleQueue", lambda: Queue(sim))
        set_(shutdown, "Wake", lambda: self.wake)
        readable = {Wake.fd: self.wake.is_readable, REPLIES: lambda: bool(self.pool.sent),
                    REPORTS: lambda: bool(self.pool.dead)}  # fmt: skip
        set_(loop, "select", SimpleNamespace(poll=lambda: Poll(sim, readable), POLLIN=select.POLLIN))
        for module in (loop, sleeping, prefetch, saver_module):
            set_(module, "monotonic", sim.monotonic)
        for module in (runtime, prefetch, saver_module):
            set_(module, "threading", threads)
        set_(sleeping, "sleep", sim.sleep)
        set_(InitialWork, "is_bound", property(lambda source: self.case.source == "bound"))
        set_(saver_module, "_say", lambda text: None)
        set_(saver_module, "note_stop", lambda: None)
        set_(runtime, "size_of", lambda: 2 if self.case.rank >= 0 else 1)
        for module in (sleeping, polling):
            set_(module, "HOT_PAUSE_S", SELDOM_S)
        set_(cluster_module, "print", lambda *text, **how: None, raising=False)
        set_(cluster_module, "Thread", threads.Thread)
        set_(cluster_module, "Event", threads.Event)
        set_(cluster_module, "time", SimpleNamespace(monotonic=sim.monotonic, sleep=sim.sleep))
        set_(runtime, "ProcessPool", lambda setup: self.pool)
        set_(runtime, "ThreadPool", lambda setup, post, packing, around: ThreadLanes(self, post))
        set_(runtime, "Forwarding", Forwarding)
        set_(runtime, "kin", SimpleNamespace(begin=lambda *given: None, end=lambda family: None))
        watched = {"full": self._watched("full"), "halted": self._watched("halted"), "handle": self._handled()}
        set_(runtime, "Rank", type("WatchedRank", (Rank,), watched))
        set_(routing, "RESULTS_ITEMS", FEW)
        set_(stalls, "STALL_S", 1e9)  # a net in which a wake-up that was lost would be caught
        for kind in (Closing, Release):
            set_(runtime, kind.__name__, partial(self._noting, kind))

    def _watched(self, name: str) -> property:
        def read(rank: Rank) -> bool:
            self.sim.point()
            return bool(getattr(Rank, name).fget(rank))

        return property(read)

    def _handled(self) -> Callable[..., list[m.Action]]:
        def handle(rank: Rank, event: m.Event, now: float) -> list[m.Action]:
            self.sim.point()
            self.counts[type(event).__name__] += 1
            return Rank.handle(rank, event, now)

        return handle

    def _noting(self, kind: Callable[..., Any], **steps: Callable[[], None]) -> Any:
        return kind(**{name: self._noted(name, step) for name, step in steps.items()})

    def _noted(self, name: str, step: Callable[[], None]) -> Callable[[], None]:
        def go() -> None:
            self.story.append(name)
            step()
            if name == self.case.step:
                self._broken += 1
                raise Boom(name)

        return go

    # lanes ----------------------------------------------------------------------------------------------------------

    def answer(self, lend: m.Lend) -> m.Repaid | UserFailure:
        """What a lane makes of a loan."""
        products: list[m.Product] = []
        for _, work in lend.units:
            for value in self._values(work):
                if value % 3 == 1 and self.case.trouble == "job":
                    return UserFailure("job", repr(value), "", 0, "", Boom("job"))
                if value % 3 == 1:
                    products.append(m.Skip(0, "job", self._packed([value]), 1, "no", work.scope))
                else:
                    products.append(m.Output(work.scope, work.place + 1, 1, self._packed([value])))
        names = tuple(name for name, _ in lend.units)
        self._answered += len(names)
        samples = ((0, len(names), max(self.case.job_s, 1e-6)),) if self.case.is_measured else ()
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
        if not (self.case.processes or self.case.journal):
            return Live(values)
        return self._boxed(values)

    def _boxed(self, values: list[int]) -> Blob:
        (frame,) = pack(values).frames
        return Blob([len(frame)], None, 0, bytes(frame))

    # what must hold -------------------------------------------------------------------------------------------------

    def _check_error(self, error: BaseException | None) -> None:
        case, kind = self.case, type(error).__name__ if error is not None else "nothing"
        self.counts[f"{case.trouble or 'no trouble'}: {kind}"] += 1
        self.counts["stopped"] += isinstance(error, SystemExit)
        expected = {"job": Boom, "source": Boom, "handler": Boom, "interrupt": KeyboardInterrupt, "sigterm": SystemExit,
                    "no thread": LimitError, "no writer": LimitError}  # fmt: skip
        allowed: list[type[BaseException]] = [expected[case.trouble]] if case.trouble else []
        if case.other == "fails":
            allowed.append(Boom)
        if case.other == "dies" and case.rank == 1:
            allowed.append(WorldError)
        if self._broken:
            allowed.append(Boom)
        if error is not None and not isinstance(error, tuple(allowed)):
            self.wrong.append(f"it raised {error!r}")
        if error is None and (self._broken or self.counts["interrupted"]):
            self.wrong.append("an error was lost")
        if isinstance(error, SystemExit) and error.code != STOPPED:
            self.wrong.append(f"it ended with {error.code}")

    def _check_end(self) -> None:
        if self.story != [*Closing._fields, *Release._fields]:
            self.wrong.append(f"it ended in these steps: {' '.join(self.story)}")
        if not self.wake.is_closed or self.pool.closed != self.case.processes:
            self.wrong.append("something is open still")

    def _check_results(self, error: BaseException | None) -> None:
        """Without an error all has come; with one, nothing twice."""
        found = Counter([*self.results, *(failure.item for failure in self.failures)])
        expected = Counter(range(self.case.items if self.case.rank < 1 else 0))
        if found - expected or (error is None and found != expected):
            self.wrong.append(f"of {self.case.items} items, these came: {sorted(found.elements())}")


class Bound:
    """Initial work that the main thread has to pull; it passes for a cursor."""

    def __init__(self, items: Iterator[int]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        return self._items


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
            self._say_instead(self._shell.answer_of_rank(keep))
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
                self._post(shell.answer(message))

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
            pool.sent.append(self._shell.answer(lend))


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
