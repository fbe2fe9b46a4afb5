"""Two ranks of one lane each, started by mpirun, against mpi4py.futures with a master and two workers.

Each turn is a launch of its own. What is on the clock begins when its ranks are together and have run something tiny.
Like elsewhere, the figure that is judged leaves out what starting a run takes, and stands beside the one with it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.budgets import Budget
from benchmarks.contenders import Check, WrongAnswer, expect, reference
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost, efficiency, rate
from benchmarks.peers import Peer
from benchmarks.ranks.launch import run_ranks, why_not
from benchmarks.ranks.telling import digest, write_pieces
from benchmarks.workloads.arrays import ARRAY_BYTES, DISTINCT_ARRAYS, make_arrays, sample_array, stream_of
from benchmarks.workloads.frames import WIDE_TASK_S
from benchmarks.workloads.tasks import TASK_S, lower_bound, skewed_durations
from benchmarks.workloads.words import SERIAL, make_text, merge_counts

RANKS = 2
FUTURES = "futures"
FUTURES_PKL5 = "futures pkl5"
CHUNKS = (100, 1_000, 10_000)
# About what mpi4py.futures needs for an item beyond its own time; only used to keep its runs short.
FUTURES_ITEM_S = 250e-6
UNDISTURBED = "undisturbed"
CHURN_STEPS = 60_000
# With fewer items, a run could be over before a rank is killed.
LEAST_CHURNING = 100

Launch = Callable[[], dict[str, Any]]


def futures_chunks(chunk: int) -> str:
    return f"{FUTURES} {chunk:,}"


NOOP_CASE = Case(
    workload="ranks-noop",
    metric=rate("speed", "M items/s", 1e6),
    budgets=(
        Budget(at_least=50.0, against=FUTURES),
        *(Budget(at_least=0.3, aim=1.0, against=futures_chunks(chunk)) for chunk in CHUNKS),
    ),
    notes=(
        "ranks-*: two ranks of one lane each; futures is mpi4py.futures on three ranks, a master and two workers, its "
        "chunk size 1 unless it stands beside the name. mpirun and the first tiny run are off the clock.",
        "ranks-noop: to reach a share of the best chunk size is to reach it for each of them.",
    ),
)
EFFICIENCY_BUDGETS = {"30 us": (Budget(aim=95.0),), "100 us": (Budget(at_least=90.0),), "1 ms": ()}
SKEW_CASE = Case(
    workload="ranks-skew",
    metric=cost("makespan / lower bound", "x"),
    budgets=(Budget(at_least=1.06, aim=1.03),),
)
WORDS_CASE = Case(
    workload="ranks-words",
    metric=cost("time", "s"),
    budgets=(Budget(at_least=0.62, aim=0.55, against=SERIAL),),
    pace=Pace.SLOW,
    notes=("ranks-words: the text is in rank 0; serial is the loop of word_count in one process.",),
)
ARRAYS_CASE = Case(
    workload="ranks-arrays",
    metric=rate("bandwidth", "GB/s", 1e9),
    budgets=(Budget(at_least=1.5, aim=4.0),),
    notes=(
        "ranks-arrays: arrays of 8 MB from a generator in rank 0, whose lane waits until nine in ten are done, so they "
        "are lent; bytes that rank 1 worked on per second of the run. A job sums one value in a thousand.",
    ),
)
IDLE_CASE = Case(
    workload="ranks-idle",
    metric=cost("processor while waiting", "% of a core", 1e-2),
    budgets=(Budget(at_least=3.0, aim=1.0),),
    pace=Pace.SLOW,
    notes=("ranks-idle: processor time of rank 1 in a run whose one item sleeps on rank 0, with its start-up.",),
)
DEATH_CASE = Case(
    workload="ranks-death",
    metric=cost("time", "s"),
    budgets=(Budget(at_least=1.6, aim=1.3, against=UNDISTURBED),),
    pace=Pace.SLOW,
    notes=(
        f"ranks-death: three ranks, one of which is killed after half of the time that two {UNDISTURBED} ranks take "
        "for the same computation. mpi4py.futures cannot go on without a rank.",
    ),
)


@dataclass
class Turn:
    """A launch that tells how long starting took, too: one launch for both of a contender's measurements."""

    launch: Launch
    reading: float = 0.0

    def measure_startup(self) -> float:
        told = self.launch()
        self.reading = told["reading"]
        return float(told["startup"])

    def measure(self) -> float:
        return self.reading


