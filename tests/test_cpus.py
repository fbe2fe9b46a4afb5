"""How many CPUs are granted."""

import pytest

from job_stream.cpus import _quota, hostCpuCount
from job_stream.errors import PlanError


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


def test_the_environment_overrides_what_is_found(monkeypatch):
    monkeypatch.setenv("JOBS_CPUS", "7")
    assert hostCpuCount() == 7


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5"])
def test_an_override_that_is_no_number_of_cpus_is_an_error(monkeypatch, wrong):
    monkeypatch.setenv("JOBS_CPUS", wrong)
    with pytest.raises(PlanError, match="JOBS_CPUS"):
        hostCpuCount()
