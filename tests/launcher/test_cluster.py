"""A cluster for real, as far as one machine can be one: hosts of their own, ssh between them, and hosts that fail.

The command is the installed one. A host that is cut off sends nothing more and answers nothing, as one without power;
one that crashes closes its connections.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cluster_support import Hosts, missing
from launcher_support import job_stream
from mpi_support import MPICH, clean_environment, find_mpirun, is_open_mpi, pythons
from support import DEADLINE_S, Ended, Gate, Tally, is_alive, wait_until

DEATHS = int(os.environ.get("JOBS_TEST_DEATHS", "1"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "1"))
LANES = {"alpha": 2, "beta": 1, "gamma": 3}

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"no cluster here: {missing()}"),
    pytest.mark.xdist_group("hosts"),  # one cluster at a time
]
asked_for = pytest.mark.skipif(
    os.environ.get("JOBS_TEST_CLUSTER") != "1", reason="takes half a minute; JOBS_TEST_CLUSTER=1 asks for it"
)
with_open_mpi = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

PRELUDE = """
import json, os, socket, sys, time
from collections import Counter
from pathlib import Path
from job_stream import Work, getCpuCount, getHostCpuCount

host, here = socket.gethostname(), Path(__file__).parent

def announce(name):
    (here / name).touch()

def wait_for(*names):
    end = time.monotonic() + 50
    while not all((here / name).exists() for name in names):
        if time.monotonic() > end:
            raise TimeoutError(names)
        time.sleep(0.001)

