"""Executors over lanes and ranks, with the futures of the standard library.

``executor`` is the public face, ``service`` the live run behind it. ``calls`` is what travels: it is packed in the
thread that submits, unpacked and called in lanes, and what comes back is given to a future (``tickets``) in the thread
of the run. ``script`` has a script run on rank 0 alone, while the others serve its executors.

May import all up to ``runtime``; nothing below knows of it.
"""

from __future__ import annotations

from concurrent.futures import as_completed, wait

from .executor import Executor

__all__ = ["Executor", "as_completed", "wait"]
