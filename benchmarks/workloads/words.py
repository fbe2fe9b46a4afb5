"""Counting words: a job with real work and a large result, and a reduction that has to merge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from benchmarks.budgets import Budget
from benchmarks.contenders import WrongAnswer, ours, reference, theirs
from benchmarks.harness import Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer

if TYPE_CHECKING:
    from numpy.random import Generator

VOCABULARY_WORDS = 50_000
PIECES = 400
SEED = 20_240_301
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SERIAL = "serial"
ONE_COUNTER = "one counter"

CASE = Case(
    workload="word_count",
    metric=cost("time", "s"),
    budgets=(Budget(at_least=0.60, aim=0.53, against=SERIAL),),
    pace=Pace.SLOW,
    notes=(
        "word_count: serial does the same steps in a loop, a Counter for each piece and their merge; "
        "one counter is the serial loop that updates a single Counter with the words and has nothing to merge.",
    ),
)


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    pieces = make_text(settings.amount(200_000_000, 40_000_000))
    check = expect_same_counts()
    contenders = [
        ours(
            1.0,
            lambda js: count_ours(js, pieces, settings.workers),
            lambda js: count_ours(js, [""], settings.workers),
            check,
        ),
        reference(SERIAL, 1.0, lambda: merge_counts(pieces), check),
        reference(ONE_COUNTER, 1.0, lambda: count_into_one(pieces), check),
    ]
    yield Race(CASE, contenders + [count_peer(peer, settings, pieces, check) for peer in peers])


def make_text(size_bytes: int) -> list[str]:
    """Pieces of text, about `size_bytes` together, in which the frequency of a word is one over its rank (Zipf)."""
    from numpy import arange
    from numpy.random import default_rng

    random = default_rng(SEED)
    words = make_vocabulary(random)
    weights = 1.0 / arange(1, VOCABULARY_WORDS + 1)
    weights /= weights.sum()
    mean_bytes = sum(weight * (len(word) + 1) for weight, word in zip(weights.tolist(), words, strict=True))
    count = max(1, round(size_bytes / PIECES / mean_bytes))
    return [
        " ".join([words[rank] for rank in random.choice(len(words), count, p=weights).tolist()]) for _ in range(PIECES)
    ]


def make_vocabulary(random: Generator) -> list[str]:
    """Different words by rank, the frequent ones shorter, as in a natural language."""
    words: dict[str, None] = {}
    while len(words) < VOCABULARY_WORDS:
        length = len(str(len(words) + 1)) + int(random.integers(1, 6))
        words["".join(LETTERS[letter] for letter in random.integers(0, len(LETTERS), length).tolist())] = None
    return list(words)


def count_words(piece: str) -> Counter[str]:
    return Counter(piece.split())


def merge_counts(pieces: list[str]) -> Counter[str]:
    """The serial loop."""
    total: Counter[str] = Counter()
    for piece in pieces:
        total.update(count_words(piece))
    return total


def count_into_one(pieces: list[str]) -> Counter[str]:
    """The serial loop of someone who doesn't plan to split the work."""
    total: Counter[str] = Counter()
    for piece in pieces:
        total.update(piece.split())
    return total


def count_ours(library: ModuleType, pieces: list[str], workers: int) -> Counter[str]:
    (total,) = word_stream(library, pieces, workers).run()
    counted: Counter[str] = total
    return counted


def word_stream(library: ModuleType, pieces: list[str], workers: int) -> Any:
    """A stream that counts in a job and merges in a reducer."""
    work = library.Work(pieces, cpus=workers)
    work.job(count_words)

    @work.reduce(store=Counter)  # type: ignore[untyped-decorator]
    def merge(store: Counter[str], works: list[Counter[str]], others: list[Counter[str]]) -> None:
        for counts in [*works, *others]:
            store.update(counts)

    return work


def count_peer(
    peer_class: type[Peer], settings: Settings, pieces: list[str], check: Callable[[Counter[str]], None]
) -> Contender:
    def run(peer: Peer) -> Counter[str]:
        total: Counter[str] = Counter()
        peer.stream(count_words, pieces, total.update)
        return total

    return theirs(peer_class, settings, 1.0, run, check)


def expect_same_counts() -> Callable[[Counter[str]], None]:
    """A check that everybody counts the same as whoever came first."""
    first: list[Counter[str]] = []

    def check(counts: Counter[str]) -> None:
        if not first:
            first.append(counts)
        if counts != first[0]:
            raise WrongAnswer(f"{counts.total()} words counted, {first[0].total()} by another contender")

    return check


WORD_COUNT = Workload("word_count", "a Counter for each piece of a text, merged by a reducer", build)
