"""What a sweep may change when it is continued, and what would make its trials mean something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.workflows.test_plan import config
from trainables.errors import BadInput
from workflows import manifest
from workflows.config import SweepConfig
from workflows.data.dataset import LabelledData

DATA = LabelledData(
    labels=("a", "b"),
    rows={},
    classes={},
    dropped_labels={},
    dropped_splits={},
    fingerprint="fingerprint",
    directory=Path("/data"),
    notes=(),
)


def earlier(config: SweepConfig) -> dict[str, Any]:
    """As much of a manifest as is compared."""
    return {
        "config": config.model_dump(mode="json"),
        "labels": list(DATA.labels),
        "data": {"fingerprint": DATA.fingerprint},
    }


def with_training(folder: Path, **training: Any) -> SweepConfig:
    return config(folder, [{"model": "m"}], training=training)


@pytest.mark.parametrize(("before", "after"), [(None, 500), (500, None), (500, 100)])
def test_how_often_state_is_saved_may_be_changed(tmp_path: Path, before: int | None, after: int | None) -> None:
    begun = earlier(with_training(tmp_path, save_steps=before))
    manifest.refuse_other_meaning(begun, with_training(tmp_path, save_steps=after), DATA)


def test_a_manifest_from_before_there_was_a_setting_is_continued(tmp_path: Path) -> None:
    begun = earlier(with_training(tmp_path))
    del begun["config"]["training"]["save_steps"]
    manifest.refuse_other_meaning(begun, with_training(tmp_path, save_steps=500), DATA)


def test_what_decides_results_may_not_be_changed_and_is_named(tmp_path: Path) -> None:
    begun = earlier(with_training(tmp_path, save_steps=500))
    with pytest.raises(BadInput, match=r"training\.weight_decay: 0\.01 → 0\.1") as refused:
        manifest.refuse_other_meaning(begun, with_training(tmp_path, weight_decay=0.1), DATA)
    assert "save_steps" not in str(refused.value)


def test_grades_of_the_check_may_be_changed_and_what_is_dropped_may_not(tmp_path: Path) -> None:
    begun = earlier(config(tmp_path, [{"model": "m"}]))
    strict = config(tmp_path, [{"model": "m"}], check={"overlap": "error", "duplicates": "ignore"})
    manifest.refuse_other_meaning(begun, strict, DATA)
    dropping = config(tmp_path, [{"model": "m"}], check={"drop_overlap": True})
    # Where there is nothing to drop, nothing changes.
    manifest.refuse_other_meaning(begun, dropping, DATA)
    del begun["config"]["check"]
    other = DATA.model_copy(update={"fingerprint": "other"})
    with pytest.raises(BadInput, match=r"check\.drop_overlap: False → True"):
        manifest.refuse_other_meaning(begun, dropping, other)
