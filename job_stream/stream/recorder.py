"""The recording of a stream: the stages that its decorators have named so far, each checked as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PlanError
from ..ground.suggestions import did_you_mean
from ..ground.texts import shorten
from ..values import Object
from .adapting import adapt, is_stage
from .allotting import Allotting
from .checks import MULTIPLE, check_answers, check_parameters, name_of, policy_of
from .classes import StageClass
from .plan import Builder, Kind, Plan, Policy, Stage

if TYPE_CHECKING:
    from .configuration.modules import Module

__all__ = ["Function", "Recording"]

Function = Callable[..., Any]
KEYWORDS = (
    "store", "emit", "key", "useMultiprocessing", "onError", "retries", "timeout", "deaths", "alone", "where", "cores",
)  # fmt: skip


class _Given(NamedTuple):
    """What a decorator was given: a function, or a class with the function that it stands for there."""

    name: str
    function: Function
    keywords: dict[str, Any]
    kind: type[StageClass] | None = None
    """The class, if it is one."""

    end: Function | None = None
    """What ends the frame that it stands for."""


class Recording:
    """Takes down stages; each method stands for the decorator of the same name.

    Args:
        processes: whether stages run in worker processes, unless they say otherwise.
        policy: of stages that don't say otherwise.

    Attributes:
        inits: the init functions.
        last: the result or finish function, if there is one.
    """

    def __init__(self, processes: bool, policy: Policy) -> None:
        self._processes = processes
        self._policy = policy
        self._builder = Builder()
        self._open_frames: list[_Given] = []
        self.inits: list[Stage] = []
        self.last: Stage | None = None

    def plan(self) -> Plan:
        """The stream, which must be complete."""
        return self._builder.plan()

    def init(self, function: Function, **keywords: Any) -> None:
        self.inits.append(self._main_stage("init", function, 0, True, keywords))

    def job(self, function: Function, **keywords: Any) -> None:
        self._check_open("job")
        where, cores = keywords.get("where"), keywords.pop("cores", None)
        allots = cores is not None or not (where is None or where == "primary")
        if not allots:
            self._builder.add(self._stage("job", Kind.JOB, self._given("job", function, keywords), 1, False))
            return
        given = self._given("job", function, {**keywords, "where": None})
        stage = self._stage("job", Kind.JOB, given, 1, False)
        self._check_stays(f"job {stage.name!r}", "is allotted by the primary (where=, cores=)")
        allotting = Allotting(stage.name, where, cores)
        self._builder.add(Stage(Kind.ALLOT, allotting.__name__, allotting, stage.processes, stage.policy))
        self._builder.add(stage._replace(alone=True, allotted=True))

    def frame(self, function: Function, **keywords: Any) -> None:
        self._check_open("frame")
        key = _callable(f"frame {name_of(function)!r}", "key", keywords.pop("key", None))
        given = self._given("frame", function, keywords)
        stage = self._stage("frame", Kind.FRAME, given, 2, False, stores=True)
        self._builder.open_frame(stage._replace(key=key))
        self._open_frames.append(given)

    def frameEnd(self, function: Function, **keywords: Any) -> None:
        self._check_open("frameEnd")
        if keywords.get("timeout") is not None and self._builder.open_frame_processes is False:
            raise PlanError(f"frameEnd {name_of(function)!r}: timeout= needs a process; its frame runs in threads")
        if self._open_frames and self._open_frames[-1].kind not in (None, function):
            kind = self._open_frames[-1].kind.__name__
            raise PlanError(f"frame {kind!r} is a class: end it with frameEnd({kind})")
        given = self._given("frameEnd", function, keywords)
        self._builder.close_frame(self._stage("frameEnd", Kind.END, given, 2, False))
        self._open_frames.pop()

    def reduce(self, function: Function, **keywords: Any) -> None:
        self._check_open("reduce")
        given = self._given("reduce", function, keywords)
        self._builder.add(self._stage("reduce", Kind.FOLD, given, 3, True, stores=True))

    def result(self, function: Function, **keywords: Any) -> None:
        self._end("result", self._main_stage("result", function, 1, False, keywords))

    def finish(self, function: Function, **keywords: Any) -> None:
        self._end("finish", self._main_stage("finish", function, 1, True, keywords))

    def map(self, function: Function, name: str) -> None:
        """The one stage of an ordered stream."""
        policy = self._policy if self._processes else self._policy._replace(timeout_s=None)
        self._builder.add(Stage(Kind.MAP, name, function, self._processes, policy))

    def module(self, module: Module) -> None:
        """The stages of a configuration."""
        from .configuration.layout import lay_out  # not at once: most streams have no configuration

        lay_out(module, self._builder, self._processes, self._policy)

    def _end(self, role: str, stage: Stage) -> None:
        self._check_open(role)
        open = self._builder.open_frame_name
        if open is not None:
            raise PlanError(f"{role} {stage.name!r} stands inside frame {open!r}: put the frameEnd before it")
        self.last = stage

    def _check_open(self, role: str) -> None:
        if self.last is not None:
            raise PlanError(
                f"After Work.{self.last.kind} is used nothing may be added to the stream; "
                f"put this {role} before {self.last.name!r}"
            )

    def _stage(self, role: str, kind: str, given: _Given, least: int, exact: bool, stores: bool = False) -> Stage:
        name, function, keywords, *_ = given
        check_parameters(role, function, least, exact)
        where = f"{role} {name!r}"
        processes = keywords.pop("useMultiprocessing", None)
        processes = self._processes if processes is None else bool(processes)
        store, emit = _store_and_emit(where, stores, keywords)
        alone, primary = self._ways_to_lend(where, kind, keywords)
        if kind != Kind.JOB and keywords.get("onError") == "pass":
            raise PlanError(f"{where}: onError='pass' is for jobs, in the place of whose output a Failure can go on")
        policy = self._stage_policy(where, processes, keywords)
        if policy.passes and kind != Kind.JOB:
            policy = policy._replace(skip=False, passes=False)
        if store is None and stores:
            store = Object
        return Stage(kind, name, function, processes, policy, store, emit, alone=alone, primary=primary)

    def _ways_to_lend(self, where: str, kind: str, keywords: dict[str, Any]) -> tuple[bool, bool]:
        """Takes out of the keywords whether items are lent one by one, and to nobody but the primary's own workers."""
        alone, place, cores = (keywords.pop(name, None) for name in ("alone", "where", "cores"))
        if cores is not None:
            raise PlanError(f"{where}: only job takes cores=")
        if kind not in (Kind.JOB, Kind.FRAME) and not (alone is None and place is None):
            raise PlanError(f"{where}: only job and frame take alone= and where=")
        if place not in (None, "primary"):
            raise PlanError(f"{where}: where must be 'primary' or None, not {shorten(place, 80)}")
        if place is not None:
            self._check_stays(where, "is to stay on the primary")
        return bool(alone), place is not None

    def _check_stays(self, where: str, why: str) -> None:
        """Whether the frame around a stage leaves it to the primary where that runs."""
        if not self._builder.is_bound_to_primary:
            around = self._builder.open_frame_name
            raise PlanError(f"{where} {why}, but frame {around!r} around it may run on any rank: "
                            f"give that where='primary', too")  # fmt: skip

    def _given(self, role: str, function: Function, keywords: dict[str, Any]) -> _Given:
        """What a decorator was given, where that may be a class."""
        name, keywords = name_of(function), dict(keywords)
        if not is_stage(function):
            return _Given(name, function, keywords)
        if role == "frameEnd":
            return _Given(name, self._end_of(function), keywords)
        parts = _parts_of(role, function, keywords)
        return _Given(name, parts["function"], keywords, function, parts.get("end"))

    def _end_of(self, kind: type[StageClass]) -> Function:
        """What ends the open frame, which must be of this class."""
        frame = self._open_frames[-1] if self._open_frames else None
        if frame is None or frame.kind is not kind or frame.end is None:
            raise PlanError(f"frameEnd {kind.__name__!r}: the open frame is not of this class")
        return frame.end

    def _main_stage(self, role: str, function: Function, least: int, exact: bool, keywords: dict[str, Any]) -> Stage:
        check_parameters(role, function, least, exact)
        where = f"{role} {name_of(function)!r}"
        if keywords.get("timeout") is not None:
            raise PlanError(f"{where}: it runs in the script's own process, which timeout= cannot end")
        if keywords.get("deaths") is not None:
            raise PlanError(f"{where}: it runs in the script's own process, whose end is the run's: leave out deaths=")
        if keywords.get("onError") == "pass":
            raise PlanError(f"{where}: onError='pass' is for jobs, in the place of whose output a Failure can go on")
        policy = self._policy_from(where, keywords)._replace(timeout_s=None)
        if policy.passes:
            policy = policy._replace(skip=False, passes=False)
        return Stage(role, name_of(function), function, False, policy)

    def _stage_policy(self, where: str, processes: bool, keywords: dict[str, Any]) -> Policy:
        """The policy of a stage that runs in lanes; only processes can be ended by a time limit."""
        timeout = keywords.get("timeout")
        policy = self._policy_from(where, keywords)
        if policy.timeout_s is None or processes:
            return policy
        if timeout is not None:
            raise PlanError(f"{where}: timeout= needs a worker process to end; useMultiprocessing is False here")
        return policy._replace(timeout_s=None)

    def _policy_from(self, where: str, keywords: dict[str, Any]) -> Policy:
        given = {name: keywords.pop(name, None) for name in ("onError", "retries", "timeout", "deaths")}
        if keywords:
            unknown = next(iter(keywords))
            raise PlanError(f"{where} does not know the keyword {unknown!r}{did_you_mean(unknown, KEYWORDS)}")
        return policy_of(where, self._policy, **given)