def ours(work: float, check: Check[Any], program: str, **keywords: object) -> Contender:
    """job_stream on two ranks, running a program of `benchmarks.ranks.ours`."""
    turn = Turn(partial(checked, check, "ours", program, RANKS, **keywords))
    return Contender(SUBJECT, work, turn.measure, turn.measure_startup)


def futures(work: float, check: Check[Any], program: str, tool: str = FUTURES, **keywords: object) -> Contender:
    """mpi4py.futures with two workers, running a program of `benchmarks.ranks.futures`."""
    return Contender(tool, work, lambda: reading_of(checked(check, "futures", program, RANKS + 1, **keywords)))


def checked(check: Check[Any], module: str, program: str, ranks: int, **keywords: Any) -> dict[str, Any]:
    """What the program tells, if its answer is right."""
    told = run_ranks(ranks, f"benchmarks.ranks.{module}", program, **keywords)
    check(told.get("answer"))
    return told


def reading_of(told: dict[str, Any]) -> float:
    return float(told["reading"])


def build_noop(settings: Settings) -> Iterator[Race]:
    count = settings.amount(200_000, 100_000)
    few = affordable(settings, count)
    chunked = [
        futures(count, expect(True), "noop", futures_chunks(chunk), count=count, chunk=chunk) for chunk in CHUNKS
    ]
    alone = futures(few, expect(True), "noop", count=few, chunk=1)
    yield Race(NOOP_CASE, [ours(count, expect(True), "noop", count=count), alone, *chunked])


def affordable(settings: Settings, count: int) -> int:
    """As many of `count` items as mpi4py.futures puts through one by one in about the limit for peers."""
    return max(2, min(count, int(settings.peer_limit_s / FUTURES_ITEM_S)))


def build_granularity(settings: Settings) -> Iterator[Race]:
    total_s = settings.duration_s(3.0, 0.4)
    for name, budgets in EFFICIENCY_BUDGETS.items():
        count = max(2, round(total_s / TASK_S[name]))
        few = affordable(settings, count)
        case = Case("ranks-granularity", efficiency(RANKS), budgets, name)
        yield Race(case, [tasks(ours, TASK_S[name], count), tasks(futures, TASK_S[name], few)])


def tasks(contender: Callable[..., Contender], task_s: float, count: int, program: str = "tasks") -> Contender:
    """A contender whose work is the time of its tasks, which are counted."""
    return contender(task_s * count, expect(count), program, durations=[task_s], times=count)


def build_skew(settings: Settings) -> Iterator[Race]:
    durations = skewed_durations(settings.duration_s(8.0, 2.0))
    bound_s = lower_bound(durations, RANKS)
    check = expect(len(durations))
    subject = ours(bound_s, check, "unordered_tasks", durations=durations)
    yield Race(SKEW_CASE, [subject, futures(bound_s, check, "tasks", durations=durations)])


def build_frame(settings: Settings) -> Iterator[Race]:
    children = settings.amount(400, 100)
    case = Case(
        workload="ranks-frame",
        metric=efficiency(RANKS),
        budgets=(Budget(at_least=93.0, aim=97.0),),
        notes=(f"ranks-frame: one frame, {children} children of {1e3 * WIDE_TASK_S:g} ms; futures maps over them.",),
    )
    yield Race(case, [tasks(ours, WIDE_TASK_S, children, "frame"), tasks(futures, WIDE_TASK_S, children)])


def build_words(settings: Settings) -> Iterator[Race]:
    pieces = make_text(settings.amount(200_000_000, 40_000_000))
    check = same_as_first()
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        path = Path(folder, "words.txt")
        write_pieces(pieces, path)
        serial = reference(SERIAL, 1.0, lambda: merge_counts(pieces), lambda counts: check(digest(counts)))
        launched = [contender(1.0, check, "words", path=str(path)) for contender in (ours, futures)]
        yield Race(WORDS_CASE, [*launched, serial])


