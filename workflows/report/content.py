"""A sweep directory, read into plain values. What is not there yet is simply missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.arguments import Metric, TrialSpec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import read_json
from trainables.records import EpochRecord, Evaluation, InferenceCost, Result
from workflows import confidence, inference, leaderboard, manifest, soundness
from workflows.audit.finding import Checked
from workflows.config import ErrorsConfig
from workflows.headline import Headline, find, point_name
from workflows.leaderboard import Leaderboard, Row
from workflows.plan import PlannedTrial
from workflows.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

_MODEL_LENGTH = 20


@dataclass(frozen=True)
class Run:
    """One trial or baseline: its row of the leaderboard and what lies in its folder."""

    row: Row
    directory: TrialDirectory
    spec: TrialSpec | None
    result: Result | None
    epochs: tuple[EpochRecord, ...]

    @property
    def run_id(self) -> str:
        """The trial's id, or the baseline's name."""
        return str(self.row["trial_id"])

    @property
    def policy(self) -> str:
        return str(self.row.get("freeze") or "")

    @property
    def name(self) -> str:
        """Model, policy, rate and other axes; the seed is added where it matters."""
        return point_name(self.row)

    @property
    def test(self) -> Evaluation | None:
        return self.result.evaluations.get("test") if self.result else None

    def predictions(self) -> pd.DataFrame | None:
        """The test rows of its predictions, where there are any. Raises CorruptFile where they should be there."""
        from workflows.error_analysis import read_test

        if self.row["status"] != "DONE" and not self.directory.predictions.exists():
            return None
        found = read_test(self.directory)
        return None if found.empty else found


@dataclass(frozen=True)
class Content:
    """Everything that a report says. Runs are in the order of the leaderboard."""

    sweep: SweepDirectory
    manifest: dict[str, Any]
    metric: Metric
    runs: tuple[Run, ...]
    champion: Run | None
    costs: dict[str, InferenceCost]
    verdict: Verdict | None
    warnings: Sequence[str] = ()
    checked: Checked | None = None

    @property
    def labels(self) -> list[str]:
        return list(self.manifest["labels"])

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.manifest["config"])

    @property
    def rows(self) -> list[Row]:
        return [run.row for run in self.runs]

    @property
    def trials(self) -> list[Run]:
        return [run for run in self.runs if run.row["kind"] == "trial"]

    @property
    def done(self) -> list[Run]:
        """Finished trials, best first."""
        return [run for run in self.trials if run.row["status"] == "DONE"]

    @property
    def baselines(self) -> list[Run]:
        """Finished baselines, best first."""
        return [run for run in self.runs if run.row["kind"] == "baseline" and run.row["status"] == "DONE"]

    @property
    def best_baseline(self) -> Run | None:
        return next(iter(self.baselines), None)

    @property
    def reference(self) -> Run | None:
        """TF-IDF, against which errors are held; where it is not there, the best baseline."""
        return next((run for run in self.baselines if run.run_id == "tfidf"), self.best_baseline)

    @property
    def test_texts(self) -> int | None:
        return self.manifest["data"].get("rows", {}).get("test")

    @property
    def several_seeds(self) -> bool:
        return len({run.row.get("seed") for run in self.trials}) > 1

    @property
    def errors(self) -> ErrorsConfig:
        return ErrorsConfig.model_validate(self.config.get("errors", {}))

    @cached_property
    def headline(self) -> Headline | None:
        champion = self.champion.run_id if self.champion else None
        return find(self.rows, champion, self.metric, self.test_texts, self.verdict)

    def label(self, run: Run) -> str:
        """The name of a trial, with its seed where there are several."""
        return f"{run.name} · seed {run.row['seed']}" if self.several_seeds else run.name

    def short(self, run: Run) -> str:
        """The name of a trial for the legend of a figure: with `short_model`."""
        name = point_name({**run.row, "model": self.short_model(run)})
        return f"{name} · seed {run.row['seed']}" if self.several_seeds else name

    def short_model(self, run: Run) -> str | None:
        """The model without its folder and not too long; None in a sweep of one model, where it goes without saying."""
        several = len({other.row.get("model") for other in self.trials}) > 1
        return str(run.row.get("model")).rsplit("/", 1)[-1][:_MODEL_LENGTH] if several else None

    def best_of_each(self, runs: Iterable[Run], *keys: str) -> list[Run]:
        """The first run of every combination of some columns of the leaderboard, in its order."""
        found: dict[tuple[Any, ...], Run] = {}
        for run in runs:
            found.setdefault(tuple(run.row.get(key) for key in keys), run)
        return list(found.values())

    def cost(self, run: Run, *, merged: bool = True) -> InferenceCost | None:
        """What predicting with a run costs; None where it was not measured."""
        graph = inference.trial_graph(run.spec, merged=merged) if run.spec else run.run_id
        return self.costs.get(graph)


def read(sweep: SweepDirectory) -> Content:
    """Read a sweep directory, finished or not. Raises BadInput where there is none, CorruptFile for a damaged file."""
    found = manifest.load(sweep)
    if found is None:
        raise BadInput(f"{sweep.root} is not a sweep directory: it has no {sweep.manifest.name}")
    names = list(found.get("baselines", []))
    specs = _specs(sweep, found["trials"])
    folders = {name: sweep.baseline(name) for name in names} | {trial: sweep.trial(trial) for trial in specs}
    results = {name: Result.read(folder.result) for name, folder in folders.items() if folder.result.exists()}
    board = _leaderboard(sweep, found, specs, results, names)
    runs = tuple(
        Run(
            row=row,
            directory=(folder := folders[row["trial_id"]]),
            spec=spec.spec if (spec := specs.get(row["trial_id"])) else None,
            result=results.get(row["trial_id"]),
            epochs=soundness.epochs(folder, _epochs_of(spec, results.get(row["trial_id"]))),
        )
        for row in board.rows
    )
    champion = next((run for run in runs if run.run_id == board.champion), None)
    return Content(
        sweep,
        found,
        board.metric,
        runs,
        champion,
        _costs(sweep),
        board.verdict,
        warnings=board.warnings,
        checked=_checked(sweep, found),
    )


@dataclass(frozen=True)
class _Planned:
    """A trial's spec, and the trial as it was planned, both from its trial.json."""

    spec: TrialSpec
    planned: PlannedTrial