def _parts_of(role: str, kind: type[StageClass], keywords: dict[str, Any]) -> dict[str, Function]:
    """The functions that a class stands for in a role; the keywords are completed by them."""
    parts = adapt(role, kind, kind.__name__, {})
    for part in ("store", "emit"):
        if keywords.get(part) is not None:
            raise PlanError(f"{role} {kind.__name__!r} is a class, which has a store of its own: leave out {part}=")
        if part in parts:
            keywords[part] = parts[part]
    keywords.setdefault("useMultiprocessing", None if kind.USE_MULTIPROCESSING else False)
    return parts


def _store_and_emit(where: str, stores: bool, keywords: dict[str, Any]) -> tuple[Function | None, Function | None]:
    """Takes the two out of the keywords; ``stores``: whether the stage has a store."""
    store, emit = keywords.pop("store", None), keywords.pop("emit", None)
    if not stores and (store is not None or emit is not None):
        raise PlanError(f"{where}: only reduce and frame take store= and emit=")
    return _callable(where, "store", store), _callable(where, "emit", emit)


def _callable(where: str, part: str, given: Any) -> Function | None:
    """What was given for a part of a stage, which must be a function or None."""
    if given is not None and not callable(given):
        raise PlanError(f"{where}: {part} must be a function, not {type(given).__name__}: {shorten(given, 80)}")
    if given is not None:
        check_answers(f"{where}: {part}", given, MULTIPLE if part == "emit" else "return the value")
    return given  # type: ignore[no-any-return]
