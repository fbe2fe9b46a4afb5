"""The libraries that only recipes need: they come with the extra ``sweep``, and are asked for when they are needed."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["need"]


def need(purpose: str, *libraries: str) -> None:
    """Makes sure that libraries are there, without importing them.

    Raises:
        ImportError: one is not; says how to get it.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise ImportError(f"{purpose} needs {' and '.join(missing)}: install with  pip install 'job_stream[sweep]'")
