"""Modules: what a configuration says, once it has been checked.

A module is a mapping with ``jobs``, and with a ``reducer``, a ``frame`` or neither. Its entries are classes (``Leaf``)
and modules again. Each entry knows under which target its work goes to which other entry of the same module; OUTPUT
is the way out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ...errors import PlanError
from ...ground.suggestions import did_you_mean, listed
from .lookup import Classes

__all__ = ["OUTPUT", "Leaf", "Mapped", "Module", "Parser"]

OUTPUT = "output"
MODULE_KEYS = ("jobs", "reducer", "frame", "input")
GATHERERS = ("reducer", "frame")


class Mapped(dict[Any, Any]):
    """A mapping of a file.

    Attributes:
        place: where it stands.
        places: where its values do, by (key,), and the elements of those that are lists, by (key, index).
    """

    place = ""
    places: Mapping[tuple[Any, ...], str] = {}


class _Entry:
    """What can stand in a module.

    Attributes:
        name: the way to it from outside, with dots; empty for the outermost module.
        where: the same for messages, with the line of the file.
        module: that it stands in.
        to: names in that module by target.
    """

    def __init__(self, name: str, where: str, module: Module | None) -> None:
        self.name = name
        self.where = where
        self.module = module
        self.to: dict[str, str] = {"": OUTPUT}


class Leaf(_Entry):
    """A class, and its part of the configuration."""

    def __init__(self, name: str, where: str, module: Module, kind: type[Any], config: Mapping[Any, Any]) -> None:
        super().__init__(name, where, module)
        self.kind = kind
        self.config = config


class Module(_Entry):
    """Entries by name, of which work enters ``input``, and what gathers what comes out of them."""

    def __init__(self, name: str, where: str, module: Module | None) -> None:
        super().__init__(name, where, module)
        self.entries: dict[str, Leaf | Module] = {}
        self.input = OUTPUT
        self.reducer: Leaf | None = None
        self.frame: Leaf | None = None

    @property
    def gatherer(self) -> Leaf | None:
        return self.reducer or self.frame


class Parser:
    """Makes a module of a configuration.

    Args:
        classes: finds those that are named.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes

    def parse(self, config: Any) -> Module:
        """The outermost module.

        Raises:
            PlanError: something is wrong; says where, and what would be right.
        """
        module = self._module(config, "", None)
        module.to = _routes_of(module, _said_to(module, config), ())
        return module

    def _module(self, config: Any, name: str, outer: Module | None) -> Module:
        where = _where_of("module", name, config)
        if not isinstance(config, Mapping):
            raise PlanError(f"{where}: it must be a mapping with jobs, not {_kind_of(config)}")
        self._check_keys(config, where, outer)
        module = Module(name, where, outer)
        for role in GATHERERS:
            if config.get(role) is not None:
                setattr(module, role, self._leaf(role, _whole(config[role], config, role), _below(name, role), module))
        _check(not (module.reducer and module.frame), where, "it has a reducer and a frame; put one into a module of "
               "its own, around this one or in its jobs")  # fmt: skip
        self._add_jobs(module, config)
        return module

    def _check_keys(self, config: Mapping[Any, Any], where: str, outer: Module | None) -> None:
        known = (*MODULE_KEYS, "to") if outer else MODULE_KEYS
        for key in config:
            if key not in known:
                wish = did_you_mean(key, known)
                raise PlanError(f"{where}: a module knows no key {key!r:.120}, but {listed(known)}{wish}")
        _check(
            config.get("jobs") is not None,
            where,
            "it has no jobs; give jobs: as a list, in which work goes to the next, or as a mapping of names",
        )

    def _add_jobs(self, module: Module, config: Mapping[Any, Any]) -> None:
        jobs, where = config["jobs"], module.where
        if not isinstance(jobs, (list, tuple, Mapping)):
            raise PlanError(f"{where}: jobs must be a list or a mapping, not {_kind_of(jobs)}")
        _check(jobs or module.gatherer, where, "its jobs are empty; only beside a reducer or frame there may be none")
        named = dict(_named(jobs) if isinstance(jobs, Mapping) else _numbered(config))
        for key, entry in named.items():
            _check(isinstance(key, str), where, f"the name of a job must be text, not {key!r:.120}; put it in quotes")
            _check(key not in ("", OUTPUT), where, f"a job cannot be named {key!r}; output is the way out of a module")
            module.entries[key] = self._entry(entry, _below(module.name, key), module)
        if isinstance(jobs, Mapping):
            self._route(module, named)
        else:
            self._chain(module, named)
        module.input = _input_of(module, config)

    def _entry(self, config: Mapping[Any, Any], name: str, module: Module) -> Leaf | Module:
        if "type" in config:
            return self._leaf("job", config, name, module)
        if any(key in config for key in ("jobs", *GATHERERS)):
            return self._module(config, name, module)
        raise PlanError(f"{_where_of('job', name, config)}: it has neither type, as a job, nor jobs, as a module"
                        f"{_typo(config)}")  # fmt: skip

    def _leaf(self, role: str, config: Mapping[Any, Any], name: str, module: Module) -> Leaf:
        where = _where_of(role, name, config)
        if config.get("type") is None:
            raise PlanError(f"{where}: it has no type, which is the class to use{_typo(config)}")
        return Leaf(name, where, module, self._classes.find(role, where, config["type"]), config)

    def _route(self, module: Module, configs: dict[str, Any]) -> None:
        """Routes of a mapping: as each entry says, or else out."""
        for key, entry in module.entries.items():
            entry.to = _routes_of(entry, _said_to(entry, configs[key]), tuple(module.entries))

    def _chain(self, module: Module, configs: dict[str, Any]) -> None:
        """Routes of a list: each entry to the next, the last one out."""
        for key, after in pairwise([*module.entries, OUTPUT]):
            entry = module.entries[key]
            said = _said_to(entry, configs[key])
            _check(said is None or said == after, entry.where, "it stands in a list, where work goes to the next one; "
                   "for other ways, give the jobs names, as in jobs: {name: ...}")  # fmt: skip
            entry.to = {"": after}


