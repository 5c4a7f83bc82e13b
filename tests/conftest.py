"""What all tests share: a cache of their own, so that none reads or fills that of the user."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["FLEETUNE_CACHE"] = str(tmp_path_factory.mktemp("fleetune-cache"))
