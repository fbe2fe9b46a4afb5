"""What others are handed: executors, pools, iterators, the backend of joblib. Workers are there before the clock."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from time import perf_counter, time
from typing import Any

from benchmarks.budgets import Budget
from benchmarks.contenders import clock, expect, ours, unchecked
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import Metric, cost, rate
from benchmarks.peers import Peer
from benchmarks.tasks import nap, unchanged

LOKY = "joblib"
MAP = "job_stream.map"
BOUND = "bound"
WALKERS, LIKELIHOOD_S = 16, 1e-3
ARRAYS, ARRAY_VALUES = 8, 5_000_000

Make = Callable[[int], AbstractContextManager[Any]]


def executors() -> dict[str, Callable[[int], Executor]]:
    """Executors by the name of whoever has them."""
    return {SUBJECT: import_module("job_stream.futures").Executor, "executor": ProcessPoolExecutor}


def warm(tool: str, make: Make, work: float, run: Callable[[Any], object], settings: Settings,
         check: Callable[[Any], None] = unchecked) -> Contender:  # fmt: skip
    """A contender that has workers which have run something."""

    def measure() -> float:
        with make(settings.workers) as workers:
            list(workers.map(unchanged, range(10 * settings.workers)))
            return clock(lambda: run(workers), check)

    return Contender(tool, work, measure)


def case(name: str, metric: Metric, budget: Budget, note: str, pace: Pace = Pace.NORMAL) -> Case:
    return Case("futures", metric, (budget,), name=name, pace=pace, notes=(f"futures {name}: {note}",))


# executors ------------------------------------------------------------------------------------------------------------


def round_trips(settings: Settings) -> Race:
    calls = settings.amount(1000, 300)

    def run(executor: Executor) -> None:
        for number in range(calls):
            executor.submit(unchanged, number).result()

    told = case("round trip", cost("time of a call", "ms", 1e-3), Budget(at_least=0.4),
                "submit and result, one call after the other.", Pace.SHORT)  # fmt: skip
    return Race(told, [warm(tool, make, calls, run, settings) for tool, make in executors().items()])


def submits(settings: Settings) -> Race:
    calls = settings.amount(5000, 5000)

    def run(executor: Executor) -> list[int]:
        return [future.result() for future in [executor.submit(unchanged, number) for number in range(calls)]]

    told = case("submits", rate("speed", "k calls/s", 1e3), Budget(at_least=1.0, against="executor"),
                f"{calls:,} calls are submitted at once, and their results taken.")  # fmt: skip
    check = expect(list(range(calls)))
    return Race(told, [warm(tool, make, calls, run, settings, check) for tool, make in executors().items()])


# pools and iterators --------------------------------------------------------------------------------------------------


def pool_maps(settings: Settings) -> Race:
    items = range(settings.amount(200_000, 100_000))
    check = expect(list(items))
    subject = warm(SUBJECT, import_module("job_stream").Pool, len(items), lambda pool: pool.map(unchanged, items),
                   settings, check)  # fmt: skip
    other = ours(len(items), lambda library: library.map(unchanged, items, cpus=settings.workers),
                 lambda library: library.map(unchanged, items[:1], cpus=settings.workers), check, MAP)  # fmt: skip
    told = case("Pool.map", rate("speed", "M items/s", 1e6), Budget(at_least=0.8, against=MAP),
                "no-ops, an ordered list back; job_stream.map is without its start-up.")  # fmt: skip
    return Race(told, [subject, other])


def stamped(number: int) -> float:
    """When an item came to its end; the first takes a while, so that the run is under way by then."""
    if number == 0:
        nap(0.05)
    return time()


def first_results(settings: Settings) -> Race:
    def measure() -> float:
        results = import_module("job_stream").imap(stamped, count(), cpus=settings.workers)
        ended = next(results)
        reading = time() - ended
        results.close()
        return max(reading, 1e-9)

    told = case("first result", cost("after its end", "ms", 1e-3), Budget(at_least=20.0),
                "imap over an endless iterator: from the end of the first item until its result is there.",
                Pace.SHORT)  # fmt: skip
    return Race(told, [Contender(SUBJECT, 1.0, measure)])


# joblib ---------------------------------------------------------------------------------------------------------------


def on_joblib(run: Callable[[], object], settings: Settings) -> list[Contender]:
    """The same with both backends; the workers of both stay from one run to the next."""
    joblib = import_module("joblib")
    backends = import_module("job_stream.joblib")

    def measured(backend: str) -> float:
        with joblib.parallel_config(backend=backend, n_jobs=settings.workers):
            joblib.Parallel()(joblib.delayed(unchanged)(number) for number in range(10 * settings.workers))
            run()
            reading = clock(run, unchecked)
        if backend == "loky":
            import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)
        else:
            backends._kept.give_way()
        return reading

    return [Contender(SUBJECT, 1.0, lambda: measured("job_stream")), Contender(LOKY, 1.0, lambda: measured("loky"))]


def searches(settings: Settings) -> Race:
    selection, svm = import_module("sklearn.model_selection"), import_module("sklearn.svm")
    x, y = import_module("sklearn.datasets").make_classification(settings.amount(600, 300), 20, random_state=0)
    grid = {"C": [0.1, 1.0, 10.0], "kernel": ["linear", "rbf"]}
    told = case("GridSearchCV", cost("time", "s"), Budget(at_least=1.1, aim=1.0, against=LOKY),
                "18 fits of an SVC, after a search that warmed the workers.")  # fmt: skip
    return Race(told, on_joblib(lambda: selection.GridSearchCV(svm.SVC(), grid, cv=3).fit(x, y), settings))


def shared_arrays(settings: Settings) -> Race:
    joblib, numpy = import_module("joblib"), import_module("numpy")
    values = settings.amount(ARRAY_VALUES, ARRAY_VALUES)
    array = numpy.random.default_rng(0).random(values)

    def run() -> object:
        return joblib.Parallel(batch_size=1)(joblib.delayed(numpy.sum)(array) for _ in range(ARRAYS))

    told = case("arrays", cost("time", "s"), Budget(at_least=1.0, against=LOKY),
                f"{ARRAYS} calls of Parallel are given the same {8 * values / 1e6:g} MB.")  # fmt: skip
    return Race(told, on_joblib(run, settings))


# emcee ----------------------------------------------------------------------------------------------------------------


def likelihood(x: Any) -> float:
    nap(LIKELIHOOD_S)
    return -0.5 * float(x @ x)


def samplers(settings: Settings) -> Race:
    emcee, numpy = import_module("emcee"), import_module("numpy")
    steps = settings.amount(50, 50)
    begin = numpy.random.default_rng(0).normal(size=(WALKERS, 2))
    calls = WALKERS * (steps + 1)

    def run(pool: Any) -> None:
        emcee.EnsembleSampler(WALKERS, 2, likelihood, pool=pool).run_mcmc(begin, steps)

    def bound() -> float:
        started = perf_counter()
        for _ in range(calls):
            likelihood(begin[0])
        return (perf_counter() - started) / settings.workers

    told = case("emcee", cost("time", "s"), Budget(at_least=1.15, against=BOUND),
                f"{steps} steps of {WALKERS} walkers, a likelihood of {LIKELIHOOD_S * 1e3:g} ms; bound is the time of "
                "the same calls one after the other, by workers.")  # fmt: skip
    pools = {SUBJECT: import_module("job_stream").Pool, "pool": import_module("multiprocessing").Pool}
    contenders = [warm(tool, make, 1.0, run, settings) for tool, make in pools.items()]
    return Race(told, [*contenders, Contender(BOUND, 1.0, bound)])


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    yield from (make(settings) for make in (round_trips, submits, pool_maps, first_results))
    if find_spec("joblib"):
        yield shared_arrays(settings)
    if find_spec("sklearn"):
        yield searches(settings)
    if find_spec("emcee"):
        yield samplers(settings)


FUTURES = Workload("futures", "executors, pools, iterators and the backend of joblib, as others use them", build)
