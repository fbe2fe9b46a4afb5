"""What is promised about what is released: it holds all there is, says what it needs, and works where it is installed.

Both archives are built once, from a copy of the files of the repository. Each is installed into an environment of its
own, which sees the libraries of the one that runs the tests, so nothing is fetched.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from support import DEADLINE_S, REPOSITORY, stretched

import job_stream

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = ("tests/public/test_map.py", "tests/stream/test_plan.py")
PLACE = "https://host.invalid/owner/job_stream"

pytestmark = pytest.mark.xdist_group("packaging")


@dataclass(frozen=True)
class Release:
    source: Path
    wheel: Path

    def unpacked(self, folder: Path) -> Path:
        with tarfile.open(self.source) as archive:
            archive.extractall(folder)
        return folder / self.source.name.removesuffix(".tar.gz")


def said(*command: object, **keywords: object) -> str:
    words, limit_s = [*map(str, command)], stretched(DEADLINE_S)
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL, **keywords
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of_the_repository() -> list[str]:
    git = ("git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    try:
        listed = subprocess.run(git, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout, so nothing says which files belong to the repository")
    return [name for name in listed if name and (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, in which building leaves what it leaves."""
    folder = tmp_path_factory.mktemp("tree")
    for name in files_of_the_repository():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, folder / name)
    return folder


def build(tree: Path, folder: Path) -> Release:
    pytest.importorskip("build", reason="the package build is not installed")
    if int(importlib.metadata.version("setuptools").partition(".")[0]) < 77:
        pytest.skip("setuptools is older than 77")
    said(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree, cwd=folder)
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Release(source, wheel)


