"""What evaluation asks of the initial work, which belongs to the runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ..engine.messages import RangeSlice, SourceSlice

__all__ = ["InitialItems", "Wearing"]


class InitialItems(Protocol):
    """The initial work, as every process has it; see ``runtime.source.InitialWork``."""

    def values_of(self, payload: SourceSlice | RangeSlice) -> Sequence[Any]:
        """The items that a slice stands for."""

    def __iter__(self) -> Iterator[Any]:
        """All items, for a stream that is run where it stands."""


class Wearing(ABC):
    """A function that wears out the worker it is called in."""

    @abstractmethod
    def __call__(self, value: Any, /) -> Any: ...

    @property
    @abstractmethod
    def is_worn_out(self) -> bool:
        """Whether another worker is to take this one's place, asked after each parcel."""