def _check(holds: Any, where: str, otherwise: str) -> None:
    if not holds:
        raise PlanError(f"{where}: {otherwise}")


def _kind_of(value: Any) -> str:
    return "empty" if value is None else f"{type(value).__name__}: {value!r:.80}"


def _below(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _where_of(role: str, name: str, config: Any) -> str:
    place = f" ({config.place})" if isinstance(config, Mapped) and config.place else ""
    if not name:
        return f"the outermost module{place}"
    return f"{name!r:.120}{place}" if role in GATHERERS else f"{role} {name!r:.120}{place}"


def _typo(config: Mapping[Any, Any]) -> str:
    return next(filter(None, (did_you_mean(key, ("type", "jobs")) for key in config if key != "type")), "")


def _whole(entry: Any, group: Mapping[Any, Any], *way: Any) -> Mapping[Any, Any]:
    """An entry as a mapping: a class alone, or its name, stands for its type, and where the group has it."""
    if isinstance(entry, Mapping):
        return entry
    whole = Mapped(type=entry)
    whole.place = group.places.get(way, "") if isinstance(group, Mapped) else ""
    return whole


def _named(jobs: Mapping[Any, Any]) -> Iterator[tuple[Any, Mapping[Any, Any]]]:
    """The jobs of a mapping."""
    yield from ((key, _whole(entry, jobs, key)) for key, entry in jobs.items())


def _numbered(config: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The jobs of a list, named after their classes; the second of a name has a 2 behind it."""
    seen: Counter[str] = Counter()
    for index, entry in enumerate(config["jobs"]):
        job = _whole(entry, config, "jobs", index)
        label = _label_of(job)
        seen[label] += 1
        yield (label if seen[label] == 1 else f"{label} {seen[label]}"), job


def _label_of(config: Any) -> str:
    if not isinstance(config, Mapping):
        return config.__name__ if isinstance(config, type) else str(config).rpartition(".")[2]
    inner = next((config[key] for key in ("type", *GATHERERS) if config.get(key) is not None), None)
    return _label_of(inner) if inner is not None else "module" if "jobs" in config else "job"


# where work goes ------------------------------------------------------------------------------------------------------


def _said_to(entry: Leaf | Module, config: Any) -> Any:
    """What the configuration of an entry says about where its work goes; None: nothing."""
    said = config.get("to") if isinstance(config, Mapping) else None
    gatherer = entry.gatherer if isinstance(entry, Module) else None
    inner = gatherer.config.get("to") if gatherer else None
    _check(said is None or inner is None, entry.where, "it says to, and so does its reducer or frame; once is enough")
    return inner if said is None else said


def _routes_of(entry: Leaf | Module, said: Any, names: tuple[str, ...]) -> dict[str, str]:
    if said is None:
        return {"": OUTPUT}
    routes = {"": said} if isinstance(said, str) else _targets_of(entry, said)
    for name in routes.values():
        _check(isinstance(name, str), entry.where, f"to must name a job, not {name!r:.120}")
        if name != OUTPUT and name not in names:
            _refuse_goal(entry, name, names)
    return routes


def _targets_of(entry: Leaf | Module, said: Any) -> dict[str, Any]:
    if not isinstance(said, Mapping) or not said:
        raise PlanError(
            f"{entry.where}: to must be the name of a job, or a mapping of names by target, not {_kind_of(said)}"
        )
    if isinstance(entry, Module) and entry.gatherer is None:
        raise PlanError(
            f"{entry.where}: to must be one name; a module without reducer or frame emits nothing itself, so it has no "
            "targets"
        )
    for target in said:
        _check(target and isinstance(target, str), entry.where,
               f"a target in to must be text, not {target!r:.120}; put it in quotes")  # fmt: skip
    return dict(said)


def _refuse_goal(entry: Leaf | Module, name: str, names: tuple[str, ...]) -> None:
    if entry.module is None:
        raise PlanError(f"{entry.where}: to can only be output here, not {name!r:.120}, as there is nothing around it")
    known = (*names, OUTPUT)
    wish = did_you_mean(name, known)
    raise PlanError(f"{entry.where}: to names {name!r:.120}, but its module has {listed(known)}{wish}")


def _input_of(module: Module, config: Mapping[Any, Any]) -> str:
    names, given = tuple(module.entries), config.get("input")
    first = names[0] if names else OUTPUT
    if given is None:
        return first
    if not isinstance(config["jobs"], Mapping):
        raise PlanError(f"{module.where}: input cannot be chosen, as jobs is a list: work enters the first one")
    if given not in names:
        known = f"but there is {listed(names)}{did_you_mean(given, names)}"
        raise PlanError(f"{module.where}: input names {given!r:.120}, {known}")
    return str(given)
