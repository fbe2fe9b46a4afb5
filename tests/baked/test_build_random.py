"""Real builds of random graphs, through changes and failures, compared with a serial oracle that remakes everything."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from job_stream.baked.build import build

KINDS = ("file", "file", "temp", "load", "cached", "generate")


class Graph:
    """Jobs by number: what each is, what it needs, and the parameter that its content depends on."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kinds = [rng.choice(KINDS) for _ in range(rng.randint(8, 16))]
        self.needs = [sorted(rng.sample(range(n), min(n, rng.randint(0, 3)))) for n in range(len(self.kinds))]
        self.params = [0] * len(self.kinds)
        self.failing: set[int] = set()

    def content(self, number: int) -> str:
        """What a job makes: its parameter, rounded, and what it needs; a generator makes nothing of itself."""
        inner = " ".join(self.content(need) for need in self.needs[number] if self.kinds[need] != "generate")
        return f"{number}:{self.params[number] // 2}({inner})"

    def declare(self, b, number: int) -> None:
        kind, before = self.kinds[number], {f"n{need}": self.job_of(b, need) for need in self.needs[number]
                                            if self.kinds[need] != "generate"}  # fmt: skip
        order = [b.jobs[f"j{need}"] for need in self.needs[number] if self.kinds[need] == "generate"]
        param, fails = self.params[number], number in self.failing

        def text(number, param, needs):
            inner = " ".join(each if isinstance(each, str) else each.read_text() for each in needs)
            return f"{number}:{param // 2}({inner})"

        def make(path, number, param, fails, **needs):
            path.write_text(text(number, param, needs.values()))
            if fails:
                raise ValueError(number)

        def value(number, param, fails, **needs):
            if fails:
                raise ValueError(number)
            return text(number, param, needs.values())

        def generate(b, number, param, fails, **needs):
            b.file(f"g{number}", make, needs=before, params={"number": number, "param": param, "fails": fails})

        given = {"needs": before, "params": {"number": number, "param": param, "fails": fails}}
        if kind == "generate":
            job = b.generate(f"j{number}", generate, **given)
        elif kind == "load":
            job = b.load(f"j{number}", value, **given)
        else:
            job = getattr(b, kind)(f"j{number}", value if kind == "cached" else make, **given)
        job.dependsOn(order)

    def job_of(self, b, number: int):
        return b.jobs[f"load j{number}" if self.kinds[number] == "cached" else f"j{number}"]

    def build(self):
        b = build(quiet=True, cores=2, isolate=self.rng.random() < 0.5)
        for number in range(len(self.kinds)):
            self.declare(b, number)
        return b

    def lasting(self) -> dict[str, int]:
        names = {"file": "j", "generate": "g"}
        return {f"{names[kind]}{number}": number for number, kind in enumerate(self.kinds) if kind in names}

    def check(self, report) -> None:
        for name, number in self.lasting().items():
            assert Path(name).read_text() == self.content(number), name
        assert not [n for n, kind in enumerate(self.kinds) if kind == "temp" and Path(f"j{n}").exists()]
        assert not report.failed + report.blocked + report.stopped

    def change(self) -> None:
        for _ in range(2):
            self.params[self.rng.randrange(len(self.params))] += 1
        name = self.rng.choice([*self.lasting(), "none"])
        Path(name).unlink(missing_ok=True)


@pytest.mark.parametrize("seed", range(6))
def test_random_builds_come_out_as_if_everything_was_remade(tmp_path, monkeypatch, seed):
    monkeypatch.chdir(tmp_path)
    graph = Graph(random.Random(seed))
    for turn in range(4):
        if turn % 2:
            graph.failing = set(graph.rng.sample(range(len(graph.kinds)), 2))
            report = graph.build().run(raiseErrors=False)
            assert {int(job_id.split("j")[-1].lstrip("g")) for job_id in report.failed} <= graph.failing
            graph.failing = set()
        graph.check(graph.build().run())
        again = graph.build().run()
        needed = graph.lasting().keys() & set(again.made)
        assert not needed, again.reasons
        graph.change()
    assert os.path.exists(".build/history.jsonl")
