"""Reductions that go on at their end: what ``handleDone`` recurs goes through the stages again."""

import os
import signal
import textwrap

import pytest
from common_support import Add, Same, Sum, results_of
from mpi_support import find_mpirun, is_open_mpi, mpirun

from job_stream import Multiple, Work, common, rng


class Doubling(Sum):
    """Sends its sum through the jobs again, until it is 1000 or more; emits what it was each time."""

    def handleInit(self, store):
        super().handleInit(store)
        store.ends = 0

    def handleJoin(self, store, other):
        super().handleJoin(store, other)
        store.ends += other.ends

    def handleDone(self, store):
        store.ends += 1
        self.emit((store.ends, store.total))
        if store.total < 1000:
            self.recur(store.total)


def doubled(total: int, ends: int = 1) -> list[tuple[int, int]]:
    return [(ends, total), *(doubled(2 * total, ends + 1) if total < 1000 else [])]


@pytest.mark.parametrize("keywords", [{}, {"seed": 1}, {"useMultiprocessing": False}, {"cpus": 1}, {"retries": 1}])
def test_what_the_end_of_a_reduction_recurs_goes_through_its_stages_again(keywords):
    w = Work(range(20), **{"cpus": 3, **keywords})
    w.job(lambda x: x)
    w.reduce(Doubling)
    w.job(lambda x: x)
    assert sorted(w.run()) == doubled(190)


def test_a_reduction_goes_on_in_a_module_of_its_own_and_in_one_within_another():
    inner = {"jobs": [Same], "reducer": Doubling}
    assert results_of(inner, [100, 30]) == doubled(130)
    assert results_of({"jobs": [inner]}, [100, 2000]) == sorted([*doubled(100), *doubled(2000)])


def test_a_reduction_goes_on_inside_a_job_and_inside_a_frame():
    def alone(x):
        w = Work([x])
        w.reduce(Doubling)
        return sum(total for _, total in w.run())

    w = Work([300, 600])
    w.job(alone)
    assert sorted(w.run()) == [600 + 1200, 300 + 600 + 1200]

    v = Work([300, 600], cpus=2)

    @v.frame(emit=lambda store: sorted(store.came))
    def frame(store, first):
        if not hasattr(store, "came"):
            store.came = []
            return first

    v.reduce(Doubling)

    @v.frameEnd
    def end(store, pair):
        store.came.append(pair)

    assert sorted(v.run()) == [doubled(300), doubled(600)]


def test_the_end_of_a_reduction_may_recur_to_a_job_that_it_names():
    class Entering(Sum):
        def handleDone(self, store):
            if store.total < 100:
                self.recur(1, "hundred")
            else:
                self.emit(store.total)

    jobs = {"one": {"type": Add, "amount": 1, "to": "output"}, "hundred": {"type": Add, "amount": 100, "to": "output"}}
    assert results_of({"jobs": jobs, "input": "one", "reducer": Entering}, [1, 2]) == [5 + 101]


def test_many_and_long_recurrences_of_an_end_all_come_back():
    class Long(Sum):
        def handleDone(self, store):
            if store.total < 100:
                self.recur(Multiple(1 for _ in range(5_000)))
                for _ in range(70):
                    self.recur(1000)
                self.recur(None)
            else:
                self.emit(store.total)

    w = Work([1, 2], cpus=2)
    w.job(lambda x: x)
    w.reduce(Long)
    assert w.run() == [3 + 5_000 + 70_000]


def test_reductions_that_follow_each_other_both_go_on():
    w = Work(range(5), cpus=2)
    w.reduce(Doubling)
    w.job(lambda pair: pair[1])
    w.reduce(Doubling)
    assert sorted(w.run()) == doubled(sum(total for _, total in doubled(10)))


def test_a_reduction_that_goes_on_survives_the_death_of_its_worker(once):
    class Dying(Doubling):
        def handleDone(self, store):
            super().handleDone(store)
            if store.ends == 2 and once():
                os.kill(os.getpid(), signal.SIGKILL)

    w = Work(range(20), cpus=2)
    w.reduce(Dying)
    assert sorted(w.run()) == doubled(190)


def test_random_numbers_of_each_round_are_others_and_the_same_on_any_number_of_workers():
    class Drawing(common.Reducer):
        def handleInit(self, store):
            store.came = []

        def handleAdd(self, store, work):
            store.came.append(work)

        def handleJoin(self, store, other):
            store.came += other.came

        def handleDone(self, store):
            store.came.append(int(rng().integers(1 << 40)))
            if len(store.came) < 12:
                self.recur(Multiple([0, 0]))
            else:
                self.emit(sorted(store.came))

    def drawn(cpus):
        w = Work([0, 0], cpus=cpus, seed=3)
        w.job(lambda x: int(rng().integers(1 << 40)))
        w.reduce(Drawing)
        return w.run()

    (numbers,) = drawn(1)
    assert len(set(numbers)) == len(numbers) == 12
    assert drawn(3) == [numbers]


@pytest.mark.skipif(find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed")
def test_a_reduction_goes_on_over_several_ranks(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent("""
        import time
        from job_stream import Multiple, Work, common, getRank

        class Ranks(common.Reducer):
            def handleInit(self, store):
                store.seen, store.count = set(), 0

            def handleAdd(self, store, work):
                store.seen.add(work)
                store.count += 1

            def handleJoin(self, store, other):
                store.seen |= other.seen
                store.count += other.count

            def handleDone(self, store):
                if store.count < 300:
                    self.recur(Multiple(range(100)))
                else:
                    self.emit((sorted(store.seen), store.count))

        w = Work(range(100))
        w.job(lambda x: time.sleep(0.003) or getRank())
        w.reduce(Ranks)
        print(w.run())
        """)
    )
    ended = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["None", "[([0, 1], 300)]"]), ended.err
