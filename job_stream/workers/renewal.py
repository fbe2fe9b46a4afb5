"""What a forked process makes anew before it touches it.

A fork takes one thread along. What the other threads of the script were at stays as it was at that moment: a lock that
one of them held is held for ever, a module that one was importing is never finished. Python sees to most of its own
locks. The rest that workers need is here: the streams that are printed and logged to, numpy's global generator,
imports, and cloudpickle's register of classes. Locks of the script itself cannot be known, and nothing of job_stream
touches them.
"""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from threading import Lock, get_ident
from time import monotonic, sleep
from typing import Any

__all__ = ["await_imports", "renew", "renew_random"]

IMPORT_S = 1.0
"""How long to wait for imports of other threads before a fork: most have ended by then, and some never do."""


def renew() -> None:
    """Makes all but numpy's generator fit for use, in a process that has just been forked."""
    for stream in _streams():
        _renew_stream(stream)
    for name in _imported_elsewhere():
        _forget_import(name)
    cloudpickle: Any = sys.modules.get("cloudpickle.cloudpickle")
    if hasattr(cloudpickle, "_DYNAMIC_CLASS_TRACKER_LOCK"):
        cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK = Lock()


# streams --------------------------------------------------------------------------------------------------------------


def _streams() -> list[Any]:
    """Those of Python, and those of handlers of logging."""
    found = [sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__]
    logging = sys.modules.get("logging")
    for reference in list(getattr(logging, "_handlerList", ())):
        found.append(getattr(reference(), "stream", None))
    return list({id(stream): stream for stream in found if isinstance(stream, io.TextIOWrapper)}.values())


def _renew_stream(stream: io.TextIOWrapper) -> None:
    """Gives the buffer of a stream another lock. What threads of the script had left in it is theirs to write."""
    buffer: Any = stream.buffer
    kind: Any = type(buffer)
    if kind not in (io.BufferedReader, io.BufferedWriter, io.BufferedRandom):
        return
    with suppress(Exception):  # it has been closed
        raw = buffer.raw
        if kind is io.BufferedWriter:
            kind.__init__(buffer, io.BytesIO())
            stream.flush()
        kind.__init__(buffer, raw)


# imports --------------------------------------------------------------------------------------------------------------


def await_imports() -> None:
    """Waits, but not for long, until the imports that other threads are in the midst of have ended."""
    deadline = monotonic() + IMPORT_S
    begun = _imported_elsewhere()
    while begun.items() & _imported_elsewhere().items() and monotonic() < deadline:
        sleep(1e-3)


def _imported_elsewhere() -> dict[str, int]:
    """The modules that other threads are importing, each with what stands for this import of it."""
    locks = getattr(sys.modules["_frozen_importlib"], "_module_locks", {})
    held = list(locks.items())
    return {name: id(lock) for name, lock in held if getattr(lock(), "owner", None) not in (None, get_ident())}


def _forget_import(name: str) -> None:
    """Has a module that another thread was importing at the fork imported anew when it is needed."""
    sys.modules["_frozen_importlib"]._module_locks.pop(name, None)
    spec = getattr(sys.modules.get(name), "__spec__", None)
    if getattr(spec, "_initializing", False):
        for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
            del sys.modules[known]


# chance ---------------------------------------------------------------------------------------------------------------


def renew_random() -> None:
    """Gives numpy's global generator another state and another lock. (Python's own module sees to itself.)"""
    random: Any = sys.modules.get("numpy.random")
    if random is None:
        return
    if hasattr(random, "set_bit_generator"):
        random.set_bit_generator(type(random.get_bit_generator())())
    else:
        random.seed()
