"""What is a change of code, and what is not: pairs of texts are loaded as modules, and their functions are compared."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import DEADLINE_S, REPOSITORY

from job_stream.baked.build import code
from job_stream.baked.build.captured import captured, rebound
from job_stream.baked.build.code import CodeReader, hash_of_function
from job_stream.baked.build.ownership import is_own

numbers = itertools.count()
Load = Callable[..., types.ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes a module of a text; others that it imports may be given by name."""
    before = set(sys.modules)

    def loaded(text: str, **others: str) -> types.ModuleType:
        number = next(numbers)
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.syspath_prepend(folder)
        for name, source in others.items():
            sys.modules.pop(name, None)
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        path = folder / f"loaded{number}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield loaded
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def cases(kind: str) -> list[Any]:
    """Pairs of texts, each with a function ``f``, of which the second is how the first one has been edited."""
    text = Path(__file__).with_name("build_code_changes.txt").read_text()
    blocks = (block.partition("\n") for block in text.removeprefix("== ").split("\n== "))
    return [pytest.param(*body.split("\n--\n"), id=head.removeprefix(f"{kind}: "))
            for head, _, body in blocks if head.startswith(f"{kind}: ")]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), cases("same"))
def test_no_change(load: Load, before: str, after: str) -> None:
    assert hash_of_function(load(before).f) == hash_of_function(load(after).f)


@pytest.mark.parametrize(("before", "after"), cases("changed"))
def test_a_change(load: Load, before: str, after: str) -> None:
    assert hash_of_function(load(before).f) != hash_of_function(load(after).f)


def test_the_first_of_two_lambdas_on_a_line_is_not_the_second(load: Load) -> None:
    before, after = (load(f"fs = [lambda x: 1, lambda x: {n}]") for n in (2, 3))
    assert hash_of_function(before.fs[0]) == hash_of_function(after.fs[0])
    assert hash_of_function(before.fs[1]) != hash_of_function(after.fs[1])
    assert hash_of_function(before.fs[0]) != hash_of_function(before.fs[1])


HELPED = "import tools\ndef f(x):\n    return tools.helper(x)"


@pytest.mark.parametrize(
    "user",
    [
        HELPED,
        "from tools import helper\ndef f(x):\n    return helper(x)",
        "def f(x):\n    import tools\n    return tools.helper(x)",
        "def f(x):\n    from tools import helper as h\n    return h(x)",
        "import tools as t\ndef f(x):\n    return t.helper(x)",
    ],
)
def test_a_function_of_another_module_of_the_project_is_followed(load: Load, user: str) -> None:
    one = hash_of_function(load(user, tools="def helper(x):\n    return 1").f)
    other = hash_of_function(load(user, tools="def helper(x):\n    return 2").f)
    same = hash_of_function(load(user, tools="def helper(x):\n    # words\n    return 1").f)
    assert one == same != other


@pytest.mark.parametrize("line", ["from . import tools", "from .tools import helper", "from packed import tools",
                                  "import packed.tools as tools"])  # fmt: skip
def test_a_module_of_the_same_package_is_followed_unloaded(tmp_path: Path, line: str) -> None:
    prints = []
    for number in (1, 2):
        package = tmp_path / str(number) / "packed"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "tools.py").write_text(f"def helper():\n    return {number}")
        uses = "helper()" if "helper" in line else "tools.helper()"
        (package / "user.py").write_text(f"def f():\n    {line}\n    return {uses}")
        source = "import sys\nfrom job_stream.baked.build.code import hash_of_function\nfrom packed.user import f\n" \
                 "print(hash_of_function(f), 'packed.tools' in sys.modules)"  # fmt: skip
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=DEADLINE_S,
                              check=True, env={**os.environ, "PYTHONPATH": str(package.parent)})  # fmt: skip
        prints.append(done.stdout.split())
    assert prints[0][1] == prints[1][1] == "False"
    assert prints[0][0] != prints[1][0]


def test_what_is_loaded_by_a_function_is_followed_once_it_is_loaded(load: Load) -> None:
    user = "def f(x):\n    import tools\n    return tools.helper(x)"
    prints = []
    for number in (1, 2):
        module = load(user, tools=f"def helper(x):\n    return 1\ndef other():\n    return {number}")
        module.f(1)
        prints.append(hash_of_function(module.f))
    assert prints[0] == prints[1]


