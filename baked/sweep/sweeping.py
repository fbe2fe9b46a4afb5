"""``sweep``: a function of some parameters, tried with all combinations of their values, as often as it takes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from job_stream import Multiple, Work, getRank
from job_stream.errors import PlanError

from .arguments import check_file, need
from .display import Display
from .parameters import check_keywords, rule_of
from .plot import Plot
from .progress_table import ProgressTable
from .rules import quantile
from .sweep_stream import SweepStream
from .table import OutputFile, Row, table_of
from .triallog import TrialLog
from .variables import Parameters, Variables, combinations_of, described, plain

if TYPE_CHECKING:
    from types import TracebackType

    from pandas import DataFrame
    from typing_extensions import Unpack

    from job_stream.keywords import FrameKeywords, JobKeywords, MainKeywords, StoreKeywords, WorkKeywords

__all__ = ["Sweep", "sweep"]

Function = Callable[..., Any]
FilePath = str | os.PathLike[str]
F = TypeVar("F", bound=Function)

ITS_OWN: MainKeywords = {"onError": "raise", "retries": 0}
"""How the stages of the sweep itself are recorded, whatever the user wants for his own."""


def sweep(
    variables: Variables | None = None,
    trials: int = 0,
    output: FilePath | None = None,
    trialsParms: Mapping[str, float] | None = None,
    showProgress: bool = True,
    *,
    log: FilePath | None = None,
    resume: bool = False,
    plot: FilePath | None = None,
    **work_keywords: Unpack[WorkKeywords],
) -> Sweep:
    """Tries all combinations of parameters, each as often as it takes to know the means of what comes of it.

    Use it in a ``with`` statement, and record stages inside. The first one gets ``id`` (the number of the combination),
    ``trial`` (the number of the trial) and the parameters as keyword arguments; the last one returns one dict of
    numbers. At the end of the block everything runs; then a table is printed.

    Args:
        variables: a dict of sequences, of which all combinations are made; or a list of dicts with equal keys.
        trials: above 0: so many for each combination. 0: until each mean is within E or eps, whichever is wider, with
            95 % confidence. Below 0: the same, at most that many without the sign.
        output: a file for the table: .csv (also without a suffix), .json or .parquet.
        trialsParms: ``E``, a part of the mean (0.1), ``eps``, in the unit of the value (0.01), ``min`` (3) and ``max``
            (10000), numbers of trials.
        showProgress: whether stderr tells how far it is.
        log: a file to which each trial is added as it ends, as a line of JSON.
        resume: whether trials that stand in the log already are taken from there.
        plot: a file for a picture of the means, in any format that matplotlib writes (.png, .svg, .pdf).
        work_keywords: as for ``Work``: ``seed``, ``cpus``, ``onError``, ``checkpointFile`` and so on.

    Returns:
        A ``Work`` to record stages with. After the block, its attribute ``table`` is the table on the primary, and None
        on other ranks.

    Raises:
        PlanError: an argument makes no sense, a file cannot be written; in the run, what a trial gave is no dict of
            numbers, or has other keys than others.
        ImportError: a library is missing that comes with ``job_stream[sweep]``.
        JobStreamError: the log cannot be gone on with.

    Example:
        >>> from job_stream import rng
        >>> from job_stream.baked import sweep
        >>> with sweep({"sides": [6, 20]}, trials=100, seed=1) as w:  # doctest: +SKIP
        ...     @w.job
        ...     def throw(id, trial, sides):
        ...         return {"points": rng().integers(1, sides + 1)}

    The rule for the number of trials is that of Driels and Shin, "Determining the number of iterations for Monte Carlo
    simulations of weapon effectiveness" (2004).
    """
    own = ("variables", "trials", "output", "trialsParms", "showProgress", "log", "resume", "plot")
    check_keywords(work_keywords, own)
    need("a sweep", "scipy", "pandas")
    rule = rule_of(trials, trialsParms or {})
    combinations = combinations_of({} if variables is None else variables)
    seed = work_keywords.get("seed")
    trial_log = _log_for(log, resume, combinations, seed)
    stream = SweepStream(combinations, rule, ProgressTable(len(combinations)), trial_log, bool(resume), seed)
    report = _Report(combinations, output, plot)
    quantile(1)  # loads SciPy before workers are forked, once for all of them
    return Sweep(stream, report, bool(showProgress), work_keywords)


def _log_for(
    log: FilePath | None, resume: bool, combinations: Sequence[Parameters], seed: int | None
) -> TrialLog | None:
    if log is None:
        if resume:
            raise PlanError("resume=True needs a log to go on from: give log= the name of a file")
        return None
    for combination in combinations:
        try:
            plain(combination)
        except TypeError as error:
            raise PlanError(f"log= cannot note the parameters {described(combination)}: {error}") from None
    check_file("log", Path(log))
    return TrialLog(log, seed)


class _Report:
    """What is made of the rows at the end."""

    def __init__(self, combinations: Sequence[Parameters], output: FilePath | None, plot: FilePath | None) -> None:
        self._combinations = combinations
        self._output = None if output is None else OutputFile(output, combinations)
        self._plot = None if plot is None else Plot(plot, combinations)

    def make(self, rows: Sequence[Row]) -> DataFrame:
        from textwrap import dedent

        table = table_of(self._combinations, rows)
        print(dedent(table.reset_index().to_string(index=False)))
        if self._output is not None:
            self._output.save(table)
        if self._plot is not None:
            self._plot.save(rows)
        return table


class Sweep(Work):
    """A ``Work`` whose stages are those of one trial of a sweep; made by ``sweep``.

    Attributes:
        table: after the run on the primary, the table as a DataFrame; else None.
    """

    def __init__(self, stream: SweepStream, report: _Report, showProgress: bool, keywords: WorkKeywords) -> None:
        super().__init__(**keywords)
        self.table: DataFrame | None = None
        self._stream = stream
        self._report = report
        self._display = Display(stream.board) if showProgress and getRank() == 0 else None
        self._frames = 0
        self._stages = 0
        self._last_job: Function | None = None
        self._heed(keywords)
        super().init(stream.start, **ITS_OWN)
        super().frame(stream.over_combinations, store=stream.new_store, emit=stream.rows, **ITS_OWN)
        super().frame(stream.over_trials, store=stream.new_trials, emit=stream.row, **ITS_OWN)
        super().frame(stream.one_trial, store=stream.new_trial, emit=stream.ended, key=stream.key_of, **ITS_OWN)

    # recording --------------------------------------------------------------------------------------------------------

    @overload
    def job(self, func: F, **keywords: Unpack[JobKeywords]) -> F: ...
    @overload
    def job(self, func: None = None, **keywords: Unpack[JobKeywords]) -> Callable[[F], F]: ...
    def job(self, func: Function | None = None, **keywords: Any) -> Any:
        if func is None:
            return lambda function: self.job(function, **keywords)
        stage = func if isinstance(func, type) else self._watched(func)
        super().job(stage, **keywords)
        self._added(func, keywords, stage)
        return func

    @overload
    def frame(self, func: F, **keywords: Unpack[FrameKeywords]) -> F: ...
    @overload
    def frame(self, func: None = None, **keywords: Unpack[FrameKeywords]) -> Callable[[F], F]: ...
    def frame(self, func: Function | None = None, **keywords: Any) -> Any:
        if func is None:
            return lambda function: self.frame(function, **keywords)
        super().frame(func, **keywords)
        self._frames += 1
        self._added(func, keywords)
        return func

    @overload
    def frameEnd(self, func: F, **keywords: Unpack[JobKeywords]) -> F: ...
    @overload
    def frameEnd(self, func: None = None, **keywords: Unpack[JobKeywords]) -> Callable[[F], F]: ...
    def frameEnd(self, func: Function | None = None, **keywords: Any) -> Any:
        if func is None:
            return lambda function: self.frameEnd(function, **keywords)
        if not self._frames:
            raise PlanError(f"frameEnd {getattr(func, '__name__', func)!r} has no frame: put a @w.frame before it")
        super().frameEnd(func, **keywords)
        self._frames -= 1
        self._added(func, keywords)
        return func

    @overload
    def reduce(self, func: F, **keywords: Unpack[StoreKeywords]) -> F: ...
    @overload
    def reduce(self, func: None = None, **keywords: Unpack[StoreKeywords]) -> Callable[[F], F]: ...
    def reduce(self, func: Function | None = None, **keywords: Any) -> Any:
        if func is None:
            return lambda function: self.reduce(function, **keywords)
        super().reduce(func, **keywords)
        self._added(func, keywords)
        return func

    def result(self, func: Function | None = None, **keywords: Any) -> NoReturn:
        raise PlanError("a sweep makes a table of its results: there is no result in it. Look at w.table afterwards")

    def finish(self, func: Function | None = None, **keywords: Any) -> NoReturn:
        raise PlanError("a sweep makes a table of its results: there is no finish in it. Look at w.table afterwards")

    def run(self) -> NoReturn:
        raise PlanError("a sweep runs at the end of its with block: there is no run()")

    def _added(self, func: Function, keywords: Mapping[str, Any], job: Function | None = None) -> None:
        self._heed(keywords)
        if self._stream.log is not None:
            self._stream.log.add_source(func)
        self._stages += 1
        self._last_job = job

    def _heed(self, keywords: Mapping[str, Any]) -> None:
        if keywords.get("onError") == "skip":
            self._stream.skips = True

    def _watched(self, function: Function) -> Function:
        """A job that may turn out to be the last one, which must not return a Multiple."""

        @wraps(function)
        def stage(*arguments: Any, **keywords: Any) -> Any:
            answer = function(*arguments, **keywords)
            if isinstance(answer, Multiple) and self._last_job is stage:
                raise PlanError("the last stage of a sweep cannot emit Multiple: a trial gives one dict of numbers")
            return answer

        return stage

    # running ----------------------------------------------------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        self._close()
        with self._display or nullcontext():
            super().__exit__(kind, error, trace)

    def _close(self) -> None:
        """Records what comes after the stages of the user."""
        if self._frames:
            raise PlanError("a frame in the sweep has no end: put a @w.frameEnd after it")
        if not self._stages:
            raise PlanError("the sweep has no stages: record at least one @w.job in its with block")
        super().frameEnd(self._stream.take_values, **ITS_OWN)
        super().frameEnd(self._stream.take_trial, **ITS_OWN)
        super().frameEnd(self._stream.take_row, **ITS_OWN)
        super().finish(self._tabulate, **ITS_OWN)

    def _tabulate(self, results: list[Any]) -> None:
        if self._display is not None:
            self._display.close()
        (rows,) = results
        self.table = self._report.make(rows)
