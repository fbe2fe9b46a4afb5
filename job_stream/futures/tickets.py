"""What stands for a future in a live run."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from contextlib import suppress
from typing import Any, Protocol

from ..errors import PayloadError, StageError
from ..ground.texts import said
from ..runtime.live import Item
from .endings import Broken, Done, Raised, outcome_of
from .packer import Packed

__all__ = ["FutureTicket", "Owner", "broken_by"]


class Owner(Protocol):
    """The executor's side of its run."""

    def broke(self, error: BrokenExecutor) -> None:
        """An initializer has raised."""

    def has_to_carry(self) -> None:
        """Volumes cannot be opened everywhere."""


class FutureTicket:
    """Gives a future what came of its call.

    Args:
        future: of the caller.
        packed: the call.
        owner: hears of what concerns other calls, too.
    """

    __slots__ = ("_future", "_name", "_owner", "_packed")

    def __init__(self, future: Future[Any], packed: Packed, owner: Owner) -> None:
        self._future = future
        self._packed: Packed | None = packed
        self._name = packed.name
        self._owner = owner

    def item(self) -> Item:
        """What is put into the source."""
        assert self._packed is not None
        call = self._packed.call
        ticket = Item(tuple(call), call.function, self._packed.nbytes, self)
        if not self._packed.volumes:
            self._packed = None  # nothing of it is needed any more
        return ticket

    def begin(self) -> bool:
        with suppress(Exception):  # somebody else has set it
            return self._future.running() or self._future.set_running_or_notify_cancel()
        return False

    def end(self, told: Any) -> Item | None:
        outcome = outcome_of(told)
        if isinstance(outcome, Done):
            self._done(outcome)
        elif isinstance(outcome, Raised):
            self.fail(outcome.error())
        elif isinstance(outcome, Broken):
            error = broken_by(outcome.raised.error(), "the initializer has raised")
            self._owner.broke(error)
            self.fail(error)
        else:
            return self._again()
        return None

    def _again(self) -> Item | None:
        """Has the call made with the contents of its volumes."""
        self._owner.has_to_carry()
        assert self._packed is not None
        self._packed = self._packed.whole()
        return self.item()

    def _done(self, outcome: Done) -> None:
        try:
            value = outcome.value()
        except BaseException as error:
            unreadable = PayloadError(f"what the call returned cannot be unpickled: {said(error, 1000)}")
            unreadable.__cause__ = error
            self.fail(unreadable)
            return
        with suppress(InvalidStateError):  # somebody else has set it
            self._future.set_result(value)

    def give_up(self, error: StageError) -> None:
        told = type(error)(self._name, "<its arguments>", error.traceback, error.pid, error.host, error.rank)
        self.fail(told)

    def fail(self, error: BaseException) -> None:
        self._packed = None
        if self.begin():
            with suppress(InvalidStateError):
                self._future.set_exception(error)

    def withdraw(self) -> None:
        """The call will not be made."""
        if self._future.cancel():
            self._future.set_running_or_notify_cancel()


def broken_by(cause: BaseException, why: str) -> BrokenExecutor:
    """What an executor says that cannot go on."""
    error = BrokenExecutor(f"{why}, so the executor is of no use any more: {said(cause, 1000)}")
    error.__cause__ = cause
    return error