def test_what_is_ignored_is_not_followed(load: Load) -> None:
    texts = [f"def helper(x):\n    return {n}" for n in (1, 2)]
    for ignore in ("tools.helper", "tools"):
        one, other = (hash_of_function(load(HELPED, tools=text).f, [ignore]) for text in texts)
        assert one == other
    modules = [load(HELPED, tools=text) for text in texts]
    prints = []
    for module in modules:
        prints.append(hash_of_function(module.f, [module.tools]))
        prints.append(hash_of_function(module.f, [module.tools.helper]))
    assert prints[:2] == prints[2:]


def test_foreign_code_counts_by_name(load: Load) -> None:
    made = CodeReader().read(load("import json, numpy\ndef f(x):\n    return json.dumps(numpy.mean(x))").f)
    assert [part.name for part in made.parts] == ["", "json.dumps", "numpy.mean"]
    assert not is_own(json.dumps)
    assert not is_own(functools)
    assert not is_own(CodeReader)


def test_values_that_are_not_watched_are_told(load: Load) -> None:
    module = load("import logging\nlog = logging.getLogger('a')\ndef f(x):\n    log.info(x)")
    assert CodeReader().read(module.f).unwatched == (("log", "logging.Logger"),)
    assert isinstance(module.log, logging.Logger)


def test_an_object_that_is_the_function_is_told_if_it_is_not_watched(load: Load) -> None:
    module = load("class F:\n    def __call__(self, x):\n        return self.n\nf = F()")
    assert [name for name, _ in CodeReader().read(module.f).unwatched] == ["self"]


@pytest.mark.parametrize(
    "text",
    [
        "class A:\n        n = x",
        "class A:\n        n = [x]\n        def f(self):\n            return self.n",
        "from dataclasses import dataclass\n    @dataclass\n    class A:\n        n: int = x",
        "from enum import Enum\n    class A(Enum):\n        n = x",
        "from typing import NamedTuple\n    class A(NamedTuple):\n        n: int = x",
    ],
)
def test_what_a_class_in_a_function_has_of_that_ones_variables_is_watched(text: str, load: Load) -> None:
    module = load(f"def make(x):\n    {text}\n    def f():\n        return A\n    return f")
    assert hash_of_function(module.make(1)) == hash_of_function(module.make(1))
    assert hash_of_function(module.make(1)) != hash_of_function(module.make(2))


def test_a_value_that_many_functions_use_is_looked_at_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("a = [1]\ndef f():\n    return a\ndef g():\n    return a\na.append(2)")
    asked: list[Any] = []
    ask = code.fingerprint_of
    monkeypatch.setattr(code, "fingerprint_of", lambda value: (asked.append(value), ask(value))[1])
    reader = CodeReader()
    one, other = reader.read(module.f), reader.read(module.g)
    assert asked == [[1, 2]]
    module.a.append(3)
    assert reader.read(module.f) == one
    assert CodeReader().read(module.f) != one
    assert one.parts[1] == other.parts[1]


def test_a_chain_of_any_length_is_followed(load: Load) -> None:
    links = "".join(f"def f{n}(x):\n    return f{n + 1}(x)\n" for n in range(2000))
    one, other = (load(f"{links}def f2000(x):\n    return {n}\ndef f(x):\n    return f0(x)") for n in (1, 2))
    assert hash_of_function(one.f) != hash_of_function(other.f)


def test_a_table_that_holds_itself_has_an_end(load: Load) -> None:
    text = "def g():\n    return {}\nt = dict(g=g)\nt['t'] = t\ndef f():\n    return t"
    one, same, other = (load(text.format(n)) for n in (1, 1, 2))
    assert hash_of_function(one.f) == hash_of_function(same.f) != hash_of_function(other.f)


def test_the_parts_have_names_and_sources(load: Load) -> None:
    made = CodeReader().read(load("N = 3\ndef h(x):\n    return N\n\ndef f(x):\n    return h(x)").f)
    assert [(part.name, part.source) for part in made.parts] == [
        ("", "def f(x):\n    return h(x)"), ("h", "def h(x):\n    return N"), ("N", "N = 3"),
    ]  # fmt: skip


@pytest.mark.parametrize("function", [len, "".join, int, [].append, functools.partial(len), lambda: None])
def test_anything_that_can_be_called_has_a_print(function: Any) -> None:
    assert hash_of_function(function) == hash_of_function(function)


def test_a_function_without_source_is_told_by_what_it_was_compiled_to() -> None:
    def made(text: str) -> Any:
        names: dict[str, Any] = {}
        exec(text, names)
        return names["f"]

    one, same, other = (made(f"def f(x):{text}") for text in ("return x + 1", "\n return x + 1", "return x + 2"))
    assert hash_of_function(one) == hash_of_function(same) != hash_of_function(other)
    one, other = (made(f"N = {number}\ndef f():\n    return N") for number in (1, 2))
    assert hash_of_function(one) != hash_of_function(other)


