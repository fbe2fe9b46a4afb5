"""What ranks say to each other, in words."""

from __future__ import annotations

from ..engine import messages as m
from ..engine.debts import NEW_NAMES
from ..stream.plan import Plan

__all__ = ["line_of"]


def line_of(plan: Plan, message: m.RankMessage) -> str:
    """A message between ranks as a line of text."""
    kind = type(message).__name__
    if isinstance(message, m.Ask):
        return f"Ask for {message.lanes} lanes" + (", and wait" if message.wait else "")
    if isinstance(message, m.Lend):
        return f"Lend loan {message.loan}: {_units(plan, message.units)}"
    if isinstance(message, m.Repaid):
        return _repaid(plan, message)
    if isinstance(message, m.Cancel):
        return f"Cancel loan {message.loan}"
    return f"{kind} {message.number}" if isinstance(message, (m.Report, m.Reported)) else kind


def _repaid(plan: Plan, message: m.Repaid) -> str:
    names = ", ".join(_name(name) for _, closed in message.closed for name in closed)
    products = ", ".join(_product(plan, product) for product in message.products) or "nothing"
    kept = f"; keeps {_units(plan, message.kept)}" if message.kept else ""
    return f"Repaid loan {message.loan}: {names} became {products}{kept}"


def _units(plan: Plan, units: tuple[tuple[int, m.WorkBatch], ...]) -> str:
    return ", ".join(f"{_name(name)} ({_work(plan, work)})" for name, work in units)


def _name(name: int) -> str:
    return f"unit {name}" if name < NEW_NAMES else f"rest {name - NEW_NAMES}"


def _work(plan: Plan, work: m.WorkBatch) -> str:
    place = plan.places[work.place]
    if work.resume:
        return f"a store of {place.kind} {place.number}"
    return f"{work.count} at {place.kind} {place.number}"


def _product(plan: Plan, product: m.Product) -> str:
    kind = type(product).__name__.lower()
    if type(product) is m.WorkBatch:
        return _work(plan, product)
    place = plan.places[product.place]
    return f"{kind} of {product.count}" if type(product) is m.Output else f"{kind} at {place.kind} {place.number}"
