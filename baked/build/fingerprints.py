"""Fingerprints of values: parameters, captured variables, constants. Equal values have equal ones, in every process.

Of every kind of value that is known here there is one way to write it down, so neither the order in which a set or a
mapping was filled nor pickle's memory of which objects are the same one matters. What is not known is refused: its
``repr`` may hold an address, and then everything would run each time.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
import struct
import sys
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from job_stream.errors import BuildError

__all__ = ["Fingerprint", "fingerprint_of", "shortened"]

DIGEST_BYTES = 16
SHORT_CHARACTERS = 60


class Fingerprint(NamedTuple):
    """A value with a text that stands for it: it has changed when the text has.

    As a parameter it is for values of kinds that are not known; a function that gets it is given ``value``. As what a
    load returns, it lets users of the load depend on ``text`` rather than on how the value was made.

    Args:
        value: anything.
        text: what stands for it.

    Example:
        >>> from job_stream.baked.build import Fingerprint
        >>> import re
        >>> pattern = Fingerprint(re.compile("a+"), "a+")
    """

    value: Any
    text: str


def fingerprint_of(value: Any, name: str = "the value") -> str:
    """The fingerprint of a value.

    Args:
        value: None, bool, int, float, complex, str, bytes, tuple, list, dict, set, frozenset, range, slice, Path, Enum,
            a date, time or time zone, a dataclass, an array or scalar of NumPy, an object of pandas, or a
            ``Fingerprint``; of those that hold values, all of these.
        name: how an error calls it.

    Returns:
        a number of 128 bits, in hex.

    Raises:
        BuildError: it is, or holds, something else; names it, and the way out.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    try:
        _Writer(digest.update, name).write(value)
    except RecursionError:
        raise BuildError(
            f"{name} is too deep: give Fingerprint(value, 'a text that changes with it') instead"
        ) from None
    return digest.hexdigest()


def shortened(value: Any) -> str:
    """A value as it is shown in reasons: its ``repr`` where that is short, or the begin of it."""
    if isinstance(value, Fingerprint):
        return value.text if len(value.text) <= SHORT_CHARACTERS else value.text[: SHORT_CHARACTERS - 3] + "..."
    if _is_array(value):
        return f"{value.dtype}{list(value.shape)}"
    if _is_of_pandas(value):
        shape = getattr(value, "shape", None)
        return f"{type(value).__name__}{list(shape)}" if shape is not None else repr(value)[:SHORT_CHARACTERS]
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= SHORT_CHARACTERS else text[: SHORT_CHARACTERS - 3] + "..."


class _Writer:
    """Writes values down, each behind the name of its kind and its length, so that no two read alike."""

    def __init__(self, put: Callable[[bytes], Any], name: str) -> None:
        self._put = put
        self._name = name
        self._around: list[int] = []

    def write(self, value: Any) -> None:
        write = _WAYS.get(type(value))
        if write is not None:
            write(self, value)
        else:
            self._other(value)

    def put(self, kind: str, data: bytes) -> None:
        self._put(b"%s %d\0" % (kind.encode(), len(data)))
        self._put(data)

    def text(self, kind: str, text: str) -> None:
        self.put(kind, text.encode("utf-8", "surrogatepass"))

    # kinds that hold others -------------------------------------------------------------------------------------------

    def sequence(self, kind: str, values: Any) -> None:
        with _Inside(self._around, values, self._name):
            self.put(kind, b"%d" % len(values))
            for value in values:
                self.write(value)

    def unordered(self, kind: str, values: Any) -> None:
        with _Inside(self._around, values, self._name):
            prints = sorted(fingerprint_of(value, self._name) for value in values)
            self.put(kind, "".join(prints).encode())

    def mapping(self, kind: str, values: Mapping[Any, Any]) -> None:
        with _Inside(self._around, values, self._name):
            pairs = sorted((fingerprint_of(key, self._name), self._print_of(value)) for key, value in values.items())
            self.put(kind, "".join(key + value for key, value in pairs).encode())

    def _print_of(self, value: Any) -> str:
        digest = blake2b(digest_size=DIGEST_BYTES)
        inner = _Writer(digest.update, self._name)
        inner._around = self._around
        inner.write(value)
        return digest.hexdigest()

    # all that is not named by its type --------------------------------------------------------------------------------

    def _other(self, value: Any) -> None:
        kind = type(value)
        if isinstance(value, enum.Enum):
            self.text("enum", f"{kind.__module__}.{kind.__qualname__}.{value.name}")
        elif isinstance(value, pathlib.PurePath):
            self.text("path", value.as_posix())
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            self._dataclass(value)
        elif isinstance(value, tuple) and hasattr(kind, "_fields"):
            self.text("named", kind.__qualname__)
            self.sequence("tuple", value)
        elif base := next((base for base in _BASES if isinstance(value, base)), None):
            self.text("of", f"{kind.__module__}.{kind.__qualname__}")
            _WAYS[base](self, value)
        elif kind.__module__ == "zoneinfo":
            self.text("zone", repr(value))
        elif _is_array(value):
            self._array(value)
        elif _is_scalar(value):
            self.text("scalar", str(value.dtype))
            self.put("bytes", value.tobytes())
        elif _is_of_pandas(value):
            self._of_pandas(value)
        else:
            self._refuse(value)

    def _refuse(self, value: Any) -> None:
        kind = type(value)
        raise BuildError(
            f"{self._name}: nobody can tell whether {shortened(value)}, a {kind.__module__}.{kind.__qualname__}, has "
            f"changed: give Fingerprint(value, 'a text that changes with it') instead"
        )

    def _dataclass(self, value: Any) -> None:
        self.text("dataclass", type(value).__qualname__)
        with _Inside(self._around, value, self._name):
            for field in dataclasses.fields(value):
                self.text("field", field.name)
                self.write(getattr(value, field.name, None))

    def _array(self, array: Any) -> None:
        if _is_masked(array):
            self.text("masked", str(array.fill_value))
            self.write([array.data, array.mask])
            return
        self.text("array", f"{array.dtype.descr if array.dtype.names else array.dtype.str} {array.shape}")
        if array.dtype.hasobject:
            self.sequence("objects", array.ravel().tolist())
        else:
            self._put(_contiguous(array).tobytes())

    def _of_pandas(self, value: Any) -> None:
        """Frames, series and indexes by their columns; what is a scalar by its text."""
        pandas = sys.modules["pandas"]
        self.text("pandas", type(value).__name__)
        if isinstance(value, pandas.DataFrame):
            self.write(list(value.columns))
            self._of_pandas(value.index)
            for position in range(value.shape[1]):
                self._column(value.iloc[:, position])
        elif isinstance(value, pandas.Series):
            self.write(value.name)
            self._of_pandas(value.index)
            self._column(value)
        elif isinstance(value, pandas.Index):
            self.write(list(value.names))
            self._column(value)
        else:
            self.text("text", repr(value))

    def _column(self, column: Any) -> None:
        self.text("dtype", str(column.dtype))
        values = column.to_numpy()
        if values.dtype.hasobject:
            self.sequence("objects", [_plain(value) for value in values.tolist()])
        else:
            self._array(values)


