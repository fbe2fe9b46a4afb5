"""What a seed stands for: a random plan, and what is to go wrong."""

from __future__ import annotations

import random
from typing import NamedTuple

from ..engine.messages import ANYWHERE, PRIMARY
from ..stream.plan import LAST, Builder, Kind, Plan, Stage

__all__ = ["Case", "Crash", "case_of", "host_of"]


class Crash(NamedTuple):
    """Everything dies ``after`` some seconds, and goes on from what was saved last on ``size`` ranks."""

    after: float
    size: int
    lanes: int
    rank_deaths: tuple[tuple[float, int], ...]


class Case(NamedTuple):
    """What a seed stands for.

    ``handler_s`` is what the handling of a delivery takes on average, ``value_bytes`` how large each value is: large
    ones that are handled slowly pile up at rank 0. ``cores``: how many a value needs at most where it is allotted, and
    ``hosts`` those that it may need: ranks that may die are not the only ones of a host. ``waits``: how likely a lane
    is to hand over much, so that it waits until it is told to go on.
    """

    plan: Plan
    items: int
    pulled: bool
    size: int
    lanes: int
    rank_deaths: tuple[tuple[float, int], ...]
    lane_deaths: float
    slow: dict[int, float]
    counted: bool
    saves: tuple[float, ...] = ()
    snapshots: tuple[float, ...] = ()
    crashes: tuple[Crash, ...] = ()
    handler_s: float = 0.005
    value_bytes: int = 64
    cores: int = 1
    hosts: tuple[str, ...] = (ANYWHERE,)
    waits: float = 0.0


def case_of(seed: int) -> Case:
    chance = random.Random(seed)
    builder = Builder()
    for _ in range(chance.randint(0, 2)):
        _add_stages(builder, chance, 0)
        builder.add(Stage(Kind.FOLD, "reduce", print))
    _add_stages(builder, chance, 0)
    size = chance.choice([1, 2, 3, 4, 9])
    deaths = tuple((chance.random() * 0.2, rank) for rank in range(1, size) if chance.random() < 0.4)
    items, pulled, lanes = chance.choice([0, 1, 5, 40, 150]), chance.random() < 0.3, chance.choice([1, 2, 4])
    slow = {chance.randrange(size): 20.0} if chance.random() < 0.3 else {}
    case = Case(builder.plan(), items, pulled, size, lanes, deaths, chance.choice([0.0, 0.0, 0.05]), slow,
                chance.random() < 0.5)  # fmt: skip
    case = _of_large_values(case, random.Random(~seed))
    _pin(case.plan, random.Random(f"{seed} pinned"))
    case = case if seed % 3 else _that_crashes(case, chance)
    case = case._replace(waits=random.Random(f"{seed} waits").choice([0.0, 0.2, 0.9]))
    return _that_allots(case, random.Random(f"{seed} allotted"))


def _pin(plan: Plan, chance: random.Random) -> None:
    """In some cases a few stages run on the primary only, as they may where the frame around them does."""
    if chance.random() < 0.7:
        return
    for place in plan.places:
        frame = plan.bodies[place.body].frame
        if place.kind in (Kind.JOB, Kind.FRAME) and (frame is None or plan.places[frame].primary):
            place.primary = chance.random() < 0.5


def _that_allots(case: Case, chance: random.Random) -> Case:
    """In some cases what comes to a few jobs needs a host, or several cores."""
    if chance.random() < (0.1 if case.crashes else 0.6):
        return case
    for segment in (segment for body in case.plan.bodies for segment in body.segments):
        frame = case.plan.bodies[case.plan.places[segment.first].body].frame
        for place in case.plan.places[segment.first + 1 : segment.last]:
            if place.kind == Kind.JOB and (frame is None or case.plan.places[frame].primary) and not place.primary:
                place.allotted = place.alone = chance.random() < 0.7
    hosts = [ANYWHERE, PRIMARY, host_of(0)]
    if case.size > 1 and not (case.rank_deaths or case.crashes):
        hosts.append(host_of(1))
    return case._replace(cores=min(case.lanes, *(crash.lanes for crash in case.crashes), 9), hosts=tuple(hosts))


def host_of(rank: int) -> str:
    """The host that a rank is on."""
    return ("north", "south")[rank % 2]


def _of_large_values(case: Case, chance: random.Random) -> Case:
    """Of some cases, the same with results that pile up."""
    if chance.random() < 0.6:
        return case
    return case._replace(handler_s=chance.choice([1e-4, 0.005, 0.03]), value_bytes=chance.choice([64, 4, 1, 40]) << 20)


def _that_crashes(case: Case, chance: random.Random) -> Case:
    """The same with captures, both asked for and taken at any moment, and with deaths of everything."""
    crashes = []
    for _ in range(chance.randint(1, 3)):
        size, lanes = chance.choice([1, 2, 4]), chance.choice([1, 3])
        deaths = tuple((chance.random() * 0.2, rank) for rank in range(1, size) if chance.random() < 0.2)
        crashes.append(Crash(chance.random() ** 2 * 0.4, size, lanes, deaths))
    saves = tuple(chance.random() ** 2 * 0.3 for _ in range(chance.randint(0, 3)))
    snapshots = tuple(chance.random() ** 2 * 0.3 for _ in range(chance.randint(0, 2)))
    return case._replace(saves=saves, snapshots=snapshots, crashes=tuple(crashes))


def _add_stages(builder: Builder, chance: random.Random, depth: int) -> None:
    """The stages of a segment; in some, values go all ways there are."""
    entries = [_add_stage(builder, chance, depth) for _ in range(chance.randint(1, 2))]
    routed = random.Random(chance.random())
    if routed.random() < 0.7:
        return
    for entry in entries:
        builder.route(entry, _some_of([LAST, *entries], routed))
    if entries[0] == 0:
        builder.enter(_some_of(entries, routed))


def _some_of(entries: list[int], chance: random.Random) -> dict[str, int]:
    """Routes to some entries; the first one is always among them, so that nothing goes round for ever."""
    return {str(entry): entry for entry in [entries[0], *entries[1:]] if entry == entries[0] or chance.random() < 0.5}


def _add_stage(builder: Builder, chance: random.Random, depth: int) -> int:
    if depth == 2 or chance.random() >= 0.35:
        return builder.add(Stage(Kind.JOB, "job", print))
    frame = builder.open_frame(Stage(Kind.FRAME, "frame", print))
    if chance.random() < 0.85:
        _add_stages(builder, chance, depth + 1)
    if chance.random() < 0.3:
        builder.add(Stage(Kind.FOLD, "reduce", print))
        builder.add(Stage(Kind.JOB, "job", print))
    builder.close_frame(Stage(Kind.END, "frameEnd", print))
    return frame
