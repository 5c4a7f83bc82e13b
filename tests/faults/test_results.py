"""The table of the fault suite grows from run to run, and says which rounds of which commit it stands on."""

from __future__ import annotations

from pathlib import Path

from tests.faults.results import RECORDS, TABLE, Record, Results


def line(folder: Path, fault: str) -> str:
    return next(line for line in (folder / TABLE).read_text().splitlines() if line.startswith(f"| {fault} "))


def test_rounds_of_several_runs_add_up_and_the_newest_record_of_a_round_counts(tmp_path: Path) -> None:
    first = Results()
    first.add("F01", 1, True, 2.0, 1.5)
    first.add("F01", 2, False, 9.0, 8.5)
    first.say("kills", "The driver was killed.")
    first.write(tmp_path, trials=5, epochs=12)
    assert "| 1 of 2 | 2.0 × | 2.0 × | 1.5 × | 1.5 × |" in line(tmp_path, "F01")
    again = Results.read(tmp_path / RECORDS)
    assert again.passed("F01", 1)
    assert not again.passed("F01", 2)
    again.add("F01", 2, True, 3.0, 1.0)
    again.write(tmp_path, trials=5, epochs=12)
    assert "| 2 of 2 | 2.5 × | 3.0 × | 1.2 × | 1.5 × |" in line(tmp_path, "F01")
    assert "| not run |" in line(tmp_path, "F02")
    assert "The driver was killed." in (tmp_path / TABLE).read_text()


def test_the_table_names_every_commit_that_a_record_is_of(tmp_path: Path) -> None:
    records = [Record("F01", 1, True, 2.0, "aaaaaaa"), Record("F02", 1, True, 2.0, "bbbbbbb")]
    Results({(each.fault, each.round): each for each in records}).write(tmp_path, trials=5, epochs=12)
    assert "aaaaaaa, bbbbbbb" in (tmp_path / TABLE).read_text()
