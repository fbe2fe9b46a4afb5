"""How much memory of a rank values may take between the functions that make them and the one that takes the results.

It is shared out so that all together stay below it, but for one value of each process that has one in its hands:

- half of it is for results that wait to be taken (``Router``); while there are more, no lane goes on that hands over;
- a quarter is for what lanes gather until they hand it over (``gather_limit``), which all of them may do at once;
- what is free may be kept for the next values instead of being given back: as much as there is in all, at most.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ranks.cpus import CGROUP_MEMBERSHIP, CGROUP_ROOT, memory_bytes
from ..ranks.transport import Peer

__all__ = ["budget", "results_limit"]

SHARE = 64
"""One part in so many of what there is on a host is for all of its ranks."""
LEAST, MOST = 32 << 20, 256 << 20
"""A share is within these bounds: with more, nothing becomes faster."""


def budget(wanted: int | None, rank: int, peers: Sequence[Peer]) -> int:
    """Bytes of this rank.

    Args:
        wanted: by the user; None: nothing.
        rank: its number.
        peers: all ranks; none: it is alone.
    """
    if wanted is not None:
        return wanted
    here = [peer for peer in peers if peer.host == peers[rank].host]
    return min(max(memory_bytes(CGROUP_ROOT, CGROUP_MEMBERSHIP) // (SHARE * max(len(here), 1)), LEAST), MOST)


def results_limit(memory: int) -> int:
    """So many bytes of results may wait."""
    return memory // 2
