"""Data flow in the order of the source file: a ``Work`` records decorated functions and runs them in parallel.

Example:
    >>> from job_stream.inline import Work
    >>> with Work(["Hello", "there", "world"]) as w:
    ...     @w.job
    ...     def length(word):
    ...         return len(word)
    ...
    ...     @w.result
    ...     def show(n):
    ...         print(n)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from .common import adapt, isStage
from .cpus import hostCpuCount
from .errors import JobStreamError, PlanError, StageError
from .lanes.calls import apply
from .lanes.context import current
from .lanes.failures import describe, shorten
from .plan import Builder, Kind, Policy, Stage
from .recorder import checkCpus, checkParameters, checkSeed, decorator, nameOf, policyOf
from .source import InitialWork, Zipped, isSequence
from .values import Args, Multiple, Object
from .world import rankOf, sizeOf, world

__all__ = ["Args", "Multiple", "Object", "Work", "getCpuCount", "getHostCpuCount", "getRank", "map", "rng"]

Function = Callable[..., Any]


class Work:
    """A stream of stages, and the work that enters it.

    Stages run in the order of the source. Items pass them independently of each other and in no particular order. At
    the end of a ``with`` block the stream runs; ``run()`` runs it at once.

    Args:
        initialWork: any iterable of items. Lists, tuples, ranges and arrays are shared with the workers; anything else
            is pulled little by little, in a thread of its own.
        useMultiprocessing: whether stages run in worker processes. Otherwise they run in threads of this process.
        seed: of the generators that ``rng()`` gives, a whole number from 0 on; None: not reproducible.
        onError: what to do with an item whose stage raised: 'raise' stops the run, 'skip' leaves the item out and
            records it in ``failures``.
        retries: how often a call that raised is repeated.
        timeout: seconds that a call of a job, frame, frameEnd or reduce may take; None: any time. It counts from the
            call's begin, and ends the worker process.
        cpus: how many workers to use; by default one for each CPU that this process may use.

    Attributes:
        failures: list of the items that were skipped, each with item, stage, attempts and reason.

    Raises:
        PlanError: a keyword has a value that makes no sense.

    Example:
        >>> w = Work(range(4))
        >>> double = w.job(lambda x: 2 * x)
        >>> sorted(w.run())
        [0, 2, 4, 6]
    """

    def __init__(
        self,
        initialWork: Iterable[Any] = (),
        useMultiprocessing: bool = True,
        *,
        seed: int | None = None,
        onError: str | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        cpus: int | None = None,
        checkpointFile: str | None = None,
        checkpointInterval: float | None = None,
        checkpointSyncInterval: float | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise PlanError(f"Work does not know the keyword {next(iter(unknown))!r}")
        if not isinstance(initialWork, Iterable) and not hasattr(initialWork, "__getitem__"):
            raise PlanError(f"initialWork must be iterable, not {type(initialWork).__name__}: {initialWork!r:.80}")
        checkSeed(seed)
        checkCpus(cpus)
        if checkpointFile or os.environ.get("JOBS_CHECKPOINT"):
            raise PlanError("this version writes no checkpoints: leave out checkpointFile= and unset JOBS_CHECKPOINT")
        self.failures: list[Any] = []
        self._initialWork = initialWork
        self._processes = bool(useMultiprocessing)
        self._policy = policyOf("Work", Policy(), onError, retries, timeout)
        self._seed = seed
        self._cpus = cpus
        self._builder = Builder()
        self._classFrames: list[tuple[Any, Function]] = []
        self._inits: list[Stage] = []
        self._last: Stage | None = None
        self._lastRole = ""
        self._hasRun = False

    # recording --------------------------------------------------------------------------------------------------------

    def init(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function without arguments that runs once in this process, before anything else.

        What it returns is added to the initial work. It sees the script's data as it is, and what it loads into module
        variables is there in every worker of this process. Under ``mpirun`` it runs on the primary only: what the
        workers of all ranks need is loaded at the top of the script.
        """
        return decorator(self._recordInit, func, keywords)

    def job(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called with each item; what it returns goes on to the next stage.

        None: nothing goes on. ``Multiple``: each element goes on. Anything else is one item.

        Args:
            useMultiprocessing, onError, retries, timeout: as for ``Work``, for this stage.

        Raises:
            PlanError: the function takes no argument, a keyword is unknown, or the stream has ended already.
        """
        return decorator(self._recordJob, func, keywords)

    def frame(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function ``frame(store, first)`` that begins a parallel while loop for each item.

        It is called when the item enters, and again each time all that it recurred is finished. What it returns goes
        through the stages up to its ``frameEnd``; when it returns nothing the loop ends and ``emit(store)`` goes on
        after the frameEnd.

        Args:
            store: makes the store of one loop; by default ``Object``.
            emit: turns the store into what goes on; by default the store itself.
            useMultiprocessing, onError, retries, timeout: as for ``Work``, for this stage.
        """
        return decorator(self._recordFrame, func, keywords)

    def frameEnd(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function ``frameEnd(store, next)`` that takes in what came through a frame's stages.

        What it returns is sent through them again.

        Args:
            useMultiprocessing: as for ``Work``; False here or at the frame counts for both, since they share a store.
            onError, retries, timeout: as for ``Work``, for this stage.
        """
        return decorator(self._recordFrameEnd, func, keywords)

    def reduce(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function ``reduce(store, works, others)`` that gathers everything from the stages before it.

        ``works`` is a list of items, ``others`` a list of stores to be merged into ``store``. It is called in several
        processes at once, so it must not depend on how items are grouped. What it returns is sent through the stages
        before it again. When they have drained, ``emit(store)`` goes on, once.

        Args:
            store: makes an empty store; by default ``Object``.
            emit: turns the store into what goes on; by default the store itself.
            useMultiprocessing, onError, retries, timeout: as for ``Work``, for this stage.
        """
        return decorator(self._recordReduce, func, keywords)

    def result(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called in the script's main thread with each result. It ends the stream.

        Args:
            onError, retries: as for ``Work``, for this function.
        """
        return decorator(self._recordResult, func, keywords)

    def finish(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called once with the list of all results. It ends the stream.

        What it returns is what ``run()`` returns.

        Args:
            onError, retries: as for ``Work``, for this function.
        """
        return decorator(self._recordFinish, func, keywords)

    def _recordInit(self, function: Function, **keywords: Any) -> None:
        self._checkOpen("init", last=False)
        self._inits.append(self._mainStage("init", function, 0, True, keywords))

    def _recordJob(self, function: Function, **keywords: Any) -> None:
        self._checkOpen("job")
        self._builder.add(self._stage("job", Kind.JOB, function, 1, False, keywords))

    def _recordFrame(self, function: Function, **keywords: Any) -> None:
        self._checkOpen("frame")
        self._adapted: tuple[Any, Function] = (None, function)
        self._builder.openFrame(self._stage("frame", Kind.FRAME, function, 2, False, keywords, stores=True))
        self._classFrames.append(self._adapted)

    def _recordFrameEnd(self, function: Function, **keywords: Any) -> None:
        self._checkOpen("frameEnd")
        if keywords.get("timeout") is not None and self._builder.openFrameProcesses is False:
            raise PlanError(f"frameEnd {nameOf(function)!r}: timeout= needs a process; its frame runs in threads")
        if self._classFrames and self._classFrames[-1][0] not in (None, function):
            kind = self._classFrames[-1][0].__name__
            raise PlanError(f"frame {kind!r} is a class: end it with frameEnd({kind})")
        self._builder.closeFrame(self._stage("frameEnd", Kind.END, function, 2, False, keywords))
        self._classFrames.pop()

    def _recordReduce(self, function: Function, **keywords: Any) -> None:
        self._checkOpen("reduce")
        self._builder.add(self._stage("reduce", Kind.FOLD, function, 3, True, keywords, stores=True))

    def _recordResult(self, function: Function, **keywords: Any) -> None:
        self._end("result", self._mainStage("result", function, 1, False, keywords))

    def _recordFinish(self, function: Function, **keywords: Any) -> None:
        self._end("finish", self._mainStage("finish", function, 1, True, keywords))

    def _end(self, role: str, stage: Stage) -> None:
        self._checkOpen(role)
        open = self._builder.openFrameName
        if open is not None:
            raise PlanError(f"{role} {stage.name!r} stands inside frame {open!r}: put the frameEnd before it")
        self._last, self._lastRole = stage, role

    def _checkOpen(self, role: str, last: bool = True) -> None:
        if self._last is not None and last:
            raise PlanError(
                f"After Work.{self._lastRole} is used nothing may be added to the stream; "
                f"put this {role} before {self._last.name!r}"
            )

    def _stage(self, role: str, kind: str, function: Function, least: int, exact: bool, keywords: dict[str, Any],
               stores: bool = False) -> Stage:  # fmt: skip
        name, keywords = nameOf(function), dict(keywords)
        if isStage(function):
            function = self._adaptClass(role, function, keywords)
        checkParameters(role, function, least, exact)
        where = f"{role} {name!r}"
        processes = keywords.pop("useMultiprocessing", None)
        processes = self._processes if processes is None else bool(processes)
        store, emit = keywords.pop("store", None), keywords.pop("emit", None)
        if not stores and (store is not None or emit is not None):
            raise PlanError(f"{where}: only reduce and frame take store= and emit=")
        for part, given in (("store", store), ("emit", emit)):
            if given is not None and not callable(given):
                raise PlanError(f"{where}: {part} must be a function, not {type(given).__name__}: {given!r:.80}")
        timeout = keywords.get("timeout")
        policy = self._policyFrom(where, keywords)
        if policy.timeout_s is not None and not processes:
            if timeout is not None:
                raise PlanError(f"{where}: timeout= needs a worker process to end; useMultiprocessing is False here")
            policy = policy._replace(timeout_s=None)
        return Stage(kind, name, function, processes, policy, store or (Object if stores else None), emit)

    def _adaptClass(self, role: str, kind: Any, keywords: dict[str, Any]) -> Function:
        """The function that a class stands for in a role; the keywords are completed."""
        if role == "frameEnd":
            if not self._classFrames or self._classFrames[-1][0] is not kind:
                raise PlanError(f"frameEnd {kind.__name__!r}: the open frame is not of this class")
            return self._classFrames[-1][1]
        parts = adapt(role, kind)
        for part in ("store", "emit"):
            if keywords.get(part) is not None:
                raise PlanError(f"{role} {kind.__name__!r} is a class, which has a store of its own: leave out {part}=")
            if part in parts:
                keywords[part] = parts[part]
        keywords.setdefault("useMultiprocessing", None if kind.USE_MULTIPROCESSING else False)
        if role == "frame":
            self._adapted = (kind, parts["end"])
        return parts["function"]

    def _mainStage(self, role: str, function: Function, least: int, exact: bool, keywords: dict[str, Any]) -> Stage:
        checkParameters(role, function, least, exact)
        where = f"{role} {nameOf(function)!r}"
        if keywords.get("timeout") is not None:
            raise PlanError(f"{where}: it runs in the script's own process, which timeout= cannot end")
        policy = self._policyFrom(where, keywords)._replace(timeout_s=None)
        return Stage(role, nameOf(function), function, False, policy)

    def _policyFrom(self, where: str, keywords: dict[str, Any]) -> Policy:
        given = {name: keywords.pop(name, None) for name in ("onError", "retries", "timeout")}
        if keywords:
            raise PlanError(f"{where} does not know the keyword {next(iter(keywords))!r}")
        return policyOf(where, self._policy, **given)

    # running ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Work:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None and not self._hasRun:
            self._run(drop=self._last is None)

    def run(self) -> Any:
        """Runs the stream.

        Returns:
            The list of results; with ``finish``, what that returned; with ``result``, None. On ranks other than the
            primary, None.

        Raises:
            PlanError: a frame has no end.
            the exception of user code that failed; its ``__cause__`` is a ``StageError`` with the traceback from the
                worker.
        """
        return self._run(drop=False)

    def _run(self, drop: bool) -> Any:
        plan = self._builder.plan()
        self._hasRun = True
        self.failures = []
        if getRank() and current() is None:
            self._runElsewhere(plan, drop)
            return None
        source = InitialWork([*self._initialParts(), self._initialWork])
        collected: list[Any] = []
        handle = self._handler(collected)
        if current() is not None:
            self._runSerially(plan, source, handle)
        else:
            self._runInParallel(plan, source, handle, drop)
        self._summarize()
        if self._lastRole == "finish":
            assert self._last is not None
            return self._callMain(self._last, collected, self._last.function, collected)
        return None if self._last else collected

    def _initialParts(self) -> list[Any]:
        """Runs the init functions; what they return comes before the initial work."""
        parts: list[Iterable[Any]] = []
        for stage in self._inits:
            answer = self._callMain(stage, None, stage.function)
            if isinstance(answer, Multiple):
                parts.append(value for value in answer.workList if value is not None)
            elif answer is not None:
                parts.append([answer])
        return parts

    def _handler(self, collected: list[Any]) -> Callable[[list[Any]], None]:
        if self._lastRole != "result":
            return collected.extend
        stage = self._last
        assert stage is not None

        def handle(values: list[Any]) -> None:
            function = stage.function
            for value in values:
                try:
                    apply(function, value)
                except Exception as error:
                    self._again(stage, value, error, apply, function, value)

        return handle

    def _callMain(self, stage: Stage, item: Any, function: Function, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return self._again(stage, item, error, function, *arguments)

    def _again(self, stage: Stage, item: Any, error: Exception, function: Function, *arguments: Any) -> Any:
        """Applies the policy of a function that runs in this thread."""
        from .runtime import Failure

        attempts = 1
        while attempts <= stage.policy.retries:
            attempts += 1
            try:
                return function(*arguments)
            except Exception as latest:
                error = latest
        text = describe(error)
        if stage.policy.skip:
            self.failures.append(Failure(item, stage.name, attempts, text))
            return None
        if error.__cause__ is None:
            error.__cause__ = StageError(stage.name, shorten(item), text, os.getpid(), _host())
        raise error

    def _runInParallel(self, plan: Any, source: InitialWork, handle: Callable[[list[Any]], None], drop: bool) -> None:
        self._runtime(plan, source, drop).run(lambda values, base: handle(values))

    def _runElsewhere(self, plan: Any, drop: bool) -> None:
        """Takes part in a stream whose primary is another rank, where its work comes from and its results go."""
        from .runtime import Runtime

        Runtime(plan, InitialWork([]), self._cpus, self._seed, drop).run(lambda values, base: None)

    def _runtime(self, plan: Any, source: InitialWork, drop: bool) -> Any:
        from .runtime import Runtime

        runtime = Runtime(plan, source, self._cpus, self._seed, drop)
        runtime.failures += self.failures
        self.failures = runtime.failures
        return runtime

    def _runSerially(self, plan: Any, source: InitialWork, handle: Callable[[list[Any]], None]) -> None:
        from .lanes.serial import runSerially
        from .runtime import Failure

        for skipped in runSerially(plan, source, self._seed, handle):
            reason = describe(skipped.error)
            self.failures.append(Failure(skipped.item, skipped.stage, skipped.attempts, reason))

    def _summarize(self) -> None:
        if not self.failures:
            return
        first, count = self.failures[0], len(self.failures)
        items = "1 item was skipped" if count == 1 else f"{count} items were skipped"
        reason = first.reason.strip().splitlines()[-1] if first.reason.strip() else ""
        print(f"job_stream: {items}; the first: stage {first.stage!r}, item {shorten(first.item)}: {reason}",
              file=sys.stderr)  # fmt: skip


def _host() -> str:
    import socket

    return socket.gethostname()


def map(func: Function, *sequences: Iterable[Any], **workKwargs: Any) -> list[Any]:
    """Like the built-in ``map``, in parallel, and giving a list.

    Args:
        func: any callable, lambdas and closures too.
        sequences: iterables; the shortest one counts. With several, ``func`` gets an element of each.
        workKwargs: as for ``Work``. With ``onError='skip'`` the place of an item that failed holds None.

    Returns:
        The list of ``func(...)`` in the order of the sequences, None and lists as they are. On ranks other than the
        primary, None.

    Raises:
        the exception that ``func`` raised, with a ``StageError`` as its cause.

    Example:
        >>> map(lambda a, b: a + b, [1, 2], [10, 20])
        [11, 22]
    """
    if not sequences:
        raise TypeError("map() must have at least two arguments")
    if not callable(func):
        raise PlanError(f"map takes a function, not {type(func).__name__}: {func!r:.80}")
    function, items = (func, sequences[0]) if len(sequences) == 1 else _sideBySide(func, sequences)
    return _Map(function, nameOf(func), items, workKwargs).run()  # type: ignore[no-any-return]


def _sideBySide(func: Function, sequences: tuple[Iterable[Any], ...]) -> tuple[Function, Iterable[Any]]:
    def spread(arguments: tuple[Any, ...]) -> Any:
        return func(*arguments)

    if all(isSequence(sequence) for sequence in sequences):
        return spread, Zipped(sequences)  # type: ignore[return-value]
    return spread, zip(*sequences, strict=False)


class _Map(Work):
    """The stream of ``map``: one stage, and results that know their position."""

    def __init__(self, function: Function, name: str, items: Iterable[Any], keywords: dict[str, Any]) -> None:
        super().__init__(items, **keywords)
        policy = self._policy if self._processes else self._policy._replace(timeout_s=None)
        self._builder.add(Stage(Kind.MAP, name, function, self._processes, policy))

    def _runInParallel(self, plan: Any, source: InitialWork, handle: Callable[[list[Any]], None], drop: bool) -> None:
        order = _Order(handle)
        self._runtime(plan, source, drop).run(order.take)
        order.check()


class _Order:
    """Passes lists of neighbours on, each as soon as all before it have come."""

    def __init__(self, handle: Callable[[list[Any]], None]) -> None:
        self._handle = handle
        self._waiting: dict[int, list[Any]] = {}
        self._position = 0

    def take(self, values: list[Any], base: int | None) -> None:
        if base is None:
            raise JobStreamError("a result of an ordered stream came without its position")
        self._waiting[base] = values
        while self._position in self._waiting:
            ready = self._waiting.pop(self._position)
            self._position += len(ready)
            self._handle(ready)

    def check(self) -> None:
        if self._waiting:
            raise JobStreamError(f"results from position {self._position} on are missing")


def getRank() -> int:
    """The number of this rank; 0 is the primary."""
    return rankOf()


def getHostCpuCount() -> int:
    """How many workers this rank has."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.cpus
    return world().peers[rankOf()].cpus if sizeOf() > 1 else hostCpuCount()


def getCpuCount() -> int:
    """How many workers all ranks have together."""
    evaluator = current()
    if evaluator is not None:
        return evaluator.allCpus
    return sum(peer.cpus for peer in world().peers) if sizeOf() > 1 else hostCpuCount()


def rng() -> Any:
    """A ``numpy.random.Generator`` for the call under way.

    With ``Work(seed=...)`` it depends only on the seed, the stage and the item's place in the stream, so that a run
    gives the same numbers on any number of workers. Without a seed it is different in each worker and each run.

    Raises:
        JobStreamError: called outside a job, frame, frameEnd or reduce.

    Example:
        >>> with Work(range(3), seed=1) as w:
        ...     @w.job
        ...     def draw(x):
        ...         return rng().normal(x)
    """
    evaluator: Any = current()
    if evaluator is None:
        raise JobStreamError("rng() works inside job, frame, frameEnd and reduce functions only")
    if evaluator.generator is None:
        from numpy.random import SeedSequence, default_rng

        if evaluator.keyed:
            evaluator.generator = default_rng(SeedSequence(evaluator.seed, spawn_key=(evaluator.stage, evaluator.key)))
        else:
            evaluator.generator = default_rng()
    return evaluator.generator
