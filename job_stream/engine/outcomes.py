"""Products: what comes of work, in whose place they are repaid. One of them is work that is still to be done."""

from __future__ import annotations

from typing import NamedTuple

from .payloads import Payload

__all__ = ["ANYWHERE", "HOME", "PRIMARY", "Fail", "Fold", "Open", "Output", "Product", "Skip", "WorkBatch"]

ANYWHERE, PRIMARY = "", "primary"
"""What stands for a host where any will do, and where it is to be the primary itself."""

HOME = -(1 << 40)
"""What another rank names as the scope of what it repays: that of the units which the same repayment closes. Lanes
name theirs by numbers below it: see ``Repaid.stand_ins``."""


class WorkBatch(NamedTuple):
    """Values that are still to go through ``place`` and on.

    The first ``skip`` values of the payload are done; of the Multiple that the first one gives, ``inner`` elements are.
    ``resume``: the payload is a frame between two rounds or, at the end of a segment, a store that is to be emitted, in
    a scope with this ``key``. ``base``: the position in the source, of what comes straight from there. ``failed``: it
    has ended its worker, and a failure is to go on in its place: the cause, how often, and whether its time was up;
    zero times where it has never been begun, since there is no host for it. ``needs``: a host and a number of cores,
    at a place where items are allotted.
    """

    scope: int
    place: int
    count: int  # type: ignore[assignment]
    payload: Payload
    base: int | None = None
    skip: int = 0
    inner: int = 0
    resume: bool = False
    one_by_one: bool = False
    key: int = 0
    failed: tuple[str, int, bool] | tuple[()] = ()
    needs: tuple[str, int] | None = None


class Output(NamedTuple):
    """Values that reached the end of a body. ``base``: the position of the first, in an ordered stream."""

    scope: int
    place: int
    count: int  # type: ignore[assignment]
    payload: Payload
    base: int | None = None


class Fold(NamedTuple):
    """A store that values were folded into, for the reduction at ``place``."""

    scope: int
    place: int
    payload: Payload


class Open(NamedTuple):
    """A frame that goes on at the rank. ``scope`` is a negative stand-in that the products after it refer to."""

    scope: int
    parent: int
    place: int
    payload: Payload
    active: tuple[int, ...]
    key: int = 0


class Skip(NamedTuple):
    """An item that failed and was left out."""

    place: int
    stage: str
    payload: Payload
    attempts: int
    reason: str
    scope: int = 0


class Fail(NamedTuple):
    """Give up ``count`` values of a payload from number ``index`` on: they killed their lane, or ran out of time.
    ``final``: that ends the run. ``base``: the position of the first in the source, of what comes straight from
    there."""

    place: int
    payload: Payload
    index: int  # type: ignore[assignment]
    count: int  # type: ignore[assignment]
    attempts: int
    cause: str
    timed: bool
    during_unpickling: bool
    final: bool = True
    scope: int = 0
    base: int | None = None


Product = WorkBatch | Output | Fold | Open | Skip | Fail
