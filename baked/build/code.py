"""Has the code of a function changed? Its print is made of its own tree, and of all that it uses of the project.

What a function uses is looked up as it would look it up itself: variables that it has captured, defaults, globals,
attributes of modules and classes. Functions and classes among them that are the project's own are followed, to any
depth. What is foreign (the standard library, what is installed) counts by its name. Values count where parameters could
have them; of others somebody is told that they are not watched.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from job_stream.errors import BuildError

from .captured import captured, captured_cells, rebound
from .code_tree import Chain, Taken, canonical, chains_of
from .fingerprints import fingerprint_of, shortened
from .ownership import OURS, absolute, file_of_module, is_own, is_own_path, own_behind
from .source_trees import SourceFile, source_file

__all__ = ["CodePart", "CodePrint", "CodeReader", "captured", "hash_of_function", "rebound"]

DIGEST_BYTES = 16
OF_THE_MODULE = frozenset({"__name__", "__file__", "__package__", "__spec__", "__loader__", "__doc__", "__builtins__"})
"""They differ where a project was moved, or where a script is imported; what is done is the same."""


class CodePart(NamedTuple):
    """One function, class or value that belongs to the code of a job.

    Attributes:
        name: by which it is used.
        digest: of this part alone.
        source: of a function or class, as it is written; of a value, its ``repr`` in brief.
    """

    name: str
    digest: str
    source: str


class CodePrint(NamedTuple):
    """What the code of a function was when it was looked at.

    Attributes:
        digest: has changed if and only if the code has.
        parts: the function itself, and what it uses, in the order in which that is found.
        unwatched: names, with their types, whose values nobody can tell the changes of.
    """

    digest: str
    parts: tuple[CodePart, ...]
    unwatched: tuple[tuple[str, str], ...]


def hash_of_function(function: Any, ignore: Iterable[Any] = ()) -> str:
    """The digest of a function's code as it is now.

    Args:
        function: anything that can be called.
        ignore: functions, classes, modules, or names such as 'tools.helper', that are not followed.
    """
    return CodeReader(ignore).read(function).digest


class _CodeReading(NamedTuple):
    """What is known of a piece of code, whatever it has captured."""

    digest: str
    source: str
    taken: Taken


class CodeReader:
    """Makes prints of functions; what several of them use is looked at once, so make one for a whole run.

    Args:
        ignore: functions, classes, modules, or names such as 'tools.helper', that are not followed.
    """

    def __init__(self, ignore: Iterable[Any] = ()) -> None:
        self._ignored_names = {one for one in ignore if isinstance(one, str)}
        self._ignored = [one for one in ignore if not isinstance(one, str)]
        self._files: dict[str, SourceFile | None] = {}
        self._readings: dict[Any, _CodeReading] = {}
        self._prints: dict[int, tuple[Any, CodePrint]] = {}
        self._values: dict[int, tuple[Any, str]] = {}

    def read(self, function: Any) -> CodePrint:
        """The print of a function, class, method, partial, or anything else that can be called."""
        known = self._prints.get(id(function))
        if known is not None:
            return known[1]
        walk = _Walk(self)
        walk.follow("", function)
        made = walk.result()
        self._prints[id(function)] = (function, made)  # held, so that nothing else can have its id
        return made

    def is_ignored(self, name: str, thing: Any) -> bool:
        """Whether something is not to be followed."""
        if name in self._ignored_names or any(thing is one for one in self._ignored):
            return True
        full = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', '')}"
        return full in self._ignored_names or full.partition(".")[0] in self._ignored_names

    def fingerprint(self, value: Any) -> str:
        """The fingerprint of a value, which may be large and be used by many functions."""
        known = self._values.get(id(value))
        if known is None:
            known = self._values[id(value)] = (value, fingerprint_of(value))
        return known[1]

    def of_function(self, function: FunctionType) -> _CodeReading:
        code = function.__code__
        known = self._readings.get(code)
        if known is None:
            known = self._readings[code] = self._read_code(code, function.__globals__)
        return known

    def _read_code(self, code: CodeType, names: Mapping[str, Any]) -> _CodeReading:
        file = self._file(code.co_filename, names)
        node = file.node_of(code) if file is not None else None
        if file is None or node is None:
            return _CodeReading(_digest(_compiled(code)), "", Taken(tuple(map(Chain, _names_in(code))), ()))
        own_name = code.co_name if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else ""
        taken = chains_of(node)
        is_local = own_name in code.co_freevars or own_name in names
        text = canonical(node, own_name if is_local else "")
        return _CodeReading(_digest(text), file.source_of(node), taken)

    def of_class(self, kind: type) -> _CodeReading:
        known = self._readings.get(kind)
        if known is None:
            known = self._readings[kind] = self._read_class(kind)
        return known

    def _read_class(self, kind: type) -> _CodeReading:
        module = sys.modules.get(kind.__module__)
        path = getattr(module, "__file__", None) or _file_of_methods(kind)
        file = self._file(path, vars(module) if module else {}) if path else None
        node = file.classes.get(kind.__qualname__) if file is not None else None
        if file is None or node is None:
            methods = [value for value in vars(kind).values() if isinstance(value, FunctionType) and is_own(value)]
            if issubclass(kind, tuple) and hasattr(kind, "_fields"):
                methods = []  # all that collections.namedtuple has made
            text = [*_members(kind), *(_compiled(method.__code__) for method in methods)]
            names = [Chain(name) for method in methods for name in _names_in(method.__code__)]
            return _CodeReading(_digest(repr(text)), "", Taken(tuple(dict.fromkeys(names)), ()))
        return _CodeReading(_digest(canonical(node, kind.__name__)), file.source_of(node), chains_of(node))

    def of_module_file(self, path: str) -> _CodeReading | None:
        """All of a module that is not loaded, so that nobody knows what of it will be used."""
        file = self._file(path, {})
        if file is None:
            return None
        return _CodeReading(_digest(canonical(file.tree)), "", Taken((), ()))

    def _file(self, name: str, names: Mapping[str, Any]) -> SourceFile | None:
        if name not in self._files:
            self._files[name] = source_file(name, names)
        return self._files[name]


class _Walk:
    """One function and all that it uses, each once."""

    def __init__(self, reader: CodeReader) -> None:
        self._reader = reader
        self._parts: list[CodePart] = []
        self._unwatched: dict[str, str] = {}
        self._seen: dict[int, tuple[int, Any]] = {}
        self._waiting: deque[tuple[str, Any]] = deque()

    def result(self) -> CodePrint:
        while self._waiting:
            self._look(*self._waiting.popleft())
        digest = _digest("\n".join(f"{part.name} {part.digest}" for part in self._parts))
        return CodePrint(digest, tuple(self._parts), tuple(self._unwatched.items()))

    def _add(self, name: str, digest: str, source: str = "") -> None:
        self._parts.append(CodePart(name, digest, source))

    # what is followed -------------------------------------------------------------------------------------------------

    def follow(self, name: str, thing: Any) -> None:
        """Something is used by this name; the name of the function itself is empty.

        It has to wait for its turn: functions that use each other may be more than a stack can hold.
        """
        self._waiting.append((name, thing))

    def _look(self, name: str, thing: Any) -> None:
        if id(thing) in self._seen and _is_followed(thing):
            self._add(name, f"seen {self._seen[id(thing)][0]}")
            return
        if _is_followed(thing):
            self._seen[id(thing)] = (len(self._seen), thing)
        if name and self._reader.is_ignored(name, thing):
            self._add(name, "ignored")
        elif isinstance(thing, partial):
            self._partial(name, thing)
        elif isinstance(thing, MethodType):
            self._method(name, thing)
        elif isinstance(thing, (FunctionType, type)):
            self._code(name, thing)
        elif isinstance(thing, (staticmethod, classmethod)):
            self.follow(name, thing.__func__)
        elif isinstance(thing, property):
            for part, function in (("get", thing.fget), ("set", thing.fset), ("delete", thing.fdel)):
                if function is not None:
                    self.follow(f"{name} ({part})", function)
        elif isinstance(thing, ModuleType):
            self._add(name, f"module {thing.__name__}")
        elif hasattr(thing, "__wrapped__") and callable(thing):
            from inspect import unwrap

            self._add(name, f"wrapped by {_full_name(type(thing))}")
            self.follow(name, unwrap(thing))
        else:
            self._value(name, thing)

    def _code(self, name: str, thing: FunctionType | type) -> None:
        wrapped = own_behind(thing)
        if wrapped is not None and isinstance(thing, FunctionType):
            self._add(name, f"wrapped by foreign {thing.__code__.co_name}")
            self.follow(f"{name} (wrapped)", wrapped)
            for kind, function in getattr(thing, "registry", {}).items():  # functools.singledispatch
                self.follow(f"{name} ({_full_name(kind)})", function)
        elif name and not is_own(thing):
            self._add(name, f"foreign {_foreign_name(thing)}")
        elif isinstance(thing, type):
            self._class(name, thing)
        else:
            self._function(name, thing)

    def _function(self, name: str, function: FunctionType) -> None:
        reading = self._reader.of_function(function)
        self._add(name, reading.digest, reading.source)
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for number, default in enumerate(defaults):
            self.follow(f"default {number}", default)
        cells = dict(captured_cells(function))
        for chain in reading.taken.chains:
            self._chain(chain, cells, function.__globals__, function)
        if not reading.source:
            for captured_name, value in cells.items():
                self._chain(Chain(captured_name), {captured_name: value}, {}, function)
        self._imports(reading.taken.imports, function.__globals__.get("__package__") or "")

    def _class(self, name: str, kind: type) -> None:
        reading = self._reader.of_class(kind)
        self._add(name, reading.digest, reading.source)
        for base in kind.__bases__:
            if base is not object:
                self.follow(f"base {base.__name__}", base)
        functions = [function for value in vars(kind).values() if (function := _function_in(value)) is not None]
        cells: dict[str, Any] = {}
        for function in functions:
            cells.update(captured_cells(function))
        cells.pop("__class__", None)
        module = sys.modules.get(kind.__module__)
        names = vars(module) if module is not None else functions[0].__globals__ if functions else {}
        for chain in reading.taken.chains:
            self._chain(chain, cells, names, kind)
        self._imports(reading.taken.imports, names.get("__package__") or "")
        if "<locals>" in kind.__qualname__:
            self._values_of_class(kind)

    def _values_of_class(self, kind: type) -> None:
        """What the body of a class in a function has made of that one's variables, which are gone by now."""
        if issubclass(kind, Enum):
            self._add(f"{kind.__name__} members", "; ".join(_members(kind)))
            return
        for name, value in vars(kind).items():
            with suppress(BuildError):  # a method, for one
                if not name.startswith("_") or not name.endswith("_"):
                    self._add(f"{kind.__name__}.{name}", f"value {self._reader.fingerprint(value)}")

    def _partial(self, name: str, thing: partial[Any]) -> None:
        self._add(name, "partial")
        self.follow(f"{name} (of)", thing.func)
        for number, value in enumerate(thing.args):
            self.follow(f"argument {number}", value)
        for key, value in sorted(thing.keywords.items()):
            self.follow(f"argument {key}", value)

    def _method(self, name: str, method: MethodType) -> None:
        """A bound method: its function, what that uses of the class, and the object where its value can be told."""
        self._add(name, "method")
        owner = method.__self__
        if isinstance(owner, type):
            self.follow(f"{name} (of)", owner)
            return
        self.follow(f"{name} (of)", type(owner))
        self.follow(f"{name} (function)", method.__func__)
        self._value("self", owner)

    # names ------------------------------------------------------------------------------------------------------------

    def _chain(self, chain: Chain, cells: Mapping[str, Any], names: Mapping[str, Any], user: Any) -> None:
        """Looks a name up, and its attributes as long as they are those of modules and classes."""
        if chain.root in cells:
            thing = cells[chain.root]
        elif chain.root in OF_THE_MODULE:
            self._add(chain.root, "of the module")
            return
        elif chain.root in names:
            thing = names[chain.root]
        elif hasattr(builtins, chain.root):
            self._add(chain.root, "built in")
            return
        else:
            self._add(chain.root, "nowhere")
            return
        if thing is user:
            return
        self._attributes(chain.root, thing, chain.attributes)

    def _attributes(self, name: str, thing: Any, attributes: tuple[str, ...]) -> None:
        for number, attribute in enumerate(attributes):
            if not isinstance(thing, ModuleType):
                break
            if not is_own(thing) or self._reader.is_ignored(name, thing):
                self._add(".".join((name, *attributes[number:])), f"foreign {thing.__name__}")
                return
            try:
                thing = getattr(thing, attribute)
            except AttributeError:
                self._add(f"{name}.{attribute}", "nowhere")
                return
            name = f"{name}.{attribute}"
        self.follow(name, thing)

    def _imports(self, imports: Iterable[Chain], package: str) -> None:
        """What a function imports itself; a module of the project that is not loaded yet counts as a whole."""
        for root, attributes in imports:
            name = absolute(root, package)
            inner = f"{name}.{attributes[0]}" if attributes else ""
            if inner and not hasattr(sys.modules.get(name), attributes[0]) and file_of_module(inner):
                name, attributes = inner, attributes[1:]
            if name in sys.modules:
                self._attributes(root, sys.modules[name], attributes)
                continue
            path = file_of_module(name)
            whole = None
            if path and name.partition(".")[0] != OURS and path.endswith(".py") and is_own_path(path):
                whole = self._reader.of_module_file(path)
            self._add(str(Chain(root, attributes)), whole.digest if whole is not None else "foreign")

    # values -----------------------------------------------------------------------------------------------------------

    def _value(self, name: str, value: Any) -> None:
        if isinstance(value, (BuiltinFunctionType, type(len))) or type(value).__name__ in _OF_C:
            self._add(name, f"built in {_full_name(value)}")
            return
        if isinstance(value, (list, tuple, dict, set, frozenset)) and any(map(_is_code, _held(value))):
            self._held(name, value)
            return
        try:
            digest = self._reader.fingerprint(value)
        except BuildError:
            self._object(name, value)
            return
        self._add(name, f"value {digest}", f"{name} = {shortened(value)}")
        if is_own(type(value)):
            self.follow(f"{name} (of)", type(value))

    def _held(self, name: str, value: Any) -> None:
        """A table of functions, for instance."""
        if id(value) in self._seen:
            self._add(name, f"seen {self._seen[id(value)][0]}")
            return
        self._seen[id(value)] = (len(self._seen), value)
        self._add(name, f"{type(value).__name__} of {len(value)}")
        items = value.items() if isinstance(value, dict) else enumerate(_in_order(value))
        for key, one in items:
            self.follow(f"{name}[{key!r}]" if isinstance(key, (str, int)) else f"{name}[...]", one)

    def _object(self, name: str, value: Any) -> None:
        """An object whose value cannot be told: if its class is the project's, its code can."""
        kind = type(value)
        if is_own(kind):
            self._add(name, "object")
            self.follow(f"{name} (of)", kind)
        else:
            self._add(name, f"unwatched {_full_name(kind)}")
        self._unwatched[name or "self"] = _full_name(kind)


