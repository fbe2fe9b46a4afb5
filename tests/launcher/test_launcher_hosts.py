"""Hosts on the command line and in files: what is understood, and what a mistake is told about."""

from __future__ import annotations

import pytest
from launcher_support import fake_program, run

from job_stream.launcher.allocation import Allocation, ListedHost, allocation, node_names, parse_hosts, read_hostfile
from job_stream.launcher.error import LauncherError


def hostfile(folder, text):
    path = folder / "hosts"
    path.write_text(text)
    return path


# --- what is understood -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("texts", "hosts"),
    [
        (["a"], [ListedHost("a")]),
        (["a,b"], [ListedHost("a"), ListedHost("b")]),
        (["a,b cpus=3"], [ListedHost("a"), ListedHost("b", 3)]),
        (["a cpus=2,b cpus=3"], [ListedHost("a", 2), ListedHost("b", 3)]),
        (["a", "b cpus=1"], [ListedHost("a"), ListedHost("b", 1)]),
        (["a, b"], [ListedHost("a"), ListedHost("b")]),
        (["node-1.cluster.example.org."], [ListedHost("node-1.cluster.example.org.")]),
        (["192.0.2.7,2001:db8::7"], [ListedHost("192.0.2.7"), ListedHost("2001:db8::7")]),
    ],
)
def test_hosts_of_the_command_line(texts, hosts):
    assert list(parse_hosts(texts)) == hosts


def test_a_hostfile_may_begin_with_a_byte_order_mark(tmp_path):
    assert read_hostfile(hostfile(tmp_path, "\ufeffnode1 cpus=0004\n")) == (ListedHost("node1", 4),)


def test_a_hostfile_has_a_host_a_line_with_comments(tmp_path):
    path = hostfile(tmp_path, "# ours\n\nnode1 cpus=4  # the old one\r\n  node2\t cpus=16\n192.0.2.7#none\n::1\n")
    first, second = ListedHost("node1", 4), ListedHost("node2", 16)
    assert read_hostfile(path) == (first, second, ListedHost("192.0.2.7"), ListedHost("::1"))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_NUM_NODES": "3"}, Allocation("Slurm", 3)),
        ({"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_NNODES": "3"}, Allocation("Slurm", 3)),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}, Allocation("Slurm", 1)),
        ({"SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1", "SLURMD_NODENAME": "n1"}, None),
    ],
)
def test_what_slurm_has_allocated(environment, expected):
    assert allocation(environment) == expected


@pytest.mark.parametrize(
    ("nodelist", "names"),
    [("n1", ["n1"]), ("n[1-4,7],m3", ["n1", "m3"]), ("a[01-16]-ib,b[003,007]", ["a01-ib", "b003"])],
)
def test_some_nodes_of_slurm_are_known_by_name(nodelist, names):
    assert node_names(nodelist) == names


def test_what_pbs_has_allocated(tmp_path):
    path = hostfile(tmp_path, "n1\nn2\nn1\n")
    assert allocation({"PBS_NODEFILE": str(path)}) == Allocation("PBS", 2, (ListedHost("n1"), ListedHost("n2")))


def test_a_mistake_in_the_nodes_of_pbs_is_named_with_its_line(tmp_path):
    path = hostfile(tmp_path, "n1\nn1\nn2 x\n")
    with pytest.raises(LauncherError, match=f"^PBS_NODEFILE {path}, line 3: 'x' after host 'n2'"):
        allocation({"PBS_NODEFILE": str(path)})


def test_one_node_of_pbs_is_this_machine(tmp_path):
    assert allocation({"PBS_NODEFILE": str(hostfile(tmp_path, "n1\nn1\n"))}) is None


