"""A real `mlflow server`, and how to look at its pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mlflow_server import Server
from workflows.tracking.store import open_client


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
