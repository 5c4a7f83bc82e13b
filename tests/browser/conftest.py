"""A real headless Chromium; tests that need it skip with a reason where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mlflow_server import Server
from workflows.tracking.store import open_client


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


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running `mlflow server` with an empty store."""
    folder = tmp_path_factory.mktemp("mlflow")
    open_client(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    server = Server(folder)
    server.start()
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def visit(chromium: Any) -> Callable[[str], None]:
    """Load a page anew; going from one #/ address to the next alone would leave MLflow where it was."""

    def load(address: str) -> None:
        chromium.get("about:blank")
        chromium.get(address)

    return load


@pytest.fixture
def wait_for(chromium: Any, tmp_path: Path) -> Callable[[str], Any]:
    """Wait until a JavaScript expression holds on the page, and return its value."""
    from selenium.common.exceptions import TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    def wait(expression: str, seconds: float = 45) -> Any:
        try:
            return WebDriverWait(chromium, seconds).until(lambda driver: driver.execute_script(f"return {expression}"))
        except TimeoutException:
            chromium.save_screenshot(str(tmp_path / "page.png"))
            seen = chromium.execute_script("return document.body.innerText")
            raise AssertionError(f"{expression} did not come true; screenshot in {tmp_path}; page: {seen}") from None

    return wait
