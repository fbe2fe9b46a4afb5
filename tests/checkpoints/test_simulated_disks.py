"""Saver, journal and checkpoint on simulated disks, with the engine in virtual time: whatever fails and whenever all
dies, no result is lost, and none is handed out before what it depends on is durable.

A seed stands for a stream, for what goes wrong, and for the order of all that happens. What the saver does in a thread
of its own is done in the middle of other events, which go on at each of its system calls. JOBS_TEST_DISKS=20000
asks for that many seeds.
"""

from __future__ import annotations

import errno
import heapq
import os
import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from engine_support import plan_of
from simulated_disk import FAULTS, FOLDER, Death, SimulatedDisk

from job_stream.checkpoints import file as checkpoint_module
from job_stream.checkpoints import saver as saver_module
from job_stream.checkpoints.file import CheckpointFile
from job_stream.checkpoints.journal import CallJournal, ResultJournal
from job_stream.checkpoints.log import LogFile
from job_stream.checkpoints.saver import EngineThread, Saver
from job_stream.checkpoints.stopping import TimeLimit
from job_stream.engine import messages as m
from job_stream.engine.messages import ANYWHERE, PRIMARY
from job_stream.errors import CheckpointError
from job_stream.memory.payload import Blob, pack, unpack
from job_stream.simulate.cases import Case, case_of
from job_stream.simulate.functions import Values
from job_stream.simulate.reference import serial
from job_stream.simulate.simulated_cluster import SimulatedCluster
from job_stream.stream.fingerprint import fingerprint
from job_stream.stream.plan import ResultsUse

