"""The functions that run in the script's own thread: init, result and finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import PlanError
from ..evaluate.calls import apply
from ..evaluate.failures import describe
from ..ground.texts import shorten
from ..stream.plan import ResultsUse, Stage
from ..stream.recorder import Function
from ..values import Failure, Multiple, is_unrun
from .reports import RunCancelled, caused

__all__ = ["Handlers"]


class Handlers:
    """Calls them, each under its policy.

    Args:
        inits: the init functions.
        last: the result or finish function; None: there is none.
        failures: where items are noted that were skipped.

    Attributes:
        is_cancelled: the result function is not to be called any more; any thread may say so.
    """

    def __init__(self, inits: list[Stage], last: Stage | None, failures: list[Failure]) -> None:
        self._inits = inits
        self._last = last
        self._failures = failures
        self._results: list[Any] = []
        self.is_cancelled = False

    def initial_parts(self) -> list[Any]:
        """Runs the init functions; what they return comes before the initial work."""
        parts: list[Iterable[Any]] = []
        for stage in self._inits:
            answer = self._call(stage, None, stage.function)
            if type(answer) is Multiple:
                parts.append(value for value in answer.workList if value is not None)
            elif answer is not None:
                parts.append([answer])
        return parts

    def fate(self, drop: bool) -> ResultsUse:
        """What becomes of results; ``drop``: nobody wants what no function gets."""
        if self._last is not None and self._last.kind == "result":
            return ResultsUse.HANDLED
        return ResultsUse.DROPPED if drop else ResultsUse.KEPT

    @property
    def finishes(self) -> bool:
        """Whether there is a function that gets all results at once."""
        return self._last is not None and self._last.kind == "finish"

    def taker(self) -> Callable[[list[Any]], None]:
        """What takes lists of results: it calls the result function with each, or else keeps them."""
        stage = self._last
        if stage is None or stage.kind != "result":
            return self._results.extend

        def handle(values: list[Any]) -> None:
            function, answer = stage.function, None
            for value in values:
                if self.is_cancelled:
                    raise RunCancelled("the run was cancelled")
                try:
                    answer = apply(function, value)
                except Exception as error:
                    self._again(stage, value, error, apply, function, value)
            if is_unrun(answer):  # one that gives what has not run gives that each time
                raise PlanError(f"result function {stage.name!r} gave a {type(answer).__name__}, and nobody runs it: "
                                "leave out yield and async")  # fmt: skip

        return handle

    def check_dropped(self) -> None:
        """Nobody takes the results: what has not run yet never will."""
        if self._results and is_unrun(self._results[0]):
            kind = type(self._results[0]).__name__
            raise PlanError(f"the last stage gave a {kind}, which nobody takes, so nothing in it ever runs: "
                            "return Multiple(...) of a generator")  # fmt: skip

    def outcome(self) -> Any:
        """What the run gives: what the finish function makes of all results; without one, the results themselves."""
        stage, results = self._last, self._results
        if stage is None:
            return results
        return None if stage.kind == "result" else self._call(stage, results, stage.function, results)

    def _call(self, stage: Stage, item: Any, function: Function, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return self._again(stage, item, error, function, *arguments)

    def _again(self, stage: Stage, item: Any, error: Exception, function: Function, *arguments: Any) -> Any:
        """Applies the policy of a function that runs in this thread."""
        attempts = 1
        while attempts <= stage.policy.retries:
            attempts += 1
            try:
                return function(*arguments)
            except Exception as latest:
                error = latest
        text = describe(error)
        if stage.policy.skip:
            self._failures.append(Failure(item, stage.name, attempts, text))
            return None
        if error.__cause__ is None:
            caused(error, stage.name, shorten(item), text)
        raise error
