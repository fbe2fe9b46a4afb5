"""What is promised about the project as a whole: its documentation runs, and it is packaged and imported as it says."""

import doctest
import importlib
import importlib.metadata
import importlib.util
import itertools
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support import DEADLINE_S, REPOSITORY

import job_stream

DOCUMENTS = [REPOSITORY / "README.rst", *sorted((REPOSITORY / "docs").rglob("*.rst"))]


# --- the documents' scripts -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    text: str


@dataclass(frozen=True)
class Script:
    """A python block, and what the output block right after it, if there is one, says that it prints."""

    document: str
    line: int
    source: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def code_blocks(text: str) -> Iterator[Block]:
    """Each `.. code-block::` with the lines that are indented more than it, less its options and its indentation."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        directive = re.fullmatch(r"(\s*)\.\. code-block:: (\w+)\s*", line)
        if directive is None:
            continue
        margin = len(directive[1])
        body = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= margin:
                break
            body.append(following)
        while body and (not body[0].strip() or re.match(r"\s*:\w+:", body[0])):
            del body[0]
        yield Block(directive[2], number + 1, textwrap.dedent("\n".join(body)).strip() + "\n")


def scripts(text: str, document: str) -> Iterator[Script]:
    blocks = [*code_blocks(text), None]
    for block, following in itertools.pairwise(blocks):
        if block is not None and block.language == "python":
            output = following.text if following is not None and following.language == "output" else None
            yield Script(document, block.line, block.text, output)


SCRIPTS = [
    script
    for path in DOCUMENTS
    for script in scripts(path.read_text(encoding="utf-8"), str(path.relative_to(REPOSITORY)))
]


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
def test_a_script_in_the_documentation_prints_what_it_says(script: Script, tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(script.source, encoding="utf-8")
    done = run_python(str(file))
    assert done.returncode == 0, f"{script}\n{done.stderr}"
    if script.output is not None:
        assert done.stdout == script.output


def test_the_documentation_holds_scripts() -> None:
    assert {"README.rst", "docs/start.rst", "docs/sweep.rst"} <= {script.document for script in SCRIPTS}


RECIPES = ["for", "nested_for", "aggregate", "while_until", "fan_out_fan_in", "map", "external_programs"]


@pytest.mark.parametrize("name", RECIPES)
def test_there_is_a_recipe_for_each_loop(name: str) -> None:
    assert f"docs/recipes/{name}.rst" in {script.document for script in SCRIPTS}
    assert f":doc:`recipes/{name}`" in (REPOSITORY / "docs" / "recipes.rst").read_text(encoding="utf-8")


def test_blocks_are_read_with_their_options_and_their_output() -> None:
    text = """
.. code-block:: python
   :caption: a file

   if True:
       print(1)

Prose.

.. code-block:: output

   1

.. code-block:: text

   print(2)
