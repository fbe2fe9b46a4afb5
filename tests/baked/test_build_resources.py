"""Cores, memory and named counters: never more than there is, nobody starves, and little is idle."""

from __future__ import annotations

import random

import pytest

from job_stream.baked.build.resources import Demand, HostPlace, Queue, Resources


class Simulation:
    """Jobs with known times on some hosts; what is begun and ended, in virtual time."""

    def __init__(self, places, limits, jobs, ahead=0):
        self.resources = Resources(places, limits)
        self.queue = Queue(self.resources, ahead)
        self.jobs = jobs
        self.begun, self.ended = {}, {}
        self.now = 0.0
        for number, (name, (demand, _)) in enumerate(jobs.items()):
            self.queue.add(name, demand, number=number)

    def run(self, check=lambda running: None):
        running = {}
        while True:
            for name in self.queue.begin():
                self.begun[name] = self.now
                running[name] = self.now + self.jobs[name][1]
            check(running)
            if not running:
                return
            name = min(running, key=running.__getitem__)
            self.now = running.pop(name)
            self.ended[name] = self.now
            self.queue.done(name)


@pytest.mark.parametrize("seed", range(100))
def test_never_more_than_there_is_and_all_of_it_is_run(seed):
    rng = random.Random(seed)
    places = [HostPlace(f"host{n}", rng.randint(1, 8), 100) for n in range(rng.randint(1, 3))]
    most = max(place.cores for place in places)
    jobs = {}
    for number in range(60):
        cores = rng.choice([1, 1, 1, rng.randint(1, most), "all", -1])
        demand = Demand(cores, rng.choice([0, 0, rng.randint(1, 100)]), {"db": 1} if rng.random() < 0.2 else {})
        jobs[f"job{number}"] = (demand, rng.random())
    simulation = Simulation(places, {"db": 2}, jobs)

    def check(running):
        assert min(simulation.resources.free_cores.values()) >= 0
        assert min(simulation.resources.free_memory.values()) >= 0
        assert sum("db" in jobs[name][0].limits for name in running) <= 2

    simulation.run(check)
    assert simulation.ended.keys() == jobs.keys()


def test_a_big_job_waits_for_what_runs_and_for_nothing_that_comes_later():
    """It stands behind small ones: once it is the first of those that wait, nothing small overtakes it for long."""
    jobs = {"small0": (Demand(), 1.0), "big": (Demand(4), 1.0)}
    jobs |= {f"small{n}": (Demand(), 1.0) for n in range(1, 100)}
    simulation = Simulation([HostPlace("host", 4, 0)], {}, jobs)
    simulation.run()
    assert simulation.begun["big"] == 1.0


def test_a_big_job_keeps_only_as_many_cores_idle_as_it_takes():
    jobs = {"long": (Demand(), 10.0), "big": (Demand(3), 1.0)}
    jobs |= {f"small{n}": (Demand(), 1.0) for n in range(20)}
    simulation = Simulation([HostPlace("one", 3, 0), HostPlace("two", 2, 0)], {}, jobs)
    simulation.run()
    assert simulation.begun["big"] <= 10.0
    assert [simulation.begun[f"small{n}"] for n in range(2)] == [0.0, 0.0]
    assert simulation.now <= 20.0


def test_who_waits_for_a_counter_keeps_no_cores_idle():
    jobs = {"first": (Demand(limits={"db": 1}), 5.0), "second": (Demand(limits={"db": 1}), 1.0)}
    jobs |= {f"other{n}": (Demand(), 1.0) for n in range(5)}
    simulation = Simulation([HostPlace("host", 2, 0)], {"db": 1}, jobs)
    simulation.run()
    assert simulation.begun["second"] == 5.0
    assert max(simulation.ended[f"other{n}"] for n in range(5)) == 5.0


def test_jobs_that_take_all_cores_do_not_overlap():
    jobs = {f"all{n}": (Demand("all"), 1.0) for n in range(3)}
    simulation = Simulation([HostPlace("host", 4, 0)], {}, jobs, ahead=4)
    simulation.run(lambda running: len(running) <= 1 or pytest.fail(str(running)))
    assert simulation.now == 3.0


def test_plain_jobs_are_handed_out_early_but_not_beside_big_ones():
    queue = Queue(Resources([HostPlace("host", 2, 0)], {}), ahead=2)
    for number in range(6):
        queue.add(f"job{number}", Demand(), number=number)
    assert queue.begin() == ["job0", "job1", "job2", "job3"]
    queue.add("big", Demand("all"), priority=1)
    queue.done("job0")
    assert queue.begin() == []
    for name in ("job1", "job2", "job3"):
        queue.done(name)
    assert queue.begin() == ["big"]


def test_priority_comes_before_the_length_of_the_way():
    queue = Queue(Resources([HostPlace("host", 1, 0)], {}))
    queue.add("short", Demand(), way_length=1.0, number=0)
    queue.add("long", Demand(), way_length=5.0, number=1)
    queue.add("urgent", Demand(), priority=1, number=2)
    order = []
    while len(queue):
        order += queue.begin()
        queue.done(order[-1])
    assert order == ["urgent", "long", "short"]
