"""What all tests share: a cache of their own, so that none reads or fills that of the user, and a real Chromium.

Tests that need the browser skip with a reason where there is none. Two processes share the tests (`make test`), whole
modules at a time; those that start a Ray stay together in one, because two of them on one host take each other's ports.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

# Each of two processes has a core of its own; torch reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_WITH_RAY = ("tests/jobs/", "tests/faults/", "tests/workflows/bench/")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Give every test the group that it stays with."""
    for item in items:
        module = item.nodeid.split("::")[0]
        with_ray = module.startswith(_WITH_RAY) or item.get_closest_marker("ray")
        item.add_marker(pytest.mark.xdist_group("ray" if with_ray else module))


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
