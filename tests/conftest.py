"""What all tests share: a cache of their own, so that none reads or fills that of the user, and a real Chromium.

Tests that need the browser skip with a reason where there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


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
