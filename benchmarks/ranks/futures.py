"""mpi4py.futures under mpirun: ``python -m benchmarks.ranks.futures NAME KEYWORDS``; rank 0 is the master.

The pool is the library's own way to use the ranks that a launcher started, MPICommExecutor, with its default settings
but for what a contender's name says: the chunk size, or out-of-band pickling of arrays ("pkl5").
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time, sleep
from typing import Any

from mpi4py import MPI
from mpi4py.futures import MPICommExecutor

from benchmarks.ranks.telling import call_named, digest, read_pieces, tell, timed
from benchmarks.tasks import spin_and_count, unchanged
from benchmarks.workloads.arrays import DISTINCT_ARRAYS, make_arrays, sample_array, stream_of
from benchmarks.workloads.words import count_words


@contextmanager
def warm_pool(**options: object) -> Iterator[Any]:
    """The executor on rank 0, whose workers have run something; None on the workers, when their work is over."""
    with MPICommExecutor(MPI.COMM_WORLD, root=0, **options) as entered:
        executor: Any = entered
        if executor is not None:
            list(executor.map(abs, range(10 * executor.num_workers)))
        yield executor


def measure(run: Callable[[Any], Any], answer: Callable[[Any], object], **options: object) -> None:
    """Tell how long ``run(executor)`` took, and ``answer`` of what it returned."""
    with warm_pool(**options) as executor:
        if executor is not None:
            reading, result = timed(lambda: run(executor))
            tell(reading=reading, answer=answer(result))


def noop(count: int, chunk: int) -> None:
    measure(
        lambda executor: list(executor.map(unchanged, range(count), chunksize=chunk)),
        lambda results: results == list(range(count)),
    )


def tasks(durations: list[float], times: int = 1) -> None:
    measure(lambda executor: list(executor.map(spin_and_count, durations * times)), sum)


def words(path: str) -> None:
    pieces = read_pieces(path) if MPI.COMM_WORLD.rank == 0 else []

    def run(executor: Any) -> Counter[str]:
        total: Counter[str] = Counter()
        for counts in executor.map(count_words, pieces, unordered=True):
            total.update(counts)
        return total

    measure(run, digest)


def arrays(count: int, pkl5: bool) -> None:
    given = make_arrays(DISTINCT_ARRAYS) if MPI.COMM_WORLD.rank == 0 else []
    measure(
        lambda executor: list(executor.map(sample_array, stream_of(given, count), unordered=True)),
        sorted,
        use_pkl5=pkl5,
    )


def idle(duration_s: float) -> None:
    """The processor time of the worker that has nothing to do while the other one sleeps."""
    before = process_time()
    busy = None
    with warm_pool() as executor:
        if executor is not None:
            busy = executor.submit(sleep_on_rank, duration_s).result()
    used = MPI.COMM_WORLD.gather(process_time() - before)
    if used is not None:
        (idle_s,) = [spent for rank, spent in enumerate(used) if rank not in (0, busy)]
        tell(reading=idle_s, answer=len(used))


def sleep_on_rank(duration_s: float) -> int:
    """Sleep; returns the number of the rank that did."""
    sleep(duration_s)
    return int(MPI.COMM_WORLD.rank)


if __name__ == "__main__":
    try:
        call_named({"noop": noop, "tasks": tasks, "words": words, "arrays": arrays, "idle": idle})
    except Exception:  # the other ranks would wait for this one for ever
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)
