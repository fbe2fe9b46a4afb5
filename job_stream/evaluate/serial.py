"""Runs a whole stream in the calling thread: a Work inside a job, which has only its own lane."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from ..stream.plan import Plan
from .context import current, enter, leave
from .evaluator import NOWHERE, Evaluator
from .failures import ItemSkipped, StageFailed
from .outboxes import StreamScope
from .seams import InitialItems

__all__ = ["run_serially"]

CHUNK = 256


def run_serially(
    plan: Plan, source: InitialItems, seed: int | None, deliver: Callable[[list[Any]], None]
) -> list[ItemSkipped]:
    """Runs a stream to its end; returns what was skipped.

    Raises:
        the exception of user code that failed, as it was raised.
    """
    outer = current()
    workplace = outer.workplace if outer is not None else NOWHERE
    evaluator = Evaluator(plan, None, [0] * 8, seed, workplace=workplace)
    before = enter(evaluator)
    try:
        _run(evaluator, plan, source, deliver)
    except StageFailed as failed:
        raise failed.error from failed.error.__cause__
    finally:
        leave(before)
    return evaluator.failures.drain()


def _run(evaluator: Evaluator, plan: Plan, source: InitialItems, deliver: Callable[[list[Any]], None]) -> None:
    stream = StreamScope(deliver)
    if plan.bodies[0].segments[0].folds:
        stream.active.add(0)
    evaluator.stack.enter(stream)
    entries, iterator, position = evaluator.stack.entries, iter(source), 0
    while True:
        values = list(islice(iterator, CHUNK))
        if not values:
            break
        evaluator.stack.push(stream, 0, evaluator.keys.source(values, position), position)
        position += len(values)
        while len(entries) > 1:
            evaluator.step()
    while entries:
        evaluator.step()
