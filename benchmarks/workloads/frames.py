"""Frames, the parallel while-loops: many short rounds, and one wide round."""

from collections.abc import Iterator, Sequence
from types import ModuleType

from benchmarks.budgets import Budget
from benchmarks.contenders import expect, ours, theirs
from benchmarks.harness import Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import efficiency, rate
from benchmarks.peers import Peer
from benchmarks.tasks import spin_and_count, unchanged

ITEMS_PER_ROUND = 10
ROUNDS_PER_FRAME = 50
WIDE_TASK_S = 0.01

ROUNDS_CASE = Case(
    workload="frame_rounds",
    metric=rate("speed", "rounds/s"),
    budgets=(Budget(at_least=100_000, aim=300_000),),
    pace=Pace.SHORT,
    notes=(
        f"frame_rounds: each item is a frame of {ROUNDS_PER_FRAME} rounds of {ITEMS_PER_ROUND} no-op items; "
        "a peer is driven by the script round by round, on fewer rounds.",
    ),
)


class Progress:
    """The store of a frame: how many rounds it began and how many items came through."""

    def __init__(self) -> None:
        self.rounds = 0
        self.items = 0


def build_rounds(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    frames = settings.amount(200, 200)
    subject = ours(
        frames * ROUNDS_PER_FRAME,
        lambda library: run_rounds(library, frames, settings.workers, ROUNDS_PER_FRAME),
        lambda library: run_rounds(library, 1, settings.workers, 1),
        expect([ROUNDS_PER_FRAME * ITEMS_PER_ROUND] * frames),
    )
    peer_rounds = settings.amount(200, 25)
    yield Race(ROUNDS_CASE, [subject, *(rounds_peer(peer, settings, peer_rounds) for peer in peers)])


def run_rounds(library: ModuleType, frames: int, workers: int, rounds: int) -> object:
    """Run `frames` frames of `rounds` rounds; returns how many items came through each."""
    work = library.Work(range(frames), cpus=workers)

    def begin_round(progress: Progress, _first: int) -> object:
        if progress.rounds == rounds:
            return None
        progress.rounds += 1
        return library.Multiple(range(ITEMS_PER_ROUND))

    work.frame(begin_round, store=Progress, emit=lambda progress: progress.items)
    work.job(unchanged)
    work.frameEnd(count_item)
    return work.run()


def count_item(progress: Progress, _item: int) -> None:
    progress.items += 1


def rounds_peer(peer_class: type[Peer], settings: Settings, rounds: int) -> Contender:
    def run(peer: Peer) -> None:
        for _ in range(rounds):
            peer.map(unchanged, range(ITEMS_PER_ROUND))

    return theirs(peer_class, settings, rounds, run)


def build_wide(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    children = settings.amount(400, 100)
    case = Case(
        workload="frame_wide",
        metric=efficiency(settings.workers),
        budgets=(Budget(at_least=95.0, aim=98.0),),
        notes=(f"frame_wide: one frame with {children} children of {1e3 * WIDE_TASK_S:g} ms; a peer maps over them.",),
    )
    durations = [WIDE_TASK_S] * children
    subject = ours(
        sum(durations),
        lambda library: run_wide(library, durations, settings.workers),
        lambda library: run_wide(library, [0.0], settings.workers),
        expect([children]),
    )
    yield Race(case, [subject, *(wide_peer(peer, settings, durations) for peer in peers)])


def run_wide(library: ModuleType, durations: list[float], workers: int) -> object:
    """Run one frame with a single round, a child for each duration; returns how many children came through."""
    work = library.Work([durations], cpus=workers)

    def begin_round(progress: Progress, first: list[float]) -> object:
        if progress.rounds == 1:
            return None
        progress.rounds += 1
        return library.Multiple(first)

    work.frame(begin_round, store=Progress, emit=lambda progress: progress.items)
    work.job(spin_and_count)
    work.frameEnd(count_item)
    return work.run()


def wide_peer(peer_class: type[Peer], settings: Settings, durations: list[float]) -> Contender:
    return theirs(
        peer_class,
        settings,
        sum(durations),
        lambda peer: peer.map(spin_and_count, durations),
        expect([1] * len(durations)),
    )


FRAME_ROUNDS = Workload("frame_rounds", "frames of many short rounds", build_rounds)
FRAME_WIDE = Workload("frame_wide", "one frame with many children", build_wide)
