"""``--primary-only``: a script of Python that runs on rank 0 alone, while the other ranks serve its executors."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from .error import LauncherError

__all__ = ["served"]

MODULE = ("-m", "job_stream.futures")
_PYTHON = re.compile(r"(python|pypy)[\d.]*t?")
_WITH_A_VALUE = ("-W", "-X", "--check-hash-based-pycs")


def served(program: Sequence[str]) -> tuple[str, ...]:
    """The program that does so.

    Raises:
        LauncherError: it is no script or module of Python.
    """
    number = 1
    while number < len(program) and program[number].startswith("-") and program[number] not in ("-", "-c", "-m"):
        number += 2 if program[number] in _WITH_A_VALUE else 1
    is_python = _PYTHON.fullmatch(os.path.basename(program[0])) is not None
    if not is_python or number >= len(program) or program[number] in ("-", "-c"):
        raise LauncherError(
            "--primary-only is for a script of Python: write 'job_stream --primary-only -- python script.py', or "
            "'python -m module'"
        )
    return (*program[:number], *MODULE, *program[number:])
