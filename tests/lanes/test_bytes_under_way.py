"""What values take in memory between the function that makes them and the one that takes the results is bounded.

Each script makes 600 MB of values in no time, and tells how large its processes have been.
"""

from __future__ import annotations

import textwrap

import pytest
from mpi_support import find_mpirun, mpirun

COUNT, EACH_MB, MEMORY_MB = 30, 20, 60
MOST_MB = 300
"""Of a process: the value in hand in three forms, what may be on its way, and a generous rest."""

SCRIPT = """
    import resource, sys, time
    from collections import Counter
    import numpy as np
    import job_stream
    from job_stream import Multiple, Object, Work, getRank

    kind, count, cpus, memory, each = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
    taken = Counter()
    shared = np.zeros(each, dtype=np.uint8)
    keywords = dict(cpus=cpus, memory=memory)

    class Box:
        def __init__(self):
            self.parts = {"inside": {"deep": bytes(each)}}

        def __len__(self):
            return each

    def take(value):
        taken[value if isinstance(value, int) else len(value)] += 1

    def stream(items):
        return Work(items, **keywords)

    def plain(job, items=range(count)):
        w = stream(items)
        w.job(job)
        return w

    def of_two(first, second, items=range(count), **options):
        w = plain(first, items)
        w.job(second, **options)
        return w

    def slow():
        w = plain(lambda key: bytes(each))

        def take_slowly(value):
            take(value)
            time.sleep(0.02)

        return w, take_slowly

    def framed():
        w = stream(range(count))

        @w.frame(store=lambda: Object(value=None), emit=lambda store: store.value)
        def begin(store, first):
            return first if store.value is None else None

        w.job(lambda key: bytes(each))

        @w.frameEnd
        def end(store, value):
            store.value = value

        return w

    def retried():
        w = stream(range(count))
        calls = set()

        @w.job(retries=1)
        def fail_first(key):
            if key not in calls:
                calls.add(key)
                raise ValueError(key)
            return bytes(each)

        return w

    def counted(value):
        return len(value)

    kinds = {
        "bytes": lambda: plain(lambda key: bytes(each)),
        "views": lambda: plain(lambda key: shared[:]),
        "boxes": lambda: plain(lambda key: Box()),
        "few among many": lambda: plain(lambda key: bytes(each) if key % 40 == 39 else 1, range(40 * count)),
        "small": lambda: plain(lambda key: bytes(1000), range(count * each // 1000)),
        "elements": lambda: plain(lambda key: Multiple(bytes(each) for _ in range(count)), [0]),
        "between stages": lambda: of_two(lambda key: np.ones(each, dtype=np.uint8), counted),
        "elements between stages": lambda: of_two(lambda key: Multiple(bytes(each) for _ in range(count)),
                                                  lambda value: len(value + b""), [0]),
        "to threads": lambda: of_two(lambda key: bytes(each), counted, useMultiprocessing=False),
        "to lanes one by one": lambda: of_two(lambda key: bytes(each), counted, alone=True),
        "of frames": framed,
        "retried": retried,
        "slowly taken": slow,
    }
    if kind == "in order":
        for value in job_stream.imap(lambda key: bytes(each), range(count), **keywords):
            take(value)
    else:
        made = kinds[kind]()
        w, taker = made if isinstance(made, tuple) else (made, take)
        w.result(taker)
        w.run()
    # of this process since it was started: getrusage would tell of the one that it was forked from, too
    own = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(getRank(), workers >> 10, own >> 10, taken[each], sum(taken.values()), sep=",")
"""

KINDS = (
    "bytes", "views", "boxes", "few among many", "small", "elements", "between stages", "elements between stages",
    "to threads", "to lanes one by one", "of frames", "retried", "slowly taken", "in order",
)  # fmt: skip


def figures(text: str) -> list[list[int]]:
    """Rank, peaks of workers and of the script in MB, large values and all values that were taken."""
    return [[int(word) for word in line.split(",")] for line in text.splitlines()]


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_made_in_no_time_do_not_gather_in_memory(start, kind: str):
    script = start(SCRIPT, kind, COUNT, 1, f"{MEMORY_MB}MB", EACH_MB * 1_000_000)
    ended = script.ended(240)
    assert ended.code == 0, ended.err
    ((_, workers, own, large, values),) = figures(ended.out)
    if kind == "small":
        assert values == COUNT * EACH_MB * 1000
    else:
        assert (large, values) == (COUNT, 40 * COUNT if kind == "few among many" else COUNT)
    assert max(workers, own) < MOST_MB, ended.out


def test_all_workers_have_one_bound_together(start):
    ended = start(SCRIPT, "bytes", COUNT, 4, f"{MEMORY_MB}MB", EACH_MB * 1_000_000).ended(240)
    assert ended.code == 0, ended.err
    ((_, workers, own, large, _),) = figures(ended.out)
    assert large == COUNT
    assert max(workers, own) < MOST_MB, ended.out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "small"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_a_value_that_is_larger_than_all_there_may_be_passes(start, kind: str, cpus: int):
    ended = start(SCRIPT, kind, 6, cpus, "1", 3_000_000).ended(240)
    assert ended.code == 0, ended.err
    ((_, _, _, large, _),) = figures(ended.out)
    assert large == 6


@pytest.mark.skipif(find_mpirun() is None, reason="needs mpirun")
@pytest.mark.parametrize("ulfm", [False, True], ids=["mpi", "sockets"])
@pytest.mark.parametrize("kind", ["bytes", "slowly taken"])
def test_ranks_do_not_gather_values_on_their_way_to_the_primary(tmp_path, kind: str, ulfm: bool):
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    ended = mpirun(path, 2, kind, COUNT, 1, f"{MEMORY_MB}MB", EACH_MB * 1_000_000, ulfm=ulfm, deadline_s=240)
    assert ended.code == 0, ended.err
    ranks = sorted(figures(ended.out))
    assert [rank for rank, *_ in ranks] == [0, 1]
    assert ranks[0][3] == COUNT
    assert all(max(workers, own) < MOST_MB for _, workers, own, *_ in ranks), ended.out
