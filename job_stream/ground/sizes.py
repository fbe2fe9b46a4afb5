"""Amounts of memory as people write them: ``500MiB``, ``2GB``."""

from __future__ import annotations

import math
import re

__all__ = ["MOST_BYTES", "SIZES", "bytes_in"]

SIZES = "bytes above 0, or a text such as '500MiB' or '2GB'"
_WRITTEN = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([kmgt]?)(i?)(b?)\s*", re.IGNORECASE | re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
MOST_BYTES = 1 << 60
"""Nobody means more."""


def bytes_in(text: str) -> int | None:
    """The bytes that a text stands for; None: it stands for none, or for more than there can be.

    ``k``, ``M``, ``G`` and ``T`` are powers of 1000, with an ``i`` behind them of 1024.
    """
    found = _WRITTEN.fullmatch(text) if len(text) < 100 else None
    if found is None or (found[3] and not found[2]):
        return None
    size = float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()]
    return math.ceil(size) if 0 < size <= MOST_BYTES else None
