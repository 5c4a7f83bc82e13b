"""Numbers as people read them."""

from __future__ import annotations

import pytest

from workflows.report import numbers


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "–"),
        (0.04, "0.04 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations(seconds: float | None, written: str) -> None:
    assert numbers.duration(seconds) == written


def test_sizes_counts_and_latencies() -> None:
    assert [numbers.size(value) for value in (12, 90_900_000, 1_610_000_000)] == ["12 B", "90.9 MB", "1.61 GB"]
    assert [numbers.count(value) for value in (999, 148_600, 22_700_000)] == ["999", "148.6 k", "22.7 M"]
    assert [numbers.milliseconds(value) for value in (0.412, 6.1, 128.4)] == ["0.412 ms", "6.1 ms", "128 ms"]
