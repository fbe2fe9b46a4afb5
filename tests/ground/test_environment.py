"""The environment variables: each is spelt once, and the reference says of each what it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from job_stream.errors import JobStreamError, PlanError, WorldError
from job_stream.ground import environment
from job_stream.ground.environment import FOR_USERS, EnvVariable
from job_stream.launcher import usher

REPOSITORY = Path(__file__).resolve().parents[2]
STANDS_ALONE = "job_stream/launcher/usher.py"
OF_RECIPES = {"baked/build/building.py": {"JOBS_BUILD"}}
"""A recipe uses what is public, and spells its variables itself; the page about it says what they are."""
ALL = [each for each in vars(environment).values() if isinstance(each, EnvVariable)]


def table() -> str:
    """The variables for users as the reference lists them."""
    edge = f"{'=' * 27} {'=' * 90}"
    return "\n".join([edge, *(f"{f'``{each}``':27} {each.sentence}" for each in FOR_USERS), edge])


def test_the_reference_has_the_table_of_variables() -> None:
    assert table() in (REPOSITORY / "docs" / "api.rst").read_text(encoding="utf-8")


def test_every_variable_in_a_document_is_one_for_users() -> None:
    known = {each.name for each in FOR_USERS}.union(*OF_RECIPES.values())
    for path in (REPOSITORY / "README.rst", *(REPOSITORY / "docs").rglob("*.rst")):
        assert set(re.findall(r"\bJOBS_[A-Z_]+", path.read_text(encoding="utf-8"))) <= known, path


def spelt(path: Path) -> set[str]:
    """The names of variables that are a text of their own in a module."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if re.fullmatch(r"JOBS_\w+|SLURM_JOB_END_TIME", text)}


def test_every_variable_is_spelt_once() -> None:
    paths = [path for room in ("job_stream", "baked") for path in (REPOSITORY / room).rglob("*.py")]
    found = {str(path.relative_to(REPOSITORY)): spelt(path) for path in paths}
    assert found.pop("job_stream/ground/environment.py") == {each.name for each in ALL} - {"OMP_NUM_THREADS"}
    assert found.pop(STANDS_ALONE) == {"JOBS_LAUNCHER", "JOBS_USHER", "JOBS_CPUS"}
    assert {path: names for path, names in found.items() if names} == OF_RECIPES


def test_the_usher_names_its_variables_as_the_others_do() -> None:
    assert (environment.LAUNCHER.name, environment.USHER.name) == (usher.LAUNCHER, usher.USHER)


def test_the_usher_imports_nothing_of_the_package() -> None:
    nodes = list(ast.walk(ast.parse((REPOSITORY / STANDS_ALONE).read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    places = [(node.level, str(node.module)) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [name for name in names if name.startswith("job_stream")]
    assert not [name for level, name in places if level or name.startswith("job_stream")]


@pytest.mark.parametrize("variable", ALL, ids=str)
def test_a_variable_that_is_empty_says_nothing(variable: EnvVariable[object]) -> None:
    assert variable.read({variable.name: ""}) is None
    assert variable.read({}) is None


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        (environment.CPUS, "3", 3),
        (environment.MEMORY, "2MiB", 2 << 20),
        (environment.TIME_LIMIT, "1.5", 1.5),
        (environment.JOIN_LIMIT, "2", 2.0),
        (environment.RANKS, "1", True),
        (environment.STATS, "0", False),
        (environment.STATS, "1", True),
        (environment.CHECKPOINT, "a b", "a b"),
    ],
    ids=str,
)
def test_what_a_variable_says(variable: EnvVariable[object], text: str, value: object) -> None:
    assert variable.read({variable.name: text}) == value


@pytest.mark.parametrize(
    ("variable", "text", "error"),
    [
        (environment.CPUS, "0", PlanError),
        (environment.CPUS, "many", PlanError),
        (environment.MEMORY, "plenty", PlanError),
        (environment.MEMORY, "0", PlanError),
        (environment.TIME_LIMIT, "soon", PlanError),
        (environment.TIME_LIMIT, "nan", PlanError),
        (environment.END_TIME, "-1", PlanError),
        (environment.JOIN_LIMIT, "1e99", WorldError),
        (environment.RANKS, "2", WorldError),
        (environment.STATS, "yes", PlanError),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_an_error_that_names_the_variable(
    variable: EnvVariable[object], text: str, error: type[JobStreamError]
) -> None:
    with pytest.raises(error, match=rf"^{variable} .*'{text}'"):
        variable.read({variable.name: text})
