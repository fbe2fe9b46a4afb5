"""The keywords of ``Work`` and of its decorators, for type checkers.

For functions and classes of your own that pass keywords on: where these are annotated with one of the classes here, a
keyword that is not known, or has a value of another type, is found before anything runs.

Example:
    >>> from typing import TYPE_CHECKING
    >>> from job_stream import Work
    >>> if TYPE_CHECKING:
    ...     from job_stream.keywords import WorkKeywords
    ...     from typing_extensions import Unpack
    >>> def numbers(**keywords: "Unpack[WorkKeywords]") -> Work:
    ...     return Work(range(10), **keywords)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypedDict

__all__ = [
    "FrameKeywords", "JobKeywords", "MainKeywords", "OnError", "RunKeywords", "StageKeywords", "StartMethod",
    "StoreKeywords", "WorkKeywords",
]  # fmt: skip

OnError = Literal["raise", "skip", "pass"]
"""What to do with an item whose stage raised."""

StartMethod = Literal["fork", "forkserver"]
"""How worker processes are started."""


class MainKeywords(TypedDict, total=False):
    """Of ``init``, ``result`` and ``finish``, which run in the script's own process."""

    onError: OnError | None
    retries: int | None


class StageKeywords(MainKeywords, total=False):
    """Of ``frameEnd``, and of all stages that run in workers."""

    useMultiprocessing: bool | None
    timeout: float | None
    deaths: int | None


class JobKeywords(StageKeywords, total=False):
    """Of ``job``."""

    alone: bool | None
    where: str | Callable[..., str | None] | None
    cores: int | Callable[..., int] | None


class StoreKeywords(StageKeywords, total=False):
    """Of ``reduce``, which has a store."""

    store: Callable[[], Any] | None
    emit: Callable[[Any], Any] | None


class FrameKeywords(StoreKeywords, total=False):
    """Of ``frame``."""

    alone: bool | None
    where: Literal["primary"] | None
    key: Callable[..., int] | None


class RunKeywords(MainKeywords, total=False):
    """Of ``common.run``, whose own parameters are about the checkpoint."""

    useMultiprocessing: bool
    timeout: float | None
    seed: int | None
    cpus: int | None
    memory: int | str | None
    checkpointSyncInterval: float | None
    timeLimit: float | None
    deaths: int | None
    stats: bool | None
    startMethod: StartMethod | None


class WorkKeywords(RunKeywords, total=False):
    """Of ``Work``, of ``map`` and of ``sweep``."""

    checkpointFile: str | os.PathLike[str] | Literal[False] | None
    checkpointInterval: float
