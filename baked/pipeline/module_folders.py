"""Modules: folders with a program and a manifest that says what it takes, what it makes, and how it is called."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from job_stream import hosts
from job_stream.errors import BuildError

from ..build.kinds import bytes_of_memory
from .document import Element, read_yaml
from .problems import Problem, Problems, did_you_mean, listed
from .schema import MANIFEST, PARAM, Fields, fields_of, is_word

__all__ = [
    "Modules", "Param", "ProgramModule", "check_resources", "plain_name", "print_of_interpreter",
    "watched_folder",
]  # fmt: skip

MANIFEST_NAME = "manifest.yaml"
OPTIONS = ("cores", "memory", "timeout", "retries", "limits", "host")

VENV = ".venv"
"""Where requirements are installed if the manifest names no folder for them."""

PASSED_OVER = (".git", "__pycache__", MANIFEST_NAME)
"""What in a folder is no code; of the manifest only what matters is watched, as parts of the call."""


@dataclass(frozen=True)
class Param:
    """What a module takes or makes."""

    name: str
    type: str
    place: tuple[str, int]


@dataclass
class ProgramModule:
    """A module as its manifest has it.

    Attributes:
        inputs, outputs: by their param_name.
        problems: what is wrong with the manifest; of interest only if a job uses the module.
    """

    name: str
    folder: Path
    place: tuple[str, int]
    problems: Problems
    lines: Mapping[str, int] = field(default_factory=dict)
    description: str = ""
    inputs: dict[str, Param] = field(default_factory=dict)
    outputs: dict[str, Param] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    interpreter: Path = field(default_factory=lambda: plain_name(Path(sys.executable)))
    venv: Path | None = None
    requirements: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "scratch"
    ignore: tuple[str, ...] = ()


class Modules:
    """The modules of a folder, by their names.

    Args:
        folder: which is searched one level deep.
        makes_venvs: whether virtual environments that are missing will be made.
    """

    def __init__(self, folder: str | os.PathLike[str], makes_venvs: bool = False) -> None:
        self.folder = Path(folder)
        self._makes_venvs = makes_venvs
        self._named: dict[str, list[ProgramModule]] = {}
        self._is_there = self.folder.is_dir()
        for path in sorted(self.folder.iterdir()) if self._is_there else ():
            if (path / MANIFEST_NAME).exists():
                module = read_module(path, makes_venvs)
                self._named.setdefault(module.name, []).append(module)

    def __iter__(self) -> Iterator[ProgramModule]:
        return iter([module for named in self._named.values() for module in named])

    def check_folder(self, place: tuple[str, int], problems: Problems) -> bool:
        if not self._is_there:
            problems.add(place, str(self.folder), f"there is no folder of modules {str(self.folder)!r}",
                         "give --modules-dir DIR")  # fmt: skip
        return self._is_there

    def find(self, name: str, place: tuple[str, int], problems: Problems) -> ProgramModule | None:
        """A module that can be used; everything that is wrong with it becomes a problem of the job."""
        found = self._named.get(name, [])
        if not found and not self._is_there:
            return None
        if not found:
            problems.add(place, name, f"there is no module {name!r} in {str(self.folder)!r}",
                         f"{did_you_mean(name, self._named)}the modules are {listed(self._named)}")  # fmt: skip
            return None
        if len(found) > 1:
            problems.add(place, name, *_namesakes(found))
        problems.extend(found[0].problems.found)
        return found[0]

    def warnings(self, used: set[str]) -> list[str]:
        """A line for each module that the job does not use and that is broken, or one of several of its name."""
        return [str(found[0]) for module in self
                if module.name not in used and (found := self.problems_of(module))]  # fmt: skip

    def problems_of(self, module: ProgramModule) -> list[Problem]:
        """What is wrong with a module, also beside the others."""
        found, namesakes = [*module.problems.found], self._named[module.name]
        if len(namesakes) > 1 and module is not namesakes[0]:
            what, way_out = _namesakes(namesakes)
            found.append(Problem(*module.place, "name", what, way_out))
        return found


def _namesakes(modules: Iterable[ProgramModule]) -> tuple[str, str]:
    found = list(modules)
    places = " and ".join("{}:{}".format(*module.place) for module in found)
    return f"several modules are called {found[0].name!r}: {places}", "give each another name"


def read_module(folder: Path, makes_venvs: bool) -> ProgramModule:
    """What the manifest of a folder says."""
    problems = Problems()
    shown = str(folder / MANIFEST_NAME)
    element = read_yaml(folder / MANIFEST_NAME, shown, problems)
    if element is None:
        return ProgramModule(folder.name, folder, (shown, 1), problems)
    given = fields_of(element, MANIFEST, "the manifest", problems)
    name = given.name("name", "the module", problems) or folder.name
    module = ProgramModule(name, folder, given.place_of("name"), problems, element.keys, given.text("description"))
    module.inputs, module.outputs = _params(given, "inputs", problems), _params(given, "outputs", problems)
    for twice in module.inputs.keys() & module.outputs.keys():
        problems.add(module.outputs[twice].place, twice, f"the param {twice!r} is both an input and an output",
                     "rename one")  # fmt: skip
    module.options = {key: given[key].plain for key in OPTIONS if key in given}
    module.env = {key: value.text or str(value.value) for key, value in given.mapping_of("env").items()}
    module.cwd = given.of("cwd", "scratch")
    module.ignore = tuple(str(each.plain) for each in given.items_of("ignore"))
    _find_interpreter(module, given, makes_venvs)
    _find_command(module, given, element)
    return module


def _params(manifest: Fields, key: str, problems: Problems) -> dict[str, Param]:
    found: dict[str, Param] = {}
    for each in manifest.items_of(key):
        given = fields_of(each, PARAM, f"an item of {key!r}", problems)
        if len(given) < 2 or not is_word(given.of("param_name"), given.place_of("param_name"), "param", problems):
            continue
        name = given.of("param_name")
        if name in found:
            problems.add(given.place_of("param_name"), name, f"the param {name!r} is there twice",
                         "remove or rename one")  # fmt: skip
        found[name] = Param(name, given.of("type"), given.place_of("type"))
    return found


def _find_interpreter(module: ProgramModule, given: Fields, makes_venvs: bool) -> None:
    problems, folder = module.problems, os.path.abspath(module.folder)
    if "python" in given and "venv" in given:
        problems.add(given.place_of("python"), "python", "the manifest has both 'python' and 'venv'", "leave one out")
    if "requirements" in given:
        module.requirements = _inside(module, given["requirements"], "requirements")
    is_usual = "requirements" in given and (makes_venvs or os.path.exists(os.path.join(folder, VENV)))
    if "python" in given:
        text = given.of("python")
        found = shutil.which(os.path.join(folder, text) if "/" in text else text)
        module.interpreter = Path(found or text)
        if found is None:
            problems.add(given.place_of("python"), "python", f"there is no interpreter {text!r}", "give its path")
    elif "venv" in given or is_usual:
        module.venv = Path(folder, given.of("venv", VENV))
        module.interpreter = module.venv / "bin" / "python"
        if not module.interpreter.exists() and not makes_venvs:
            problems.add(given.place_of("venv"), "venv", f"there is no virtual environment {str(module.venv)!r}",
                         "make it with --make-venvs")  # fmt: skip


def _find_command(module: ProgramModule, given: Fields, element: Element) -> None:
    if "command" in given:
        words = [each.text or str(each.value) for each in given.items_of("command")]
        program = _program(module, words[0], given.place_of("command"))
        module.command = (program, *map(_filled(module), words[1:]))
    elif "entrypoint" in given:
        module.command = (str(module.interpreter), str(_inside(module, given["entrypoint"], "entrypoint")))
    elif "entrypoint" not in element.value:
        module.problems.add(element.place, "entrypoint", "the manifest has no 'entrypoint'",
                            "add 'entrypoint: FILE', a program of Python in the folder, or a 'command'")  # fmt: skip


def _filled(module: ProgramModule) -> Callable[[str], str]:
    """Fills in what may stand in a word of a command."""
    folder, python = os.path.abspath(module.folder), str(module.interpreter)
    return lambda word: word.replace("{module}", folder).replace("{python}", python)


def _program(module: ProgramModule, word: str, place: tuple[str, int]) -> str:
    """The program of a command: in the folder if it has a slash, else on PATH."""
    text = _filled(module)(word)
    found = shutil.which(os.path.join(os.path.abspath(module.folder), text) if "/" in text else text)
    if found is None and text != str(module.interpreter):
        module.problems.add(place, "command", f"there is no program {word!r}",
                            "give the path of one that can be run, or install it")  # fmt: skip
    return found or text


def _inside(module: ProgramModule, element: Element, key: str) -> Path:
    """A file in the folder of the module."""
    path = Path(os.path.abspath(module.folder), str(element.value))
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(module.folder)):
        module.problems.add(element.place, key, f"{key!r} {element.value!r} lies outside of the module's folder",
                            "name a file in it")  # fmt: skip
    elif not path.is_file():
        module.problems.add(element.place, key,
                            f"{key!r} is to be {str(module.folder / element.value)!r}, and there is no such file",
                            "check the name")  # fmt: skip
    return path


# what entries are made of ---------------------------------------------------------------------------------------------


def watched_folder(module: ProgramModule) -> tuple[str, ...]:
    """Patterns of what in the folder is not part of the code."""
    with os.scandir(module.folder) as found:
        venvs = [escape(each.name) for each in found if os.path.exists(os.path.join(each.path, "pyvenv.cfg"))]
    return *PASSED_OVER, *venvs, *(pattern.rstrip("/") for pattern in module.ignore)


def plain_name(path: Path) -> Path:
    """An interpreter by the plainest of its names: a command may have been installed with another one than is used."""
    names = [path.with_name(name) for name in ("python", "python3")]
    return next((name for name in names if name.exists() and path.exists() and name.samefile(path)), path)


def print_of_interpreter(path: Path) -> str:
    """Its path and version, without starting it."""
    if path == plain_name(Path(sys.executable)):
        return f"{path} {sys.version.split()[0]}"
    config = path.parent.parent / "pyvenv.cfg"
    lines = config.read_text(encoding="utf-8").splitlines() if config.exists() else []
    versions = [line for line in lines if line.startswith("version")]
    real = os.path.realpath(path)
    return f"{path} {versions[0] if versions else (real, os.stat(real).st_size if os.path.exists(real) else 0)}"


def check_resources(modules: Iterable[ProgramModule], problems: Problems) -> None:
    """Cores and memory that no host has."""
    for module in modules:
        for key, most in (("cores", lambda host: host.cpus), ("memory", lambda host: host.memory)):
            if key in module.options and isinstance(asked := _number_of(module, key, problems), int):
                there = max(map(most, hosts()))
                if asked > there:
                    asks = f"{key}: {module.options[key]}"
                    what = f"module {module.name!r} asks for {asks}, and no host has more than {there}"
                    problems.add(_line_of(module, key), key, what, "give less, or cores: all")


def _number_of(module: ProgramModule, key: str, problems: Problems) -> Any:
    if key == "cores":
        return module.options[key]
    try:
        return bytes_of_memory(f"module {module.name!r}", module.options[key])
    except BuildError as error:
        problems.add(_line_of(module, key), key, str(error), "write a number or '8G'")
        return None


def _line_of(module: ProgramModule, key: str) -> tuple[str, int]:
    return module.place[0], module.lines.get(key, module.place[1])
