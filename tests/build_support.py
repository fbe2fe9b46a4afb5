"""For tests of builds."""

from __future__ import annotations

from typing import Any

from job_stream.baked.build import build


def quiet(**keywords: Any) -> Any:
    """A build that says nothing but failures, unless a keyword says otherwise."""
    return build(**{"quiet": True, **keywords})
