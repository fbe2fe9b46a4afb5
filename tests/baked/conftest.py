"""What tests of recipes share."""

from __future__ import annotations

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The test's own folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
