"""Executors over lanes and ranks, with the futures of the standard library.

``executor`` and ``workerpool`` are the public faces, ``service`` the live run behind them. Calls are packed in the
thread that submits (``packer``) and made in lanes (``performer``). What comes back (``endings``) is given to a future
(``tickets``) in the thread of the run. ``script`` has a script run on rank 0 alone, while others serve its executors.

May import all up to ``runtime``; nothing below knows of it.
"""

from __future__ import annotations

from concurrent.futures import as_completed, wait

from .executor import Executor

__all__ = ["Executor", "as_completed", "wait"]
