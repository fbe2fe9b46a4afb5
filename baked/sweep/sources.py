"""The source of a function, by which a later run tells whether it is still the same one."""

from __future__ import annotations

from ast import parse, unparse
from functools import partial
from typing import Any

__all__ = ["source_of"]


def source_of(function: Any) -> str:
    """The source of a function or class with its decorators, without comments and layout; empty: it is not known.

    Not its compiled code, which another version of Python makes differently.
    """
    from inspect import getsource
    from textwrap import dedent

    while isinstance(function, partial):
        function = function.func
    if getattr(getattr(function, "__code__", None), "co_filename", "") == "<string>":
        return ""  # what is looked up there is any text that was run without a file
    try:
        source = dedent(getsource(function))
    except (OSError, TypeError):  # it was typed in, or is not written in Python
        return ""
    try:
        return unparse(parse(source))
    except SyntaxError:  # a lambda in the middle of a statement
        return source
