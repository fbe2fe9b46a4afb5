"""What a job file says, as far as it makes sense."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .document import Element
from .job_parts import Artifact, JobEntry, JobInput, JobStep, YamlJob
from .module_folders import Modules
from .problems import Problems
from .schema import ARTIFACT, ENTRY, INPUT, JOB, STEP, Fields, fields_of, flaw_of_path, is_word
from .wiring import Wiring, check_params

__all__ = ["read_job"]


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
    Wiring(job, problems).check()
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
    check_params(entry, problems)


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
