"""Lanes of the simulation of scale: they take exactly as long as their items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..engine import messages as m
from .loads import Load

__all__ = ["Counted", "Stepper"]

STEP_S = 2e-3
GROUP_S = 1e-3
NBYTES = 200


class Counted:
    """Values that are only counted; ``values`` where each of them stands for as many leaves."""

    __slots__ = ("values",)
    nbytes = NBYTES

    def __init__(self, values: list[int] | None = None) -> None:
        self.values = values


class World(Protocol):
    """What a lane knows of the simulation around it.

    Attributes:
        now: the time.
        load: the work.
        item_s: how long an item takes.
        wanted: of each rank, whether others want work from its lanes.
    """

    now: float
    load: Load
    item_s: float
    wanted: list[bool]

    @property
    def parcel_s(self) -> float:
        """What a parcel takes besides its items."""
        ...

    def at(self, time: float, function: Callable[..., None], *arguments: Any) -> None: ...

    def arrive(self, number: int, event: m.Event) -> None: ...


class Stepper:
    """Works through one parcel after the other, depth first, in steps; hands over what is left when others want it.

    Args:
        name: of the lane.
        rank: whose it is.
        world: around it.

    Attributes:
        inbox: what it has been lent.
        done: how many items it has done.
        last: when it was through with the last of them.
    """

    def __init__(self, name: int, rank: int, world: World) -> None:
        self._name = name
        self._rank = rank
        self._world = world
        self.inbox: deque[m.Lend] = deque()
        self.done = 0
        self.last = 0.0
        self._lend: m.Lend | None = None
        self._stack: list[list[Any]] = []  # scope, place, values or a count of items, position
        self._closing: list[int] = []
        self._waiting: deque[tuple[int, m.WorkBatch]] = deque()
        self._folded: set[int] = set()
        self._products: list[m.Product] = []
        self._samples: dict[int, list[float]] = {}
        self._unit: m.WorkBatch | None = None
        self._spent = 0.0

    def go(self) -> None:
        """Begins with the next parcel, if there is one and nothing else to do."""
        if self._lend is None and self.inbox:
            self._lend = self.inbox.popleft()
            self._waiting.extend(self._lend.units)
            self._world.at(self._world.now + self._world.parcel_s, self._step)

    def _step(self) -> None:
        """Works for a few ms at most, then looks around."""
        left, now = STEP_S, self._world.now
        while left > 0 and (self._stack or self._waiting):
            if not self._stack:
                self._begin()
            left -= self._work(left)
            if not self._stack:
                self._end_unit()
        spent = STEP_S - left
        if spent:
            self.last = now + spent
        self._world.at(now + spent, self._look if self._stack or self._waiting else self._repay)

    def _begin(self) -> None:
        unit, work = self._waiting.popleft()
        self._closing.append(unit)
        self._unit, self._spent = work, 0.0
        if work.resume:
            end = self._world.load.plan.bodies[0].end
            self._products.append(m.Output(work.scope, end, 1, Counted()))
            return
        values = work.payload.values if type(work.payload) is Counted else [0] * work.count
        self._stack.append([work.scope, work.place, values, 0])

    def _end_unit(self) -> None:
        work = self._unit
        if work is not None:
            sample = self._samples.setdefault(work.place, [0, 0.0])
            sample[0] += work.count
            sample[1] += self._spent
            self._unit = None

    def _work(self, left: float) -> float:
        """Does some of what is on top of the stack; gives the time it took."""
        if not self._stack:
            return 0.0
        entry = self._stack[-1]
        scope, place, values, position = entry
        if position == len(values):
            self._stack.pop()
            return 0.0
        inner = self._world.load.spread(place, values[position])
        if inner is not None:
            entry[3] += 1
            self._stack.append([scope, place + 1, inner, 0])
            return 0.0
        count = min(len(values) - position, max(1, int(left / self._world.item_s)))
        entry[3] += count
        self.done += count
        self._folded.add(scope)
        seconds: float = count * self._world.item_s
        self._spent += seconds
        return seconds

    def _look(self) -> None:
        """Between two steps: hands everything over when others want it."""
        if not self._world.wanted[self._rank]:
            return self._step()
        assert self._lend is not None
        if self._waiting:
            names = tuple(unit for unit, _ in self._waiting)
            self._waiting.clear()
            self._world.arrive(self._rank, m.Repaid(self._name, self._lend.loan, (), returned=names))
        for scope, place, values, position in self._stack:
            self._file(scope, place, values[position:])
        self._stack.clear()
        self._repay()

    def _file(self, scope: int, place: int, values: list[int]) -> None:
        size = max(1, -(-len(values) // 4096))
        if place == len(self._world.load.plan.places) - 3:
            size = max(size, int(GROUP_S / self._world.item_s))
        for start in range(0, len(values), size):
            group = values[start : start + size]
            self._products.append(m.WorkBatch(scope, place, len(group), Counted(group)))

    def _repay(self) -> None:
        assert self._lend is not None
        loan, fold = self._lend.loan, len(self._world.load.plan.places) - 2
        folds = [m.Fold(scope, fold, Counted()) for scope in self._folded]
        closed = ((loan, tuple(self._closing)),)
        samples = tuple((place, int(items), seconds) for place, (items, seconds) in self._samples.items())
        products = (*self._products, *folds)
        self._products, self._closing, self._lend, self._unit = [], [], None, None
        self._folded.clear()
        self._samples.clear()
        self._world.arrive(self._rank, m.Repaid(self._name, loan, closed, products, samples=samples))
        self.go()
