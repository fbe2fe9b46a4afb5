"""Imports go one way: a module imports only from the places above its own, and no two modules import each other.

PLACES is the order of the rooms, which are the folders of the package, and of the public faces at its root. A new one
needs a place in it, which is a decision about the design; the tests ask for one. Within a room modules may import each
other, without a cycle.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from support import REPOSITORY

PACKAGE = "job_stream"

# From what all may import to what imports all. The last but two is job_stream/__init__.py, with the public names.
PLACES = (
    *("errors", "keywords", "ground", "values", "memory", "stream", "engine", "simulate", "evaluate", "ranks"),
    *("checkpoints", "workers", "lanes", "observe", "runtime", "futures", "iteration", "awaiting"),
    *("work", "ordered", "common", "inline", "joblib", "invoke", "", "launcher", "__main__"),
)

# What the engine may use: no clock, no I/O, no chance, no user code.
ENGINE_ALLOWED = {
    *("__future__", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "functools"),
    *("heapq", "itertools", "math", "operator", "types", "typing"),
}
ENGINE_ALLOWED_PLACES = {"errors", "stream.plan"}

# What a recipe in baked/ may use.
PUBLIC = {PACKAGE, *(f"{PACKAGE}.{name}" for name in ("inline", "common", "errors", "keywords", "baked"))}

# What tests are about that are of no room.
OTHER_TESTS = {"public", "baked", "house"}

Imports = Mapping[str, frozenset[str]]


# --- reading ----------------------------------------------------------------------------------------------------------


def module_name(path: Path, root: Path, package: str) -> str:
    parts = [package, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, package: str) -> Iterator[tuple[str, str | None]]:
    """Each import of a module as (module, name taken from it), wherever it stands; `package` resolves relative ones."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                around = package.split(".")[: len(package.split(".")) - node.level + 1]
                module = ".".join([*around, *filter(None, [module])])
            yield from ((module, alias.name) for alias in node.names)


def resolve(module: str, name: str | None, known: Iterable[str]) -> str:
    """`from a import b` imports a.b if that is a module, else something of a."""
    return f"{module}.{name}" if f"{module}.{name}" in known else module


def read_imports(root: Path, package: str) -> Imports:
    paths = {module_name(path, root, package): path for path in sorted(root.rglob("*.py"))}
    imports = {}
    for module, path in paths.items():
        inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = imported_names(path.read_text(encoding="utf-8"), inside)
        imports[module] = frozenset(resolve(*pair, known=paths) for pair in found)
    return imports


# --- judging ----------------------------------------------------------------------------------------------------------


def full_name(place: str) -> str:
    return f"{PACKAGE}.{place}" if place else PACKAGE


RANKS = {name: rank for rank, name in enumerate(PLACES)}


def place_of(module: str) -> str:
    """The room of a module, or the module itself where it lies at the root."""
    return f"{module}..".split(".")[1]


def without_a_place(modules: Iterable[str]) -> list[str]:
    return sorted({place_of(module) for module in modules} - RANKS.keys())


def against_the_order(imports: Imports) -> list[str]:
    return [
        f"{module} imports {other}, which stands below it"
        for module, others in sorted(imports.items())
        for other in sorted(others)
        if other.partition(".")[0] == PACKAGE
        and RANKS.get(place_of(other), -1) > RANKS.get(place_of(module), len(RANKS))
    ]


def find_cycle(imports: Imports) -> list[str]:
    """One cycle of imports as a list of modules, the first again at the end; empty if there is none."""
    finished: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished or module not in imports:
            return []
        for other in sorted(imports[module]):
            if cycle := search(other, [*path, module]):
                return cycle
        finished.add(module)
        return []

    for module in sorted(imports):
        if cycle := search(module, []):
            return cycle
    return []


def impure(imports: Imports) -> list[str]:
    engine = f"{PACKAGE}.engine"
    allowed = {full_name(place) for place in ENGINE_ALLOWED_PLACES}

    def is_allowed(other: str) -> bool:
        if other.partition(".")[0] == PACKAGE:
            return other in allowed or other == engine or other.startswith(f"{engine}.")
        return other.partition(".")[0] in ENGINE_ALLOWED

    return [
        f"{module} imports {other}"
        for module, others in sorted(imports.items())
        if module == engine or module.startswith(f"{engine}.")
        for other in sorted(others)
        if not is_allowed(other)
    ]


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(REPOSITORY / PACKAGE, PACKAGE)