def same_as_first() -> Check[object]:
    """A check that everybody's answer is that of whoever came first."""
    first: list[object] = []

    def check(answer: object) -> None:
        first.append(answer)
        expect(first[0])(answer)

    return check


def build_arrays(settings: Settings) -> Iterator[Race]:
    count = settings.amount(300, 32)
    work = ARRAY_BYTES * count
    samples = [sample_array(array) for array in stream_of(make_arrays(DISTINCT_ARRAYS), count)]
    check = expect(sorted(samples))
    subject = ours(work, check, "arrays", count=count)
    others = {FUTURES: False, FUTURES_PKL5: True}
    yield Race(
        ARRAYS_CASE,
        [subject, *(futures(work, check, "arrays", tool, count=count, pkl5=pkl5) for tool, pkl5 in others.items())],
    )


def build_idle(settings: Settings) -> Iterator[Race]:
    nap_s = settings.duration_s(5.0, 2.0)
    check = partial(checked, expect([0]), "ours", "idle", RANKS, duration_s=nap_s)
    subject = Contender(SUBJECT, nap_s, lambda: reading_of(check()))
    yield Race(IDLE_CASE, [subject, futures(nap_s, expect(RANKS + 1), "idle", duration_s=nap_s)])


def build_death(settings: Settings) -> Iterator[Race]:
    """The undisturbed ranks have the first turn, since they tell when to kill."""
    items = max(LEAST_CHURNING, settings.amount(800, 400))
    check = same_as_first()
    churning = {"tolerant": True, "items": items, "steps": CHURN_STEPS}
    undisturbed_s: list[float] = []

    def measure_undisturbed() -> float:
        undisturbed_s.append(reading_of(checked(check, "ours", "churning", RANKS, **churning)))
        return undisturbed_s[-1]

    def measure() -> float:
        if not undisturbed_s:
            raise RuntimeError("the undisturbed ranks failed, so there is no time to kill at")
        return killed_at(undisturbed_s[-1] / 2, check, churning)

    yield Race(DEATH_CASE, [Contender(UNDISTURBED, 1.0, measure_undisturbed), Contender(SUBJECT, 1.0, measure)])


def killed_at(kill_after_s: float, check: Check[Any], churning: dict[str, Any]) -> float:
    """The time of three ranks one of which was killed; a run that was over before says nothing."""
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        note = Path(folder, "killed")
        told = checked(check, "ours", "churning", RANKS + 1, **churning, kill_after_s=kill_after_s, note=str(note))
        if not note.exists():
            raise WrongAnswer("no rank was killed: the run was over before")
        return reading_of(told)


def on_ranks(name: str, summary: str, build: Callable[[Settings], Iterator[Race]], tolerant: bool = False) -> Workload:
    """A workload that says why where ranks can't be started."""

    def build_or_say(settings: Settings, _peers: Sequence[type[Peer]]) -> Iterator[Race]:
        reason = why_not(tolerant)
        if reason:
            yield Race(Case(name, cost("time", "s"), notes=(f"{name}: left out, {reason}.",)), [])
        else:
            yield from build(settings)

    return Workload(name, summary, build_or_say)


RANK_WORKLOADS = (
    on_ranks("ranks-noop", "two ranks: no-op map over many ints, an ordered list back", build_noop),
    on_ranks("ranks-granularity", "two ranks: busy tasks of 30 us to 1 ms", build_granularity),
    on_ranks("ranks-skew", "two ranks: tasks of very different lengths", build_skew),
    on_ranks("ranks-words", "two ranks: words of a text counted and merged", build_words),
    on_ranks("ranks-frame", "two ranks: one frame with many children", build_frame),
    on_ranks("ranks-arrays", "two ranks: arrays of 8 MB lent to the other rank", build_arrays),
    on_ranks("ranks-idle", "two ranks: processor used by one while the other has a long item", build_idle),
    on_ranks("ranks-death", "three ranks, one of which is killed half way", build_death, tolerant=True),
)
