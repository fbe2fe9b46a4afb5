"""Jobs that do nothing: what is measured is what an item costs on its way."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType

from benchmarks.budgets import Budget
from benchmarks.contenders import expect, ours, theirs
from benchmarks.harness import Case, Contender, Race, Settings, Workload
from benchmarks.metrics import cost, rate
from benchmarks.peers import Peer
from benchmarks.tasks import Tally, unchanged

# With one item at a time every peer would be slower by an order of magnitude; a user of a peer would set this.
PEER_CHUNK = 1000

MAP = Case(
    workload="noop_map",
    metric=rate("speed", "M items/s", 1e6),
    budgets=(Budget(at_least=0.5, aim=1.0, against="pool"), Budget(at_least=2.0, against="joblib")),
    notes=("noop_map: an ordered list back; every tool with its default chunk size.",),
)
STREAM = Case(
    workload="noop_stream",
    metric=rate("speed", "M items/s", 1e6),
    budgets=(Budget(at_least=1.5, aim=3.0),),
    notes=(f"noop_stream: results go to a handler in any order; the peers are given a chunk size of {PEER_CHUNK}.",),
)
ONE_JOB = "one job"
CHAINED_JOBS = 3
CHAINED_CASE = Case(
    workload="chained",
    metric=cost("time per item", "us", 1e-6),
    budgets=(Budget(at_least=1.6, aim=1.3, against=ONE_JOB),),
    notes=(
        f"chained: {CHAINED_JOBS} jobs one after the other and a result handler, against one such job; "
        f"a peer makes {CHAINED_JOBS} passes of map.",
    ),
)


def build_map(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    count = settings.amount(200_000, 100_000)

    def run(library: ModuleType) -> object:
        return library.map(unchanged, range(count), cpus=settings.workers)

    def run_one(library: ModuleType) -> object:
        return library.map(unchanged, range(1), cpus=settings.workers)

    subject = ours(count, run, run_one, expect(list(range(count))))
    yield Race(MAP, [subject, *(map_peer(peer, settings, count) for peer in peers)])


def map_peer(peer_class: type[Peer], settings: Settings, count: int) -> Contender:
    items = range(settings.peer_items(peer_class, count))
    return theirs(peer_class, settings, len(items), lambda peer: peer.map(unchanged, items), check=expect(list(items)))


def build_stream(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    count = settings.amount(1_000_000, 300_000)
    yield Race(STREAM, [stream_ours(settings, count), *(stream_peer(peer, settings, count) for peer in peers)])


def stream_ours(settings: Settings, count: int, jobs: int = 1) -> Contender:
    return ours(
        count,
        lambda library: stream(library, range(count), settings.workers, jobs),
        lambda library: stream(library, range(1), settings.workers, jobs),
        expect(count),
    )


def stream(library: ModuleType, items: Iterable[int], workers: int, jobs: int) -> int:
    """Send `items` through `jobs` jobs to a result handler; returns how many came."""
    tally = Tally()
    work = library.Work(items, cpus=workers)
    for _ in range(jobs):
        work.job(unchanged)

    @work.result  # type: ignore[untyped-decorator]
    def drop(result: int) -> None:
        tally.count += 1

    work.run()
    return tally.count


def stream_peer(peer_class: type[Peer], settings: Settings, count: int) -> Contender:
    items = range(count)

    def run(peer: Peer) -> int:
        tally = Tally()
        peer.stream(unchanged, items, tally.add, chunk=PEER_CHUNK)
        return tally.count

    return theirs(peer_class, settings, len(items), run, check=expect(len(items)))


def build_chained(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    count = settings.amount(500_000, 200_000)
    yield Race(
        CHAINED_CASE,
        [
            stream_ours(settings, count, CHAINED_JOBS),
            replace(stream_ours(settings, count), tool=ONE_JOB),
            *(chained_peer(peer, settings, count) for peer in peers),
        ],
    )


def chained_peer(peer_class: type[Peer], settings: Settings, count: int) -> Contender:
    items = range(max(1, settings.peer_items(peer_class, CHAINED_JOBS * count) // CHAINED_JOBS))

    def run(peer: Peer) -> object:
        passed: Iterable[int] = items
        for _ in range(CHAINED_JOBS):
            passed = peer.map(unchanged, passed)
        return passed

    return theirs(peer_class, settings, len(items), run, check=expect(list(items)))


NOOP_MAP = Workload("noop_map", "no-op map over many ints, an ordered list back", build_map)
NOOP_STREAM = Workload("noop_stream", "no-op job over many ints, each result to a handler", build_stream)
CHAINED = Workload("chained", "three chained no-op jobs against one", build_chained)
