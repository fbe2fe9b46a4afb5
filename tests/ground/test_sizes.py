"""Amounts of memory as people write them."""

from __future__ import annotations

import pytest

from job_stream.ground.sizes import bytes_in


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1000", 1000),
        ("12B", 12),
        ("2kB", 2000),
        ("2KiB", 2048),
        ("500MiB", 500 << 20),
        ("500 mib", 500 << 20),
        ("2G", 2 * 10**9),
        ("2GB", 2 * 10**9),
        ("1.5GiB", 3 << 29),
        (".5T", 5 * 10**11),
        (" 7 M ", 7 * 10**6),
        ("0.1", 1),
    ],
)
def test_a_text_stands_for_bytes(text: str, size: int) -> None:
    assert bytes_in(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "0GB", "-1", "1 2", "GB", "1iB", "1PB", "1e9", "nan", "inf", "٣", "9" * 60, "9" * 500, "2GBs"]
)
def test_other_texts_stand_for_none(text: str) -> None:
    assert bytes_in(text) is None
