"""What the programs on ranks have in common: what they measure, and how they tell it.

A program prints one JSON object, or several that have no key in common: ``reading`` and, where start-up can be told
apart, ``startup``, in seconds; ``answer``, to be checked by whoever started it.
"""

import gc
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

Result = TypeVar("Result")


def tell(**told: object) -> None:
    """In one write, so that the lines of two ranks are not mixed."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def timed(run: Callable[[], Result]) -> tuple[float, Result]:
    """Wall seconds of ``run()``, and what it returned."""
    gc.collect()
    begin = perf_counter()
    result = run()
    return perf_counter() - begin, result


def call_named(programs: Mapping[str, Callable[..., object]]) -> None:
    """Run the program that the command line names, with the keywords given as JSON after it."""
    keywords: dict[str, Any] = json.loads(sys.argv[2])
    programs[sys.argv[1]](**keywords)


def digest(counts: Counter[str]) -> str:
    """The same for equal counts, and short enough to be told."""
    return sha256(json.dumps(sorted(counts.items())).encode()).hexdigest()


def write_pieces(pieces: list[str], path: Path) -> None:
    """A piece of text without line ends on each line."""
    path.write_text("\n".join(pieces), encoding="utf-8")


def read_pieces(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").split("\n")
