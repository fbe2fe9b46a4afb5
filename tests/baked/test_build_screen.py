"""What a build says is no condition for it: it goes on where nobody can read it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

SCRIPT = """
import os
from job_stream.baked.build import build

with build() as b:
    for n in range(3):
        b.file(f"{n}.txt", lambda path, n: path.write_text("done"), params={"n": n})
    b.file("failing.txt", lambda path: 1 / 0)
"""


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


STREAMS = {
    "a pipe that nobody reads": closed_pipe,
    "a full disk": lambda: os.open("/dev/full", os.O_WRONLY),
    "none": None,
}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_build_goes_on_where_nobody_reads_what_it_says(kind, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    open_stream = STREAMS[kind]
    stream = None if open_stream is None else open_stream()
    command = f"{shlex.quote(sys.executable)} script.py{' 2>&-' if stream is None else ''}"

    def code(**environment):
        return subprocess.run(command, shell=True, cwd=tmp_path, stderr=stream, timeout=120,
                              env={**os.environ, **environment}).returncode  # fmt: skip

    assert code(JOBS_BUILD="plan") == 3
    assert code() in {1, 120}  # 120: Python could not print the exception
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["0.txt", "1.txt", "2.txt"]
    assert (tmp_path / ".build" / "history.jsonl").stat().st_size
    if stream is not None:
        os.close(stream)
