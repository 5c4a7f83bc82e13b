"""What goes to driver.log instead of the screen."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from tests.planted import SECRETS, leaked
from workflows.quiet import logged_to, printed_to


def test_what_is_printed_goes_to_the_log_without_secrets_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "driver.log"
    log.write_text("from before\n")
    with printed_to(log):
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
    with logged_to(log):
        for planted in SECRETS:
            logger.error("failed: %s", planted.text)
    assert leaked(log.read_text()) == []
    assert log.read_text().count("failed:") == len(SECRETS)


def test_where_the_log_cannot_be_written_what_is_done_meanwhile_goes_on() -> None:
    done: list[str] = []
    with printed_to(Path("/dev/full")):
        sys.stdout.write("what nobody will read\n")
        sys.stderr.write("the rest")
        done.append("the sweep")
    assert done == ["the sweep"]