def note(*words):
    with open(here / "notes", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

def meet():
    announce(f"busy {host}")
    wait_for("busy alpha", "busy beta", "busy gamma")
"""


class Site:
    """Three hosts, and a user on the first."""

    def __init__(self, folder: Path, hosts: Hosts, ending: ExitStack) -> None:
        self.folder = folder
        self.hosts = hosts
        self.notes = Tally(folder / "notes")
        self._ending = ending

    def job_stream(
        self,
        text: str,
        *options: object,
        python: str = sys.executable,
        names: tuple[str, ...] = tuple(LANES),
        env: dict[str, str] | None = None,
    ) -> Callable[[], Ended]:
        """Starts the command with a script on some of the hosts; what is returned waits for its end."""
        script, hostfile = self.folder / "script.py", self.folder / "hostfile"
        script.write_text(PRELUDE + textwrap.dedent(text))
        hostfile.write_text("".join(f"{name} cpus={LANES[name]}\n" for name in names))
        command = [*job_stream(python), "--hostfile", hostfile, *options, "--", python, "-W", "error", script]
        out, err = self.folder / "out", self.folder / "err"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                self.hosts["alpha"].command("env", "-C", self.folder, *command),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                env=clean_environment({"XDG_CONFIG_HOME": str(self.folder), **(env or {})}),
            )
        self._ending.callback(process.wait, DEADLINE_S)
        return lambda: Ended(process.wait(DEADLINE_S), out.read_text(), err.read_text())

    def fails(self, fail: Callable[[str], None], name: str) -> None:
        """Has a host fail when all hosts are at work and results have come, and tells the script."""
        for each in LANES:
            Gate(self.folder / f"busy {each}").wait()
        wait_until(lambda: len(self.notes), "results")
        fail(name)
        Gate(self.folder / "failed").open()

    def programs(self, name: str) -> list[str]:
        """The script's processes on a host."""
        return [line for line in self.hosts[name].commands() if str(self.folder / "script.py") in line]

    def gone(self, *names: str) -> None:
        """Waits until nothing runs on some hosts."""
        for name in names:
            host = self.hosts[name]
            wait_until(lambda host=host: not host.commands(), f"the end of {host.commands()} on {name}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings, work = tmp_path / "settings", tmp_path / "work"
    settings.mkdir()
    work.mkdir()
    other = [Path(os.environ[MPICH]).parent.parent] if os.environ.get(MPICH) else []
    with ExitStack() as ending, Hosts(settings, tuple(LANES), [work, *other]) as hosts:
        yield Site(work, hosts, ending)


# --- all is well --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("python", pythons())
def test_words_are_counted_on_all_hosts_of_a_hostfile(site: Site, python: str) -> None:
    text = """
    with Work(["to be", "or not", "to be"] * 20) as w:
        @w.job
        def count(line):
            meet()
            note(host, getHostCpuCount(), getCpuCount())
            return Counter(line.split())
        @w.reduce(store=Counter)
        def merge(total, works, others):
            for other in (*works, *others):
                total.update(other)
        @w.result
        def show(total):
            print(json.dumps(total))
    """
    ended = site.job_stream(text, python=python)()
    assert ended.code == 0, ended.err
    assert json.loads(ended.out) == {"to": 40, "be": 40, "or": 20, "not": 20}
    assert set(site.notes.lines()) == {f"{name} {lanes} 6" for name, lanes in LANES.items()}
    site.gone(*LANES)


@with_open_mpi
def test_items_go_to_the_hosts_that_they_name_and_take_no_more_cores_than_these_have(site: Site) -> None:
    ended = site.job_stream("""
        from job_stream import hosts

        all_hosts = hosts()
        names = [one.name for one in all_hosts]

        with Work(range(60)) as w:

            @w.job(where=lambda x: names[x % 3], cores=lambda x: all_hosts[x % 3].cpus)
            def run(x):
                begin = time.monotonic()
                time.sleep(0.002)
                return names[x % 3], host, begin, time.monotonic()

            @w.finish
            def finish(found):
                print(len(found), all(wanted == got for wanted, got, *_ in found))
                for name in names:
                    spans = sorted((begin, end) for _, at, begin, end in found if at == name)
                    print(name, all(one[1] <= other[0] for one, other in zip(spans, spans[1:])))
    """)()
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["60 True", "alpha True", "beta True", "gamma True"]


@pytest.mark.parametrize("python", pythons())
def test_hosts_share_no_memory_and_large_items_go_through_the_network(site: Site, python: str) -> None:
    text = """
    with Work(range(30)) as w:
        @w.job
        def enlarge(x):
            meet()
            note(host)
            return bytes([x]) * 1_000_000
        @w.finish
        def show(found):
            print(sorted(found) == [bytes([x]) * 1_000_000 for x in range(30)])
    """
    ended = site.job_stream(text, python=python)()
    assert (ended.code, ended.out) == (0, "True\n"), ended.err
    elsewhere = [name for name in site.notes.lines() if name != "alpha"]
    assert site.hosts["alpha"].received_bytes() > 1_000_000 * len(elsewhere) > 0


# --- a host fails -------------------------------------------------------------------------------------------------
STREAM = """
with Work(range(100)) as w:
    @w.job
    def work(x):
        announce(f"busy {host}")
        if x >= 20:
            wait_for("failed")
        time.sleep(0.005)
        return x
    @w.result
    def handle(x):
        note(x)
"""
IMPATIENT = """
import job_stream.ranks.silence
job_stream.ranks.silence.SILENT_S = 5.0
"""


def without_recovery(folder: Path) -> dict[str, str]:
    """Has Open MPI's launcher taken for one that cannot go on without a rank: it is not beside its other programs."""
    wrapper = folder / "mpirun"
    wrapper.write_text(f'#!/bin/sh\nexec {find_mpirun()} "$@"\n')
    wrapper.chmod(0o755)
    return {"JOBS_MPIRUN": str(wrapper)}


@pytest.mark.parametrize("python", pythons())
def test_after_the_crash_of_a_host_the_run_is_started_again_by_itself(site: Site, python: str) -> None:
    end = site.job_stream(STREAM, "--checkpoint", "run", "--restarts", 1, python=python)
    site.fails(site.hosts.crash, "gamma")
    ended = end()
    assert ended.code == 0, ended.err
    assert "on gamma) is lost" in ended.err
    assert sorted(site.notes.numbers()) == list(range(100))
    site.gone(*LANES)


@with_open_mpi
def test_a_run_goes_on_without_a_host_that_is_cut_off(site: Site) -> None:
    end = site.job_stream(IMPATIENT + STREAM)
    site.fails(site.hosts.cut_off, "gamma")
    ended = end()
    assert ended.code == 0, ended.err
    assert "on gamma is lost; the others go on" in ended.err
    assert sorted(site.notes.numbers()) == list(range(100))
    site.gone("alpha", "beta")
    wait_until(lambda: not site.programs("gamma"), "the program to end on gamma, too")


@with_open_mpi
@pytest.mark.parametrize("number", range(DEATHS))
def test_the_death_of_a_rank_with_large_items_under_way_changes_no_result(site: Site, number: int) -> None:
    text = f"""
    import random, signal, threading
    random.seed({SEED + number})
    victim, delay, sizes = random.choice(("beta", "gamma")), random.random(), {{}}
    for x in range(60):
        sizes[x] = int(1000 * 20_000 ** random.random())
    def die_amid():
        wait_for("busy alpha", "busy beta", "busy gamma")
        time.sleep(delay)
        announce("killed")
        os.kill(os.getpid(), signal.SIGKILL)
    if host == victim:
        threading.Thread(target=die_amid, daemon=True).start()
    seen = []
    with Work(bytes([x]) * sizes[x] for x in range(60)) as w:
        @w.job
        def work(data):
            meet()
            if data[0] >= 50:
                wait_for("killed")
            time.sleep(0.02)
            return data * 2
        @w.result
        def take(data):
            seen.append((data[0], len(data)))
            assert data == data[:1] * len(data)
    if host == "alpha":
        print(sorted(seen) == [(x, 2 * sizes[x]) for x in range(60)], flush=True)
    """
    ended = site.job_stream(text)()
    assert (ended.code, ended.out) == (0, "True\n"), ended.err
    assert "is lost; the others go on" in ended.err
    site.gone(*LANES)


@asked_for
@pytest.mark.parametrize("python", pythons())
def test_without_fault_tolerance_a_run_ends_with_the_name_of_the_lost_host_and_is_gone_on_with_on_the_others(
    site: Site, python: str
) -> None:
    env = without_recovery(site.folder) if python == sys.executable else {}
    end = site.job_stream(STREAM, "--checkpoint", "run", python=python, env=env)
    site.fails(site.hosts.cut_off, "gamma")
    ended = end()
    assert ended.code == 137
    assert "on gamma) is lost" in ended.err
    site.gone("alpha", "beta")
    wait_until(lambda: not site.programs("gamma"), "the program to end on gamma, too")

    end = site.job_stream(STREAM, "--checkpoint", "run", python=python, env=env, names=("alpha", "beta"))
    ended = end()
    assert ended.code == 0, ended.err
    assert "going on from" in ended.err
    assert sorted(site.notes.numbers()) == list(range(100))


# --- the cluster itself -------------------------------------------------------------------------------------------
def test_a_host_has_a_name_a_network_processes_and_memory_of_its_own(site: Site) -> None:
    beta = "hostname; ls /dev/shm; ip -brief address show eth0; ps -e -o pid= -o comm= | grep -w 1"
    Path("/dev/shm/of the tests").touch()
    try:
        name, network, first = site.hosts["alpha"].run("ssh", "beta", beta).splitlines()
    finally:
        Path("/dev/shm/of the tests").unlink()
    assert (name, first.split()) == ("beta", ["1", "sshd"])
    assert "10.111.0.2/24" in network


def test_nothing_is_left_of_a_cluster(tmp_path: Path) -> None:
    links, mounts = Path("/proc/net/dev"), Path("/proc/self/mounts")
    before = names_of(links), names_of(mounts)
    with Hosts(tmp_path, ("one", "two")) as hosts:
        assert hosts["one"].run("ssh", "two", "hostname") == "two\n"
        pids = [hosts[name].pid for name in ("one", "two")]
    assert (names_of(links), names_of(mounts)) == before
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the hosts to end")


def names_of(table: Path) -> list[str]:
    """The first two words of each line of a table of the kernel, without what counts."""
    return [line.split()[0] + line.split()[1] * (table.name == "mounts") for line in table.read_text().splitlines()]
