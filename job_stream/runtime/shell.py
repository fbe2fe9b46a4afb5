"""What a run is made of before its ranks have met."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..memory.buffers import Buffers
from ..memory.words import SharedWords
from ..observe.observer import Watchers
from ..values import Failure
from .pools import Pools
from .prefetch import LazyPrefetcher
from .shutdown import Mailbox, Shutdown

if TYPE_CHECKING:
    from ..checkpoints.saver import Saver

__all__ = ["FailRun", "Shell"]


class FailRun(Protocol):
    """Ends the run with an error; the first one counts. ``shared``: another rank will print it."""

    def __call__(self, error: BaseException, shared: bool = True) -> None: ...


class Shell(NamedTuple):
    """The parts that the engine's thread performs actions with.

    Attributes:
        mailbox: what it and the main thread have for each other.
        shutdown: whether the run is to end.
        pools: the lanes.
        board: flags that lanes look at.
        buffers: memory for what travels.
        source: the initial work that is pulled.
        saver: writes checkpoints; None: nobody wants any.
        watchers: of the run.
        failures: where items are noted that were skipped.
        limits: the time limits of the stages, in seconds.
        fail: ends the run with an error.
        is_live: what is given up is told of, and not noted among the failures.
    """

    mailbox: Mailbox
    shutdown: Shutdown
    pools: Pools
    board: SharedWords
    buffers: Buffers
    source: LazyPrefetcher
    saver: Saver | None
    watchers: Watchers
    failures: list[Failure]
    limits: list[float]
    fail: FailRun
    is_live: bool = False