# --- mistakes -----------------------------------------------------------------------------------------------------
MISTAKES = [
    ("a\nb\nA cpus=2", "line 3: host 'A' is there twice (first: hostfile hosts, line 1)"),
    ("a cpu=3", "line 1: host 'a' has the unknown property 'cpu'; did you mean 'cpus'? (known: cpus)"),
    ("a\nb slots=3", "line 2: host 'b' has the unknown property 'slots' (known: cpus)"),
    ("a 3", "line 1: '3' after host 'a' is not a property; those are written as cpus=N"),
    ("a cpus=many", "line 1: host 'a': cpus must be a number above 0, not 'many'"),
    ("a cpus=0", "line 1: host 'a': cpus must be a number above 0, not '0'"),
    ("a cpus=-1", "line 1: host 'a': cpus must be a number above 0, not '-1'"),
    ("a cpus=", "line 1: host 'a': cpus must be a number above 0, not ''"),
    ("a cpus=²", "line 1: host 'a': cpus must be a number above 0, not '²'"),
    ("a cpus=2 cpus=3", "line 1: host 'a' has cpus= twice"),
    ("a cpus=100000", "line 1: host 'a': cpus must be a number above 0, and 99999 at most, not '100000'"),
    ("a cpus=" + "9" * 5000, "line 1: host 'a': cpus must be a number above 0, and 99999 at most, not '999"),
    ("y" * 5000, "line 1: 'yyy"),
    ("# none", "there is no host in it"),
    ("", "there is no host in it"),
    ("-oProxyCommand=x", "line 1: '-oProxyCommand=x' is not the name of a host"),
    ("a;b", "line 1: 'a;b' is not the name of a host"),
    ("$(x)", "line 1: '$(x)' is not the name of a host"),
    ("a,b", "line 1: 'a,b' is not the name of a host"),
    ("node-", "line 1: 'node-' is not the name of a host"),
    ("knöten", "line 1: 'knöten' is not the name of a host"),
    ("x" * 254, "is not the name of a host"),
    ("cpus=3", "line 1: 'cpus=3' is not the name of a host"),
    ("me@a", "line 1: 'me@a': mpirun does not take user names; write 'User' for this host into ~/.ssh/config"),
    ("a:4", "line 1: 'a:4' is not the name of a host, nor an IPv6 address; a host has one rank"),
]


@pytest.mark.parametrize(("text", "complaint"), MISTAKES, ids=[text[:12] or "empty" for text, _ in MISTAKES])
def test_a_mistake_in_a_hostfile_is_named_with_its_place(tmp_path, monkeypatch, text, complaint):
    monkeypatch.chdir(tmp_path)
    hostfile(tmp_path, text)
    with pytest.raises(LauncherError) as error:
        read_hostfile("hosts")
    assert str(error.value).startswith("hostfile hosts")
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,a", "--host 'a,a': host 'a' is there twice"),
        ("a,,b", "the name of a host is missing"),
        ("", "the name of a host is missing"),
        ("a cores=3", "unknown property 'cores'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(text, complaint):
    with pytest.raises(LauncherError) as error:
        parse_hosts([text])
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--hostfile", "hosts"], "hostfile hosts, line 2: host 'b' has the unknown property 'slots'"),
        (["--hostfile", "gone"], "hostfile gone: cannot be read: No such file or directory"),
        (["--host", "a,b", "cpu=3"], "--host 'a,b cpu=3': host 'b' has the unknown property 'cpu'"),
        (["--host=a,b", "cpus=x"], "--host 'a,b cpus=x': host 'b': cpus must be a number above 0, not 'x'"),
    ],
)
def test_the_command_ends_with_2_at_a_mistake(tmp_path, words, complaint):
    hostfile(tmp_path, "a\nb slots=2\n")
    ended = run(tmp_path, *words, "--", "prog")
    assert ended.code == 2
    assert complaint in ended.err


def test_a_file_that_is_no_text_is_told_about(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LauncherError, match="is not a text in UTF-8"):
        read_hostfile(path)


@pytest.mark.parametrize("text", ["::1", "2001:db8::7"])
def test_an_ipv6_address_is_refused_where_mpirun_takes_none(tmp_path, text):
    ended = run(tmp_path, "--host", text, "--dry-run", "--", "prog", env={"JOBS_MPIRUN": mpich(tmp_path)})
    assert ended.code == 2
    assert f"host {text}: MPICH takes no IPv6 addresses; give its name" in ended.err


def mpich(folder):
    return str(fake_program(folder / "bin", "mpirun", "HYDRA build details:\n    Version: 5.0.2"))
