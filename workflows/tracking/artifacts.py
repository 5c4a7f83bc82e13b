"""The files of a run in MLflow: figures and reports of a trial, config and leaderboard of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.directory import SweepDirectory, TrialDirectory
from trainables.files import read_json
from trainables.records import EpochRecord, Result
from workflows import figures
from workflows.tracking import content

_LOG_LENGTH = 200_000


def write_trial(
    folder: Path, directory: TrialDirectory, result: Result, records: Sequence[EpochRecord], labels: Sequence[str]
) -> None:
    """Write confusion/, report/, plots/, config/, and the log of a failure, of a trial or baseline that has ended."""
    for split, evaluation in result.evaluations.items():
        matrix = evaluation.confusion_matrix
        figure = figures.confusion_matrix(matrix, labels, f"{split}: true and predicted classes")
        figures.save(figure, folder / "confusion" / f"{split}.png")
        _write(folder / "confusion" / f"{split}.json", {"labels": list(labels), "matrix": matrix})
        keys = {content.class_key(index, len(labels)): name for index, name in enumerate(labels)}
        _write(folder / "report" / f"{split}.json", {"classes": keys, "report": evaluation.classification_report})
    if records:
        figure = figures.learning_rate([record.steps for record in records])
        figures.save(figure, folder / "plots" / "learning_rate.png")
    if result.status == "FAILED" and directory.log.exists():
        log = directory.log.read_text(encoding="utf-8", errors="replace")
        (folder / "log.txt").write_text(content.redact(log[-_LOG_LENGTH:]), encoding="utf-8")
    if directory.spec.exists():
        _write(folder / "config" / "trial.json", content.redact_all(read_json(directory.spec)))


def write_sweep(folder: Path, sweep: SweepDirectory, manifest: dict[str, Any], board: dict[str, Any] | None) -> None:
    """Write config/ and the leaderboard of a sweep into a folder."""
    import yaml

    shown = content.redact_all(manifest)
    _write(folder / "config" / "manifest.json", shown)
    text = yaml.safe_dump(shown["config"], sort_keys=False, allow_unicode=True)
    (folder / "config" / "sweep.yaml").write_text(text, encoding="utf-8")
    if board:
        _write(folder / "leaderboard.json", board)
    if sweep.leaderboard_csv.exists():
        (folder / "leaderboard.csv").write_bytes(sweep.leaderboard_csv.read_bytes())


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
