"""The files of a run in MLflow: figures and reports of a trial, config and leaderboard of a sweep."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainables.arguments import Frozen
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json
from trainables.records import EpochRecord, Result, Split
from trainables.redaction import redact, redact_all
from workflows import error_analysis, figures, yaml_file
from workflows.audit.finding import Checked
from workflows.config import ErrorsConfig
from workflows.tracking import content

_LOG_LENGTH = 200_000
_DIGITS = 4
_SPLIT: Split = "test"
CHECK_TABLE = "check/findings.json"


def write_trial(
    folder: Path,
    directory: TrialDirectory,
    result: Result,
    records: Sequence[EpochRecord],
    labels: Sequence[str],
    data: Path,
    errors: ErrorsConfig,
    go_on: Callable[[], None],
) -> list[str]:
    """Write confusion/, report/, errors/, plots/, config/, and the log of a failure, of a trial or baseline.

    `data` is the folder of the prepared splits. `go_on` is called before each figure, so that what it raises ends the
    writing there. Returns the paths of those files that are tables in MLflow's format.
    """
    for split, evaluation in result.evaluations.items():
        go_on()
        matrix = evaluation.confusion_matrix
        figure = figures.confusion_matrix(matrix, labels, f"{split}: true and predicted classes")
        figures.save(figure, folder / "confusion" / f"{split}.png")
        _write(folder / "confusion" / f"{split}.json", {"labels": list(labels), "matrix": matrix})
        keys = {content.class_key(index, len(labels)): name for index, name in enumerate(labels)}
        _write(folder / "report" / f"{split}.json", {"classes": keys, "report": evaluation.classification_report})
    if records:
        go_on()
        figure = figures.learning_rate([record.steps for record in records])
        figures.save(figure, folder / "plots" / "learning_rate.png")
    if result.status == "FAILED" and directory.log.exists():
        log = directory.log.read_text(encoding="utf-8", errors="replace")
        (folder / "log.txt").write_text(redact(log)[-_LOG_LENGTH:], encoding="utf-8")
    if directory.spec.exists():
        _write(folder / "config" / "trial.json", redact_all(read_json(directory.spec)))
    if _SPLIT not in result.evaluations or not directory.predictions.exists():
        return []
    return _write_errors(folder, directory, result, labels, data, errors)


def _write_errors(
    folder: Path, directory: TrialDirectory, result: Result, labels: Sequence[str], data: Path, errors: ErrorsConfig
) -> list[str]:
    """The worst test texts, the most confused classes, and accuracy by length and by share cut, each as a table."""
    predicted = error_analysis.read_test(directory)
    tables: dict[str, Sequence[Frozen]] = {
        "worst_texts": error_analysis.worst_texts(predicted, data, labels, errors.count, errors.include_text),
        "confused_pairs": error_analysis.confused_pairs(result.evaluations[_SPLIT].confusion_matrix, labels),
    }
    lengths = error_analysis.text_lengths(predicted)
    if lengths is not None:
        tables["accuracy_by_length"] = error_analysis.accuracy_by_length(predicted, lengths[0])
        tables["accuracy_by_share_cut"] = error_analysis.accuracy_by_share_cut(predicted, lengths[1])
    paths = {f"errors/{name}.json": rows for name, rows in tables.items() if rows}
    for path, rows in paths.items():
        _write(folder / path, as_table(rows))
    return list(paths)


def as_table(rows: Sequence[Frozen]) -> dict[str, Any]:
    """Values of one kind as `MlflowClient.log_table` writes them: pandas' split orientation.

    (`log_table` itself appends to a table that is there, so sending one twice would double its rows.)
    """
    values = [row.model_dump(mode="json") for row in rows]
    return {"columns": list(values[0]), "data": [[_short(item) for item in value.values()] for value in values]}


def _short(value: Any) -> Any:
    """A number as people read it in a table; the exact ones are in predictions.parquet."""
    return round(value, _DIGITS) if isinstance(value, float) else value


def write_sweep(folder: Path, sweep: SweepDirectory, manifest: dict[str, Any], board: dict[str, Any] | None) -> None:
    """Write config/, check/, the leaderboard and report/ of a sweep into a folder."""
    shown = redact_all(manifest)
    _write(folder / "config" / "manifest.json", shown)
    text = yaml_file.dump(shown["config"])
    (folder / "config" / "sweep.yaml").write_text(text, encoding="utf-8")
    if checked := findings(sweep):
        _write(folder / "check" / "check.json", redact_all(checked.model_dump(mode="json")))
        if checked.findings:
            _write(folder / CHECK_TABLE, redact_all(as_table(checked.findings)))
    if board:
        _write(folder / "leaderboard.json", board)
    if sweep.leaderboard_csv.exists():
        (folder / "leaderboard.csv").write_bytes(sweep.leaderboard_csv.read_bytes())
    if sweep.report.exists():
        shutil.copytree(sweep.figures, folder / "report" / "figures", dirs_exist_ok=True)
        shutil.copyfile(sweep.report, folder / "report" / "report.html")


def findings(sweep: SweepDirectory) -> Checked | None:
    """What the check of a sweep's data has found; None for a sweep from before there was one, or a damaged file."""
    with contextlib.suppress(FileNotFoundError, CorruptFile):
        return Checked.read(sweep.check)
    return None


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair has no UTF-8; with a backslash it is what JSON calls it.
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8", errors="backslashreplace")
