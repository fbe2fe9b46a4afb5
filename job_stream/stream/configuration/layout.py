"""Records the stages of a module: the same places and routes as those of decorated functions, for the same engine.

A module with a reducer that stands inside another one is a frame of one round: the item that enters it is what the
reduction begins with, and what the reduction emits goes on when the frame ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...values import Object, whole
from ..adapting import Targets, adapt, as_answer
from ..plan import LAST, Builder, Kind, Policy, Stage
from .modules import Leaf, Module
from .ways import Goal, Ways

__all__ = ["lay_out"]

Function = Callable[..., Any]


def lay_out(module: Module, builder: Builder, processes: bool, policy: Policy) -> None:
    """Adds the stages of the outermost module to a stream.

    Args:
        module: what is to be added.
        builder: of the stream's plan.
        processes: whether stages may run in worker processes.
        policy: of all stages.

    Raises:
        PlanError: an entry is never reached, or never leads out.
    """
    _StageLayout(builder, processes, policy).stream(module)


class _StageLayout:
    def __init__(self, builder: Builder, processes: bool, policy: Policy) -> None:
        self._builder = builder
        self._processes = processes
        self._policy = policy

    def stream(self, module: Module) -> None:
        names = tuple(target for target in module.to if target)
        targets, ways = Targets(names, needed=len(names) > 1), Ways(module)
        if module.frame is not None:
            self._frame(module.frame, ways, targets)
            return
        self._body(ways)
        if module.reducer is not None:
            self._builder.add(self._fold(module.reducer, ways, targets))

    def _body(self, ways: Ways) -> None:
        """The entries of the body that is open, and the routes between them."""
        numbers: dict[Goal, int] = {None: LAST}
        for entry in ways.order:
            numbers[entry] = self._add(entry, ways.targets(entry))
        for entry in ways.order:
            routes = {target: numbers[goal] for target, goal in ways.goals[entry].items()}
            if not ways.targets(entry).apart:
                routes = {"": next(iter(routes.values()))}
            self._builder.route(numbers[entry], routes)
        if ways.recurring.apart:
            inputs = {name: numbers[goal] for name, goal in ways.inputs.items()}
            self._builder.enter({"": numbers[ways.order[0]], **inputs})

    def _add(self, entry: Leaf | Module, targets: Targets) -> int:
        if isinstance(entry, Leaf):
            parts = adapt("job", entry.kind, entry.name, entry.config, targets)
            return self._builder.add(self._stage(Kind.JOB, entry, parts["function"]))
        ways = Ways(entry)
        if entry.frame is not None:
            return self._frame(entry.frame, ways, targets)
        assert entry.reducer is not None
        return self._reduction(entry.reducer, ways, targets)

    def _frame(self, leaf: Leaf, ways: Ways, targets: Targets) -> int:
        parts = adapt("frame", leaf.kind, leaf.name, leaf.config, targets, ways.recurring)
        head = self._stage(Kind.FRAME, leaf, parts["function"])
        number = self._builder.open_frame(head._replace(store=parts["store"], emit=parts["emit"]))
        self._body(ways)
        self._builder.close_frame(self._stage(Kind.END, leaf, parts["end"]))
        return number

    def _reduction(self, leaf: Leaf, ways: Ways, targets: Targets) -> int:
        """A reduction for each item that enters."""
        fold = self._fold(leaf, ways, targets)
        plain = fold._replace(kind=Kind.FRAME, function=_begin, policy=fold.policy._replace(timeout_s=None))
        number = self._builder.open_frame(plain._replace(store=_new_store, emit=_emit))
        self._body(ways)
        self._builder.add(fold)
        self._builder.close_frame(plain._replace(kind=Kind.END, function=_end, store=None, emit=None))
        return number

    def _fold(self, leaf: Leaf, ways: Ways, targets: Targets) -> Stage:
        parts = adapt("reduce", leaf.kind, leaf.name, leaf.config, targets, ways.recurring)
        fold = self._stage(Kind.FOLD, leaf, parts["function"])
        return fold._replace(store=parts["store"], emit=parts["emit"])

    def _stage(self, kind: str, leaf: Leaf, function: Function) -> Stage:
        processes = self._processes and leaf.kind.USE_MULTIPROCESSING
        policy = self._policy if processes else self._policy._replace(timeout_s=None)
        return Stage(kind, leaf.name, function, processes, policy)


# the frame around a reduction -----------------------------------------------------------------------------------------


def _new_store() -> Object:
    return Object(begun=False, emitted=[])


def _begin(store: Any, *item: Any, **named: Any) -> Any:
    if store.begun:
        return None
    store.begun = True
    return whole(item, named)


def _end(store: Any, *emitted: Any, **named: Any) -> None:
    store.emitted.append(whole(emitted, named))


def _emit(store: Any) -> Any:
    return as_answer(store.emitted)
