"""What a worker tells Tune of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables.directory import TrialDirectory
from trainables.trainable import SCORE, _reporter
from trainables.watchdog import Watchdog


@pytest.mark.slow
def test_a_scheduler_sees_the_metric_after_every_epoch_but_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import tune

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", told.append)
    spec = trial_spec(
        tiny_model("bert", tmp_path / "bert"), tmp_path, num_train_epochs=3, metric_for_best_model="f1_macro"
    )
    report = _reporter(spec, Watchdog([TrialDirectory(tmp_path)], 60))
    metrics = {"validation/f1_macro": 0.5, "validation/accuracy": 0.75}
    report({"epoch": 1, "step": 3, "total_steps": 24})
    for epoch in (1, 2, 3):
        report({"epoch": epoch, "step": 8 * epoch, "total_steps": 24, "metrics": metrics})
    report({"status": "DONE", "metrics": metrics, "message": ""})
    assert [values.get(SCORE) for values in told] == [None, 0.5, 0.5, None, None]
    assert [values["status"] for values in told] == ["RUNNING"] * 4 + ["DONE"]
    assert {values["trial"] for values in told} == {spec.trial_id}
