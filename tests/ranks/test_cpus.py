"""How many CPUs are granted."""

import pytest

from job_stream.errors import PlanError
from job_stream.ranks.cpus import _available, _quota, host_cpu_count, shared_out


def quota(tmp_path, **files):
    """The quota in a tree of control groups; ``a_b=...`` is the file cpu.max of the group a/b."""
    root = tmp_path / "cgroup"
    for name, text in files.items():
        folder = root.joinpath(*name.split("_")) if name != "root" else root
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")
    return _quota(str(root), str(membership))


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert _quota(str(tmp_path), str(tmp_path / "none")) is None


def test_the_limit_of_the_own_group_counts(tmp_path):
    assert quota(tmp_path, a_b="200000 100000") == 2


def test_the_tightest_limit_around_counts(tmp_path):
    assert quota(tmp_path, a_b="400000 100000", a="150000 100000", root="max 100000") == 2


def test_a_group_without_a_limit_has_none(tmp_path):
    assert quota(tmp_path, a_b="max 100000") is None


@pytest.mark.parametrize("text", ["", "200000", "a b", "100000 0", "-1 100000", "100000 100000 1"])
def test_a_limit_that_makes_no_sense_is_none(tmp_path, text):
    assert quota(tmp_path, a_b=text) is None


def version1(tmp_path, files, membership):
    """A tree of control groups of version 1, by folder; None: no file."""
    for folder, (quota, period) in files.items():
        path = tmp_path / "cgroup" / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (path / "cpu.cfs_period_us").write_text(f"{period}\n")
    (tmp_path / "membership").write_text(membership)
    return str(tmp_path / "cgroup"), str(tmp_path / "membership")


@pytest.mark.parametrize(
    ("files", "membership", "cpus"),
    [
        ({"cpu": (100000, 100000)}, "11:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n", 1),
        ({"cpu,cpuacct/docker/abc": (250000, 100000)}, "3:cpu,cpuacct:/docker/abc\n", 3),
        ({"cpuacct,cpu/a": (50000, 100000)}, "3:cpuacct,cpu:/a/b\n", 1),
        ({"cpu/a/b": (400000, 100000), "cpu/a": (150000, 100000), "cpu": (-1, 100000)}, "2:cpu:/a/b\n0::/a/b\n", 2),
        ({"cpu/a": (-1, 100000), "cpu": (-1, 100000)}, "2:cpu:/a\n", None),
        ({"cpu/a": (100000, 100000)}, "2:cpu:/b\n", None),
        ({"cpu": (100000, 100000)}, "2:cpu:/../..\n", 1),
        ({"memory": (100000, 100000)}, "2:memory:/\n", None),
        ({"cpu": (100000, 100000)}, "nonsense\n:\n::\n", None),
    ],
)
def test_a_limit_of_control_groups_of_version_1_counts(tmp_path, files, membership, cpus):
    assert _quota(*version1(tmp_path, files, membership)) == cpus


def test_the_limits_of_both_versions_count_where_a_host_has_both(tmp_path):
    root, membership = version1(tmp_path, {"cpu": (300000, 100000)}, "3:cpu,cpuacct:/\n0::/a\n")
    (tmp_path / "cgroup/a").mkdir()
    (tmp_path / "cgroup/a/cpu.max").write_text("200000 100000")
    assert _quota(root, membership) == 2


@pytest.mark.parametrize("name", ["cpuset.effective_cpus", "cpuset.cpus"])
def test_the_cpus_of_a_control_group_of_version_1_are_those_that_are_available(tmp_path, name, monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_ON_NODE", raising=False)
    folder = tmp_path / "cgroup/cpuset/docker"
    folder.mkdir(parents=True)
    (folder / name).write_text("0\n")
    (tmp_path / "membership").write_text("9:cpuset:/docker/abc\n3:cpu:/docker/abc\n")
    assert _available(str(tmp_path / "cgroup"), str(tmp_path / "membership")) == 1


def test_the_environment_overrides_what_is_found(monkeypatch):
    monkeypatch.setenv("JOBS_CPUS", "7")
    assert host_cpu_count() == 7


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "²", "9" * 5000])
def test_an_override_that_is_no_number_of_cpus_is_an_error(monkeypatch, wrong):
    monkeypatch.setenv("JOBS_CPUS", wrong)
    with pytest.raises(PlanError, match="JOBS_CPUS"):
        host_cpu_count()


@pytest.mark.parametrize(
    ("total", "shares", "lanes"),
    [(4, [2, 2], (2, 2)), (5, [2, 2], (3, 2)), (1, [4], (1,)), (1, [4, 4], (1, 1)), (6, [2, 1], (4, 2))],
)
def test_lanes_for_all_ranks_are_shared_out_by_their_cpus(total, shares, lanes):
    assert shared_out(total, shares) == lanes