GOLDEN = Path(__file__).with_name("build_code_golden.json")
LOADER = """
import importlib.util, json, sys, types
from pathlib import Path
package = types.ModuleType("job_stream.baked.build")
folder = Path(sys.argv[1])
package.__path__ = [str(folder / "baked" / "build")]
baked, top = types.ModuleType("job_stream.baked"), types.ModuleType("job_stream")
top.__path__ = [str(folder / "job_stream")]
sys.modules.update({"job_stream": top, "job_stream.baked": baked, "job_stream.baked.build": package})
from job_stream.baked.build.code import hash_of_function
spec = importlib.util.spec_from_file_location("sample", sys.argv[2])
sample = sys.modules["sample"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sample)
print(json.dumps({name: hash_of_function(value) for name, value in vars(sample).items() if name.startswith("sample_")}))
"""


VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-c", ""], capture_output=True, timeout=DEADLINE_S).returncode == 0
    except OSError:
        return False


def pythons() -> list[Any]:
    found: dict[int, Path | None] = {}
    for minor in (10, 11, 12, 13, 14):
        name = f"python3.{minor}"
        candidates = [*VERSIONS.glob(f"3.{minor}.*/bin/{name}"), Path(shutil.which(name) or os.devnull)]
        found[minor] = next((path for path in candidates if runs(path)), None)
    found[sys.version_info[1]] = Path(sys.executable)
    return [
        pytest.param(path, id=f"3.{minor}", marks=() if path else pytest.mark.skip(reason=f"no Python 3.{minor} here"))
        for minor, path in found.items()
    ]


@pytest.mark.parametrize("python", pythons())
def test_prints_are_equal_in_all_pythons(python: Path) -> None:
    sample = REPOSITORY / "tests" / "baked" / "build_code_sample.py"
    done = subprocess.run([python, "-c", LOADER, REPOSITORY, sample], capture_output=True, text=True,
                          timeout=DEADLINE_S, cwd=REPOSITORY)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())


# the variable of a loop -------------------------------------------------------------------------------------------


def test_a_variable_that_is_bound_anew_is_found() -> None:
    functions = []
    for i in range(3):
        functions.append((lambda: i, captured(lambda: i)))  # noqa: B023 - what is looked for
    found = [rebound(function, before) for function, before in functions]
    assert found == [[("i", 0, 2)], [("i", 1, 2)], []]


def test_a_global_that_is_bound_anew_is_found(load: Load) -> None:
    module = load("def f():\n    return i\ni = 1")
    before = captured(module.f)
    assert before == {"i": 1}
    assert rebound(module.f, before) == []
    module.i = 2
    assert rebound(module.f, before) == [("i", 1, 2)]
    del module.i
    assert rebound(module.f, before) == [("i", 1, None)]


def test_an_attribute_is_no_variable_of_the_same_name(load: Load) -> None:
    module = load("i = 1\ndef f(x):\n    return x.i")
    assert captured(module.f) == {}


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    return [one for one in x if one > i]",
        "def f(x):\n    return lambda: i",
        "import functools\ndef g(x):\n    return i\nf = functools.partial(g, 1)",
        "import functools\ndef g(x):\n    return i\nf = functools.wraps(g)(lambda x: g(x))",
        "import contextlib\n@contextlib.contextmanager\ndef f(x):\n    yield i",
    ],
)
def test_a_variable_is_found_wherever_it_is_used(load: Load, text: str) -> None:
    module = load(f"i = 1\n{text}")
    before = captured(module.f)
    assert before == {"i": 1}
    module.i = 2
    assert rebound(module.f, before) == [("i", 1, 2)]


def test_equal_values_are_none_that_were_bound_anew(load: Load) -> None:
    module = load("import numpy\ni = (1, numpy.arange(3), float('nan'))\ndef f():\n    return i")
    before = captured(module.f)
    module.i = (1, type(module.i[1])((3,), int), float("nan"))
    module.i[1][:] = before["i"][1]
    assert rebound(module.f, before) == []
    module.i[1][:] = 0
    assert [name for name, _, _ in rebound(module.f, before)] == ["i"]


def test_what_may_change_by_itself_is_no_variable_of_a_loop(load: Load) -> None:
    module = load("seen = []\ndef f():\n    return seen")
    assert captured(module.f) == {}
