"""What a rank and its children say to each other, besides the engine's own messages."""

from __future__ import annotations

from typing import NamedTuple

from ..engine.messages import TRAVELLING, Answered, Call, LaneMessage, Repaid
from ..evaluate.failures import UserFailure
from ..memory.codec import Kinds

__all__ = ["KINDS", "Died", "Fork", "Forked", "FromNursery", "FromWorker", "Kill", "NotForked", "Stopped", "ToNursery",
           "ToWorker"]  # fmt: skip


class Fork(NamedTuple):
    """To the nursery: fork a child for lane ``lane`` (0: the keeper); its end of the link comes along.

    Attributes:
        serial: number of the child; no two of a run have the same.
        slot: its slot of the board.
    """

    lane: int
    serial: int
    slot: int


class Kill(NamedTuple):
    """To the nursery: end a child at once; -1: all of them."""

    lane: int


class Forked(NamedTuple):
    """From the nursery."""

    lane: int
    pid: int


class NotForked(NamedTuple):
    """From the nursery: the system has refused to make this child, with this number of an error."""

    lane: int
    error: int


class Died(NamedTuple):
    """From the nursery: a child ended with this wait status."""

    lane: int
    status: int


class Stopped(NamedTuple):
    """From the nursery: a child was stopped by a signal, or goes on."""

    lane: int
    stopped: bool


ToNursery = Fork | Kill
FromNursery = Forked | NotForked | Died | Stopped
ToWorker = LaneMessage | Call
FromWorker = Repaid | Answered | UserFailure

KINDS = Kinds((*TRAVELLING, UserFailure, Fork, Kill, Forked, NotForked, Died, Stopped))
