"""Large numpy arrays on their way to the workers and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice
from math import isclose
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.budgets import Budget
from benchmarks.contenders import WrongAnswer, expect, ours, reference, theirs
from benchmarks.harness import Case, Contender, Race, Settings, Workload
from benchmarks.metrics import rate
from benchmarks.peers import Peer

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

ARRAY_VALUES = 1_000_000
ARRAY_BYTES = 8 * ARRAY_VALUES
DISTINCT_ARRAYS = 4
SEED = 20_240_229
SERIAL = "serial"

SUM_CASE = Case(
    workload="array_sum",
    metric=rate("bandwidth", "GB/s", 1e9),
    budgets=(Budget(at_least=4.0), Budget(aim=1.0, against=SERIAL)),
    notes=(
        "array_sum: arrays of 8 MB given as a list, a job returns the sum; "
        "serial is numpy in one process, the bandwidth of its memory.",
    ),
)
DOUBLE_CASE = Case(
    workload="array_double",
    metric=rate("bandwidth", "GB/s", 1e9),
    budgets=(Budget(at_least=1.2, aim=2.5),),
    notes=("array_double: arrays of 8 MB from a generator, a job returns array * 2, a handler looks at one element.",),
)


def build_sum(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    arrays = make_arrays(settings.amount(200, 32))
    work = ARRAY_BYTES * len(arrays)
    check = expect_sums([float(array.sum()) for array in arrays])

    def run(library: ModuleType, items: list[Array]) -> list[float]:
        stream = library.Work(items, cpus=settings.workers)
        stream.job(sum_array)
        results: list[float] = stream.run()
        return results

    contenders = [
        ours(work, lambda library: run(library, arrays), lambda library: run(library, [arrays[0][:1]]), check),
        reference(SERIAL, work, lambda: [sum_array(array) for array in arrays], check),
    ]
    others = [theirs(peer, settings, work, lambda peer: peer.map(sum_array, arrays), check) for peer in peers]
    yield Race(SUM_CASE, contenders + others)


def make_arrays(count: int) -> list[Array]:
    """Distinct arrays that are all in memory, not pages of zeros."""
    from numpy.random import default_rng

    random = default_rng(SEED)
    return [random.random(ARRAY_VALUES) for _ in range(count)]


def sum_array(array: Array) -> float:
    return float(array.sum())


def sample_array(array: Array) -> float:
    """The sum of one value in a thousand, so one in every other page: little work, but the data must be there."""
    return float(array[::1000].sum())


def expect_sums(expected: list[float]) -> Callable[[list[float]], None]:
    """A check that the results are the expected sums, in any order.

    The last digits may differ: numpy adds up in another way where a tool has put an array at an odd address.
    """

    def check(results: list[float]) -> None:
        wanted, found = sorted(expected), sorted(results)
        if len(found) != len(wanted) or not all(map(nearly, found, wanted)):
            expect(wanted)(found)

    return check


def nearly(found: float, wanted: float) -> bool:
    return isclose(found, wanted, rel_tol=1e-12)


def build_double(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    arrays = make_arrays(DISTINCT_ARRAYS)
    count = settings.amount(100, 32)
    check = expect_samples(arrays, count)
    subject = ours(
        ARRAY_BYTES * count,
        lambda library: double_ours(library, stream_of(arrays, count), settings.workers),
        lambda library: double_ours(library, iter([arrays[0][:1]]), settings.workers),
        check,
    )
    yield Race(DOUBLE_CASE, [subject, *(double_peer(peer, settings, arrays, count, check) for peer in peers)])


def stream_of(arrays: list[Array], count: int) -> Iterator[Array]:
    """`count` arrays one by one; a tool can't tell that they are few, or how many will come."""
    yield from islice(cycle(arrays), count)


def double_array(array: Array) -> Array:
    return array * 2


def double_ours(library: ModuleType, arrays: Iterable[Array], workers: int) -> list[float]:
    """Double the arrays; returns the first element of each result."""
    samples: list[float] = []
    work = library.Work(arrays, cpus=workers)
    work.job(double_array)

    @work.result  # type: ignore[untyped-decorator]
    def take_sample(result: Array) -> None:
        samples.append(float(result[0]))

    work.run()
    return samples


def double_peer(
    peer_class: type[Peer],
    settings: Settings,
    arrays: list[Array],
    count: int,
    check: Callable[[list[float]], None],
) -> Contender:
    def run(peer: Peer) -> list[float]:
        samples: list[float] = []
        peer.stream(double_array, stream_of(arrays, count), lambda result: samples.append(float(result[0])))
        return samples

    return theirs(peer_class, settings, ARRAY_BYTES * count, run, check)


def expect_samples(arrays: list[Array], count: int) -> Callable[[list[float]], None]:
    """A check that the samples are twice the first elements, in any order."""
    expected = sorted(2 * float(array[0]) for array in stream_of(arrays, count))

    def check(samples: list[float]) -> None:
        if sorted(samples) != expected:
            raise WrongAnswer(f"{len(samples)} results, not the {len(expected)} doubled arrays")

    return check


ARRAY_SUM = Workload("array_sum", "arrays of 8 MB from a list, their sums back", build_sum)
ARRAY_DOUBLE = Workload("array_double", "arrays of 8 MB from a generator, arrays of 8 MB back", build_double)
