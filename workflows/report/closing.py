"""What did not finish, and how to make it all again."""

from __future__ import annotations

import datetime
from typing import Any

from trainables.redaction import redact, redact_all
from workflows import yaml_file
from workflows.report import numbers
from workflows.report.content import Content, status
from workflows.report.page import Block, Column, Facts, Listing, Row, Section, Table

_MESSAGE = 2000
_ROWS = 50


def unfinished(content: Content) -> Section | None:
    """Trials that failed, were stopped, or have not ended, with what is known of why."""
    left = [run for run in content.trials if run.row["status"] != "DONE"]
    if not left:
        return None
    columns = [
        Column("trial", numeric=False),
        Column("name", numeric=False),
        Column("status", numeric=False),
        Column("epochs"),
        Column("what happened", numeric=False, wide=True),
    ]
    rows = []
    for run in left[:_ROWS]:
        message = redact(str(run.row.get("message") or ""))[:_MESSAGE]
        rows.append(Row([run.run_id, content.label(run), status(run.row), str(len(run.epochs)), message]))
    note = f"… {len(left) - _ROWS:,} more in leaderboard.csv" if len(left) > _ROWS else ""
    table = Table("Trials without a test score", columns, rows, note=note)
    return Section("unfinished", "Failed, stopped and unfinished trials", "", [table])


def reproduce(content: Content) -> Section:
    """The command, the effective sweep file, versions, seeds, digest, precision and devices."""
    manifest = content.manifest
    config = redact_all(content.config)
    search = config.get("search", {})
    pairs = [
        ("Sweep", f"{manifest['name']} (id {manifest['sweep_id']})"),
        ("Begun", _when(manifest["created"])),
        ("Seeds", ", ".join(map(str, search.get("seeds", []))) or numbers.NONE),
        ("Seed of the splits", str(config.get("data", {}).get("seed", numbers.NONE))),
        ("Data digest", f"sha256 {manifest['data']['fingerprint']}"),
        ("Precision", str(manifest["precision"])),
        ("Trained on", ", ".join(_devices(content)) or numbers.NONE),
    ]
    versions = Table(
        "Versions",
        [Column("library", numeric=False), Column("version", numeric=False)],
        [Row([name, str(version)]) for name, version in manifest["versions"].items()],
    )
    text = yaml_file.dump(_sweep_file(config))
    blocks: list[Block] = [
        Listing("Save the sweep file below as sweep.yaml, and run", "fleetune sweep sweep.yaml"),
        Listing(
            "This report again, from the sweep directory alone",
            f"fleetune report {config.get('storage', 'runs')}/{manifest['name']}",
        ),
        Facts(pairs),
        versions,
        Listing("sweep.yaml as it took effect, every default written out", text, folded=True),
    ]
    return Section("reproduce", "How to reproduce", "", blocks)


def _devices(content: Content) -> list[str]:
    return sorted({run.result.device for run in content.runs if run.result and run.result.device})


def _when(milliseconds: int) -> str:
    return f"{datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _sweep_file(config: dict[str, Any]) -> dict[str, Any]:
    """A config as a sweep file may have it: without nulls, and without what only another kind of search uses."""
    kept: dict[str, Any] = _without_nulls(config)
    search = kept.get("search", {})
    unused = [
        *(["seed"] if search.get("algorithm") == "grid" else []),
        *(["grace_period", "reduction_factor"] if search.get("scheduler") == "fifo" else []),
    ]
    return kept | {"search": {key: value for key, value in search.items() if key not in unused}}


def _without_nulls(value: Any) -> Any:
    """A config without keys that are null, which is what they are when they are not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
