"""Whether the parts of a job fit: who makes each artifact, who reads it, and what the modules say of both."""

from __future__ import annotations

from ..build.job_actions import beside
from .job_parts import Artifact, JobEntry, JobInput, JobStep, YamlJob
from .problems import Problems, did_you_mean, listed

__all__ = ["Wiring", "check_params"]


def check_params(entry: JobEntry, problems: Problems) -> None:
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


class Wiring:
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
        self._check_keys()

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

    def _check_keys(self) -> None:
        """Inputs without a name are given by their param."""
        known: dict[str, JobInput] = {}
        for each in self._job.inputs:
            if each.key in known:
                self._problems.add(each.place, each.key, f"two inputs of the job are called {each.key!r}",
                                   f"give this one a name: the other one is in line {known[each.key].place[1]}")
            known[each.key] = each

    def _check_folders(self) -> None:
        """A name cannot be a file and a folder at once."""
        names = {name for name, _ in self._folded.values()}
        for name, place in self._folded.values():
            parts = name.split("/")
            above = next((folder for n in range(1, len(parts)) if (folder := "/".join(parts[:n])) in names), None)
            hidden = beside(name)
            if hidden in names:
                self._problems.add(self._folded[hidden.casefold()][1], hidden, f"{hidden!r} is where {name!r} is "
                                   "written until it is whole", "give it another name")  # fmt: skip
            if above is not None:
                self._problems.add(place, name, f"{name!r} lies in {above!r}, which is a file", "give one another name")
