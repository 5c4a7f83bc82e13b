"""What all tests share: a cache of their own, so that none reads or fills that of the user, and a real Chromium.

Tests that need the browser skip with a reason where there is none. Two processes share the tests (`make test`), whole
modules at a time; those that start a Ray stay together in one, because two of them on one host take each other's ports.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

# Each of two processes has a core of its own; torch reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Folders and modules whose tests start a Ray.
_WITH_RAY = (
    *("tests/jobs/", "tests/faults/", "tests/workflows/bench/", "tests/trainables/test_trainable.py"),
    *(f"tests/workflows/test_{name}.py" for name in ("cluster", "lost_workers", "warm_workers")),
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """How tests are shared out. (xdist's own groups are without effect under pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Modules(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.split("::")[0]
            return "ray" if module.startswith(_WITH_RAY) else module

    return Modules(config, log)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FLEETUNE_CACHE"] = str(tmp_path_factory.mktemp("fleetune-cache"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A Selenium driver of a headless Chromium."""
    selenium = pytest.importorskip("selenium.webdriver")
    programs = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if None in programs:
        pytest.skip("needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = programs[0]
    # MLflow draws only those rows of a table that the window shows.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1800,1400"):
        options.add_argument(argument)
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(programs[1]))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
