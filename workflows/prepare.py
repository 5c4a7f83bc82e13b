"""All that happens before Ray starts: checks that cost seconds, models found, data split and stored."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.arguments import ModelSpec, Precision
from trainables.directory import SweepDirectory
from trainables.errors import BadInput, UnusableData, nearest
from workflows import manifest, plan, repair, search
from workflows.advice import advice
from workflows.audit.checks import check_data
from workflows.audit.finding import Checked
from workflows.baselines import BASELINES
from workflows.config import ModelChoice, SweepConfig
from workflows.data import dataset
from workflows.data.dataset import LabelledData
from workflows.plan import PlannedTrial, Planner
from workflows.resolve import local_path, resolve_models
from workflows.spinner import phase
from workflows.tracking.writer import check_uri, default_uri

_SHOWN = 8


@dataclass(frozen=True)
class Prepared:
    """All that is known before Ray starts.

    `checked` is what the check of the data has found, and `earlier` the manifest of a sweep that this one continues.
    """

    config: SweepConfig
    sweep: SweepDirectory
    models: dict[ModelChoice, ModelSpec]
    data: LabelledData
    checked: Checked
    earlier: dict[str, Any] | None = None

    @property
    def tracking_uri(self) -> str:
        return self.config.tracking.uri or default_uri(self.sweep.root.parent)

    @property
    def experiment(self) -> str:
        return self.config.tracking.experiment or self.config.name

    @property
    def kept_precision(self) -> Precision | None:
        """What an earlier run has resolved for the whole sweep; None for a new sweep."""
        return self.earlier["precision"] if self.earlier else None

    def with_earlier(self) -> Prepared:
        """With the manifest of an earlier run, if there was one. Changes nothing on disk.

        Raises BadInput where this sweep would mean something else, CorruptFile where that manifest is damaged.
        """
        earlier = manifest.load(self.sweep)
        if earlier:
            manifest.refuse_other_meaning(earlier, self.config, self.data)
        return replace(self, earlier=earlier)

    def continued(self, console: Console) -> Prepared:
        """As `with_earlier`, and with what an earlier run has left cleared of what is damaged.

        For whoever holds the sweep's lease.
        """
        found = self.with_earlier()
        draws = search.ALGORITHMS[self.config.search.algorithm].draws
        for note in repair.clear(self.sweep, drawn=draws):
            console.print(f"damaged: {note}", highlight=False, markup=False, soft_wrap=True)
        return found

    def planner(self, precision: Precision) -> Planner:
        """What turns points into trials."""
        return Planner(self.config, self.models, self.data.fingerprint, tuple(self.data.labels), precision)

    def plan(self, precision: Precision) -> list[PlannedTrial]:
        """The trials of the sweep, as far as they are known: some searches draw the rest while the sweep runs."""
        return search.ALGORITHMS[self.config.search.algorithm].planned(self.planner(precision), self.sweep)


def prepare(config: SweepConfig, console: Console) -> Prepared:
    """Check everything that can be checked without Ray, and put the data where trials find it.

    Raises UnusableData for what is wrong with the data, BadInput for the rest.
    """
    for name in config.baselines:
        if name not in BASELINES:
            raise BadInput(f"baselines: {name!r} is unknown; {nearest(name, BASELINES)}")
    if config.tracking.uri:
        check_uri(config.tracking.uri)
    sweep = SweepDirectory(_storage(config) / config.name)
    models = resolve_models(plan.points(config))
    with phase(console, "reading the data"):
        try:
            data = dataset.prepare(config.data, sweep.cache, drop_overlap=config.check.drop_overlap)
        except BadInput as error:
            raise UnusableData(str(error)) from None
        checked = check_data(data, config.check)
    _show(data, advice(config, data.rows), console)
    return Prepared(config, sweep, models, data, checked)


def _show(data: LabelledData, notes: list[str], console: Console) -> None:
    """What the trials will learn from, in a few lines, and what to look at again."""
    sizes = " / ".join(f"{data.rows[split]:,} {split}" for split in data.rows)
    total = sum(data.classes["train"].values())
    shares = ", ".join(f"{label} {count / total:.0%}" for label, count in list(data.classes["train"].items())[:_SHOWN])
    more = f", … ({len(data.labels)} labels)" if len(data.labels) > _SHOWN else ""
    console.print(f"data: {sizes} texts; train holds {shares}{more}", highlight=False, markup=False, soft_wrap=True)
    for note in (*data.notes, *notes):
        console.print(f"  {note}", highlight=False, markup=False, soft_wrap=True)


def _storage(config: SweepConfig) -> Path:
    folder = local_path(config.storage, "storage")
    if not folder.is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise BadInput(
            f"storage: {config.storage!r} is relative, and inside a Ray job that is a copy of the working directory "
            "that is deleted with the job; give an absolute folder that every node reaches (--set storage=/…)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.resolve()
    except OSError as error:
        raise BadInput(
            f"storage: {folder}: cannot be written to: {error.strerror}; name a folder that can be (--set storage=…)"
        ) from None