@pytest.fixture(scope="module")
def release(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return build(tree, tmp_path_factory.mktemp("release"))


def metadata_of(release: Release) -> Message:
    with ZipFile(release.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def environment(folder: Path, archive: Path) -> Path:
    """The Python of a new environment in which the archive is installed, and all else is as it is here."""
    pytest.importorskip("pip", reason="there is no pip here")
    said(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    packages = Path(said(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    paths = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (packages / "those_here.pth").write_text("".join(f"{path}\n" for path in paths))
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--no-compile", "-q")
    said(sys.executable, "-m", "pip", "--python", python, "install", *options, archive, cwd=folder)
    return python


@pytest.fixture(scope="module")
def pythons(release: Release, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The Python of an environment for each archive."""
    folder = tmp_path_factory.mktemp("environments")
    return {kind: environment(folder / kind, getattr(release, kind)) for kind in ("source", "wheel")}


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_source_archive_holds_all_files_of_the_repository(release: Release, tree: Path) -> None:
    with tarfile.open(release.source) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = {name for name in files_of_the_repository() if not re.fullmatch(r"\.gitignore|CHANGES\..*\.txt", name)}
    assert wanted - held == set()


def test_the_tests_of_the_source_archive_pass_with_what_is_installed(
    release: Release, pythons: dict[str, Path], tmp_path: Path
) -> None:
    python, source = pythons["source"], release.unpacked(tmp_path)
    for name in ("job_stream", "baked"):  # so that what is imported is what is installed
        shutil.move(source / name, tmp_path / f"{name} of the archive")
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONDONTWRITE"))}
    options = ("-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}")
    assert " passed" in said(python, "-m", "pytest", *options, *CORE, cwd=source, env=quiet)
    where = said(python, "-c", "import job_stream.baked; print(job_stream.__file__)", cwd=source)
    assert Path(where).is_relative_to(python.parent.parent)
    assert "Usage" in said(python.with_name("job_stream"), "--help", cwd=source)


def test_both_archives_install_the_same(pythons: dict[str, Path], tmp_path: Path) -> None:
    source, wheel = (installed_by(python, tmp_path) for python in pythons.values())
    assert len(wheel) > 100
    assert source.keys() == wheel.keys()
    assert [name for name in source if source[name] != wheel[name]] == []


def installed_by(python: Path, folder: Path) -> dict[str, bytes]:
    """All files of the package, and the command."""
    package = Path(said(python, "-c", "import job_stream; print(job_stream.__file__)", cwd=folder).strip()).parent
    assert package.is_relative_to(python.parent.parent)
    files = {
        str(path.relative_to(package)): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shebang, _, command = python.with_name("job_stream").read_bytes().partition(b"\n")
    assert shebang.decode().startswith("#!")
    return {**files, "the command": command}


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_the_metadata_says_what_it_is(release: Release) -> None:
    metadata = metadata_of(release)
    assert (metadata["Name"], metadata["Version"]) == ("job_stream", job_stream.__version__)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_what_is_needed_has_a_lowest_version() -> None:
    needed = (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["sweep"])
    assert not [text for text in needed if not re.match(r"[\w-]+>=\d", text)]


def test_the_pythons_that_are_named_are_those_that_are_tried() -> None:
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    tried = re.search(r"\nversions=\(([\d. ]+)\)", (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8"))
    assert tried is not None
    assert tried[1].split() == named
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_tests_that_are_tried_with_every_python_are_there() -> None:
    core = re.search(r"(?s)\ncore=\((.*?)\n\)", (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8"))
    assert core is not None
    assert core[1].split()
    for path, _, test in (name.partition("::") for name in core[1].split()):
        assert (REPOSITORY / path).exists(), path
        assert not test or f"\ndef {test}(" in (REPOSITORY / path).read_text(encoding="utf-8"), test


# --- the text for PyPI ------------------------------------------------------------------------------------------------


def complaints(text: str) -> str:
    core = pytest.importorskip("docutils.core", reason="docutils comes with the extra docs")
    heard: list[str] = []

    class Complaints:
        def write(self, said: str) -> None:
            heard.append(said)

    # as PyPI has it
    settings = {"raw_enabled": False, "file_insertion_enabled": False, "warning_stream": Complaints()}
    core.publish_string(text, writer="null", settings_overrides=settings)
    return "".join(heard)


def relative(text: str) -> list[str]:
    return re.findall(r"<[\w/]+\.\w+>`_|\.\. image:: \w+/\S+|^\.\. _[^:]+: (?!https:).*", text, re.MULTILINE)


def test_without_an_address_the_text_for_pypi_has_no_links_that_lead_nowhere(release: Release) -> None:
    text = str(metadata_of(release).get_payload())
    assert text.startswith("job_stream\n====")
    assert relative(text) == []
    assert complaints(text) == ""


def test_links_and_addresses_are_made_of_the_one_in_the_citation(tree: Path, tmp_path: Path) -> None:
    shutil.copytree(tree, tmp_path / "tree", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    with (tmp_path / "tree" / "CITATION.cff").open("a", encoding="utf-8") as citation:
        citation.write(f'repository-code: "{PLACE}"\n')
    (tmp_path / "release").mkdir()
    metadata = metadata_of(build(tmp_path / "tree", tmp_path / "release"))
    text, tag = str(metadata.get_payload()), f"v{job_stream.__version__}"
    assert relative(text) == []
    assert f"{PLACE}/raw/{tag}/docs/images/stream.svg\n   :alt:" in text
    assert f".. _Start: {PLACE}/blob/{tag}/docs/start.rst\n" in text
    assert complaints(text) == ""
    assert sorted(metadata.get_all("Project-URL", [])) == [
        f"Changelog, {PLACE}/blob/{tag}/CHANGELOG.rst",
        f"Documentation, {PLACE}/blob/{tag}/docs/index.rst",
        f"Issues, {PLACE}/issues",
        f"Source, {PLACE}",
    ]


# --- other packages ---------------------------------------------------------------------------------------------------


NAMES_IN_CONDA = {"msgpack": "msgpack-python"}


def test_the_recipe_for_conda_needs_what_the_metadata_says() -> None:
    recipe = yaml.safe_load((REPOSITORY / "packaging" / "meta.yaml").read_text(encoding="utf-8"))
    needed = {"__linux": "", "python": PROJECT["requires-python"]}
    for requirement in PROJECT["dependencies"]:
        name, version = re.split("(?=>)", requirement.partition(";")[0], maxsplit=1)
        needed[NAMES_IN_CONDA.get(name, name.lower())] = version
    assert dict(text.partition(" ")[::2] for text in recipe["requirements"]["run"]) == needed
    assert recipe["package"] == {"name": PROJECT["name"], "version": job_stream.__version__}
    assert recipe["build"]["entry_points"] == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]


def test_the_dockerfile_takes_a_python_and_extras_that_there_are() -> None:
    text = (REPOSITORY / "packaging" / "Dockerfile").read_text(encoding="utf-8")
    python, extras = re.search(r"FROM python:(3\.\d+)-slim", text), re.search(r"/source\[(.+?)\]", text)
    assert python is not None
    assert extras is not None
    assert f"Programming Language :: Python :: {python[1]}" in PROJECT["classifiers"]
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)
