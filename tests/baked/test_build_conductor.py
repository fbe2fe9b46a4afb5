"""Which job is next: random graphs through failures, kills and changes, compared with remaking everything."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from job_stream.baked.build.conductor import Conductor, Node, Status
from job_stream.baked.build.decide import Past, Present, Verdict, decide
from job_stream.baked.build.planning import plan_of

FIRST = int(os.environ.get("JOBS_TEST_SEED", "0"))
SEEDS = (*range(FIRST, FIRST + 300), 4212, 5126, 6034, 6155, 7167, 7289, 8147)
NOTHING_SAID = ("", "nothing")


class Spec(NamedTuple):
    """A job of the test: what it makes depends on its version and on what it needs, and often comes out the same."""

    id: str
    role: str
    needs: tuple[str, ...]
    is_lazy: bool = False
    coarseness: int = 1 << 60
    children: tuple[Spec, ...] = ()
    injected: tuple[str, ...] = ()


class World:
    """Files, records and versions of functions, and a judge who knows them."""

    def __init__(self, specs: list[Spec], sources: list[str]) -> None:
        self.specs = {spec.id: spec for spec in specs}
        self.extra = {child.id: child for spec in specs for child in spec.children}
        self.all = {**self.specs, **self.extra}
        self.versions = dict.fromkeys(self.all, 0)
        self.disk: dict[str, str] = dict.fromkeys(sources, "0")
        self.sources = sources
        self.records: dict[str, Past] = {}
        self.logical: dict[str, str] = {}
        self.said: dict[str, tuple[str, str]] = {}

    def content(self, job_id: str, read: Mapping[str, str]) -> str:
        spec = self.all[job_id]
        number = mixed(self.versions[job_id], read)
        return f"{job_id}{number % spec.coarseness}"

    def truth(self, job_id: str) -> str:
        """What it would be if everything was made anew."""
        if job_id in self.sources:
            return self.disk[job_id]
        needs = [need for need in self.all[job_id].needs
                 if need in self.sources or self.all[need].role != "generate"]  # fmt: skip
        return self.content(job_id, {need: self.truth(need) for need in needs})

    # the judge
    def present(self, job_id: str, needs: Mapping[str, str]) -> Present:
        is_missing = job_id not in self.disk and not self.all[job_id].is_lazy
        return Present(needs, [job_id], str(self.versions[job_id]), {}, missing=[job_id] if is_missing else [])

    def verdict(self, job_id: str, needs: Mapping[str, str]) -> Verdict:
        return decide(self.records.get(job_id), self.present(job_id, needs))

    def recorded(self, job_id: str) -> Mapping[str, str]:
        if self.all[job_id].role == "load":
            return {job_id: self.said.get(job_id, NOTHING_SAID)[1]} if job_id[-1] in "02468" else {}
        return {job_id: self.logical[job_id]} if job_id in self.logical else {}

    def of_load(self, job_id: str, needs: Mapping[str, str]) -> str:
        made_of = str(mixed(self.versions[job_id], needs))
        return self.said[job_id][1] if self.said.get(job_id, NOTHING_SAID)[0] == made_of else made_of

    def has_to_be_asked(self, job_id: str, needs: Mapping[str, str]) -> bool:
        """Every other value says its own fingerprint."""
        made_of = str(mixed(self.versions[job_id], needs))
        return job_id[-1] in "02468" and self.said.get(job_id, NOTHING_SAID)[0] != made_of

    def is_there(self, job_id: str) -> bool:
        return job_id in self.disk


def mixed(version: int, read: Mapping[str, str]) -> int:
    return zlib.crc32(repr((version, sorted(read.items()))).encode())


def node_of(spec: Spec) -> Node:
    needs = [(need, None) for need in spec.needs]
    return Node(spec.id, spec.role, needs, spec.is_lazy, is_fleeting=spec.is_lazy and spec.id.startswith("temp"))


def random_world(rng: random.Random) -> World:
    sources = [f"source{n}" for n in range(rng.randint(1, 3))]
    names, specs = list(sources), []
    for number in range(rng.randint(2, 14)):
        kind = rng.choice(["file", "file", "temp", "temp", "load", "cached", "generate"])
        needs = tuple(rng.sample(names, min(len(names), rng.randint(0, 3))))
        name = f"{kind}{number}"
        if kind == "generate":
            children = tuple(
                Spec(f"file{number}.{n}", "file", tuple(rng.sample(names, min(len(names), rng.randint(1, 3)))))
                for n in range(rng.randint(0, 2))
            )
            specs.append(Spec(name, "generate", needs, children=children))
            names.append(name)
            continue
        role = "load" if kind == "load" else "file"
        specs.append(Spec(name, role, needs, kind in {"temp", "cached"}, rng.choice([1, 2, 1 << 60])))
        names.append(name)
    return World(specs, sources)


def planned(world: World) -> dict[str, str]:
    """What the plan says of each job that is declared by the script."""
    nodes = [Node(source, "watch") for source in world.sources] + [node_of(spec) for spec in world.specs.values()]
    conductor = Conductor(nodes, world)  # links them
    for source in world.sources:
        conductor.nodes[source].fingerprints = {source: world.disk[source]}
    exists = [job_id for job_id in world.specs if job_id.startswith("temp") and job_id in world.disk]
    return {entry.id: entry.verb for entry in plan_of(nodes, world, exists).entries}


def check_plan(world: World, verbs: dict[str, str], episode: Episode) -> None:
    """What is to be made is, what is to be kept is not; but for what generated jobs, or generators, want made."""
    late = {need for child in world.extra.values() for need in before(world, child.id)} | for_generators(world)
    for job_id, verb in verbs.items():
        spec = world.specs[job_id]
        if spec.role == "file" and job_id not in late:
            assert not (verb == "make" and job_id not in episode.ran), f"{job_id} was to be made"
            assert not (verb in {"keep", "remove"} and job_id in episode.ran), f"{job_id} was to be kept"
        if spec.role == "load" and job_id not in late:
            assert not (verb == "load" and job_id not in episode.conductor.loads_used), f"{job_id} was to be loaded"
            assert not (verb == "keep" and job_id in episode.conductor.loads_used), f"{job_id} was not to be loaded"


class Episode:
    """One run of the conductor in a world: jobs end in any order, some fail, and all may be killed."""

    def __init__(self, world: World, rng: random.Random, failing: frozenset[str] = frozenset()) -> None:
        self.world = world
        self.rng = rng
        self.failing = failing
        self.ran: list[str] = []
        nodes = [Node(source, "watch") for source in world.sources] + [node_of(spec) for spec in world.specs.values()]
        self.conductor = Conductor(nodes, world)
        self.conductor.start()
        for source in world.sources:
            self.conductor.watched(source, {source: world.disk[source]})

    def run(self, kill_after: int = 1 << 60) -> None:
        ready, running = [], []
        while True:
            for order in self.take_orders():
                ready.append(order)
            if ready and (not running or self.rng.random() < 0.6):
                order = ready.pop(self.rng.randrange(len(ready)))
                if self.conductor.can_begin(order.job_id):
                    self.conductor.began(order.job_id, order.loads)
                    self.begin(order.job_id)
                    running.append(order)
            elif running:
                order = running.pop(self.rng.randrange(len(running)))
                self.finish(order)
                kill_after -= 1
                if not kill_after:
                    return
            else:
                break
        self.conductor.end()
        self.take_orders()

    def take_orders(self):
        orders, self.conductor.orders = self.conductor.orders, []
        for order in orders:
            if order.verb == "remove":
                self.world.disk.pop(order.job_id, None)
            elif order.verb == "record":
                self.record(order.job_id)
        return [order for order in orders if order.verb in {"run", "generate"}]

    def begin(self, job_id: str) -> None:
        assert job_id not in self.ran or self.is_wanted_late(job_id), "one attempt a run"
        self.ran.append(job_id)
        self.world.records.pop(job_id, None)
        self.world.disk.pop(job_id, None)

    def is_wanted_late(self, job_id: str) -> bool:
        """Whether a generated job may want it after it was used and removed; nobody could know."""
        late = {need for child in self.world.extra.values() for need in before(self.world, child.id)}
        return job_id.startswith("temp") and job_id in late

    def read(self, job_id: str) -> dict[str, str]:
        """What the function sees: files have to be there, values are computed."""
        seen = {}
        for need in self.world.all[job_id].needs:
            role = self.world.all[need].role if need in self.world.all else "file"
            if role == "load":
                seen[need] = self.world.content(need, self.read(need))
            elif role == "file":
                seen[need] = self.world.disk[need]
        return seen

    def finish(self, order) -> None:
        job_id = order.job_id
        if job_id in self.failing:
            self.conductor.failed(job_id)
        elif order.verb == "generate":
            self.read(job_id)
            self.conductor.generated(job_id, [node_of(child) for child in self.world.all[job_id].children])
        elif self.world.all[job_id].role == "load":
            self.hear(order)
            self.world.said[job_id] = self.said_of(job_id, self.conductor.nodes[job_id].needs_before)
            self.conductor.ended(job_id, {job_id: self.world.said[job_id][1]})
        else:
            self.world.disk[job_id] = content = self.world.content(job_id, self.read(job_id))
            self.hear(order)
            self.conductor.ended(job_id, {job_id: content})
            self.world.logical[job_id] = self.conductor.nodes[job_id].fingerprints[job_id]
            self.record(job_id)

    def hear(self, order) -> None:
        """What the values of a job say of themselves, and what follows for those made of them, goes on record."""
        prints = {}
        for load in order.loads:
            needs = self.conductor.nodes[load].needs_before
            needs.update({need: prints[need] for need in needs if need in prints})
            made_of, prints[load] = self.said_of(load, needs)
            if load[-1] in "02468":
                self.world.said[load] = made_of, prints[load]
            else:
                prints[load] = made_of
        before = self.conductor.nodes[order.job_id].needs_before
        before.update({load: value for load, value in prints.items() if load in before})

    def said_of(self, load: str, needs: Mapping[str, str]) -> tuple[str, str]:
        return str(mixed(self.world.versions[load], needs)), self.world.content(load, self.read(load))

    def record(self, job_id: str) -> None:
        node = self.conductor.nodes[job_id]
        self.world.records[job_id] = Past(node.needs_before, [job_id], str(self.world.versions[job_id]), {})


def change_something(world: World, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 3)):
        what = rng.choice(["source", "code", "remove", "touch"])
        if what == "source":
            world.disk[rng.choice(world.sources)] = str(rng.randint(0, 3))
        elif what == "code":
            job_id = rng.choice(list(world.versions))
            world.versions[job_id] += rng.randint(0, 1)
        elif what == "remove":
            world.disk.pop(rng.choice(list(world.all)), None)


def check(world: World, conductor: Conductor) -> None:
    """All that lasts is as if everything had been made anew, and nothing else is left."""
    for job_id, spec in world.all.items():
        if spec.role == "file" and not spec.is_lazy:
            assert world.disk[job_id] == world.truth(job_id), job_id
            assert conductor.nodes[job_id].status in {Status.MADE, Status.KEPT}
        assert not (job_id.startswith("temp") and job_id in world.disk), f"{job_id} is left"


@pytest.mark.parametrize("seed", SEEDS)
def test_random_graphs_come_out_as_if_everything_was_remade(seed: int) -> None:
    rng = random.Random(seed)
    world = random_world(rng)
    for _ in range(6):
        fate = rng.choice(["well", "well", "failing", "killed"])
        failing = frozenset(rng.sample(list(world.all), min(2, len(world.all)))) if fate == "failing" else frozenset()
        verbs = planned(world)
        episode = Episode(world, rng, failing)
        episode.run(rng.randint(1, 6) if fate == "killed" else 1 << 60)
        if fate == "well":
            check(world, episode.conductor)
            check_plan(world, verbs, episode)
            again = Episode(world, rng)
            again.run()
            assert {job_id for job_id in again.ran if world.all[job_id].role != "generate"} <= for_generators(world)
            check(world, again.conductor)
        change_something(world, rng)


def before(world: World, job_id: str) -> set[str]:
    """All that a job needs, and that those need."""
    seen: set[str] = set()
    stack = [job_id]
    while stack:
        for need in world.all[stack.pop()].needs:
            if need in world.all and need not in seen:
                seen.add(need)
                stack.append(need)
    return seen


def for_generators(world: World) -> set[str]:
    """A generator runs in each run, so what is made for it alone is made in each, too."""
    needed = {need for spec in world.all.values() if spec.role == "generate" for need in before(world, spec.id)}
    return {job_id for job_id in needed if world.all[job_id].is_lazy or world.all[job_id].role == "load"}
