"""Functions whose prints must be the same in all Pythons; see test_build_code."""

import contextlib
import enum
import functools
import math
from collections import namedtuple
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

FACTOR = 3
NAMES = {"a", "b"}


def helper(x, *rest, scale=2.5, **more):
    """Words."""
    return x * scale + sum(rest) + len(more)


def sample_plain(path, n=1):
    return path + str(n * FACTOR)


def sample_strings(x, w):
    return f"{x}" f"a{x!r:>{w}}b{{}} {'inner'} {x + 1 = }" + "c" "d"


def sample_nested(values):
    def inner(value):
        return helper(value, FACTOR) if value else None

    found = [inner(v) for v in values if (last := v) is not None and v in NAMES]
    return found, {k: v + last for k, v in enumerate(values)}


def sample_control(x):
    try:
        with open(x) as file, file:
            for line in file:
                if line:
                    continue
                else:
                    break
            else:
                return None
    except (OSError, ValueError) as error:
        raise RuntimeError from error
    finally:
        del x
    while True:
        yield from ()


async def sample_async(x):
    async with x as y:
        return [await z async for z in y]


def sample_match(x):
    match x:
        case {"a": [1, *rest], **more} if rest:
            return more
        case (str() as text) | [text, 1]:
            return text
        case math.pi | None:
            return math.sqrt(2)


@dataclass
class Point:
    x: int
    y: float = 1e-3

    @property
    def length(self):
        return math.hypot(self.x, self.y)

    @classmethod
    def origin(cls):
        return cls(0, 0.0)


class Child(Point):
    def away(self, by: int = 10) -> "Child":
        return type(self)(self.x + by, self.y)


def sample_class():
    return Child.origin().away().length


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@logged
def sample_wrapped(x: int) -> int:
    return x if x < 2 else sample_wrapped(x - 1) * x


sample_partial = functools.partial(helper, 1, scale=0.1)
sample_lambda, sample_other = lambda x: -x, lambda x: x**-1j
sample_method = Child(1).away


@contextlib.contextmanager
def opened(x):
    yield x


Pair = namedtuple("Pair", "a b", defaults=(1,))
Colour = enum.Enum("Colour", "RED BLUE")
here = Point(1, 2.5)


def sample_made():
    with opened(Pair(1)) as pair:
        return pair, Colour.RED, here.length


sample_default = lambda x, g=lambda: 1: g(x)  # noqa: E731


def sample_foreign(x: list[Path]) -> Path:
    return reduce(Path.joinpath, x, Path(__file__).parent / __name__)
