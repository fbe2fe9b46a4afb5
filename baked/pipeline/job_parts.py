"""What a job is: inputs, steps, entries and artifacts, as they are written, and who makes what is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .module_folders import ProgramModule

__all__ = ["Artifact", "JobEntry", "JobInput", "JobStep", "YamlJob"]


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
