"""Lists of combinations for the ``variables`` of a sweep: some points of a space that is too large to try out.

The same arguments give the same list, in every process and run: a sweep on several ranks needs that, and one that goes
on from a checkpoint or a log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, exp, log, log2
from typing import Any

from job_stream.errors import PlanError

from .arguments import is_number, need, whole
from .variables import Parameters

__all__ = ["latinHypercube", "randomPoints", "sobol", "zipped"]

Space = Mapping[str, Sequence[Any]]


def randomPoints(space: Space, count: int, seed: int = 0) -> list[Parameters]:
    """Points that are drawn independently of each other.

    Args:
        space: for each parameter where its values come from. A tuple ``(low, high)``: real numbers from low up to high;
            ``(low, high, "log")``: the same, with their logarithms evenly spread; a list or a range: its elements.
        count: how many points.
        seed: of the random numbers, a whole number from 0 on.

    Returns:
        A list of dicts, for the ``variables`` of a sweep.

    Raises:
        PlanError: an argument makes no sense.
        ImportError: SciPy is missing, which comes with ``job_stream[sweep]``.

    Example:
        >>> points = randomPoints({"rate": (1e-4, 1.0, "log"), "layers": range(1, 5)}, 20)
        >>> len(points), sorted(points[0])
        (20, ['layers', 'rate'])
    """
    _check(space, count, seed)
    from numpy.random import default_rng

    return _points(space, default_rng(seed).random((count, len(space))).tolist())


def latinHypercube(space: Space, count: int, seed: int = 0) -> list[Parameters]:
    """Points of which each lies in another of ``count`` equal parts of every parameter's range.

    Arguments, result and errors are those of ``randomPoints``. Source: McKay, Beckman and Conover, "A comparison of
    three methods for selecting values of input variables in the analysis of output from a computer code" (1979).
    """
    _check(space, count, seed)
    from numpy.random import default_rng
    from scipy.stats.qmc import LatinHypercube

    return _points(space, LatinHypercube(len(space), seed=default_rng(seed)).random(count).tolist())


def sobol(space: Space, count: int, seed: int = 0) -> list[Parameters]:
    """The first points of a scrambled Sobol sequence, which fill the space evenly; best with a power of two.

    Arguments, result and errors are those of ``randomPoints``. Source: Sobol, "The distribution of points in a cube and
    the approximate evaluation of integrals" (1967); scrambling by Matousek, "On the L2-discrepancy for anchored boxes"
    (1998), as in ``scipy.stats.qmc.Sobol``.
    """
    _check(space, count, seed)
    from numpy.random import default_rng
    from scipy.stats.qmc import Sobol

    sequence = Sobol(len(space), seed=default_rng(seed)).random_base2(ceil(log2(count)))
    return _points(space, sequence[:count].tolist())


def zipped(variables: Mapping[str, Sequence[Any]]) -> list[Parameters]:
    """The first values together, then the second ones, and so on.

    Args:
        variables: sequences of equal length.

    Raises:
        PlanError: their lengths differ.

    Example:
        >>> zipped({"width": [1, 2], "height": [30, 40]})
        [{'width': 1, 'height': 30}, {'width': 2, 'height': 40}]
    """
    lengths = {name: len(values) for name, values in variables.items()}
    if len(set(lengths.values())) > 1:
        raise PlanError(f"zipped takes sequences of equal length, not {lengths}")
    return [dict(zip(variables, values, strict=True)) for values in zip(*variables.values(), strict=True)]


def _check(space: Space, count: int, seed: int) -> None:
    need("a sampler", "scipy")
    whole("count", count, 1)
    whole("seed", seed, 0)
    if not space:
        raise PlanError("the space to draw from has no parameters")
    for name, source in space.items():
        _check_source(name, source)


def _check_source(name: str, source: Any) -> None:
    if not isinstance(source, tuple):
        if not hasattr(source, "__getitem__") or not len(source):
            raise PlanError(f"{name!r} must be (low, high), (low, high, 'log'), a list or a range, not {source!r:.80}")
        return
    low, high, *scale = source if len(source) > 1 else (None, None)
    if not (is_number(low) and is_number(high)) or scale not in ([], ["log"]):
        raise PlanError(
            f"{name!r} = {source!r:.80} is a tuple, but not (low, high) or (low, high, 'log'); to choose from values "
            "give a list"
        )
    if not low < high or (scale and low <= 0):
        raise PlanError(f"{name!r} = {source!r}: low must be below high{', and above 0' if scale else ''}")


def _points(space: Space, rows: Sequence[Sequence[float]]) -> list[Parameters]:
    return [{name: _at(space[name], part) for name, part in zip(space, row, strict=True)} for row in rows]


def _at(source: Sequence[Any], part: float) -> Any:
    """The value at a part, from 0 up to 1, of where values come from."""
    if not isinstance(source, tuple):
        return source[int(part * len(source))]
    low, high, *scale = source
    if scale:
        return float(exp(log(low) + part * (log(high) - log(low))))
    return float(low + part * (high - low))
