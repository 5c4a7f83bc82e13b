"""What reaches a terminal, a pipe, and a pipe that nobody reads any more."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from jobs import screen
from jobs.bench import bench
from jobs.run import application
from jobs.screen import Screen
from tests.workplace import ROOT
from trainables.errors import BadInput

_WRITES = """
import sys
from pathlib import Path
from jobs.run import run
from jobs.screen import output, say

def much():
    console = output()
    for _ in range(20_000):
        {how}("a line that is long enough to fill a pipe in no time at all")
    Path(sys.argv[1]).write_text("went on")

run(much)
"""


@pytest.mark.parametrize("how", ["say", "console.print"])
def test_whoever_stops_reading_ends_nothing_and_the_exit_is_0(how: str, tmp_path: Path) -> None:
    code = _WRITES.format(how=how)
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "end")], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout and writer.stderr
    assert writer.stdout.readline().startswith(b"a line")
    writer.stdout.close()
    said = writer.stderr.read()
    assert (writer.wait(60), said) == (0, b"")
    assert (tmp_path / "end").read_text() == "went on"


def test_a_table_that_is_too_wide_for_the_terminal_keeps_every_digit() -> None:
    table = Table(box=None)
    numbers = [f"{number / 7:.9f}" for number in range(1, 12)]
    for number in numbers:
        table.add_column(number, no_wrap=True)
    table.add_row(*numbers)
    stream = io.StringIO()
    screen.print_whole(table, Screen(file=stream, width=40))
    heading, row = stream.getvalue().splitlines()
    assert heading.split() == row.split() == numbers


def test_a_name_that_no_file_can_have_is_bad_input_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ended(lambda: (Path("x" * 300) / "manifest.json").exists(), capsys)
    assert (code, said.count("is too long for the name of a file")) == (2, 1)
    assert "Traceback" not in said


def test_figures_that_could_not_be_written_are_refused_before_they_are_measured(tmp_path: Path) -> None:
    out = str(tmp_path / "away" / "x.json")
    with pytest.raises(BadInput, match=f"--out {out}: there is no folder {tmp_path}/away"):
        CliRunner().invoke(application(bench=bench), ["--out", out], catch_exceptions=False)


def ended(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code of an entry point that does some work, and what it says."""
    from jobs.run import run

    with pytest.raises(SystemExit) as end:
        run(work)  # type: ignore[arg-type]
    return end.value.code, "".join(capsys.readouterr())
