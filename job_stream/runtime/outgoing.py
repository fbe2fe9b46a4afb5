"""Messages made fit to leave this process, where their values are still live or only counted."""

from __future__ import annotations

from typing import Any

from ..engine.messages import Call, Lend, Product, RangeSlice, RankMessage, Repaid, SourceSlice, WorkBatch
from ..errors import LimitError, PayloadError
from ..memory.buffers import Buffers
from ..memory.payload import Live, pack
from .reports import Reporter
from .source import InitialWork

__all__ = ["Outgoing"]

LARGEST = 1 << 62
"""Numbers of ranges beyond that are no integers in messages."""


class Outgoing:
    """Packs what is in messages.

    Args:
        source: the initial work, which the lanes of this rank have, and other ranks have not.
        buffers: where what was packed is put.
        reporter: says what cannot be packed.
    """

    def __init__(self, source: InitialWork, buffers: Buffers, reporter: Reporter) -> None:
        self._source = source
        self._buffers = buffers
        self._reporter = reporter

    def packed(self, message: Product | Call) -> Any:
        """A message for another process: values that are still live are packed."""
        if type(message.payload) is not Live:
            return message
        try:
            return message._replace(payload=self._buffers.stow(pack(message.payload.values)))
        except (LimitError, PayloadError) as error:
            raise self._reporter.unpackable(error, message.place)  # noqa: B904

    def for_rank(self, message: RankMessage) -> RankMessage:
        """A message for another rank."""
        if type(message) is Lend:
            return message._replace(units=tuple((name, self._work_ashore(work)) for name, work in message.units))
        if type(message) is Repaid:
            products = tuple(self.packed(product) if hasattr(product, "payload") else product
                             for product in message.products)  # fmt: skip
            kept = tuple((name, self.packed(work)) for name, work in message.kept)
            return message._replace(products=products, kept=kept)
        return message

    def _work_ashore(self, work: WorkBatch) -> Any:
        """Work for another rank, which does not have this rank's source."""
        if type(work.payload) is not SourceSlice:
            return self.packed(work)
        values = self._source.values_of(work.payload)
        if isinstance(values, range) and max(abs(values.start), abs(values.stop)) < LARGEST:
            end = values.start + len(values) * values.step
            return work._replace(payload=RangeSlice(values.start, end, values.step))
        try:
            return work._replace(payload=pack(values))
        except PayloadError as error:
            raise self._reporter.unpackable_source(error)  # noqa: B904
