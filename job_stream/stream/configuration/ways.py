"""The ways of work through a body: the jobs and gathering modules of a module, those of modules without reducer and
frame laid in among them.

A body is what becomes one segment of a plan: all that stands in the outermost module, or in one with a reducer or
frame. Every entry of it can be reached from its input, and from every entry there is a way out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import PlanError
from ..adapting import Targets
from .modules import OUTPUT, Leaf, Module

__all__ = ["Ways"]

Goal = Leaf | Module | None  # None: out of the body


class Ways:
    """Where work goes in a body.

    Args:
        body: a module with a reducer or frame, or the outermost one.

    Attributes:
        order: the entries, first the one where work enters.
        goals: by entry, where its work goes, by target.
        inputs: where work may be recurred to, by the name of the job; empty in a body without reducer or frame.

    Raises:
        PlanError: an entry is never reached, or never leads out.
    """

    def __init__(self, body: Module) -> None:
        self._body = body
        names = body.entries if body.gatherer else ()
        self.inputs = {name: self._goal(body, name) for name in names}
        self.goals: dict[Leaf | Module, dict[str, Goal]] = {}
        self.order = self._reached([self._goal(body, body.input), *self.inputs.values()])
        self._check_reached()
        self._check_ends()

    def targets(self, entry: Leaf | Module) -> Targets:
        """The targets that an entry may emit to."""
        goals = self.goals[entry]
        return _targets_of({} if "" in goals else goals, len(goals) > 1)

    @property
    def recurring(self) -> Targets:
        """The targets that the reducer or frame may recur to."""
        return _targets_of(self.inputs, False)

    def _goal(self, module: Module, name: str) -> Goal:
        """What a name in a module stands for in this body."""
        if name == OUTPUT:
            return None if module is self._body or module.module is None else self._goal(module.module, module.to[""])
        entry = module.entries[name]
        inlined = _inlined(entry)
        return self._goal(inlined, inlined.input) if inlined else entry

    def _reached(self, waiting: list[Goal]) -> list[Leaf | Module]:
        order: list[Leaf | Module] = []
        for entry in waiting:  # grows while it is walked
            if entry is None or entry in self.goals:
                continue
            order.append(entry)
            assert entry.module is not None
            self.goals[entry] = {target: self._goal(entry.module, name) for target, name in entry.to.items()}
            waiting.extend(self.goals[entry].values())
        return order

    def _check_reached(self) -> None:
        for entry in _entries_of(self._body):
            if entry not in self.goals:
                raise PlanError(
                    f"{entry.where}: no work can ever reach it; name it in the to of another job, or as the input"
                )

    def _check_ends(self) -> None:
        ending: set[Goal] = {None}
        while more := {entry for entry in self.order if ending.intersection(self.goals[entry].values())} - ending:
            ending |= more
        stuck = next((entry for entry in self.order if entry not in ending), None)
        if stuck is not None:
            cycle = " -> ".join(repr(entry.name) for entry in self._cycle_from(stuck))
            raise PlanError(
                f"{stuck.where}: a cycle without end: {cycle}; give one of them another target, which leads to output"
            )

    def _cycle_from(self, entry: Leaf | Module) -> list[Leaf | Module]:
        """A cycle that an entry without a way out leads to."""
        way: list[Leaf | Module] = []
        while entry not in way:
            way.append(entry)
            after = next(iter(self.goals[entry].values()))
            assert after is not None
            entry = after
        return [*way[way.index(entry) :], entry]


def _inlined(entry: Leaf | Module) -> Module | None:
    """The entry if it is a module whose own entries stand in the body around it."""
    return entry if isinstance(entry, Module) and entry.gatherer is None else None


def _entries_of(module: Module) -> Iterator[Leaf | Module]:
    """All entries of a body."""
    for entry in module.entries.values():
        inlined = _inlined(entry)
        if inlined:
            yield from _entries_of(inlined)
        else:
            yield entry


def _targets_of(goals: dict[str, Goal], needed: bool) -> Targets:
    return Targets(tuple(goals), needed, len(set(goals.values())) > 1)