"""
    assert list(scripts(text, "a.rst")) == [Script("a.rst", 2, "if True:\n    print(1)\n", "1\n")]


def literal_blocks(text: str) -> Iterator[str]:
    """What stands in `.. code-block:: text` and behind `::`, which nothing runs."""
    yield from (block.text for block in code_blocks(text) if block.language not in ("python", "output"))
    yield from re.findall(r"(?m)^(?!\.\. ).*::\n\n((?:    .*\n|\n)+)", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_script_of_a_document_is_left_out(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\.\. (code|sourcecode|highlight)::", text), "scripts stand in .. code-block:: python"
    for block in literal_blocks(text):
        assert not re.search(r"(?m)^\s*(from \S+ )?import |^\s*\w+ = Work\(|^\s*with \w+\(", block), block


@pytest.mark.parametrize("script", [script for script in SCRIPTS if "/recipes/" in script.document], ids=str)
def test_every_recipe_shows_what_it_prints(script: Script) -> None:
    assert script.output


# --- the documents' pictures and links --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_picture_is_there_and_is_described(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for file, options in re.findall(r"\.\. (?:image|figure):: (\S+)\n((?:   +\S.*\n)*)", text):
        assert (path.parent / file).is_file(), file
        assert re.search(r":alt: \S.{20}", options), f"{file} needs an :alt: that says what there is to see"


def test_the_pictures_are_those_that_the_script_draws() -> None:
    file = REPOSITORY / "docs" / "pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = {name: draw().render() for name, draw in module.PICTURES.items()}
    stored = {path.name: path.read_text(encoding="utf-8") for path in (file.parent / "images").glob("*.svg")}
    assert stored == drawn, "run python docs/pictures.py"
    for text in drawn.values():
        ElementTree.fromstring(text)


def test_the_links_of_the_readme_lead_somewhere() -> None:
    text = (REPOSITORY / "README.rst").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"<([^<>\s]+)>`_", text) if "://" not in link]
    assert len(links) > 5
    assert not [link for link in links if not (REPOSITORY / link).is_file()]


# --- the reference ----------------------------------------------------------------------------------------------------


MODULES = ("", ".inline", ".common", ".errors", ".keywords", ".baked", ".futures", ".joblib")
PUBLIC = [f"job_stream{name}" for name in MODULES]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    text = (REPOSITORY / "docs" / "api.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"^\.\. (?:auto|py:)(?:class|function|module):: (?:\w+\.)*(\w+)$", text, re.MULTILINE))
    for members in re.findall(r"^\.\. automodule:: (\S+)\n   :members:(.*)$", text, re.MULTILINE):
        named.update(re.findall(r"\w+", members[1]) or importlib.import_module(members[0]).__all__)
    described = {"work"}  # in the text of its module
    assert set(importlib.import_module(name).__all__) <= named | described


WITH_EXAMPLES = [
    f"{package}.{'.'.join(path.relative_to(folder).with_suffix('').parts)}".removesuffix(".__init__")
    for package, folder in (("job_stream", REPOSITORY / "job_stream"), ("job_stream.baked", REPOSITORY / "baked"))
    for path in sorted(folder.rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def _is_of_a_recipe(name: str) -> bool:
    return name.startswith("job_stream.baked")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.libraries if _is_of_a_recipe(name) else ()) for name in WITH_EXAMPLES],
)
def test_the_examples_of_docstrings_do_what_they_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if _is_of_a_recipe(name):
        pytest.importorskip("scipy", reason="the libraries of sweep are not installed")
    monkeypatch.setenv("JOBS_STATS", "0")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_docstrings_with_examples_are_found() -> None:
    some = {"job_stream", "job_stream.inline", "job_stream.work", "job_stream.baked.sweep.sweeping"}
    assert some <= set(WITH_EXAMPLES)


# --- packaging --------------------------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (REPOSITORY / "CHANGELOG.rst").read_text(encoding="utf-8")
    newest = re.search(r"^(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None
    assert importlib.metadata.version("job_stream") == job_stream.__version__ == newest[1]
    assert f"\nversion: {job_stream.__version__}\n" in citation


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(job_stream.__file__).parent / "py.typed").is_file()


def test_recipes_are_importable_as_job_stream_baked() -> None:
    done = run_python("-c", "import job_stream.baked; print(job_stream.baked.__name__)")
    assert done.stdout == "job_stream.baked\n", done.stderr


def test_the_commands_of_the_readme_name_what_there_is() -> None:
    readme = (REPOSITORY / "README.rst").read_text(encoding="utf-8")
    commands = re.findall(r"^    (python3 -m venv .*)$", readme, re.MULTILINE)
    assert len(commands) == 2
    run, test = commands
    assert (REPOSITORY / run.split()[-1]).is_file()
    assert "-e '.[test]'" in test
    assert test.endswith(".venv/bin/python -m pytest")
    assert "test" in (importlib.metadata.metadata("job_stream").get_all("Provides-Extra") or [])


# --- importing --------------------------------------------------------------------------------------------------------


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.mark.parametrize("module", ["numpy", "mpi4py", "pandas", "yaml"])
def test_importing_job_stream_leaves_heavy_modules_alone(module: str) -> None:
    done = run_python("-c", f"import sys, job_stream, job_stream.inline; print({module!r} in sys.modules)")
    assert done.stdout == "False\n", done.stderr


UNWANTED_ROOMS = ("job_stream.simulate", "job_stream.launcher", "job_stream.stream.configuration")
UNWANTED = frozenset((
    "argparse", "asyncio", "cloudpickle", "concurrent.futures", "dataclasses", "decimal", "hashlib", "hmac", "inspect",
    "json", "logging", "mpi4py", "multiprocessing", "numpy", "platform", "secrets", "ssl", "subprocess", "tempfile",
    "threadpoolctl", "traceback", "uuid", "yaml",
))  # fmt: skip


def test_a_plain_stream_loads_nothing_that_it_does_not_need() -> None:
    """Each module that is loaded for nothing is paid for by every script, and on every rank."""
    source = f"""
        import sys
        sys.path[:] = {[str(REPOSITORY), *sys.path]!r}
        import job_stream
        assert job_stream.map(abs, [-1], cpus=1) == [1]
        print(*sys.modules)
    """
    done = run_python("-S", "-c", textwrap.dedent(source))  # not what the environment loads by itself
    loaded = set(done.stdout.split())
    assert "job_stream.runtime.runtime" in loaded, done.stderr
    room = "job_stream.checkpoints."
    assert {name.removeprefix(room) for name in loaded if name.startswith(room)} == {"options", "signals", "stopping"}
    assert not {name for name in loaded if name.startswith(UNWANTED_ROOMS)}
    assert not loaded & UNWANTED


@pytest.mark.parametrize("useMultiprocessing", [True, False])
def test_a_stream_runs_where_mpi4py_cannot_be_imported(useMultiprocessing: bool) -> None:
    source = f"""
        import sys
        sys.modules['mpi4py'] = None  # an import of it now raises ImportError
        import job_stream
        print(job_stream.map(lambda number: number + 1, [1, 2, 3], useMultiprocessing={useMultiprocessing}))
    """
    done = run_python("-c", textwrap.dedent(source))
    assert done.stdout == "[2, 3, 4]\n", done.stderr


def test_the_public_names_are_the_same_in_both_places() -> None:
    import job_stream.inline

    for name in ("Work", "Args", "Multiple", "Object", "map", "rng", "getRank", "getCpuCount", "getHostCpuCount"):
        assert getattr(job_stream, name) is getattr(job_stream.inline, name)
