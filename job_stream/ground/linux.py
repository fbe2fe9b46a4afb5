"""What is there on Linux only: worker processes and ranks. Elsewhere streams run in threads, which need none of it.

Processes die with the one that started them (``prctl``), are told apart by ``pidfd``, and share memory by ``memfd`` and
sockets that keep the bounds of messages. Other systems have none of these, or others in their place.
"""

from __future__ import annotations

import sys

from ..errors import PlanError

__all__ = ["need_linux"]


def need_linux(what: str, instead: str) -> None:
    """Refuses elsewhere what is there on Linux only.

    Raises:
        PlanError: names the system, and the way out.
    """
    if sys.platform != "linux":
        import platform  # slow to load, and of no use where all is well

        raise PlanError(f"{what} under Linux only, and this is {platform.system() or sys.platform}: {instead}")