class _Inside:
    """What holds itself is refused, rather than written down for ever."""

    def __init__(self, around: list[int], value: Any, name: str) -> None:
        self._around, self._value, self._name = around, value, name

    def __enter__(self) -> None:
        if id(self._value) in self._around:
            raise BuildError(
                f"{self._name} holds itself: give Fingerprint(value, 'a text that changes with it') instead"
            )
        self._around.append(id(self._value))

    def __exit__(self, *error: object) -> None:
        self._around.pop()


def _plain(value: Any) -> Any:
    """A value of a column of objects: what is missing there is one and the same."""
    return None if value is None or value != value or type(value).__name__ == "NAType" else value


def _contiguous(array: Any) -> Any:
    return sys.modules["numpy"].ascontiguousarray(array)


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")  # where it is not loaded, nothing is of it
    return numpy is not None and isinstance(value, numpy.ndarray)


def _is_masked(array: Any) -> bool:
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(array, masked.MaskedArray)


def _is_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject


def _is_of_pandas(value: Any) -> bool:
    return (type(value).__module__ or "").partition(".")[0] == "pandas" and "pandas" in sys.modules


def _float(writer: _Writer, value: float) -> None:
    # of several NaNs one is as good as another; 0.0 and -0.0 are not
    writer.put("float", b"nan" if value != value else struct.pack("<d", value))


def _complex(writer: _Writer, value: complex) -> None:
    writer.sequence("complex", (value.real, value.imag))


def _fingerprint(writer: _Writer, value: Fingerprint) -> None:
    writer.text("fingerprint", value.text)


_WAYS: dict[type, Callable[[_Writer, Any], None]] = {
    type(None): lambda writer, value: writer.put("none", b""),
    type(Ellipsis): lambda writer, value: writer.put("ellipsis", b""),
    bool: lambda writer, value: writer.put("bool", b"1" if value else b"0"),
    int: lambda writer, value: writer.put("int", b"%x" % value),
    float: _float,
    complex: _complex,
    str: lambda writer, value: writer.text("str", value),
    bytes: lambda writer, value: writer.put("bytes", value),
    bytearray: lambda writer, value: writer.put("bytearray", bytes(value)),
    tuple: lambda writer, value: writer.sequence("tuple", value),
    list: lambda writer, value: writer.sequence("list", value),
    dict: lambda writer, value: writer.mapping("dict", value),
    set: lambda writer, value: writer.unordered("set", value),
    frozenset: lambda writer, value: writer.unordered("frozenset", value),
    range: lambda writer, value: writer.sequence("range", (value.start, value.stop, value.step)),
    slice: lambda writer, value: writer.sequence("slice", (value.start, value.stop, value.step)),
    datetime.date: lambda writer, value: writer.text("date", value.isoformat()),
    datetime.datetime: lambda writer, value: writer.text("datetime", f"{value.isoformat()} {value.fold}"),
    datetime.time: lambda writer, value: writer.text("time", f"{value.isoformat()} {value.fold}"),
    datetime.timezone: lambda writer, value: writer.text("timezone", repr(value)),
    datetime.timedelta: lambda writer, value: writer.text("timedelta", repr(value)),
    Fingerprint: _fingerprint,
}
_BASES = (str, bytes, int, float, list, dict, set, frozenset, datetime.datetime, datetime.date)
"""Whatever derives from one of these is written as that, with its own name."""
