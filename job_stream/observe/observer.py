"""Who watches a run: hooks with names, and how they are bound to what the engine hears and decides.

A watcher derives from ``Observer`` and overrides the hooks that it cares for. The hooks are called where events enter
the engine and actions leave it. That is the one place where all of a run passes by, a few times for each loan and never
for each item. They are bound once, when the run begins: where nobody cares for any of them, the engine's own method is
what is called, and nothing is added to it.

All hooks are called by the engine thread, one at a time, and must return soon. What one raises ends no run: it is told
on standard error, and that watcher is told nothing any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from ..engine import messages as m
from ..engine.backlog import Part
from ..engine.capture import State
from ..ground.texts import told
from ..ranks.cluster import Cluster
from ..ranks.protocol import Figures
from ..stream.plan import Plan

__all__ = ["Observer", "RunBegun", "RunEnded", "Watchers"]

Handle = Callable[[m.Event, float], list[m.Action]]


class RunBegun(NamedTuple):
    """A run has begun: its ranks have met.

    Attributes:
        plan: the stream; hooks name stages by their numbers in ``plan.places``.
        parts: of the initial work, with their lengths where these are known; none on other ranks than the primary.
        rank: this one; 0 is the primary.
        lanes_of: how many lanes each rank may have.
        joined: the other ranks, to which figures may be sent; None: there are none.
    """

    plan: Plan
    parts: tuple[Part, ...]
    rank: int
    lanes_of: tuple[int, ...]
    joined: Cluster | None


class RunEnded(NamedTuple):
    """A run is over on this rank; its workers are still there.

    Attributes:
        figures: what they did.
        error: what ended it; None: the stream has come to its end.
    """

    figures: Figures
    error: BaseException | None


class Observer:
    """What can be known about a run while it goes on. A hook that is not overridden is not called."""

    def begun(self, run: RunBegun) -> None:
        """The run begins. Comes first."""

    def lent(self, loan: m.Lend, rank: int | None) -> None:
        """A loan goes to one of the lanes here (``loan.lane``), or to another rank."""

    def repaid(self, repaid: m.Repaid, rank: int | None) -> None:
        """A lane here (``repaid.lane``) or another rank repays something; what it goes on with is in ``kept``."""

    def stage_batch(self, lane: int, rank: int | None, place: int, items: int, seconds: float) -> None:
        """Before ``repaid``: units of so many items that entered at a place took this time, in a lane here or on
        another rank. What had been done of units that were not finished is in none."""

    def item_failed(self, failed: m.Skip | m.Fail) -> None:
        """An item is skipped (``Skip``), or given up after the death of workers or a time limit (``Fail``). One that
        raised and ends the run comes with ``ended``."""

    def lane_died(self, death: m.LaneLost | m.KeeperLost) -> None:
        """A worker is gone; says the cause, and the place of the item that it was at."""

    def rank_lost(self, rank: int) -> None:
        """Another rank is gone."""

    def checkpoint(self, state: State) -> None:
        """A state of the stream was captured, and is about to be written."""

    def delivered(self, count: int, nbytes: int) -> None:
        """So many results, of so many bytes, wait for the script from now on."""

    def taken(self, count: int, nbytes: int) -> None:
        """The script is through with so many of them."""

    def ended(self, run: RunEnded) -> None:
        """The run is over here, in whatever way. Comes once, and last, if ``begun`` has come."""


class Watchers:
    """The observers of a run, each hook bound to those who care for it.

    Args:
        observers: in the order in which they are told.
    """

    def __init__(self, observers: Iterable[Observer]) -> None:
        watching = list(observers)
        self._hooks = {name: [getattr(observer, name) for observer in watching if _overrides(observer, name)]
                       for name in _HOOKS}  # fmt: skip

    def begun(self, run: RunBegun) -> None:
        self._tell("begun", run)

    def ended(self, run: RunEnded) -> None:
        self._tell("ended", run)

    def watched(self, handle: Handle) -> Handle:
        """What hands an event to the engine: as it is, if nobody cares for any event or action."""
        events, actions = self._cared_for(_EVENTS), self._cared_for(_ACTIONS)
        if not (events or actions):
            return handle

        def handle_watched(event: m.Event, now: float) -> list[m.Action]:
            if type(event) in events:
                events[type(event)](self, event)
            decided = handle(event, now)
            for action in decided:
                if type(action) in actions:
                    actions[type(action)](self, action)
            return decided

        return handle_watched

    def saving(self, save: Callable[[State], None]) -> Callable[[State], None]:
        """What has a state written: as it is, if nobody cares."""
        if not self._hooks["checkpoint"]:
            return save

        def save_watched(state: State) -> None:
            self._tell("checkpoint", state)
            save(state)

        return save_watched

    def _cared_for(self, table: dict[type, tuple[Callable[..., None], tuple[str, ...]]]) -> dict[type, Any]:
        """How to tell what may happen, where somebody cares for it."""
        return {kind: tell for kind, (tell, hooks) in table.items() if any(self._hooks[name] for name in hooks)}

    def _tell(self, name: str, *what: Any) -> None:
        for hook in tuple(self._hooks[name]):
            try:
                hook(*what)
            except Exception as error:
                self._dismiss(hook.__self__)
                _complain(hook, error)

    def _dismiss(self, observer: Observer) -> None:
        for hooks in self._hooks.values():
            hooks[:] = [hook for hook in hooks if hook.__self__ is not observer]

    # what happens, as hooks tell it -----------------------------------------------------------------------------------

    def _on_heard(self, event: m.Heard) -> None:
        if type(event.message) is m.Repaid:
            self._tell_repaid(event.message, event.rank)

    def _on_repaid(self, event: m.Repaid) -> None:
        self._tell_repaid(event, None)

    def _tell_repaid(self, repaid: m.Repaid, rank: int | None) -> None:
        for place, items, seconds in repaid.samples:
            self._tell("stage_batch", repaid.lane, rank, place, items, seconds)
        self._tell("repaid", repaid, rank)

    def _on_death(self, event: m.LaneLost | m.KeeperLost) -> None:
        self._tell("lane_died", event)

    def _on_rank_lost(self, event: m.RankLost) -> None:
        self._tell("rank_lost", event.rank)

    def _on_taken(self, event: m.ResultsTaken) -> None:
        self._tell("taken", event.count, event.nbytes)

    def _on_lend(self, action: m.Lend) -> None:
        self._tell("lent", action, None)

    def _on_send(self, action: m.Send) -> None:
        if type(action.message) is m.Lend:
            self._tell("lent", action.message, action.rank)

    def _on_deliver(self, action: m.Deliver) -> None:
        self._tell("delivered", action.count, action.payload.nbytes)

    def _on_failed(self, action: m.Skip | m.Fail) -> None:
        self._tell("item_failed", action)


def _overrides(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name) is not getattr(Observer, name)


def _complain(hook: Callable[..., None], error: Exception) -> None:
    with suppress(Exception):
        print(f"job_stream: {hook.__qualname__} failed, and watches this run no longer: {told(error)}",
              file=sys.stderr, flush=True)  # fmt: skip


_HOOKS = ("begun", "lent", "repaid", "stage_batch", "item_failed", "lane_died", "rank_lost", "checkpoint", "delivered",
          "taken", "ended")  # fmt: skip

_EVENTS: dict[type, tuple[Callable[..., None], tuple[str, ...]]] = {
    m.Heard: (Watchers._on_heard, ("repaid", "stage_batch")),
    m.Repaid: (Watchers._on_repaid, ("repaid", "stage_batch")),
    m.LaneLost: (Watchers._on_death, ("lane_died",)),
    m.KeeperLost: (Watchers._on_death, ("lane_died",)),
    m.RankLost: (Watchers._on_rank_lost, ("rank_lost",)),
    m.ResultsTaken: (Watchers._on_taken, ("taken",)),
}
"""What happens: how it is told, and by which hooks."""

_ACTIONS: dict[type, tuple[Callable[..., None], tuple[str, ...]]] = {
    m.Lend: (Watchers._on_lend, ("lent",)),
    m.Send: (Watchers._on_send, ("lent",)),
    m.Deliver: (Watchers._on_deliver, ("delivered",)),
    m.Skip: (Watchers._on_failed, ("item_failed",)),
    m.Fail: (Watchers._on_failed, ("item_failed",)),
}
