"""What a run in MLflow shows: records turned into metrics, params, tags and notes that MLflow accepts.

Pure functions of the sweep directory's records, so a replay gives equal values. Limits are those of
mlflow.utils.validation: keys of letters, digits and `/_-. :`, params ≤ 6000 characters, tags ≤ 8000.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trainables.arguments import TrialSpec
from trainables.records import SPLITS, EpochRecord, InferenceCost, Result, StepSeries
from trainables.redaction import redact, redact_all
from workflows.confidence import COLUMNS as CALIBRATED
from workflows.headline import find
from workflows.printable import printable
from workflows.verdict import INTERVALS, stored

# (key, value, timestamp in ms, step)
Metric = tuple[str, float, int, int]

RUN_STATUS = {"DONE": "FINISHED", "STOPPED": "KILLED", "FAILED": "FAILED"}
_MAX_PARAM = 6000
_MAX_TAG = 8000
_MAX_RUN_NAME = 250
_MAX_DIGEST = 36
_NOTE_ROWS = 20
_NOTE_WARNINGS = 5
_MAX_SENTENCE = 600
# What says how a run ended, and is not true of one that goes on.
END_TAGS = ("fleetune.status", "fleetune.message", "fleetune.device")


def class_key(index: int, count: int) -> str:
    """The name of a class in metric keys: its id, because MLflow refuses names such as `C#` or `50%`."""
    return f"class_{index:0{max(2, len(str(count - 1)))}d}"


def epoch_metrics(record: EpochRecord) -> list[Metric]:
    """The metrics of one epoch: rate and loss of each step, then the epoch's own scores at its last step.

    The epoch's mean training loss is `train/loss_epoch`, because `train/loss` is the series over steps.
    """
    steps = record.steps
    metrics = [
        (key, value, timestamp, step)
        for key, values in _series(steps).items()
        for step, value, timestamp in zip(steps.step, values, steps.timestamp, strict=True)
    ]
    own = {"train/loss_epoch" if key == "train/loss" else key: value for key, value in record.metrics.items()}
    own |= {"epoch": float(record.epoch)}
    return metrics + [(key, value, record.timestamp, record.step) for key, value in own.items()]


def _series(steps: StepSeries) -> dict[str, list[float]]:
    """What is logged at each step; with layer-wise decay the rate of every block too."""
    blocks = {f"train/learning_rate/{block}": rates for block, rates in steps.block_learning_rates.items()}
    return {"train/learning_rate": steps.learning_rate, "train/loss": steps.loss} | blocks


def result_metrics(result: Result, last: EpochRecord | None, labels: Sequence[str]) -> list[Metric]:
    """The scores that the leaderboard shows, so that MLflow's table of runs shows the same ones.

    MLflow shows the value with the highest step. Where the best epoch was not the last, its scores are therefore
    logged again one step after the end, as those of the weights that were reloaded then.
    """
    if result.status == "FAILED":
        return _costs(result)
    step = result.step or 0
    curve = {key: value for key, value in result.metrics.items() if last and key in last.metrics}
    metrics = [
        (key, value, result.ended, step)
        for key, value in (result.metrics | _per_class(result, labels)).items()
        if key not in curve
    ]
    if last and result.epoch not in (None, last.epoch):
        again = curve | {"epoch": float(result.epoch or 0)}
        metrics += [(key, value, result.ended, last.step + 1) for key, value in again.items()]
    return metrics + _costs(result)


def _per_class(result: Result, labels: Sequence[str]) -> dict[str, float]:
    return {
        f"{split}/{score}/{class_key(index, len(labels))}": evaluation.classification_report[label][score]
        for split, evaluation in result.evaluations.items()
        for index, label in enumerate(labels)
        for score in ("precision", "recall", "f1")
        if score in evaluation.classification_report.get(label, {})
    }


def _costs(result: Result) -> list[Metric]:
    costs = {
        "seconds": result.seconds,
        "train_seconds": result.train_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "texts_at_once": result.texts_at_once,
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "moved": result.moved,
    }
    return [(key, float(value), result.ended, result.step or 0) for key, value in costs.items() if value is not None]


def sweep_metrics(board: dict[str, Any] | None, moment: int) -> list[Metric]:
    """The champion's scores, so that the parent's row in MLflow's table shows what the sweep came to."""
    if not board or not board["champion"]:
        return []
    best: dict[str, Any] = next((row for row in board["rows"] if row["trial_id"] == board["champion"]), {})
    names = (
        "validation/accuracy",
        "validation/f1_macro",
        "validation/loss",
        "test/accuracy",
        "test/f1_macro",
        *INTERVALS,
        *CALIBRATED,
    )
    return [(name, float(best[name]), moment, 0) for name in names if best.get(name) is not None]


def inference_metrics(cost: InferenceCost, result: Result | None) -> list[Metric]:
    """What predicting with a trial or baseline costs, at the step of the weights that were measured."""
    names = ("latency_p50_ms", "latency_p95_ms", "throughput")
    step = (result.step if result else None) or 0
    return [(f"inference/{name}", float(getattr(cost, name)), cost.measured, step) for name in names]