def _specs(sweep: SweepDirectory, trials: Sequence[str]) -> dict[str, _Planned]:
    """Planned trials by id, without those that were not laid out yet when the sweep was killed."""
    found = {}
    for trial_id in trials:
        if not (path := sweep.trial(trial_id).spec).exists():
            if sweep.trial(trial_id).result.exists():
                raise CorruptFile(f"{path} is missing; the same sweep again writes it")
            continue
        laid_out = read_json(path)
        spec = TrialSpec.model_validate(laid_out["spec"])
        planned = PlannedTrial(
            trial_id, spec.point_id, spec.seed, spec.model, spec.freeze, spec.training, laid_out.get("axes", {})
        )
        found[trial_id] = _Planned(spec, planned)
    return found


def _leaderboard(
    sweep: SweepDirectory,
    found: dict[str, Any],
    specs: dict[str, _Planned],
    results: dict[str, Result],
    baselines: Sequence[str],
) -> Leaderboard:
    """The stored leaderboard where it speaks of the same trials and results; else one built of them."""
    stored = _stored_leaderboard(sweep)
    if stored is not None:
        known = {row.get("trial_id"): row.get("status") for row in stored.rows}
        states = {name: results[name].status if name in results else "PENDING" for name in (*specs, *baselines)}
        if known == states:
            return stored if stored.verdict else stored.judged(sweep, len(found["labels"]))
    metric = found["config"].get("training", {}).get("metric_for_best_model", "accuracy")
    planned = [spec.planned for spec in specs.values()]
    kinds = dict.fromkeys(specs, "trial") | dict.fromkeys(baselines, "baseline")
    costs = {
        name: {
            **inference.columns(sweep, name, kind),
            **(confidence.columns(sweep.run(name, kind)) if _is_done(results.get(name)) else {}),
        }
        for name, kind in kinds.items()
    }
    return leaderboard.build(planned, results, baselines, metric, costs).judged(sweep, len(found["labels"]))


def _stored_leaderboard(sweep: SweepDirectory) -> Leaderboard | None:
    """The leaderboard as it was written; None where there is none or it is damaged, since it can be built again."""
    with contextlib.suppress(CorruptFile):
        return Leaderboard.read(sweep)
    return None


def _is_done(result: Result | None) -> bool:
    return result is not None and result.status == "DONE"


def _epochs_of(planned: _Planned | None, result: Result | None) -> int | None:
    """How many epochs a trial must have: all of them where it is DONE, else as many as there are."""
    return planned.spec.training.num_train_epochs if planned and result and result.status == "DONE" else None


def _costs(sweep: SweepDirectory) -> dict[str, InferenceCost]:
    return {path.stem: InferenceCost.read(path) for path in sorted(sweep.inference.glob("*.json"))}


def _checked(sweep: SweepDirectory, found: dict[str, Any]) -> Checked | None:
    """What the check of the data has found; None for a sweep that began before there was one."""
    if sweep.check.exists():
        return Checked.read(sweep.check)
    if found.get("checked"):
        raise CorruptFile(f"{sweep.check} is missing; the same sweep again writes it")
    return None


def status(row: Row) -> str:
    """The state of a trial, with the reason of a failure."""
    return f"{row['status']}({row['reason']})" if row.get("reason") else str(row["status"])


def data_folder(run: Run) -> Path | None:
    """Where the prepared splits of a trial are; None where they are gone."""
    if run.spec is None or not (Path(run.spec.data) / "test.parquet").exists():
        return None
    return Path(run.spec.data)
