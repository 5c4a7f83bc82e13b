"""The manifest of a sweep directory: what was agreed when the sweep began, and what continuing it may change.

Points may be added or removed, baselines too. What would change the meaning of trials that exist (data, labels,
training arguments) is refused with a diff: such a sweep needs a name of its own.
"""

from __future__ import annotations

import importlib.metadata
import platform
import secrets
import time
from collections.abc import Container, Iterable, Sequence
from typing import Any

from trainables.arguments import Precision
from trainables.directory import SweepDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import read_json, write_json
from workflows.config import SweepConfig
from workflows.data.dataset import LabelledData
from workflows.plan import PlannedTrial

SCHEMA = 2
# What a sweep may change of its training arguments when it is continued: no result depends on it.
_FREE = ("save_steps",)
_LIBRARIES = (
    "fleetune",
    "torch",
    "transformers",
    "datasets",
    "ray",
    "mlflow",
    "scikit-learn",
    "peft",
    "tokenizers",
    "optuna",
)


def load(sweep: SweepDirectory) -> dict[str, Any] | None:
    """The manifest of an existing sweep, or None. Raises CorruptFile, or BadInput for another schema."""
    try:
        manifest = read_json(sweep.manifest)
    except FileNotFoundError:
        return None
    except CorruptFile as error:
        raise CorruptFile(
            f"{error}. Delete it and run the sweep again: finished trials are kept, but MLflow gets it as a new sweep"
        ) from None
    if manifest["schema"] != SCHEMA:
        raise BadInput(
            f"{sweep.root} was written by another version of Fleetune (schema {manifest['schema']}, this one has "
            f"{SCHEMA}); use another name, or that version"
        )
    return manifest


def refuse_other_meaning(manifest: dict[str, Any], config: SweepConfig, data: LabelledData) -> None:
    """Raise BadInput with a diff where continuing would change what existing trials mean."""
    changes = [
        *_diff("training", manifest["config"]["training"], config.training.model_dump(mode="json"), free=_FREE),
        *_diff("labels", dict(enumerate(manifest["labels"])), dict(enumerate(data.labels))),
    ]
    if manifest["data"]["fingerprint"] != data.fingerprint:
        changes += _diff("data", manifest["config"]["data"], config.data.model_dump(mode="json"))
        dropped = manifest["config"].get("check", {}).get("drop_overlap", False)
        changes += _diff("check", {"drop_overlap": dropped}, {"drop_overlap": config.check.drop_overlap})
        changes.append(f"  data: fingerprint {manifest['data']['fingerprint'][:12]} → {data.fingerprint[:12]}")
    if changes:
        listed = "\n".join(changes)
        raise BadInput(
            f"the sweep '{config.name}' exists in {config.storage}, and this would change what its trials mean:\n"
            f"{listed}\nUndo the change, or give the new sweep another name (--set name=…)"
        )


def write(
    sweep: SweepDirectory,
    config: SweepConfig,
    data: LabelledData,
    precision: Precision,
    groups: Sequence[Sequence[str]],
    planned: Sequence[PlannedTrial],
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    """Write the manifest for this run of the sweep, keeping the identity of an earlier one; returns it.

    `groups` has the ids of the trials that a worker runs together. What the check has found must be there by now, if
    it is ever to be: the manifest tells whether it is missing.
    """
    manifest = {
        "schema": SCHEMA,
        "sweep_id": earlier["sweep_id"] if earlier else secrets.token_hex(8),
        "name": config.name,
        "created": earlier["created"] if earlier else int(time.time() * 1000),
        "config": config.model_dump(mode="json"),
        "labels": list(data.labels),
        "data": {
            "path": config.data.path,
            "fingerprint": data.fingerprint,
            "rows": dict(data.rows),
            "classes": {split: dict(counts) for split, counts in data.classes.items()},
            "notes": list(data.notes),
        },
        "checked": sweep.check.exists(),
        "precision": precision,
        "versions": versions(),
        **_planned(planned, groups),
        "baselines": list(config.baselines),
    }
    write_json(sweep.manifest, manifest)
    return manifest


def write_trials(sweep: SweepDirectory, planned: Sequence[PlannedTrial]) -> None:
    """Bring the trials in the manifest up to date while a search draws them, each a group of its own."""
    singles = [[trial.trial_id] for trial in planned]
    write_json(sweep.manifest, read_json(sweep.manifest) | _planned(planned, singles))


def _planned(planned: Sequence[PlannedTrial], groups: Sequence[Sequence[str]]) -> dict[str, list[Any]]:
    return {"trials": [trial.trial_id for trial in planned], "groups": [list(group) for group in groups]}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide results."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _diff(section: str, before: dict[Any, Any], after: dict[Any, Any], free: Container[str] = ()) -> Iterable[str]:
    for key in dict.fromkeys([*before, *after]):
        if key not in free and before.get(key) != after.get(key):
            yield f"  {section}.{key}: {before.get(key)!r} → {after.get(key)!r}"
