"""How much to lend at once: measured, never configured.

The first items of a place travel alone, to learn what they cost. Then a parcel holds 5 to 35 milliseconds of work, the
more the more is left, by the mean plus twice the mean deviation, so that where costs spread widely a parcel does not
hide two long items. It is never more than a fraction of what is left, so that all lanes finish together (guided
self-scheduling: Polychronopoulos and Kuck, 1987), unless it would be too small to be worth a journey. All parcels pass
through one thread, so where there are many lanes each parcel has to hold more, or the lanes would wait for that thread.
"""

from __future__ import annotations

__all__ = ["PARCEL_S", "Costs"]

PARCEL_S = 5e-3
LONG_PARCEL_S = 35e-3
SHORT_PARCEL_S = 1.5e-3
"""Below this, a journey costs more than a smaller share can win."""
JOURNEY_S = 4e-5
"""What the engine's thread needs for a parcel."""
PARCELS_LEFT = 6
GROWTH = 32
SHARES_PER_LANE = 3


class Costs:
    """What an item costs from a place on, learnt from finished work."""

    def __init__(self, places: int) -> None:
        self._mean: list[float | None] = [None] * places
        self._deviation = [0.0] * places
        self._largest = [1] * places

    def learn(self, place: int, items: int, seconds: float) -> None:
        """Takes in that ``items`` items took ``seconds`` together."""
        cost, mean = seconds / items, self._mean[place]
        self._largest[place] = max(self._largest[place], items)
        if mean is None:
            self._mean[place] = cost
            return
        if cost < mean and items > 1:  # a larger parcel measures better: it holds less of our own
            self._mean[place] = mean + 0.7 * (cost - mean)
            self._deviation[place] *= 0.5
            return
        self._mean[place] = mean + 0.2 * (cost - mean)
        self._deviation[place] += 0.2 * (abs(cost - mean) - self._deviation[place])

    def known(self, place: int) -> bool:
        return self._mean[place] is not None

    def estimate(self, place: int, items: int, unknown: float = 0.0) -> float:
        """Seconds that ``items`` items will take; ``unknown`` while nothing is known."""
        mean = self._mean[place]
        return unknown if mean is None else mean * items

    def size(self, place: int, left: int | None, lanes: int) -> int:
        """How many items to lend next, of ``left`` items (None: nobody knows) among ``lanes`` lanes."""
        mean = self._mean[place]
        if mean is None:
            return 1
        cost = max(self._cautious(place), 1e-9)
        most = self._largest[place] * GROWTH
        if left is None:
            return max(min(int(self._usual(lanes) / cost), most), 1)
        items = min(int(self.parcel_seconds(left * mean, lanes) / cost), most, left)
        if lanes > 1:
            items = min(items, max(-(-left // (SHARES_PER_LANE * lanes)), int(self.least(lanes) / cost)))
        return max(items, 1)

    def parcel_seconds(self, left: float, lanes: int) -> float:
        """How much work to lend next, of so many seconds of work. A single lane has no other to leave a share to; what
        other ranks want it hands over."""
        if lanes == 1:
            return LONG_PARCEL_S
        usual = self._usual(lanes)
        return min(max(usual, left / (lanes * PARCELS_LEFT)), max(usual, LONG_PARCEL_S))

    def _usual(self, lanes: int) -> float:
        """A parcel for each lane in turn keeps the engine's thread busy for half the time that one takes at most."""
        return max(PARCEL_S, 2 * JOURNEY_S * lanes)

    def least(self, lanes: int) -> float:
        """How many seconds of work are worth a journey: less than the engine's thread needs for all lanes in turn would
        have them wait for it."""
        return max(SHORT_PARCEL_S, JOURNEY_S * lanes)

    def _cautious(self, place: int) -> float:
        """Seconds that an item may well take."""
        return (self._mean[place] or 0.0) + 2 * self._deviation[place]

    def most(self, place: int, items: int) -> float:
        """Seconds that so many items may well take; all the time there is while nothing is known."""
        return items * self._cautious(place) if self.known(place) else LONG_PARCEL_S
