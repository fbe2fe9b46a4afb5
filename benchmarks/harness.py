"""Runs contenders against each other and keeps what each of them reached.

The rules that make the figures comparable:

- Contenders of a case take turns (repetition 1 of each, repetition 2 of each, ...), so a machine that slows down half
  way slows all of them.
- A value is made of the median over the repetitions. All readings are kept for the JSON.
- The figure that is judged leaves start-up out. A contender that can't start before the clock does (job_stream forks
  inside `run()`) measures its start-up as a run of the same shape with one item, in turn with the others, and the
  median of that is taken off. The value with start-up stands beside it.
- A contender that raises, gives a wrong answer or takes too long leaves the race with its error; the others go on.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from statistics import median
from types import FrameType

from benchmarks.budgets import Budget
from benchmarks.metrics import Metric
from benchmarks.peers import Peer

SUBJECT = "job_stream"

# A run of which start-up is more than this share is too short for a difference of two medians; its value is marked.
UNCERTAIN_SHARE = 0.5
# The least of a run that may be left when start-up is taken off, so that noise can't make a value infinite or negative.
LEAST_SHARE = 0.1


class Size(Enum):
    """How much work the workloads have; the smoke size only shows that everything runs."""

    FULL = "full"
    QUICK = "quick"
    SMOKE = "smoke"


class Pace(Enum):
    """How long a run takes, hence how often it is worth repeating."""

    SHORT = "short"
    NORMAL = "normal"
    SLOW = "slow"


@dataclass(frozen=True)
class Settings:
    """What the command line decides; `repeat` is None when it leaves the number of repetitions to the size and pace."""

    workers: int = 2
    size: Size = Size.FULL
    repeat: int | None = None
    timeout_s: float = 300.0

    def amount(self, full: int, quick: int) -> int:
        """How many of something this size takes."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: max(2, quick // 50)}[self.size]

    def duration_s(self, full: float, quick: float) -> float:
        """How many seconds of something this size takes."""
        return {Size.FULL: full, Size.QUICK: quick, Size.SMOKE: quick / 50}[self.size]

    @property
    def peer_limit_s(self) -> float:
        """About how long one run of a peer may take where it may do less of the same."""
        return self.duration_s(4.0, 0.4)

    def peer_items(self, peer: type[Peer], count: int) -> int:
        """As many of `count` items as `peer` can put through in about `peer_limit_s`."""
        return max(2, min(count, int(self.peer_limit_s / peer.item_s)))

    def affordable(self, peer: type[Peer], count: int) -> bool:
        """Whether `peer` can put through `count` items where it can't do less of the same."""
        return count * peer.item_s <= 10 * self.peer_limit_s

    def repetitions(self, pace: Pace) -> int:
        if self.repeat is not None:
            return self.repeat
        if self.size is Size.SMOKE:
            return 1
        if self.size is Size.QUICK:
            return {Pace.SHORT: 5, Pace.NORMAL: 3, Pace.SLOW: 1}[pace]
        return {Pace.SHORT: 15, Pace.NORMAL: 5, Pace.SLOW: 3}[pace]


@dataclass(frozen=True)
class Contender:
    """One tool's way of doing a case: `measure` runs it once for a reading, `work` is what one run gets done."""

    tool: str
    work: float
    measure: Callable[[], float]
    measure_startup: Callable[[], float] | None = None


@dataclass(frozen=True)
class Case:
    """What one line of the table is about; `name` tells the cases of a workload apart."""

    workload: str
    metric: Metric
    budgets: tuple[Budget, ...] = ()
    name: str = ""
    pace: Pace = Pace.NORMAL
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.workload} {self.name}".rstrip()


@dataclass(frozen=True)
class Race:
    """A case with those who take part in it."""

    case: Case
    contenders: Sequence[Contender]


@dataclass(frozen=True)
class Workload:
    """A named source of races; they are built one after the other, so that only one holds its data at a time."""

    name: str
    summary: str
    build: Callable[[Settings, Sequence[type[Peer]]], Iterable[Race]]


@dataclass
class Record:
    """The readings of one contender so far; an error ends them."""

    readings: list[float] = field(default_factory=list)
    startups: list[float] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Score:
    """What one contender reached: its value without and with start-up, or its error."""

    value: float | None
    with_startup: float | None
    uncertain: bool
    work: float
    record: Record


@dataclass(frozen=True)
class Outcome:
    """A case with the scores of all who took part, in the order in which they took turns."""

    case: Case
    scores: dict[str, Score]

    @property
    def values(self) -> dict[str, float]:
        return {tool: score.value for tool, score in self.scores.items() if score.value is not None}


def interleave(contenders: Sequence[Contender], repetitions: int) -> Iterator[tuple[int, Contender]]:
    """Repetition 1 of each contender, then repetition 2 of each, and so on."""
    return product(range(1, repetitions + 1), contenders)


def run_race(race: Race, settings: Settings, progress: Callable[[str], None]) -> Outcome:
    """Let the contenders of `race` take turns; `progress` is told of each turn."""
    repetitions = settings.repetitions(race.case.pace)
    records = {contender.tool: Record() for contender in race.contenders}
    for repetition, contender in interleave(race.contenders, repetitions):
        record = records[contender.tool]
        if not record.error:
            progress(f"{race.case.title}: {contender.tool} {repetition}/{repetitions}")
            take_turn(contender, record, settings.timeout_s)
    return Outcome(race.case, {c.tool: make_score(c, race.case.metric, records[c.tool]) for c in race.contenders})


def take_turn(contender: Contender, record: Record, timeout_s: float) -> None:
    """Add one repetition to `record`, or the error that kept the contender from it."""
    try:
        with within(timeout_s):
            if contender.measure_startup is not None:
                record.startups.append(contender.measure_startup())
            record.readings.append(contender.measure())
    except Exception as error:  # whatever a tool raises must not end the race of the others
        record.error = f"{type(error).__name__}: {error}"


def make_score(contender: Contender, metric: Metric, record: Record) -> Score:
    """The value of the medians in `record`, with start-up taken off where it was measured."""
    if record.error or not record.readings:
        return Score(None, None, False, contender.work, record)
    whole = median(record.readings)
    startup = median(record.startups) if record.startups else 0.0
    steady = max(whole - startup, whole * LEAST_SHARE)
    return Score(
        value=metric.convert(steady, contender.work),
        with_startup=metric.convert(whole, contender.work),
        uncertain=startup > whole * UNCERTAIN_SHARE,
        work=contender.work,
        record=record,
    )


@contextmanager
def within(timeout_s: float) -> Iterator[None]:
    """Raise TimeoutError in the block once `timeout_s` seconds have passed; for the main thread."""

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {timeout_s:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    other_timer = signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *other_timer)
