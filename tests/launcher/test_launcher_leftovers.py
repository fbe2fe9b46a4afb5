"""What a launcher leaves behind is ended, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

from support import is_alive

from job_stream.launcher.descendants import children_of, kill

SLEEPS = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


def test_a_child_that_is_left_is_killed() -> None:
    with subprocess.Popen(SLEEPS, stdout=subprocess.PIPE) as child:
        left = {process for process in children_of(os.getpid()) if process.pid == child.pid}
        kill(left)
        assert child.wait() == -9


def test_another_process_that_got_the_number_of_a_child_is_left_alone() -> None:
    with subprocess.Popen(SLEEPS, stdout=subprocess.PIPE) as child:
        (process,) = (process for process in children_of(os.getpid()) if process.pid == child.pid)
        kill([process._replace(started="1")])
        assert is_alive(child.pid)
        child.kill()


def test_a_child_that_has_ended_is_no_error() -> None:
    with subprocess.Popen(SLEEPS, stdout=subprocess.PIPE) as child:
        left = children_of(os.getpid())
        child.kill()
    kill(left)
