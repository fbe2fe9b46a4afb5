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
from typing import Any

import pytest
from simulated_cases import Boom, Case, case_of
from simulated_disk import FOLDER, SimulatedDisk
from simulated_lanes import REPLIES, REPORTS, Answers, Forwarding, OtherRank, Processes, ThreadLanes
from simulated_threads import Abandoned, Deque, Hang, Poll, Queue, Scheduler, Wake

from job_stream.checkpoints import saver as saver_module
from job_stream.checkpoints.saver import EngineThread, Saver
from job_stream.checkpoints.stopping import STOPPED, TimeLimit
from job_stream.engine import messages as m
from job_stream.engine import polling, routing, stalls
from job_stream.engine.rank import Rank
from job_stream.errors import LimitError, WorldError
from job_stream.ranks import cluster as cluster_module
from job_stream.ranks import silence
from job_stream.ranks.cluster import Cluster
from job_stream.ranks.local import LocalTransport
from job_stream.runtime import loop, prefetch, runtime, shutdown, sleeping
from job_stream.runtime.runtime import Runtime
from job_stream.runtime.shutdown import Closing, Mailbox, Release
from job_stream.runtime.source import InitialWork
from job_stream.stream.plan import Builder, Kind, Plan, Policy, ResultsUse, Stage
from job_stream.values import Failure

SELDOM_S = 2e-3
"""Another rank is looked for no more often, since each look is a step."""
PATH = f"{FOLDER}/state"
LATE_S = 1.0
"""So much later than after a call of the handler a run may end that is asked to stop."""
FEW = 2
"""More results than that must not wait for the script."""


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
        self._broken = 0
        self.answers = Answers(case)
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
            self._runtime().run(self._take)
        except Abandoned:
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            if self.case.rank >= 0:
                self._joined.end(plan, error)

    def _saved(self) -> None:
        with closing(Mailbox()) as mailbox:
            self._run_saved(mailbox)

    def _run_saved(self, mailbox: Mailbox) -> None:
        case, engine = self.case, EngineThread(mailbox.post, mailbox.wake.set)
        limit, results = TimeLimit(None), ResultsUse(case.journal)
        saver = Saver(PATH, case.interval_s, limit, self.plan, results, engine, self._disk)
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
            self._runtime(saver, mailbox).run(self._take)
            saver.stop_if_asked()
            if case.journal == "keep":
                with saver.finishing():
                    self.sim.point()
            saver.finish()

    def _runtime(self, saver: Saver | None = None, mailbox: Mailbox | None = None) -> Runtime:
        if self.case.trouble == "interrupt":
            self.sim.signals = [(at, self._interrupt) for at in self.case.signals]
        refused = {"no thread": "job_stream-engine", "no writer": "job_stream-saver"}
        self.sim.refused = refused.get(self.case.trouble, "")
        source = InitialWork([] if self.case.rank == 1 else [self._items()])
        transport = OtherRank(self) if self.case.rank >= 0 else LocalTransport(self.case.cpus)
        self._joined = Cluster(transport)
        self.runtime = Runtime(self.plan, source, self.failures, self.case.cpus, None, False, saver,
                               joining=lambda: self._joined, mailbox=mailbox)  # fmt: skip
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
                self.sim.wait(lambda: self.answers.answered == self.case.items, None)

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
        for module in (cluster_module, silence):
            set_(module, "time", SimpleNamespace(monotonic=sim.monotonic, sleep=sim.sleep))
        set_(runtime, "ProcessPool", lambda setup, forwarding, start: self.pool)
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
