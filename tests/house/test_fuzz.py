"""Whatever is read from outside may hold anything: each reader gives what is there, or an error of ours.

``JOBS_TEST_MUTATIONS=100`` asks for a hundred times as many mutations, ``JOBS_TEST_SEED`` for others.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_support import RUN, STAGES, bare, header, inline, noise, state

from job_stream import common
from job_stream.baked.sweep.earlier import earlier_trials
from job_stream.baked.sweep.rules import Rule
from job_stream.baked.sweep.triallog import TrialLog
from job_stream.checkpoints.file import CheckpointFile
from job_stream.checkpoints.info import info_of
from job_stream.checkpoints.journal import CallJournal, ResultJournal
from job_stream.engine import messages as m
from job_stream.errors import CheckpointError, JobStreamError, PlanError, WorldError
from job_stream.launcher import settings
from job_stream.launcher.allocation import allocation, parse_hosts, read_hostfile
from job_stream.launcher.error import LauncherError
from job_stream.memory.codec import RankCodec
from job_stream.memory.payload import Parts
from job_stream.ranks.cluster import Cluster
from job_stream.ranks.local import LocalTransport
from job_stream.ranks.protocol import KINDS, Figures, Hello, RunFailed
from job_stream.stream.configuration.yamlfile import read_yaml

TIMES = int(os.environ.get("JOBS_TEST_MUTATIONS", "1"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "1"))
TOKENS = (
    b"\0", b"\n", b"\r\n", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"9" * 5000, b"-1", b"1e999", b"[" * 600,
    b"{" * 600, b"null", b"true", b"&a [*a]", b"*a", b"<<: *a", b"!!timestamp x", b"!!binary x", b"!!int x", b"'",
    b'"', b"\\", b"#", b"=", b":", b"%", b"cpus=" + b"9" * 5000, b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x9f", b"a" * 3000,
)  # fmt: skip
MESSAGE = 2_000
"""Characters that an error may have."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The same with some bytes changed, left out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        start = chance.randrange(len(found) + 1)
        end = min(len(found), start + chance.choice((1, 1, 4, 16, 200)))
        what = chance.randrange(6)
        if what == 0:
            found[start:end] = bytes(byte ^ (1 << chance.randrange(8)) for byte in found[start:end])
        elif what == 1:
            del found[start:end]
        elif what == 2:
            found[start:start] = found[start:end]
        elif what == 3:
            found[start:end] = chance.randbytes(end - start)
        elif what == 4:
            del found[start:]
        else:
            found[start:start] = chance.choice(TOKENS)
    return bytes(found)


def fuzz(data: bytes, times: int, read: Callable[[bytes], Any], *errors: type[Exception]) -> tuple[int, int]:
    """Has mutations read: how many were, and how many were refused."""
    refused: list[str] = []
    for number in range(times * TIMES):
        text = mutated(data, random.Random(f"{SEED} {number}"))
        try:
            read(text)
        except errors as error:
            refused.append(str(error))
        except BaseException as error:
            raise AssertionError(f"seed {SEED}, mutation {number}: {text[:300]!r}") from error
    assert all(10 < len(said) < MESSAGE for said in refused), max(refused, key=len)[:MESSAGE]
    return times * TIMES - len(refused), len(refused)


