"""Values on their way, and the forms of them that only tell which values they are."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

__all__ = ["COUNTED", "Payload", "RangeSlice", "Same", "SourceSlice"]

Payload: TypeAlias = Any
"""Values on their way, in one of many forms: packed (``memory.payload.Parts``, ``Blob``), live (``Live``) or only told
(``COUNTED``, ``Same``). A call of the keeper that has no values has a number or None there. Only who knows which form
it is may look into it: the engine asks for the ``nbytes``, which all have, and cuts what is ``COUNTED``."""


class SourceSlice(NamedTuple):
    """A payload that every lane has already: elements ``start`` to ``stop`` of part ``part`` of the source."""

    part: int
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return 0


class RangeSlice(NamedTuple):
    """A payload that says all itself: the numbers from ``start`` to before ``stop`` in steps of ``step``."""

    start: int
    stop: int
    step: int

    @property
    def nbytes(self) -> int:
        return 0


COUNTED = (SourceSlice, RangeSlice)
"""The payloads that only say which values they stand for, so that anybody can cut them."""


class Same(NamedTuple):
    """A payload that the lender has already: that of the unit ``name``, which the same repayment closes."""

    name: int

    @property
    def nbytes(self) -> int:
        return 0
