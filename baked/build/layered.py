"""Where the jobs of a graph are drawn: in layers from left to right, each behind all that it needs.

The layer of a job is the longest way to it. Within a layer jobs stand in the order of the mean of their neighbours
(the barycentre), which is worked out a few times from either side; that leaves few lines that cross, and takes time
that grows with the number of lines and no faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["COLUMN", "ROW", "Spot", "layered", "needs_first"]

SWEEPS = 4
COLUMN = 260
"""From layer to layer."""
ROW = 44
"""From job to job in a layer, at the least."""

Needs = Mapping[str, Sequence[str]]


class Spot(NamedTuple):
    """The middle of a job's left side."""

    x: float
    y: float


def needs_first(needs: Needs) -> list[str]:
    """Each after all that it needs; what stands in a circle, or behind one, comes last."""
    users = _turned(needs)
    lacking = {name: len(set(needed)) for name, needed in needs.items()}
    ordered = [name for name, count in lacking.items() if not count]
    for name in ordered:  # which grows
        for user in users[name]:
            lacking[user] -= 1
            if not lacking[user]:
                ordered.append(user)
    return ordered + [name for name, count in lacking.items() if count]


def _turned(needs: Needs) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for need in set(needed):
            users[need].append(name)
    return users


def layered(needs: Needs) -> dict[str, Spot]:
    """The places of jobs, from what each of them needs; all needs have to be among them."""
    ordered = needs_first(needs)
    users = _turned(needs)
    layer_of: dict[str, int] = {}
    for name in ordered:
        layer_of[name] = 1 + max((layer_of[need] for need in needs[name] if need in layer_of), default=-1)
    _draw_near(ordered, users, layer_of, needs)
    layers: list[list[str]] = [[] for _ in range(1 + max(layer_of.values(), default=-1))]
    for name in _families(ordered, needs, users):
        layers[layer_of[name]].append(name)
    heights = _sorted_out(layers, needs, users)
    return {name: Spot(float(COLUMN * layer_of[name]), heights[name]) for name in ordered}


def _draw_near(ordered: Iterable[str], users: Needs, layer_of: dict[str, int], needs: Needs) -> None:
    """What needs nothing stands directly before its first user."""
    for name in ordered:
        if not needs[name] and users[name]:
            layer_of[name] = max(0, min(layer_of[user] for user in users[name]) - 1)


def _families(ordered: Iterable[str], needs: Needs, users: Needs) -> list[str]:
    """What hangs together stands together, to begin with."""
    found: dict[str, None] = {}
    for start in ordered:
        stack = [start]
        while stack:
            name = stack.pop()
            if name not in found:
                found[name] = None
                stack += [other for other in (*needs[name], *users[name]) if other not in found]
    return list(found)


def _sorted_out(layers: list[list[str]], needs: Needs, users: Needs) -> dict[str, float]:
    heights: dict[str, float] = {}
    for layer in layers:
        _stack(layer, heights, {})
    for sweep in range(SWEEPS):
        is_forward = sweep % 2 == 0
        neighbours = needs if is_forward else users
        for layer in layers if is_forward else reversed(layers):
            wished = {name: _mean([heights[other] for other in neighbours[name]], heights[name]) for name in layer}
            layer.sort(key=wished.__getitem__)
            _stack(layer, heights, wished)
    return heights


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _stack(layer: Sequence[str], heights: dict[str, float], wished: Mapping[str, float]) -> None:
    """Each as near to where it would like to be as those above it allow, and all together in the middle of that."""
    below = float("-inf")
    for name in layer:
        below = max(below + ROW, wished.get(name, 0.0))
        heights[name] = below
    shift = sum(heights[name] - wished.get(name, 0.0) for name in layer) / max(1, len(layer))
    for name in layer:
        heights[name] -= shift
