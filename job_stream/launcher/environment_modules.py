"""Commands that run a module in a new interpreter, and never one of the folder that the user happens to be in."""

from __future__ import annotations

import sys

__all__ = ["installed"]

_RUN = (
    "import sys; sys.path[:] = filter(None, sys.path); module = sys.argv.pop(1); "
    "import runpy; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""``python -m`` looks into the current folder first, where anybody may have put something if that is /tmp; the option
against that came with Python 3.11."""


def installed(module: str, *arguments: str) -> list[str]:
    """The command for ``python -m module arguments`` that runs what is installed."""
    return [sys.executable, "-c", _RUN, module, *arguments]