def calibration_metrics(columns: Mapping[str, float], result: Result) -> list[Metric]:
    """The temperature of a trial or baseline, and how well it is calibrated on test, at the step of its weights."""
    return [(name, value, result.ended, result.step or 0) for name, value in columns.items()]


def table_tags(paths: Sequence[str]) -> dict[str, str]:
    """The tag by which MLflow's pages know which artifacts of a run are tables (`mlflow.load_table` reads it too)."""
    return {"mlflow.loggedArtifacts": json.dumps([{"path": path, "type": "table"} for path in paths])}


def trial_params(spec: TrialSpec, axes: dict[str, Any]) -> dict[str, str]:
    """What decides a trial, as text: model, policy, seed, training arguments and every scalar axis."""
    training = spec.training.meaning(spec.freeze)
    named = {
        "model": spec.model.name,
        "freeze": spec.freeze,
        "seed": spec.seed,
        "num_hidden_layers": spec.model.num_hidden_layers,
        "precision": spec.precision,
    }
    scalars = {key: value for key, value in axes.items() if isinstance(value, str | int | float | bool)}
    return as_params(scalars | training | named)


def as_params(values: dict[str, Any]) -> dict[str, str]:
    """Values as MLflow params: printable text, redacted, cut; None is left out."""
    return {_key(key): _shown(value)[:_MAX_PARAM] for key, value in values.items() if value is not None}


def as_tags(values: dict[str, Any]) -> dict[str, str]:
    """Values as MLflow tags: printable text, redacted, cut; None is left out."""
    return {key: _shown(value)[:_MAX_TAG] for key, value in values.items() if value is not None}


def run_name(name: str) -> str:
    """A name that fits MLflow's column."""
    return _shown(name)[:_MAX_RUN_NAME]


def result_tags(result: Result) -> dict[str, str]:
    """The end of a trial in Fleetune's own words."""
    status = f"{result.status}({result.reason})" if result.reason else result.status
    return as_tags(dict(zip(END_TAGS, (status, result.message, result.device), strict=True)))


def data_sets(data: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry per split: name, digest, source, profile and context. The splits share the digest of the data."""
    path = _shown(data["path"])
    return [
        {
            "name": f"{path[-480:]} {split}",
            "digest": str(data["fingerprint"])[:_MAX_DIGEST],
            "source": {"uri": path},
            "profile": {"num_rows": data["rows"][split], "classes": _counts(data, split)},
            "context": split,
        }
        for split in SPLITS
        if split in data.get("rows", {})
    ]


def _counts(data: dict[str, Any], split: str) -> dict[str, int]:
    return dict(list(data.get("classes", {}).get(split, {}).items())[:1000])


def note(manifest: dict[str, Any], board: dict[str, Any] | None) -> str:
    """The sweep in a few lines of markdown: data, classes, the verdict, and the best rows of the leaderboard."""
    rows = manifest["data"]["rows"]
    sizes = ", ".join(f"{count:,} {split}" for split, count in rows.items())
    labels = manifest["labels"]
    classes = ", ".join(f"{class_key(index, len(labels))} = {_cell(name)}" for index, name in enumerate(labels[:100]))
    source = _cell(redact(manifest["data"]["path"]))
    lines = [f"**{_cell(manifest['name'])}**: {source} ({sizes})", "", f"Classes: {classes}"]
    said = [*_verdict(board, rows.get("test")), *_warnings(board), *_table(board)] if board else []
    return "\n".join([*lines[:2], lines[2][:3000], *said])[:_MAX_TAG]


def _verdict(board: dict[str, Any], test_texts: int | None) -> Iterable[str]:
    """What to ship and why, one sentence a paragraph."""
    found = find(board["rows"], board["champion"], board["metric"], test_texts, stored(board.get("verdict")))
    for sentence in [found.result, *found.verdict] if found else []:
        yield ""
        yield _escaped(redact(sentence)[:_MAX_SENTENCE])


def _warnings(board: dict[str, Any]) -> Iterable[str]:
    for warning in board.get("warnings", [])[:_NOTE_WARNINGS]:
        yield ""
        yield f"Look again: {_escaped(redact(warning)[:_MAX_SENTENCE])}"


def _table(board: dict[str, Any]) -> Iterable[str]:
    scores = list(dict.fromkeys([f"validation/{board['metric']}", "test/accuracy", "test/f1_macro"]))
    columns = ["rank", "model", "freeze", "learning_rate", "seed", "status", scores[0], "tied", *scores[1:]]
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in board["rows"][:_NOTE_ROWS]:
        yield f"| {' | '.join(_cell(redact_all(row.get(column))) for column in columns)} |"
    if len(board["rows"]) > _NOTE_ROWS:
        yield f"\n{len(board['rows']) - _NOTE_ROWS} more in leaderboard.csv"


def _cell(value: Any) -> str:
    """A value as inert markdown on one line. Redact before: an escaped secret would not be known any more."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "≈" if value else ""
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(printable(str(value)).split())[:80]
    return _escaped(text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#!&])", r"\\\1", " ".join(printable(text).split()))


def _shown(value: Any) -> str:
    return redact(printable(str(value)))


def _key(name: str) -> str:
    return re.sub(r"[^\w.\- /]", "_", name)[:250]
