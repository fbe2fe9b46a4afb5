"""What a job file says, and whether it fits: who makes each artifact, who reads it, and what the modules say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .document import Element
from .module_folders import Modules, ProgramModule
from .problems import Problems, did_you_mean, listed
from .schema import ARTIFACT, ENTRY, INPUT, JOB, STEP, Fields, fields_of, flaw_of_path, is_word

__all__ = ["Artifact", "JobEntry", "JobInput", "JobStep", "YamlJob", "read_job"]


@dataclass(eq=False)
class JobInput:
    """A file that is given for a run.

    Attributes:
        name: which it has everywhere; "" until an entry has given it one.
    """

    name: str
    param: str
    type: str
    place: tuple[str, int]

    @property
    def key(self) -> str:
        return self.name or self.param


@dataclass(eq=False)
class Artifact:
    """A file that an entry reads or makes.

    Attributes:
        source: of what is read, the artifact of the entry that makes it, or the job's input.
    """

    name: str
    param: str
    type: str
    is_public: bool | None
    empty_ok: bool
    place: tuple[str, int]
    type_place: tuple[str, int]
    source: Any = None
    reader_count: int = 0


@dataclass(eq=False)
class JobEntry:
    """One call of a module."""

    name: str
    module: ProgramModule | None
    number: int
    step: JobStep
    place: tuple[str, int]
    inputs: list[Artifact] = field(default_factory=list)
    outputs: list[Artifact] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.step.name}/{self.name}"

    @property
    def used(self) -> ProgramModule:
        """The module, which there is in a job without problems."""
        assert self.module is not None
        return self.module


@dataclass(eq=False)
class JobStep:
    """Entries that may run side by side."""

    name: str
    number: int
    place: tuple[str, int]
    entries: list[JobEntry] = field(default_factory=list)


@dataclass(eq=False)
class YamlJob:
    """All that a job file says."""

    name: str
    version: str
    order: str
    inputs: list[JobInput]
    steps: list[JobStep]

    @property
    def entries(self) -> Iterator[JobEntry]:
        return (entry for step in self.steps for entry in step.entries)


def read_job(element: Element, modules: Modules, problems: Problems) -> YamlJob:
    """The job, as far as it makes sense; the rest is problems."""
    given = fields_of(element, JOB, "the job", problems)
    modules.check_folder(element.place, problems)
    name = given.name("name", "the job", problems)
    job = YamlJob(name or "job", given.text("version"), given.of("order", "steps"), [], [])
    for each in given.items_of("input_artifacts"):
        _read_input(each, job, problems)
    for number, each in enumerate(given.items_of("steps")):
        _read_step(each, number, job, modules, problems)
    if given.of("steps") == []:
        problems.add(given.place_of("steps"), "steps", "the job has no steps", "add one, with a name and entries")
    _Wiring(job, problems).check()
    return job


def _read_input(element: Element, job: YamlJob, problems: Problems) -> None:
    given = fields_of(element, INPUT, "an input of the job", problems)
    if not {"param_name", "type"} <= given.keys() or ("name" in given and not _is_fine_path(given["name"], problems)):
        return
    param = given.of("param_name")
    is_word(param, given.place_of("param_name"), "param", problems)
    job.inputs.append(JobInput(given.of("name", ""), param, given.of("type"), element.place))


def _is_fine_path(element: Element, problems: Problems) -> bool:
    flaw = flaw_of_path(element.value)
    if flaw:
        problems.add(element.place, element.value, f"{element.value!r} cannot be the name of an artifact: {flaw}",
                     "write a relative path such as 'folder/file.wav'")  # fmt: skip
    return not flaw


def _read_step(element: Element, number: int, job: YamlJob, modules: Modules, problems: Problems) -> None:
    given = fields_of(element, STEP, "a step", problems)
    name = given.name("name", "the step", problems)
    step = JobStep(name or f"step {number + 1}", number, given.place_of("name"))
    same = next((each for each in job.steps if name is not None and each.name == name), None)
    if same is not None:
        problems.add(step.place, step.name, f"two steps are called {name!r}, the other one in line {same.place[1]}",
                     "rename one")  # fmt: skip
    if given.of("entries") == []:
        problems.add(given.place_of("entries"), "entries", f"step {step.name!r} has no entries",
                     "add one, or remove the step")  # fmt: skip
    job.steps.append(step)
    for each in given.items_of("entries"):
        _read_entry(each, step, modules, problems)


def _read_entry(element: Element, step: JobStep, modules: Modules, problems: Problems) -> None:
    given = fields_of(element, ENTRY, "an entry", problems)
    module = modules.find(given.of("module"), given.place_of("module"), problems) if "module" in given else None
    name = given.name("name", "the entry", problems) or given.text("module") or "?"
    entry = JobEntry(name, module, len(step.entries) + 1, step, element.place)
    entry.inputs = list(_artifacts(given, "input_artifacts", problems))
    entry.outputs = list(_artifacts(given, "output_artifacts", problems))
    entry.parameters = dict(_parameters(given, problems))
    step.entries.append(entry)
    _check_params(entry, problems)


def _parameters(given: Fields, problems: Problems) -> Iterator[tuple[str, Any]]:
    for key, value in given.mapping_of("parameters").items():
        place = given["parameters"].at(key)
        parts = value.value if isinstance(value.value, list) else [value]
        if any(isinstance(part.value, (list, dict)) for part in parts):
            problems.add(place, key, f"the parameter {key!r} is nested", "give a plain value or a list of them")
        elif is_word(key, place, "parameter", problems):
            yield key, [_as_written(part) for part in parts] if parts is value.value else _as_written(value)


def _as_written(element: Element) -> Any:
    """Numbers as they are written, so that 1.10 stays that."""
    is_special = element.value is None or isinstance(element.value, bool)
    return element.value if is_special else element.text or str(element.value)


def _artifacts(given: Fields, key: str, problems: Problems) -> Iterator[Artifact]:
    for element in given.items_of(key):
        found = fields_of(element, ARTIFACT, f"an item of {key!r}", problems)
        if {"name", "param_name", "type"} <= found.keys() and _is_fine_path(found["name"], problems):
            is_word(found.of("param_name"), found.place_of("param_name"), "param", problems)
            yield Artifact(found.of("name"), found.of("param_name"), found.of("type"), found.of("public"),
                           found.of("emptyOk", False), found.place_of("name"), found.place_of("type"))  # fmt: skip


def _check_params(entry: JobEntry, problems: Problems) -> None:
    """The artifacts of an entry and the params of its module."""
    seen: dict[str, Artifact] = {}
    for artifact in (*entry.inputs, *entry.outputs):
        if artifact.param in seen:
            problems.add(artifact.place, artifact.param,
                         f"the param {artifact.param!r} is there twice in {entry.title!r}",
                         f"it is in line {seen[artifact.param].place[1]} already: remove one")  # fmt: skip
        seen[artifact.param] = artifact
    if entry.module is None or entry.module.problems:
        return
    for artifacts, params, what in (
        (entry.inputs, entry.module.inputs, "input"),
        (entry.outputs, entry.module.outputs, "output"),
    ):
        for artifact in artifacts:
            param = params.get(artifact.param)
            if param is None:
                problems.add(artifact.place, artifact.param,
                             f"module {entry.module.name!r} has no {what} {artifact.param!r}",
                             f"{did_you_mean(artifact.param, params)}its {what}s are {listed(params)}")  # fmt: skip
            else:
                _check_type(artifact.type, artifact.type_place, param.type, param.place,
                            f"the manifest of {entry.module.name!r}", problems)  # fmt: skip
        for name in params.keys() - {artifact.param for artifact in artifacts}:
            problems.add(entry.place, name,
                         f"entry {entry.title!r} lacks the {what} {name!r} of module {entry.module.name!r}",
                         f"its {what}s are {listed(params)}")  # fmt: skip


def _check_type(
    given: str, place: tuple[str, int], other: str, other_place: tuple[str, int], whose: str, problems: Problems
) -> None:
    if given != other and "any" not in (given, other):
        problems.add(place, given,
                     f"the type is {given!r} here and {other!r} in {whose}, {other_place[0]}:{other_place[1]}",
                     "make them the same, or one of them 'any'")  # fmt: skip


class _Wiring:
    """Finds who makes what is read."""

    def __init__(self, job: YamlJob, problems: Problems) -> None:
        self._job = job
        self._problems = problems
        self._made: dict[str, tuple[Artifact, JobStep]] = {}
        self._given: dict[str, JobInput] = {}
        self._folded: dict[str, tuple[str, tuple[str, int]]] = {}

    def check(self) -> None:
        for each in self._job.inputs:
            if each.name:
                self._name_input(each, each.name, each.place)
        for entry in self._job.entries:
            for artifact in entry.outputs:
                if self._is_new(artifact.name, artifact.place):
                    self._made[artifact.name] = artifact, entry.step
        for entry in self._job.entries:
            for artifact in entry.inputs:
                self._find(artifact, entry)
        self._check_folders()

    def _is_new(self, name: str, place: tuple[str, int]) -> bool:
        held = self._folded.get(name.casefold())
        if held is None:
            self._folded[name.casefold()] = name, place
            return True
        if held[0] == name:
            what, way_out = (
                f"{name!r} is made twice: it is in {held[1][0]}:{held[1][1]} already",
                "give one another name",
            )
        else:
            what = f"{name!r} and {held[0]!r} in {held[1][0]}:{held[1][1]} are equal but for case"
            way_out = "give one another name: some disks take them for the same"
        self._problems.add(place, name, what, way_out)
        return False

    def _name_input(self, given: JobInput, name: str, place: tuple[str, int]) -> None:
        if self._is_new(name, place):
            given.name = name
            self._given[name] = given

    def _find(self, artifact: Artifact, entry: JobEntry) -> None:
        made = self._made.get(artifact.name)
        if made is not None:
            self._link(artifact, entry, *made)
            return
        given = self._given.get(artifact.name) or self._unnamed(artifact)
        if given is None:
            known = [*self._made, *self._given]
            self._problems.add(artifact.place, artifact.name,
                               f"nobody makes {artifact.name!r}, which {entry.title!r} reads",
                               f"{did_you_mean(artifact.name, known)}the artifacts are {listed(known)}")  # fmt: skip
            return
        artifact.source = given
        _check_type(artifact.type, artifact.type_place, given.type, given.place, "the job's input", self._problems)
        if artifact.is_public:
            self._refuse_public(artifact, False, given.place)

    def _link(self, artifact: Artifact, entry: JobEntry, made: Artifact, step: JobStep) -> None:
        if step.number >= entry.step.number:
            where = "the same" if step is entry.step else "a later"
            self._problems.add(artifact.place, artifact.name, f"{artifact.name!r} is made in {where} step",
                               f"step {step.name!r} makes it: put this entry into a later step")  # fmt: skip
            return
        artifact.source = made
        made.reader_count += 1
        _check_type(artifact.type, artifact.type_place, made.type, made.type_place, "what makes it", self._problems)
        if artifact.is_public is not None and artifact.is_public != bool(made.is_public):
            self._refuse_public(artifact, bool(made.is_public), made.place)

    def _refuse_public(self, artifact: Artifact, is_public: bool, place: tuple[str, int]) -> None:
        self._problems.add(artifact.place, artifact.name,
                           f"'public' of {artifact.name!r} is {str(artifact.is_public).lower()} here and "
                           f"{str(is_public).lower()} in {place[0]}:{place[1]}", "leave it out of inputs")  # fmt: skip

    def _unnamed(self, artifact: Artifact) -> JobInput | None:
        """An input of the job without a name, which has this one from now on."""
        free = [each for each in self._job.inputs if not each.name]
        of_type = [each for each in free if each.type == artifact.type]
        exact = [each for each in of_type if each.param == artifact.param]
        found = exact[0] if exact else of_type[0] if len(of_type) == 1 else None
        if found is not None:
            self._name_input(found, artifact.name, artifact.place)
        return found

    def _check_folders(self) -> None:
        """A name cannot be a file and a folder at once."""
        names = {name for name, _ in self._folded.values()}
        for name, place in self._folded.values():
            parts = name.split("/")
            above = next((folder for n in range(1, len(parts)) if (folder := "/".join(parts[:n])) in names), None)
            if above is not None:
                self._problems.add(place, name, f"{name!r} lies in {above!r}, which is a file", "give one another name")
