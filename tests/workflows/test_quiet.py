"""What goes to driver.log instead of the screen."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from pathlib import Path

from rich.console import Console

from tests.planted import SECRETS, leaked
from workflows.progress import Board
from workflows.quiet import off_screen
from workflows.spinner import phase


def test_what_is_printed_goes_to_the_log_without_secrets_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    log.write_text("from before\n")
    with off_screen(log):
        for planted in SECRETS:
            sys.stdout.write(f"an error: {planted.text} was said\n")
            sys.stderr.write(f"{planted.text}\n")
        sys.stdout.write("the end")
    told = log.read_text()
    assert leaked(told) == []
    assert told.startswith("from before\n") and told.endswith("the end")
    assert told.count("an error:") == told.count("was said") == len(SECRETS)


def test_what_rays_loggers_say_goes_to_the_log_without_secrets(tmp_path: Path) -> None:
    log, logger = tmp_path / "driver.log", logging.getLogger("ray.of_a_test")
    logger.addHandler(logging.StreamHandler())
    logger.propagate = False
    with off_screen(log):
        for planted in SECRETS:
            logger.error("failed: %s", planted.text)
    assert leaked(log.read_text()) == []
    assert log.read_text().count("failed:") == len(SECRETS)


def test_what_is_printed_while_a_terminal_shows_progress_is_kept_off_it(tmp_path: Path) -> None:
    log, terminal, before = tmp_path / "driver.log", io.StringIO(), (sys.stdout, sys.stderr)
    console = Console(file=terminal, force_terminal=True, width=140)
    with contextlib.ExitStack() as stack:
        with phase(console, "starting Ray"):
            stack.enter_context(off_screen(log))
            sys.stderr.write("printed while Ray starts\n")
        sys.stderr.write("printed in between\n")
        with Board([], "accuracy", console, {}):
            sys.stdout.write("printed during the trials\n")
        with phase(console, "writing the report"):
            sys.stderr.write("printed at the end\n")
    assert (sys.stdout, sys.stderr) == before
    assert log.read_text().splitlines() == [
        "printed while Ray starts",
        "printed in between",
        "printed during the trials",
        "printed at the end",
    ]
    assert "printed" not in terminal.getvalue()
    assert "starting Ray …" in terminal.getvalue()


def test_where_the_log_cannot_be_written_what_is_done_meanwhile_goes_on() -> None:
    done: list[str] = []
    with off_screen(Path("/dev/full")):
        sys.stdout.write("what nobody will read\n")
        sys.stderr.write("the rest")
        done.append("the sweep")
    assert done == ["the sweep"]