_OF_C = frozenset({"method_descriptor", "wrapper_descriptor", "builtin_function_or_method", "ufunc", "method-wrapper"})


def _is_followed(thing: Any) -> bool:
    return isinstance(thing, (FunctionType, type, partial, MethodType)) or hasattr(thing, "__wrapped__")


def _is_code(thing: Any) -> bool:
    return isinstance(thing, (FunctionType, type, partial, MethodType, BuiltinFunctionType))


def _held(value: Any) -> Iterator[Any]:
    return iter(value.values() if isinstance(value, dict) else value)


def _in_order(value: Any) -> list[Any]:
    return sorted(value, key=_full_name) if isinstance(value, (set, frozenset)) else list(value)


def _full_name(thing: Any) -> str:
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or type(thing).__qualname__
    return f"{getattr(thing, '__module__', None) or ''}.{name}"


def _foreign_name(thing: Any) -> str:
    """Without the modules inside of its package: another version may have it elsewhere (pathlib.Path, for one)."""
    module, _, _ = (getattr(thing, "__module__", None) or "").partition(".")
    return f"{module.lstrip('_')}.{thing.__qualname__}"


def _function_in(value: Any) -> FunctionType | None:
    if isinstance(value, property):
        value = value.fget
    value = getattr(value, "__func__", value)
    value = getattr(value, "__wrapped__", value)
    return value if isinstance(value, FunctionType) else None


def _members(kind: type) -> list[str]:
    """What makes a class that was made by a call, of collections.namedtuple or Enum."""
    if issubclass(kind, Enum):
        return [f"{name} {shortened(one.value)}" for name, one in kind.__members__.items()]
    defaults = getattr(kind, "_field_defaults", {})
    return [f"{name} {shortened(defaults.get(name))}" for name in getattr(kind, "_fields", ())]


def _file_of_methods(kind: type) -> str | None:
    functions = (_function_in(value) for value in vars(kind).values())
    return next((function.__code__.co_filename for function in functions if function is not None), None)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).hexdigest()


def _compiled(code: CodeType) -> str:
    """A function without source: what it was compiled to, which another version of Python does differently."""
    consts = [_compiled(const) if isinstance(const, CodeType) else repr(const) for const in code.co_consts]
    version = sys.version_info[:2]
    return repr((version, code.co_code, consts, code.co_names, code.co_varnames[: code.co_argcount], code.co_freevars))


def _names_in(code: CodeType) -> list[str]:
    inner = [name for const in code.co_consts if isinstance(const, CodeType) for name in _names_in(const)]
    return list(dict.fromkeys([*code.co_names, *inner]))
