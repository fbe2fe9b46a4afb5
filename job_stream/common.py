"""Streams of classes, described by a mapping or a YAML file.

``run`` takes what is in ``work``, a list that a script appends to or assigns, through the jobs of a *module*::

    jobs:                       # a list: work goes to the next one
      - type: words.Split       # class Split of the module words; alone, a name is of a class of the script itself
      - type: Filter
        shortest: 4             # the class finds this in its self.config
    reducer: Count              # gathers what comes out of the jobs

The classes derived from ``Job``, ``Reducer`` and ``Frame`` can be stages of a ``Work``, too.

Example:
    >>> from job_stream import common
    >>> class Double(common.Job):
    ...     def handleWork(self, work):
    ...         self.emit(work * self.config["factor"])
    >>> common.work = [1, 2]
    >>> results = []
    >>> common.run({"jobs": [{"type": Double, "factor": 2}]}, handleResult=results.append)
    >>> sorted(results)
    [2, 4]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .checkpoints.options import INTERVAL_S
from .errors import PlanError
from .stream.classes import Frame, Job, Reducer
from .values import whole
from .work import Work

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .keywords import RunKeywords
    from .stream.configuration.modules import Module

__all__ = ["Frame", "Job", "Reducer", "run", "work"]

work: Any = []
"""The initial work: append to it, or assign any iterable (``common.work = range(100)``)."""


def run(
    config: Mapping[str, Any] | str | os.PathLike[str],
    checkpointFile: str | os.PathLike[str] | None = None,
    checkpointInterval: float = INTERVAL_S,
    handleResult: Callable[..., Any] | None = None,
    **work_keywords: Unpack[RunKeywords],
) -> None:
    """Runs ``common.work`` through a stream that a configuration describes.

    Args:
        config: the outermost module: a mapping, or the path of a YAML file.
        checkpointFile: where checkpoints are written, and gone on from if there is one; see ``Work``.
        checkpointInterval: seconds between two checkpoints.
        handleResult: called in the script's main thread with each result; without it, each is printed as its ``repr``.
        work_keywords: more of those that ``Work`` takes.

    Raises:
        PlanError: the configuration is not right; says where.
        OSError: the file cannot be read.
        the exception that a stage raised, with a ``StageError`` as its cause.

    Example:
        >>> common.run("search.yaml", checkpointFile="search.checkpoint")  # doctest: +SKIP
    """
    caller = sys._getframe(1).f_globals
    own = {**caller, **vars(sys.modules["__main__"])}
    keywords = {"checkpointFile": checkpointFile, "checkpointInterval": checkpointInterval, **work_keywords}
    stream = _stream(config, own, keywords)
    stream.result(_show if handleResult is None else handleResult)
    stream.run()


def _stream(config: Any, own: Mapping[str, Any], keywords: dict[str, Any]) -> Work:
    try:
        return _Configured(work, _read(config, own), keywords)
    except RecursionError:
        raise PlanError("the configuration is nested too deeply, or contains itself") from None


def _read(config: Any, own: Mapping[str, Any]) -> Module:
    from .stream.configuration.lookup import Classes  # none of these at once: most scripts have no configuration
    from .stream.configuration.modules import Parser

    if isinstance(config, (str, os.PathLike)):
        from .stream.configuration.yamlfile import read_yaml

        config = read_yaml(config)
    return Parser(Classes(own)).parse(config)


class _Configured(Work):
    """The stream of a module."""

    def __init__(self, items: Iterable[Any], module: Module, keywords: dict[str, Any]) -> None:
        super().__init__(items, **keywords)
        self._recording.module(module)


def _show(*result: Any, **named: Any) -> None:
    print(repr(whole(result, named)))
