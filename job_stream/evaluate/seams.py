"""What evaluation asks of the initial work, which belongs to the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ..engine.messages import RangeSlice, SourceSlice

__all__ = ["InitialItems"]


class InitialItems(Protocol):
    """The initial work, as every process has it; see ``runtime.source.InitialWork``."""

    def values_of(self, payload: SourceSlice | RangeSlice) -> Sequence[Any]:
        """The items that a slice stands for."""

    def __iter__(self) -> Iterator[Any]:
        """All items, for a stream that is run where it stands."""
