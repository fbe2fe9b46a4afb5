"""A ``Work``: a stream of decorated functions, and how it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, nullcontext, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload
from weakref import ref

from .checkpoints.options import INTERVAL_S, Checkpointing, ignoring_stop_signals
from .errors import JobStreamError, PlanError
from .evaluate.context import current
from .evaluate.failures import describe
from .ground.suggestions import did_you_mean
from .ground.texts import shorten
from .iteration import BUFFER, Results
from .runtime.handlers import Handlers
from .runtime.reports import RunCancelled, summary
from .runtime.source import InitialWork, fresh
from .runtime.together import Terminated, is_elsewhere, throughout
from .stream.adapting import close_instances
from .stream.checks import cpus_of, decorator, is_whole, memory_of, policy_of, seed_of, start_method_of
from .stream.plan import Plan, Policy, ResultsUse
from .stream.recorder import Function, Recording
from .values import Failure, is_iterable
from .workers.streams import occupy

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from .awaiting import AsyncResults
    from .checkpoints.saver import Handle, Saver
    from .keywords import FrameKeywords, JobKeywords, MainKeywords, OnError, StageKeywords, StartMethod, StoreKeywords
    from .runtime.runtime import Runtime
    from .runtime.shutdown import Mailbox

__all__ = ["Work"]

F = TypeVar("F", bound=Function)
"""What is decorated: a function, or a class that stands for a stage. It is given back as it is."""


def refusing_unknown(init: F) -> F:
    """Has a keyword that ``init`` does not take refused with the one that was probably meant.

    A type checker sees the keywords as they are, which ``**unknown`` among them would keep it from.
    """
    known = init.__code__.co_varnames[1 : init.__code__.co_argcount + init.__code__.co_kwonlyargcount]

    @wraps(init)
    def checked(work: Work, *given: Any, **keywords: Any) -> None:
        for keyword in keywords:
            if keyword not in known:
                raise PlanError(f"Work does not know the keyword {keyword!r}{did_you_mean(keyword, known)}")
        init(work, *given, **keywords)

    return checked  # type: ignore[return-value]


class Work:
    """A stream of stages, and the work that enters it.

    Stages run in the order of the source. Items pass them independently of each other and in no particular order. At
    the end of a ``with`` block the stream runs; ``run()`` runs it at once.

    Args:
        initialWork: any iterable of items. Lists, tuples, ranges and arrays are shared with the workers; anything else
            is pulled little by little, in a thread of its own that has the context of this one. (Cursors of SQLite are
            pulled by this thread.)
        useMultiprocessing: whether stages run in worker processes. Otherwise they run in threads of this process.
        seed: of the generators that ``rng()`` gives, a whole number from 0 on; None: not reproducible.
        onError: what to do with an item whose stage raised: 'raise' stops the run, 'skip' leaves the item out and
            records it in ``failures``, 'pass' has a ``Failure`` go on in its place, where the stage is a job; other
            stages raise.
        retries: how often a call that raised is repeated.
        deaths: how often an item may end its worker until it is given up.
        timeout: seconds that a call of a job, frame, frameEnd or reduce may take; None: any time. It counts from the
            call's begin, and ends the worker process with the programs that it has started.
        cpus: how many workers to use; by default one for each CPU that this process may use.
        memory: how much values may take in memory on their way from one function to the next, on each rank: bytes, or a
            text such as '500MiB' or '2GB'. While there are more, workers wait until results have been taken. A single
            value may be larger. By default what the environment variable JOBS_MEMORY says, or else a share of what the
            machine or control group has: a 64th, but 32 to 256 MiB.
        checkpointFile: where checkpoints are written, and gone on from if there is one; by default what the environment
            variable JOBS_CHECKPOINT says; none: no checkpoints. False: none, whatever that says. Each stream of a
            script needs a file of its own.
        checkpointInterval: seconds between two checkpoints.
        checkpointSyncInterval: without effect; nothing has to be brought to a stop here.
        timeLimit: seconds after which the run is to be over: shortly before, a checkpoint is written and the script
            ends with exit code 75. By default what JOBS_TIME_LIMIT or SLURM_JOB_END_TIME says. Needs a checkpoint.
        stats: False: no lines at the end of the run say how the time was spent; by default JOBS_STATS decides.
        startMethod: 'fork': worker processes are forked from this one, and have all that it has. 'forkserver': they are
            forked from a fresh process without threads, for scripts whose threads hold locks; functions, initial work
            and what they refer to are sent by cloudpickle. By default what JOBS_START says, or else 'fork'.

    Attributes:
        failures: list of the items that were skipped, each with item, stage, attempts and reason.

    Raises:
        PlanError: a keyword has a value that makes no sense.
        CheckpointError: when it runs: the checkpoint cannot be used or written; says why, and the way out.

    Example:
        >>> w = Work(range(4))
        >>> double = w.job(lambda x: 2 * x)
        >>> sorted(w.run())
        [0, 2, 4, 6]
    """

    @refusing_unknown
    def __init__(
        self,
        initialWork: Iterable[Any] = (),
        useMultiprocessing: bool = True,
        *,
        seed: int | None = None,
        onError: OnError | None = None,
        retries: int | None = None,
        timeout: float | None = None,
        deaths: int | None = None,
        cpus: int | None = None,
        memory: int | str | None = None,
        checkpointFile: str | os.PathLike[str] | Literal[False] | None = None,
        checkpointInterval: float = INTERVAL_S,
        checkpointSyncInterval: float | None = None,
        timeLimit: float | None = None,
        stats: bool | None = None,
        startMethod: StartMethod | None = None,
    ) -> None:
        if not is_iterable(initialWork):
            kind = type(initialWork).__name__
            raise PlanError(f"initialWork must be iterable, not {kind}: {shorten(initialWork, 80)}")
        self._checkpoint = Checkpointing(checkpointFile, checkpointInterval, timeLimit)
        if self._checkpoint.path is not None:
            _stand_by()
        self.failures: list[Failure] = []
        self._initial_work = initialWork
        policy = policy_of("Work", Policy(), onError, retries, timeout, deaths)
        self._recording = Recording(bool(useMultiprocessing), policy)
        self._seed = seed_of(seed)
        self._cpus = cpus_of(cpus)
        self._memory = memory_of(memory)
        self._has_run = False
        self._is_taken = False
        self._iteration: ref[Results] | None = None
        self._is_silent = stats is False
        self._start_method = start_method_of(startMethod)
        self._runtime: Runtime | None = None

    # recording --------------------------------------------------------------------------------------------------------

    @overload
    def init(self, func: F, **keywords: Unpack[MainKeywords]) -> F: ...
    @overload
    def init(self, func: None = None, **keywords: Unpack[MainKeywords]) -> Callable[[F], F]: ...
    def init(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function without arguments that runs once in this process, before anything else.

        What it returns is added to the initial work. It sees the script's data as it is, and what it loads into module
        variables is there in every worker of this process. Under ``mpirun`` it runs on the primary only: what the
        workers of all ranks need is loaded at the top of the script.
        """
        return decorator(self._recording.init, func, keywords)

    @overload
    def job(self, func: F, **keywords: Unpack[JobKeywords]) -> F: ...
    @overload
    def job(self, func: None = None, **keywords: Unpack[JobKeywords]) -> Callable[[F], F]: ...
    def job(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called with each item; what it returns goes on to the next stage.

        None: nothing goes on. ``Multiple``: each element goes on. Anything else is one item.

        Args:
            alone: a worker is given one item at a time, and tells at once when it is done. That costs a message for
                each, so it is for items that take long, or that others wait for.
            where: 'primary': it runs in workers of the primary only, wherever its items come from. Or the name of a
                host, as ``hosts()`` has it; or a function of the item that gives one of these, or None (any host).
            cores: how many cores of its host an item takes up while it runs, or a function of the item that gives that;
                1 by default. Items of such jobs are begun only where so many are free of what they take up there, first
                come, first served; other stages begin nothing on the cores that are left out. All that have cores, or a
                host, pass through the primary, one by one (as with ``alone``).
            useMultiprocessing, onError, retries, timeout, deaths: as for ``Work``, for this stage.

        Raises:
            PlanError: the function takes no argument, a keyword is unknown, or the stream has ended already. For an
                item: no host has the name or the cores that it needs, or the one that has was lost. That counts as an
                exception of the stage, so ``onError`` says what becomes of it.
        """
        return decorator(self._recording.job, func, keywords)

    @overload
    def frame(self, func: F, **keywords: Unpack[FrameKeywords]) -> F: ...
    @overload
    def frame(self, func: None = None, **keywords: Unpack[FrameKeywords]) -> Callable[[F], F]: ...
    def frame(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function ``frame(store, first)`` that begins a parallel while loop for each item.

        It is called when the item enters, and again each time all that it recurred is finished. What it returns goes
        through the stages up to its ``frameEnd``; when it returns nothing the loop ends and ``emit(store)`` goes on
        after the frameEnd.

        Args:
            store: makes the store of one loop; by default ``Object``.
            emit: turns the store into what goes on; by default the store itself.
            key: a function of the item that gives a whole number. With ``Work(seed=...)``, what ``rng()`` gives in this
                frame then depends on that number, and no longer on the item's way through the stream.
            alone, where: as for ``job``. With ``where='primary'`` and ``useMultiprocessing=False`` frame and frameEnd
                run in threads of the primary's own process, and see its variables. A frame inside a frame can stay on
                the primary only if that does. The stages between the two run everywhere.
            useMultiprocessing, onError, retries, timeout, deaths: as for ``Work``, for this stage.
        """
        return decorator(self._recording.frame, func, keywords)

    @overload
    def frameEnd(self, func: F, **keywords: Unpack[StageKeywords]) -> F: ...
    @overload
    def frameEnd(self, func: None = None, **keywords: Unpack[StageKeywords]) -> Callable[[F], F]: ...
    def frameEnd(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function ``frameEnd(store, next)`` that takes in what came through a frame's stages.

        What it returns is sent through them again.

        Args:
            useMultiprocessing: as for ``Work``; False here or at the frame counts for both, since they share a store.
            onError, retries, timeout: as for ``Work``, for this stage.
        """
        return decorator(self._recording.frameEnd, func, keywords)

    @overload
    def reduce(self, func: F, **keywords: Unpack[StoreKeywords]) -> F: ...
    @overload
    def reduce(self, func: None = None, **keywords: Unpack[StoreKeywords]) -> Callable[[F], F]: ...
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
        return decorator(self._recording.reduce, func, keywords)

    @overload
    def result(self, func: F, **keywords: Unpack[MainKeywords]) -> F: ...
    @overload
    def result(self, func: None = None, **keywords: Unpack[MainKeywords]) -> Callable[[F], F]: ...
    def result(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called in the script's main thread with each result. It ends the stream.

        Args:
            onError, retries: as for ``Work``, for this function.
        """
        return decorator(self._recording.result, func, keywords)

    @overload
    def finish(self, func: F, **keywords: Unpack[MainKeywords]) -> F: ...
    @overload
    def finish(self, func: None = None, **keywords: Unpack[MainKeywords]) -> Callable[[F], F]: ...
    def finish(self, func: Function | None = None, **keywords: Any) -> Any:
        """Decorates a function that is called once with the list of all results. It ends the stream.

        What it returns is what ``run()`` returns.

        Args:
            onError, retries: as for ``Work``, for this function.
        """
        return decorator(self._recording.finish, func, keywords)

    # running ----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._has_run:
            self._run(drop=self._recording.last is None)

    def run(self) -> Any:
        """Runs the stream.

        Returns:
            The list of results; with ``finish``, what that returned; with ``result``, None. On ranks other than the
            primary, and where the run was cancelled, None.

        Raises:
            PlanError: a frame has no end; the initial work is an iterator that has been used up.
            the exception of user code that failed; its ``__cause__`` is a ``StageError`` with the traceback from the
                worker.
        """
        return self._run(drop=False)

    def cancel(self) -> bool:
        """Ends the run that is under way, from another thread, a result function or a signal handler, on any rank.

        What workers are at is dropped, functions of the script are not called any more, and ``run()`` returns None; so
        it does on all ranks. A checkpoint stays as it was written last, and another run goes on from there.

        Returns:
            Whether a run was under way.

        Raises:
            JobStreamError: it is called in a job, which raises an exception to end the run.

        Example:
            >>> import threading
            >>> w = Work(iter(int, 1))  # it has no end
            >>> zeros = w.job(lambda x: x)
            >>> @w.result
            ... def first(zero):
            ...     w.cancel()
            >>> w.run()
        """
        if current() is not None:
            raise JobStreamError("cancel() works in the script: in a job, raise an exception to end the run")
        runtime = self._runtime
        if runtime is not None:
            self._handlers.is_cancelled = True
            runtime.cancel()
        return runtime is not None

    def __iter__(self) -> Results:
        return self.results()

    def __aiter__(self) -> AsyncResults:
        from .awaiting import AsyncResults  # loads asyncio

        return AsyncResults(self.results)

    def results(self, buffer: int | None = None) -> Results:
        """Runs the stream, and gives its results as they come: what ``for result in w`` does.

        The run begins at once, and ends with its last result, or when this is closed or forgotten: by ``break``, or by
        an exception in the loop. What is under way then is dropped. On other ranks than the primary there are no
        results. With a checkpoint, a result counts as taken when the next one is asked for; another run gives those
        that were not.

        Args:
            buffer: so many results may wait, or somewhat more, before the workers pause; by default 10,000.

        Raises:
            PlanError: results go to a function, or another iteration is under way.
        """
        self._check_iterable()
        if buffer is not None and not is_whole(buffer, 1):
            raise PlanError(f"buffer must be a whole number above 0, or None, not {buffer!r}")
        results = Results(self._iterated(BUFFER if buffer is None else int(buffer)), self._interrupt)
        self._iteration = ref(results)
        return results

    def _interrupt(self) -> None:
        """Ends the iteration that is under way, in whichever thread it is."""
        if self._runtime is not None:
            self._runtime.interrupt(Terminated("the iteration was ended"))

    def _check_iterable(self) -> None:
        last = self._recording.last
        before = self._iteration() if self._iteration is not None else None
        if last is not None:
            raise PlanError(f"its results go to {last.name!r}: leave that out, or call run() instead of iterating")
        if before is not None and not before.is_over:
            raise PlanError("this Work is being iterated over already: close that iteration first, or make another")

    def _iterated(self, buffer: int) -> Generator[list[Any], None, None]:
        """Lists of results; an empty one when the run has begun."""
        plan = self._recording.plan()
        occupy()
        self._has_run = True
        self.failures = []
        self._handlers = handlers = Handlers(self._recording.inits, None, self.failures)
        if current() is not None:
            yield []
            yield self._run_in_job(plan, handlers, False)
            return
        with suppress(Terminated, RunCancelled), self._checkpoint.claimed(), throughout(plan) as self._joining:
            if is_elsewhere():
                yield []
                self._run_elsewhere(plan, False)
                return
            with _mailbox() as mailbox:
                saver = self._checkpoint.saver(plan, ResultsUse.HANDLED, mailbox.post, mailbox.wake.set)
                if saver is None:
                    source = InitialWork([*handlers.initial_parts(), self._fresh_work()])
                    yield from self._iterated_here(plan, source, buffer, mailbox)
                else:
                    yield from self._iterated_saved(plan, handlers, buffer, mailbox, saver)

    def _iterated_saved(self, plan: Plan, handlers: Handlers, buffer: int, mailbox: Mailbox,
                        saver: Saver) -> Iterator[list[Any]]:  # fmt: skip
        """With checkpoints, from the one that is there if there is one."""
        saver.stop_if_ended()
        with closing(saver):
            source = self._begun_saved(handlers, saver)
            with saver.signals():
                yield from self._iterated_here(plan, source, buffer, mailbox, saver)
                saver.stop_if_asked()
                saver.finish()

    def _iterated_here(self, plan: Plan, source: InitialWork, buffer: int, mailbox: Mailbox,
                       saver: Saver | None = None) -> Iterator[list[Any]]:  # fmt: skip
        from .runtime.runtime import Runtime

        runtime = Runtime(plan, source, self.failures, self._cpus, self._seed, False, saver, joining=self._joining,
                          buffer=buffer, mailbox=mailbox, start_method=self._start_method,
                          memory=self._memory)  # fmt: skip
        self._runtime = runtime
        with closing(runtime.iterate()) as steps:
            try:
                yield from self._arranged(steps)
            except GeneratorExit:
                raise Terminated from None  # which other ranks understand
        if self.failures:
            print(summary(self.failures), file=sys.stderr)
        if not self._is_silent:
            runtime.statistics.show()

    def _arranged(self, steps: Iterator[tuple[list[Any], int | None]]) -> Iterator[list[Any]]:
        """Lists of results in the order in which they are to be given."""
        for values, _ in steps:
            yield values

    def _run(self, drop: bool) -> Any:
        plan = self._recording.plan()
        occupy()
        self._has_run = True
        self.failures = []
        self._handlers = handlers = Handlers(self._recording.inits, self._recording.last, self.failures)
        if current() is not None:
            return self._run_in_job(plan, handlers, drop)
        with suppress(RunCancelled), self._checkpoint.claimed(), throughout(plan) as self._joining:
            return self._run_elsewhere(plan, drop) if is_elsewhere() else self._run_here(plan, handlers, drop)

    def _run_here(self, plan: Plan, handlers: Handlers, drop: bool) -> Any:
        with _mailbox() as mailbox:
            saver = self._checkpoint.saver(plan, handlers.fate(drop), mailbox.post, mailbox.wake.set)
            if saver is not None:
                return self._run_saved(plan, handlers, drop, mailbox, saver)
            source = InitialWork([*handlers.initial_parts(), self._fresh_work()])
            self._run_in_parallel(plan, source, handlers.taker(), drop, mailbox)
            return self._outcome(handlers)

    def _fresh_work(self) -> Any:
        """The initial work, which an iterator gives only once."""
        is_again, self._is_taken = self._is_taken, True
        return fresh(self._initial_work, is_again)

    def _run_saved(self, plan: Plan, handlers: Handlers, drop: bool, mailbox: Mailbox, saver: Saver) -> Any:
        """Runs with checkpoints, from the one that is there if there is one."""
        saver.stop_if_ended()
        with closing(saver):
            source = self._begun_saved(handlers, saver)
            with saver.signals():
                self._run_in_parallel(plan, source, handlers.taker(), drop, mailbox, saver)
                saver.stop_if_asked()
                with saver.finishing() if handlers.finishes else nullcontext():
                    outcome = self._outcome(handlers)
                saver.finish()
        return outcome

    def _begun_saved(self, handlers: Handlers, saver: Saver) -> InitialWork:
        """The initial work of a run with checkpoints, which has been found to fit."""
        with saver.signals(), saver.stoppable():
            source = InitialWork([*saver.initial_parts(handlers.initial_parts), self._fresh_work()])
            saver.begin(tuple(part.length for part in source.parts))
        self.failures += saver.failures
        saver.failures = self.failures
        return source

    def _outcome(self, handlers: Handlers) -> Any:
        if self.failures:
            print(summary(self.failures), file=sys.stderr)
        return handlers.outcome()

    def _run_in_parallel(self, plan: Plan, source: InitialWork, handle: Callable[[list[Any]], None], drop: bool,
                         mailbox: Mailbox, saver: Saver | None = None) -> None:  # fmt: skip
        self._run_taking(lambda values, base: handle(values), plan, source, drop, mailbox, saver)

    def _run_taking(self, handle: Handle, plan: Plan, source: InitialWork, drop: bool, mailbox: Mailbox,
                    saver: Saver | None) -> None:  # fmt: skip
        from .runtime.runtime import Runtime

        if saver is not None:
            with saver.stoppable():
                saver.restore(handle)
        runtime = Runtime(plan, source, self.failures, self._cpus, self._seed, drop, saver, joining=self._joining,
                          mailbox=mailbox, start_method=self._start_method, memory=self._memory)  # fmt: skip
        self._perform(runtime, handle)
        if not self._is_silent:
            runtime.statistics.show()

    def _run_elsewhere(self, plan: Plan, drop: bool) -> None:
        """Takes part in a stream whose primary is another rank, where its work comes from and its results go."""
        from .runtime.runtime import Runtime

        saved = self._checkpoint.path is not None
        with ignoring_stop_signals() if saved else nullcontext():
            runtime = Runtime(plan, InitialWork([]), self.failures, self._cpus, self._seed, drop, saved_elsewhere=saved,
                              joining=self._joining, start_method=self._start_method,
                              memory=self._memory)  # fmt: skip
            self._perform(runtime, lambda values, base: None)

    def _perform(self, runtime: Runtime, handle: Handle) -> None:
        self._runtime = runtime
        try:
            runtime.run(handle)
        finally:
            self._runtime = None
            close_instances(runtime.plan)  # of stages that ran in threads of this process

    def _run_in_job(self, plan: Plan, handlers: Handlers, drop: bool) -> Any:
        from .evaluate.serial import run_serially

        if self._checkpoint.is_keyword:
            raise PlanError("a Work inside a job cannot have checkpoints of its own: leave out checkpointFile=")
        source = InitialWork([*handlers.initial_parts(), self._fresh_work()])
        try:
            all_skipped = run_serially(plan, source, self._seed, handlers.taker())
        finally:
            close_instances(plan)
        for skipped in all_skipped:
            reason = describe(skipped.error)
            self.failures.append(Failure(skipped.item, skipped.stage, skipped.attempts, reason))
        if drop:
            handlers.check_dropped()
        return self._outcome(handlers)


def _stand_by() -> None:
    """From now on, SIGTERM ends the script with the exit code that says so.

    What a run needs is imported before: an exception amid an import leaves a file open.
    """
    from .checkpoints import saver as saver
    from .checkpoints.signals import stand_by
    from .runtime import runtime as runtime

    stand_by()


def _mailbox() -> closing[Mailbox]:
    """Where the threads of a run that is about to begin reach each other, what writes its checkpoints among them."""
    from .runtime.shutdown import Mailbox

    return closing(Mailbox())
