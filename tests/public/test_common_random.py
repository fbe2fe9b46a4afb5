"""Random configurations, with modules in modules and routes that go round, give what a plain interpreter gives.

An item is (value, energy). Whatever emits takes energy away, and drops what has none left, so that all comes to an end.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from common_support import results_of

from job_stream import common

SEEDS = 30
MODULUS = 997
Item = tuple[int, int]
Sent = tuple[str, Item]


# --- the stages, as functions of their input --------------------------------------------------------------------------
def fan(config: dict[str, Any], item: Item) -> list[Sent]:
    """What a job emits, with its targets."""
    value, energy = item
    made = [(value * 31 + config["salt"] + i) % MODULUS for i in range(1 + value % 2)] if energy else []
    targets = list(config["to"])
    return [(targets[one % len(targets)], (one, energy - 1)) for one in made]


def again(config: dict[str, Any], item: Item) -> list[Sent]:
    """What a reducer recurs of an item that comes."""
    value, energy = item
    names = config["names"]
    return [(names[value % len(names)], (value + 1, energy - 1))] if energy and value % 4 == 0 else []


def begun(config: dict[str, Any], round: int, first: Item) -> list[Sent]:
    """What a frame recurs at the begin of a round."""
    value, energy = first
    names = config["names"]
    return [(names[(value + i) % len(names)], (value + i, energy)) for i in range(3)] if round <= value % 3 else []


def total(came: list[Item]) -> list[Sent]:
    """What a reducer or frame emits."""
    value = sum(value for value, _ in came) % MODULUS
    energy = max((energy for _, energy in came), default=0) - 1
    return [("odd" if value % 2 else "even", (value, energy))] if energy >= 0 else []


class Fan(common.Job):
    def handleWork(self, work):
        for target, item in fan(self.config, work):
            self.emit(item, target)


class Total(common.Reducer):
    def handleInit(self, store):
        store.came = []

    def handleAdd(self, store, work):
        store.came.append(work)
        for target, item in again(self.config, work):
            self.recur(item, target)

    def handleJoin(self, store, other):
        store.came += other.came

    def handleDone(self, store):
        for target, item in total(store.came):
            self.emit(item, target)


class Rounds(common.Frame):
    def handleFirst(self, store, work):
        store.first, store.came, store.round = work, [], 0
        self._begin(store)

    def handleNext(self, store, work):
        store.came.append(work)

    def handleDone(self, store):
        if not self._begin(store):
            for target, item in total(store.came):
                self.emit(item, target)

    def _begin(self, store):
        store.round += 1
        items = begun(self.config, store.round, store.first)
        for target, item in items:
            self.recur(item, target)
        return bool(items)


# --- random configurations --------------------------------------------------------------------------------------------
GATHERERS = {"reducer": Total, "frame": Rounds}


def random_module(chance: random.Random, depth: int) -> dict[str, Any]:
    """A module whose jobs lead to the next one, or to any other, or out."""
    names = ["first", "second", "third"][: chance.randint(1, 3)]
    module: dict[str, Any] = {"jobs": {}, "input": "first"}
    for name, after in zip(names, [*names[1:], "output"], strict=True):
        entry = random_entry(chance, depth)
        if gatherer_of(entry):
            entry["to"] = {"even": after, "odd": chance.choice([*names, "output"])}
        elif "jobs" in entry:
            entry["to"] = after
        else:
            others = {target: chance.choice([*names, "output"]) for target in "abc"[: chance.randint(0, 2)]}
            entry["to"] = {"on": after, **others}
        module["jobs"][name] = entry
    role = chance.choice([None, *GATHERERS])
    if role:
        module[role] = {"type": GATHERERS[role], "names": names}
    return module


def random_stream(chance: random.Random) -> dict[str, Any]:
    """An outermost module, whose reducer or frame can only lead out."""
    module = random_module(chance, 0)
    role = gatherer_of(module)
    if role:
        module[role]["to"] = {"even": "output", "odd": "output"}
    return module


def random_entry(chance: random.Random, depth: int) -> dict[str, Any]:
    if depth < 2 and chance.random() < 0.5:
        return random_module(chance, depth + 1)
    return {"type": Fan, "salt": chance.randrange(MODULUS)}


def gatherer_of(entry: dict[str, Any]) -> str | None:
    return next((role for role in GATHERERS if role in entry), None)


# --- the interpreter --------------------------------------------------------------------------------------------------
def through(module: dict[str, Any], items: list[Sent]) -> list[Item]:
    """What comes out of a module's jobs of items that stand in front of some."""
    waiting, out = list(items), []
    while waiting:
        name, item = waiting.pop()
        entry = module["jobs"][name]
        for target, made in emitted(entry, item):
            goal = entry["to"][target] if isinstance(entry["to"], dict) else entry["to"]
            if goal == "output":
                out.append(made)
            else:
                waiting.append((goal, made))
    return out


def emitted(entry: dict[str, Any], item: Item) -> list[Sent]:
    if "type" in entry:
        return fan(entry, item)
    return gathered(entry, [item]) if gatherer_of(entry) else [("", made) for made in whole(entry, [item])]


def gathered(module: dict[str, Any], items: list[Item]) -> list[Sent]:
    """What a reducer emits when it gathers all the items; what frames emit, one for each of them."""
    if "reducer" in module:
        came, waiting = [], [("first", item) for item in items]
        while waiting:
            arrived = through(module, waiting)
            came += arrived
            waiting = [sent for item in arrived for sent in again(module["reducer"], item)]
        return total(came)
    return [sent for item in items for sent in total(looped(module, item))]


def looped(module: dict[str, Any], first: Item) -> list[Item]:
    came, round = [], 1
    while items := begun(module["frame"], round, first):
        came += through(module, items)
        round += 1
    return came


def whole(module: dict[str, Any], items: list[Item]) -> list[Item]:
    """What leaves a module that all these items enter."""
    if gatherer_of(module):
        return [item for _, item in gathered(module, items)]
    return through(module, [("first", item) for item in items])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_configuration_gives_the_serial_results(seed: int) -> None:
    chance = random.Random(seed)
    config = random_stream(chance)
    items = [(chance.randrange(MODULUS), 5) for _ in range(40)]
    keywords = chance.choice([{}, {}, {"useMultiprocessing": False}, {"seed": 1}, {"cpus": 1}])
    assert results_of(config, items, **keywords) == sorted(whole(config, items))


def test_the_seeds_cover_all_kinds_of_modules_and_lead_to_results() -> None:
    modules = [random_stream(random.Random(seed)) for seed in range(SEEDS)]
    assert {gatherer_of(module) for module in modules} == {None, "reducer", "frame"}
    assert {gatherer_of(entry) for module in modules for entry in module["jobs"].values()} == {None, "reducer", "frame"}
    assert sum(bool(whole(module, [(value, 5) for value in range(40)])) for module in modules) > SEEDS / 2