def through(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """Reads bytes as the content of a file."""

    def reading(data: bytes) -> Any:
        path.write_bytes(data)
        return read(path)

    return reading


def both(counts: tuple[int, int]) -> None:
    """Some were read and some refused, so that the mutations are neither too wild nor too tame."""
    assert min(counts) > 0, counts


# --- what users write -------------------------------------------------------------------------------------------------
HOSTS = b"# ours\nnode1 cpus=4  # fast\nnode2.cluster\n192.0.2.7 cpus=12\nfe80::1\n\nnode-3 cpus=2\n"
SETTINGS = b'# where to run\nhostfile = "/home/me/hosts"\n'
YAML = b"""
# a comment
jobs:
  first: {type: builtins.int, to: {even: second, odd: output}, factors: [1, 0x1f, 1e3, .inf, true, null]}
  second: &second
    type: "Class"
    to: output
  third:
    <<: *second
    jobs: [A, {type: B, text: 'it''s', more: |
      two
      lines
      }]
    reducer: {type: C, least: -5}
input: first
frame: D
"""


def test_hostfiles(tmp_path):
    both(fuzz(HOSTS, 1500, through(tmp_path / "hosts", read_hostfile), LauncherError))


def test_lists_of_nodes_of_a_batch_system(tmp_path):
    read = through(tmp_path / "nodes", lambda path: allocation({"PBS_NODEFILE": str(path)}))
    both(fuzz(b"n1\nn1\nn2.cluster\nn3\n", 500, read, LauncherError))


def test_hosts_on_the_command_line():
    def read(data):
        return parse_hosts([data.decode(errors="surrogateescape")])

    both(fuzz(b"a cpus=4,b,c.d", 1500, read, LauncherError))


def test_settings(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setattr(settings, "settings_path", lambda: path)
    both(fuzz(SETTINGS, 1000, through(path, lambda _: settings.read()), LauncherError))


def test_configurations_in_yaml(tmp_path):
    both(fuzz(YAML, 250, through(tmp_path / "stream.yaml", read_yaml), PlanError))


class A(common.Job):
    pass


class C(common.Reducer):
    pass


class D(common.Frame):
    pass


def test_configurations_of_streams(tmp_path, monkeypatch):
    text = b"""{jobs: {a: {type: A, to: b}, b: {jobs: [A, {type: A, n: 3}], reducer: C, to: {x: output, y: c}},
        c: {jobs: {d: A}, frame: {type: D}}}, input: a, reducer: C}"""
    monkeypatch.setattr(common, "work", [])
    names = {"A": A, "C": C, "D": D}
    read = through(tmp_path / "stream.yaml", lambda path: common._stream(path, names, {}))
    both(fuzz(text, 250, read, PlanError))


# --- what we have written -----------------------------------------------------------------------------------------
def test_checkpoints(tmp_path):
    path = tmp_path / "run.checkpoint"
    value = state(400)
    CheckpointFile(path).write(header(), value)

    def read(_: Path) -> None:
        path.chmod(0o600)
        loaded = CheckpointFile(path).read(STAGES)
        assert loaded is not None
        assert bare(loaded.state) == bare(value)

    taken, refused = fuzz(path.read_bytes(), 600, through(path, read), CheckpointError)
    assert refused > 10 * taken, "a mutation that changes nothing is rare"


def test_what_is_told_of_a_checkpoint(tmp_path):
    path = tmp_path / "run.checkpoint"
    CheckpointFile(path).write(header(), state(400))
    read = through(path, lambda path: str(info_of(path)))
    _, refused = fuzz(path.read_bytes(), 400, read, CheckpointError, FileNotFoundError)
    assert refused > 100 * TIMES


def filled(kind: Any, path: Path) -> int:
    """Makes a journal; gives its mark."""
    journal = kind.create(path, RUN)
    if kind is ResultJournal:
        for number in range(4):
            journal.add(inline(noise(50, number)) if number else Parts([b"a", noise(90)]), 2, None)
    else:
        for _ in range(3):
            for _ in journal.begin(["a", "b", "c"]):
                journal.handled()
    mark = journal.mark()
    journal.sync()
    journal.close()
    return mark


@pytest.mark.parametrize("kind", [ResultJournal, CallJournal])
def test_journals(tmp_path, kind):
    path = tmp_path / "run.checkpoint.journal"
    mark = filled(kind, path)

    def read(_: Path) -> None:
        path.chmod(0o600)
        journal = kind.open(path, RUN, mark)
        try:
            if kind is ResultJournal:
                assert [bytes(b"".join(entry.payload.frames())) for entry in journal.kept()] == [
                    b"a" + noise(90), *(noise(50, number) for number in (1, 2, 3))]  # fmt: skip
            else:
                journal.begin(["a", "b"])
        finally:
            journal.close()

    _, refused = fuzz(path.read_bytes(), 500, through(path, read), CheckpointError)
    assert refused > 50 * TIMES


def test_logs_of_trials(tmp_path):
    lines = [
        {"id": id, "trial": trial, "parameters": {"a": id, "b": "x"}, "values": {"v": trial / 3, "w": 2}, "seed": None,
         "code": 0} for id in (0, 1) for trial in (0, 1, 2)
    ]  # fmt: skip
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    combinations = [{"a": id, "b": "x"} for id in (0, 1)]

    def read(path: Path) -> None:
        for results in earlier_trials(TrialLog(path), combinations, Rule()).values():
            for values in results.values():
                assert all(isinstance(float(value), float) for value in values.values())

    both(fuzz(text, 1000, through(tmp_path / "trials", read), JobStreamError))


# --- what other ranks send ----------------------------------------------------------------------------------------
MESSAGES = (
    Hello((("job", "parse", 12), ("end", "the end", 0))),
    m.Lend(
        1, 2, ((3, m.WorkBatch(0, 1, 2, Parts([b"abc", b"defg"]))), (4, m.WorkBatch(0, 1, 9, m.SourceSlice(0, 1, 10))))
    ),
    m.Repaid(-1, 2, ((2, (3, 4)),), (m.Output(0, 5, 1, Parts([noise(100)])), m.Fold(0, 2, Parts([b"x"])))),
    RunFailed(b"an error"), Figures(1, 2, 3, 4), m.Halt(),
)  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_between_ranks(message):
    head, buffers = RankCodec(KINDS).encode(message)
    body = bytearray(b"".join(buffers)) or None
    ranks = Cluster(LocalTransport(1))
    both(fuzz(head, 500, lambda data: ranks._decoded(0, data, body), WorldError))
