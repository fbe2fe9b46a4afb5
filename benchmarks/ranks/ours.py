"""job_stream under mpirun: ``python -m benchmarks.ranks.ours NAME KEYWORDS``, one lane a rank.

Each program runs a tiny stream first, so that the ranks are together before the clock starts. Then come a stream of the
same shape with one item, which tells what starting takes, and the one that counts. Rank 0 tells.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

import job_stream
from benchmarks.contenders import WrongAnswer
from benchmarks.ranks.telling import call_named, digest, read_pieces, tell, timed
from benchmarks.tasks import churn, nap, spin_and_count, unchanged
from benchmarks.workloads.arrays import DISTINCT_ARRAYS, make_arrays, sample_array, stream_of
from benchmarks.workloads.frames import run_wide
from benchmarks.workloads.words import word_stream
from job_stream import Work, getRank

if TYPE_CHECKING:
    from benchmarks.workloads.arrays import Array

# The rank that is killed; neither the one that has the results nor the first that it lends to.
VICTIM = 2
# Of the arrays, this share is enough for rank 0's lane to be set free: it may hold one of the others.
GATE_SHARE = 0.9
GATE_LIMIT_S = 60.0


def join() -> None:
    """A tiny stream: afterwards the ranks know each other."""
    job_stream.map(abs, range(10), cpus=1)


def primary() -> bool:
    return bool(getRank() == 0)


def measure(run: Callable[[], Any], startup: Callable[[], object], answer: Callable[[Any], object]) -> None:
    """Tell how long both took, and ``answer`` of what ``run`` returned on rank 0."""
    join()
    startup_s, _ = timed(startup)
    reading, result = timed(run)
    if primary():
        tell(reading=reading, startup=startup_s, answer=answer(result))


def noop(count: int) -> None:
    measure(
        lambda: job_stream.map(unchanged, range(count), cpus=1),
        lambda: job_stream.map(unchanged, range(1), cpus=1),
        lambda results: results == list(range(count)),
    )


def tasks(durations: list[float], times: int = 1) -> None:
    measure(
        lambda: job_stream.map(spin_and_count, durations * times, cpus=1),
        lambda: job_stream.map(spin_and_count, [0.0], cpus=1),
        sum,
    )


def unordered_tasks(durations: list[float]) -> None:
    def run(items: list[float]) -> Any:
        work = Work(items, cpus=1)
        work.job(spin_and_count)
        return work.run()

    measure(lambda: run(durations), lambda: run([0.0]), sum)


def frame(durations: list[float], times: int) -> None:
    measure(lambda: run_wide(job_stream, durations * times, 1), lambda: run_wide(job_stream, [0.0], 1), sum)


def words(path: str) -> None:
    pieces = read_pieces(path) if primary() else []
    measure(
        lambda: word_stream(job_stream, pieces, 1).run(),
        lambda: word_stream(job_stream, [""], 1).run(),
        lambda results: digest(results[0]),
    )


def arrays(count: int) -> None:
    """Tell how long ``count`` arrays would have taken at the rate at which rank 1 got its own."""
    given = make_arrays(DISTINCT_ARRAYS) if primary() else []
    join()
    startup_s, _ = timed(lambda: Lending(0).run([given[0][:1]] if primary() else []))
    lending = Lending(count)
    reading, _ = timed(lambda: lending.run(given))
    if primary():
        scale = count / lending.lent()
        tell(reading=reading * scale, startup=startup_s * scale, answer=sorted(lending.samples))


class Lending:
    """A stream of arrays of which rank 0's lane takes as few as possible: it waits in the first one that it gets.

    It goes on when nine in ten arrays are done, so what rank 0 lends is what rank 1 works on.
    """

    def __init__(self, count: int) -> None:
        self._enough = int(GATE_SHARE * count)
        self._count = count
        self._gate = multiprocessing.Event()
        self._ranks: list[int] = []
        self.samples: list[float] = []

    def run(self, given: list[Array]) -> None:
        work = Work(stream_of(given, self._count or 1), cpus=1)
        work.job(self._take)
        work.result(self._note)
        work.run()

    def lent(self) -> int:
        """How many arrays went to rank 1."""
        if 1 not in self._ranks:
            raise WrongAnswer(f"ranks {set(self._ranks)} had arrays")
        return self._ranks.count(1)

    def _take(self, array: Array) -> tuple[int, float]:
        if self._count and getRank() == 0 and not self._gate.wait(GATE_LIMIT_S):
            raise WrongAnswer(f"the arrays were not done after {GATE_LIMIT_S:g} s")
        return getRank(), sample_array(array)

    def _note(self, taken: tuple[int, float]) -> None:
        rank, sample = taken
        self._ranks.append(rank)
        self.samples.append(sample)
        if len(self.samples) >= self._enough:
            self._gate.set()


def idle(duration_s: float) -> None:
    """Rank 1 tells its processor time in a run whose one item sleeps on rank 0, start-up of that run included."""
    join()
    before = process_time()
    work = Work([duration_s], cpus=1)
    work.job(nap_and_tell_rank)
    results = work.run()
    used = process_time() - before
    if primary():
        tell(answer=results)
    else:
        tell(reading=used)


def nap_and_tell_rank(duration_s: float) -> int:
    nap(duration_s)
    return getRank()


def churning(items: int, steps: int, kill_after_s: float | None = None, note: str = "") -> None:
    """Tell how long items of a fixed computation took; the victim, where there is one, writes ``note`` and dies."""
    join()
    end = threading.Event()
    if kill_after_s is not None and getRank() == VICTIM:
        threading.Thread(target=die, args=(kill_after_s, note, end), daemon=True).start()
    work = Work(range(items), cpus=1)
    work.job(lambda item: (item, churn(steps + item)))
    reading, results = timed(work.run)
    end.set()
    if primary():
        found = dict(results)
        once = len(results) == items and sorted(found) == list(range(items))
        tell(reading=reading, answer=[once, sum(found.values())])


def die(after_s: float, note: str, end: threading.Event) -> None:
    if not end.wait(after_s):
        Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    programs = (noop, tasks, unordered_tasks, frame, words, arrays, idle, churning)
    call_named({program.__name__: program for program in programs})