SEEDS = int(os.environ.get("JOBS_TEST_DISKS", "1000"))
MUTANT_SEEDS = 600
EVENTS = ("deaths", "power failures", "resumed", "meanwhile", "saves", "Saved", "ends", "rank deaths")
PATH = f"{FOLDER}/state"
LIVES = 30
ERRORS = (errno.EIO, errno.ENOSPC)
JOURNALS = {"call": CallJournal, "keep": ResultJournal}


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same tuples of other values."""
    if not isinstance(value, tuple):
        return change(value)
    parts = [changed(part, change) for part in value]
    return value._make(parts) if hasattr(value, "_make") else tuple(parts)  # type: ignore[attr-defined]


def for_rank(value: Any) -> Any:
    return pack(value) if type(value) is Values else value


def afloat(value: Any) -> Any:
    return unpack(value.frames()) if type(value) is Blob else value


class Thread:
    """The saver's thread: it runs when its event comes, or when somebody waits for it."""

    def __init__(self, run: Run, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self.run = run
        self.start = lambda: run.plan_to_write(self)
        self.work = lambda: target(*args)

    def join(self) -> None:
        if self.run.writer is self:
            self.run.write()


class Run(SimulatedCluster):
    """A script that is started again until it comes to its end.

    Args:
        seed: of all that is left to chance.
        case: the stream.
        kind: 'call' or 'keep', what becomes of results.
        disk: where they are saved.
    """

    def __init__(self, seed: int, case: Case, kind: str, disk: SimulatedDisk) -> None:
        super().__init__(seed, case)
        self.kind = kind
        self.disk = disk
        self.expected = Counter(serial(case.plan, 0, list(range(case.items))))
        self.handled: list[int] = []
        self.kept: list[int] = []
        self.again = 0  # results that may come again
        self.wrong: list[str] = []
        self.isInCall = False
        self._on_record = self._errors = 0
        self.writer: Thread | None = None
        disk.synced = self._synced

    def _start(self, size: int, lanes: int, rank_deaths: tuple[tuple[float, int], ...]) -> None:
        """Not yet."""

    def lives(self) -> None:
        """Starts it again and again."""
        for number in range(LIVES):
            if number == LIVES // 2:
                self.disk.fate = lambda call: None  # it shall come to its end
            errors = self.disk.errors
            try:
                self.live()
                return
            except Death:
                self._died(power_fails=self.chance.random() < 0.5)
            except CheckpointError as error:
                if self.disk.errors == errors:
                    raise AssertionError(f"refused without a reason: {error}") from error
                self._died(power_fails=False)
        raise AssertionError("it does not come to its end")

    def _died(self, power_fails: bool) -> None:
        self.counts["power failures" if power_fails else "deaths"] += 1
        self.again += self.isInCall
        if power_fails or self.disk.errors > self._errors:
            self.again += len(self.handled) - self._on_record
            self._on_record = len(self.handled)
        self.isInCall = False
        self.disk.restart(power_fails)

    def _synced(self, path: str) -> None:
        if path.endswith(".journal") and not self._waits:
            self._on_record, self._errors = len(self.handled), self.disk.errors

    @property
    def _waits(self) -> bool:
        """Whether something has been handled that the disk did not take yet."""
        journal = self.saver._journal
        return journal is not None and bool(journal._log._waiting)

    # one life -----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        self.writer, self.isWriting, self.disk.meanwhile = None, False, lambda: None
        errors = self.disk.errors
        saver_module.threading = SimpleNamespace(  # type: ignore[attr-defined]
            Thread=lambda target, args, name, daemon: Thread(self, target, args), Event=threading.Event
        )
        self.posted: list[BaseException] = []
        engine = EngineThread(self.posted.append, lambda: None)
        self.saver = saver = Saver(PATH, 1e6, TimeLimit(None), self.plan, ResultsUse(self.kind), engine, self.disk)
        if saver.ended is not None:
            return
        saver.initial_parts(list)
        saver.begin((self.case.items,))
        self.counts["resumed"] += saver.state is not None
        self.kept, self.queue = [], deque[m.Deliver]()
        saver.restore(lambda values, base: self.kept.extend(values))
        self._saved = (changed(saver.state, afloat), [])
        super()._start(self.case.size, self.case.lanes, self.case.rank_deaths)
        self._handle(0, m.Nothing())
        self._save(self.ranks[0].capture())
        while not self.ranks[0].halted or self.ranks[0].awaits or self.writer is not None:
            self.step()
            if self.posted:
                raise self.posted[0]
        self._end(saver, errors)

    def _end(self, saver: Saver, errors: int) -> None:
        saver.last = changed(self.ranks[0].capture(), for_rank)
        with saver.finishing():
            self._check()
        said = len(SAID)
        saver.finish()
        saver.close()
        self.counts["ends"] += 1
        if self.disk.errors == errors:
            self._check_end(len(SAID) == said)
        if len(SAID) == said:
            self.disk.restart(power_fails=True)
            self.disk.fate = lambda call: None
            if CheckpointFile(PATH, self.disk).check() is None:
                self.wrong.append("the end has been forgotten")

    def _check_end(self, is_noted: bool) -> None:
        """What earlier processes have left is gone, if nothing went wrong in this one."""
        if not is_noted:
            self.wrong.append("the end has not been noted")
        if left := sorted({*self.disk.names} - {f"{PATH}.done"}):
            self.wrong.append(f"{left} are left")

    def step(self) -> None:
        self.now, _, number, event = heapq.heappop(self._heap)
        if number in self.dead:
            return
        if event == "die":
            self._die(number)
        elif event == "write":
            self.write()
        elif event == "snapshot":
            self._save(self.ranks[0].capture())
        elif event == "take":
            self._take()
        elif type(event) is tuple:
            self._lane_worked(number, *event)
        else:
            self._handle(number, event)

    # saving -------------------------------------------------------------------------------------------------------

    def _save(self, state: Any) -> None:
        if self.writer is None:
            self.counts["saves"] += 1
            self.saver.save(changed(state, for_rank))

    def plan_to_write(self, thread: Thread) -> None:
        self.writer = thread
        self._later(self.chance.random() * 0.01, 0, "write")

    def write(self) -> None:
        if self.writer is None or self.isWriting:
            return
        self.isWriting, self.disk.meanwhile = True, self._meanwhile
        self.writer.work()
        self.isWriting, self.disk.meanwhile = False, lambda: None
        self.writer = None
        if not self.posted:
            self._check()

    def _meanwhile(self) -> None:
        self.disk.meanwhile = lambda: None
        for _ in range(self.chance.choice([0, 0, 1, 5])):
            if self._heap:
                self.counts["meanwhile"] += 1
                self.step()
        self.disk.meanwhile = self._meanwhile

    # results ------------------------------------------------------------------------------------------------------

    def _deliver(self, action: m.Deliver) -> None:
        self.queue.append(action)
        self._undelivered.append(action.payload.values)
        self._later(self.chance.random() * 0.01, 0, "take")

    def _take(self) -> None:
        if not self.saver._is_tried.is_set():
            self._later(1e-3, 0, "take")
            return
        action = self.queue.popleft()
        values = action.payload.values
        self.saver.deliver(pack(values), values, action.base, self._receive)
        self._later(self.chance.random() * 0.01, 0, m.ResultsTaken(action.count, action.payload.nbytes))

    def _receive(self, values: list[int], base: int | None) -> None:
        if self.kind == "keep":
            self.kept += values
            return
        if self.chance.random() < 0.1:
            self._check()
        self._may_die()
        self.handled += values
        self.isInCall = True
        self._may_die()
        self.isInCall = False

    def _may_die(self) -> None:
        if self.disk.fate("call") is Death:
            self.disk.isDead = True
            raise Death

    def _check(self) -> None:
        """If the power failed now, in the worst way, the run would go on."""
        self.counts["checks"] += 1
        worst = self.disk.worst()
        try:
            loaded = CheckpointFile(PATH, worst).read(fingerprint(self.plan))
            if loaded is None:
                raise CheckpointError("results are handed out without a checkpoint")
            JOURNALS[self.kind].open(f"{PATH}.journal", loaded.header.run_id, loaded.header.mark, worst).close()
        except CheckpointError as error:
            self.wrong.append(str(error))

    def verdict(self) -> str | None:
        found = Counter(self.handled if self.kind == "call" else self.kept)
        if lost := self.expected - found:
            self.wrong.append(f"{lost.total()} results are lost")
        again = (found - self.expected).total()
        if again > self.again:
            self.wrong.append(f"{again} results come again, and {self.again} may")
        return "; ".join(self.wrong) or None


SAID: list[str] = []


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("JOBS_CHECKPOINT_KEY", raising=False)
    monkeypatch.setattr(saver_module, "_say", SAID.append)
    monkeypatch.setattr(saver_module, "threading", threading)
    yield
    SAID.clear()


def small_case(seed: int, chance: random.Random) -> Case:
    size = chance.choice([1, 1, 2])
    deaths = tuple((chance.random() * 0.05, 1) for _ in range(size - 1) if chance.random() < 0.3)
    saves = tuple(chance.random() ** 2 * 0.1 for _ in range(chance.choice([0, 2])))
    snapshots = tuple(chance.random() * 0.06 for _ in range(chance.choice([0, 3, 12])))
    case = case_of(seed)
    if chance.random() < 0.5:
        case = case._replace(plan=plan_of("job"))  # gives many results
    return case._replace(
        items=chance.choice([0, 1, 5, 12, 24]), size=size, lanes=2, cores=1, hosts=(ANYWHERE, PRIMARY),
        rank_deaths=deaths, saves=saves, snapshots=snapshots, crashes=(), slow={},
    )  # fmt: skip


def troubles(chance: random.Random) -> Callable[[str], Any]:
    """What goes wrong by chance: some calls fail, of one kind or of any, and once in a while all dies."""
    errors, deaths = chance.choice([0, 0.03, 0.1, 0.4]), chance.choice([0.001, 0.005, 0.02])
    calls = chance.choice([FAULTS, FAULTS, ("fsync",), ("pwrite", "fsync")])

    def fate(call: str) -> Any:
        if chance.random() < (0.03 if call == "call" else deaths):
            return Death
        return chance.choice(ERRORS) if call in calls and chance.random() < errors else None

    return fate


def run_of(seed: int) -> Run:
    chance = random.Random(seed)
    disk = SimulatedDisk(chance)
    disk.fate, disk.no_links = troubles(chance), chance.random() < 0.2
    run = Run(seed, small_case(seed, chance), chance.choice(["call", "call", "keep"]), disk)
    run.lives()
    return run


def failure(seed: int, counts: Counter[str] | None = None) -> str | None:
    """What is wrong with the run of a seed; None: nothing."""
    try:
        run = run_of(seed)
    except Exception as error:
        return f"seed {seed}: {type(error).__name__}: {error}"
    if counts is not None:
        counts += run.counts
    verdict = run.verdict()
    return f"seed {seed}: {verdict}" if verdict else None


@pytest.mark.parametrize("first", range(0, SEEDS, 200))
def test_whatever_a_disk_does_no_result_is_lost_or_handed_out_too_early(first: int) -> None:
    counts: Counter[str] = Counter()
    failures = [text for seed in range(first, first + 200) if (text := failure(seed, counts))]
    assert not failures, "\n".join(failures)
    assert not [what for what in EVENTS if not counts[what]], "the seeds are to cover this"


# --- each call goes wrong ---------------------------------------------------------------------------------------------


def run_with(seed: int, kind: str, fate: Callable[[int, str], Any], no_links: bool = False) -> Run:
    """The run of a stream in which certain calls go wrong, and nothing else."""
    disk = SimulatedDisk(random.Random(seed))
    disk.fate, disk.no_links = (lambda call: fate(disk.calls, call)), no_links
    case = case_of(7)._replace(items=6, size=1, lanes=2, rank_deaths=(), lane_deaths=0.0, slow={}, saves=(),
                              snapshots=(0.003, 0.006, 0.01), crashes=())  # fmt: skip
    run = Run(seed, case, kind, disk)
    run.lives()
    return run


FATES: dict[str, tuple[Any, ...]] = {
    "error": (errno.EIO,),
    "full": (errno.ENOSPC,),
    "death": (Death,),
    "error and death": (errno.EIO, Death),
    "error, and death later": (errno.EIO, None, Death),
    "two errors": (errno.EIO, errno.EIO),
}


def each_goes_wrong(kind: str, no_links: bool, fates: tuple[Any, ...]) -> tuple[int, list[str]]:
    """The n-th call meets its fate, for every n, and the next fate comes some calls later. Gives how many calls there
    were, and what was wrong."""
    number, wrong = 0, []
    while True:
        number += 1
        places = {number + 7 * later: fate for later, fate in enumerate(fates)}

        def fate(at: int, call: str, places: dict[int, Any] = places) -> Any:
            return places.pop(at, None) if call in FAULTS else None

        run = run_with(number, kind, fate, no_links)
        if verdict := run.verdict():
            wrong.append(f"call {number}: {verdict}")
        if len(places) == len(fates):
            return number, wrong


@pytest.mark.parametrize("kind", JOURNALS)
@pytest.mark.parametrize("no_links", [False, True])
@pytest.mark.parametrize("fates", FATES)
def test_each_call_of_a_run_may_go_wrong(kind: str, no_links: bool, fates: str) -> None:
    number, wrong = each_goes_wrong(kind, no_links, FATES[fates])
    assert not wrong, "\n".join(wrong)
    assert number > 60


# --- mutants: each is caught ------------------------------------------------------------------------------------------


def _nothing(*arguments: Any) -> None:
    """In place of something that matters."""


def _unsynced(disk: SimulatedDisk, fd: int, fsync: Callable[..., None] = SimulatedDisk.fsync) -> None:
    if not disk.path_of(fd).endswith(".new"):
        fsync(disk, fd)


def _counted_before(journal: CallJournal, values: list[Any], begin: Callable[..., Any] = CallJournal.begin) -> Any:
    fresh = begin(journal, values)
    journal._handled += len(fresh)
    journal._log.counter = journal._handled
    return fresh


MUTANTS: dict[str, list[tuple[Any, str, Any]]] = {
    "the first checkpoint does not matter": [(Saver, "_not_written", _nothing)],
    "a sync after one that failed is believed": [(LogFile, "_write_again", _nothing)],
    "the journal is not synced": [(LogFile, "sync", _nothing)],
    "the checkpoint is not synced": [(SimulatedDisk, "fsync", _unsynced)],
    "names are not synced": [(SimulatedDisk, "sync_folder", _nothing)],
    "what died before it was a checkpoint stays": [(CheckpointFile, "_tidy", _nothing)],
    "what lost its beginning stays": [(checkpoint_module, "_NOTHING", b"never")],
    "calls are counted before they have ended": [
        (CallJournal, "begin", _counted_before), (CallJournal, "handled", _nothing),
    ],
    "the mark is where the journal is now": [(Saver, "_mark_of", lambda saver, results: saver._journal.mark())],
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_step_is_caught(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, change in MUTANTS[mutant]:
        monkeypatch.setattr(place, name, change)
    assert any(failure(seed) for seed in range(MUTANT_SEEDS))


def test_a_checkpoint_that_is_left_without_its_name_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointFile, "_put_back", _nothing)
    with pytest.raises(AssertionError, match=r"state is missing, but \S*state\.previous is there"):
        each_goes_wrong("call", True, FATES["error, and death later"])


def test_the_same_seed_goes_the_same_way() -> None:
    def story(seed: int) -> tuple[Any, ...]:
        run = run_of(seed)
        return run.counts, run.handled, run.kept, run.disk.calls

    assert [story(seed) for seed in range(20)] == [story(seed) for seed in range(20)]