def test_every_module_has_a_place(imports: Imports) -> None:
    homeless = without_a_place(imports)
    assert not homeless, (
        f"{', '.join(homeless)}: belongs in a room, or is one that wants a place in PLACES, below all that it imports"
    )


def test_modules_import_only_from_places_above_their_own(imports: Imports) -> None:
    assert not against_the_order(imports)


def test_no_modules_import_each_other(imports: Imports) -> None:
    cycle = find_cycle(imports)
    assert not cycle, " -> ".join(cycle)


def test_the_engine_is_pure(imports: Imports) -> None:
    found = impure(imports)
    assert not found, f"{found}: the engine decides, and leaves clocks, I/O and chance to those who call it"


def test_recipes_import_only_the_public_interface() -> None:
    imports = read_imports(REPOSITORY / "baked", f"{PACKAGE}.baked")
    private = {
        (module, other)
        for module, others in imports.items()
        for other in others
        if other.partition(".")[0] == PACKAGE and other not in PUBLIC and other not in imports
    }
    assert not private


# --- the tests' own tests: each mistake is noticed --------------------------------------------------------------------


def test_a_module_without_a_place_is_noticed() -> None:
    modules = ["job_stream", "job_stream.stream.plan", "job_stream.gossip", "job_stream.parlour.cards"]
    assert without_a_place(modules) == ["gossip", "parlour"]


def test_an_import_against_the_order_is_noticed() -> None:
    others = ("job_stream.inline", "job_stream.stream.checks", "job_stream.errors", "json")
    imports = {"job_stream.stream.plan": frozenset(others)}
    assert against_the_order(imports) == ["job_stream.stream.plan imports job_stream.inline, which stands below it"]


def test_a_cycle_is_noticed() -> None:
    imports = {"a": frozenset({"b"}), "b": frozenset({"c", "json"}), "c": frozenset({"b"})}
    assert find_cycle(imports) == ["b", "c", "b"]


def test_a_clock_and_a_lower_layer_in_the_engine_are_noticed() -> None:
    rank = "job_stream.engine.rank"
    imports = {
        rank: frozenset({"time", "job_stream.memory.payload", "job_stream.stream.plan", "typing"}),
        "job_stream.runtime.runtime": frozenset({"time"}),
    }
    assert impure(imports) == [f"{rank} imports job_stream.memory.payload", f"{rank} imports time"]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("from . import ledger", "job_stream.engine.ledger"),
        ("from .ledger import Ledger", "job_stream.engine.ledger"),
        ("from .. import plan", "job_stream.plan"),
        ("from ..plan import Plan", "job_stream.plan"),
        ("from job_stream import plan", "job_stream.plan"),
        ("from job_stream import Work", "job_stream"),
        ("import job_stream.plan", "job_stream.plan"),
        ("def late():\n    import job_stream.plan", "job_stream.plan"),
    ],
)
def test_every_way_to_write_an_import_is_read(tmp_path: Path, statement: str, expected: str) -> None:
    root = tmp_path / "job_stream"
    (root / "engine").mkdir(parents=True)
    for name in ("__init__", "plan", "engine/__init__", "engine/ledger"):
        (root / f"{name}.py").touch()
    (root / "engine" / "rank.py").write_text(statement, encoding="utf-8")
    assert read_imports(root, "job_stream")["job_stream.engine.rank"] == {expected}


def test_every_place_is_taken(imports: Imports) -> None:
    assert RANKS.keys() == {place_of(module) for module in imports}, "remove these from PLACES"


def test_the_tests_have_the_same_rooms() -> None:
    def folders(root: Path) -> set[str]:
        return {path.parent.name for path in root.glob("*/*.py")}

    assert folders(REPOSITORY / "tests") == folders(REPOSITORY / PACKAGE) | OTHER_TESTS


def test_allowed_modules_are_of_the_standard_library() -> None:
    assert ENGINE_ALLOWED - {"__future__"} <= sys.stdlib_module_names
