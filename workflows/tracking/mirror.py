"""A sweep directory mirrored in MLflow: one parent run, one child run per trial and per baseline.

The directory is the truth. `deliver` compares it with a mark of what was delivered and sends the rest; runs are
found by their tags before any is created, and every timestamp comes from a record, so sending something twice adds
nothing (MLflow's key of a metric is run, key, timestamp, step and value).
"""

from __future__ import annotations

import contextlib
import getpass
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainables.arguments import TrialSpec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import read_json, sha256_file, sha256_json
from trainables.records import EpochRecord, InferenceCost, Result
from trainables.redaction import redact
from workflows import confidence, inference
from workflows.config import ErrorsConfig
from workflows.tracking import artifacts, content, store
from workflows.tracking.mark import Mark, RunMark
from workflows.tracking.repeating import is_refusal
from workflows.tracking.uploads import Uploads

SWEEP_TAG = "fleetune.sweep_id"
TRIAL_TAG = "fleetune.trial_id"
CHAMPION_TAG = "fleetune.champion"
# While trials run, drawing takes at most one part in this of the time: workers need the cores more.
_DRAWING_SHARE = 20
# Figures of the report that show the champion alone and go to its run too.
_CHAMPIONS_PLOTS = ("reliability", "coverage")


@dataclass(frozen=True)
class Child:
    """A trial or baseline as its directory has it now."""

    name: str
    kind: str
    directory: TrialDirectory
    records: list[EpochRecord]
    result: Result | None
    cost: InferenceCost | None

    @property
    def timestamps(self) -> list[int]:
        return [record.timestamp for record in self.records]

    @property
    def started(self) -> int | None:
        if self.records:
            return self.records[0].timestamp - round(self.records[0].seconds * 1000)
        return self.result.started if self.result else None

    @property
    def ended(self) -> int | None:
        return self.result.ended if self.result else None


class _InAHurry(Exception):
    """What is being drawn has to wait."""


class Mirror:
    """Brings an MLflow store in line with a sweep directory. Not for use by several threads at once.

    After an error, call `deliver` again: it looks in the store for what was done and sends the rest. `arrived` and
    `allowance` let others see progress.
    """

    def __init__(self, sweep: SweepDirectory, uri: str, experiment: str) -> None:
        self.sweep = sweep
        self.uri = uri
        self.experiment = experiment
        self.client = store.open_client(uri)
        self.problems: list[str] = []
        # Asked before each figure: whoever is being ended has time for states, not for drawing.
        self.in_a_hurry: Callable[[], bool] = lambda: False
        self._sent = 0
        self._uploads = Uploads()
        self._mark: Mark | None = None
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._cost_files: dict[str, Path] = {}
        self._drawing_from = 0.0

    @property
    def arrived(self) -> int:
        """How much has arrived in the store: grows with every epoch, result and file of a model."""
        return self._sent + self._uploads.arrived

    @property
    def allowance(self) -> float:
        """For how many seconds `arrived` may stand still, because a large file is on its way."""
        return self._uploads.allowance

    def deliver(self, *, live: bool = False) -> None:
        """Send whatever the store has not got. `live`: workers are busy, so figures may wait.

        What the store refuses or a damaged file spoils is noted in `problems` and does not hold up other runs.
        Raises MlflowException, OSError or what the store's driver raises where the store cannot be reached.
        """
        manifest = read_json(self.sweep.manifest)
        self.problems = []
        with self._marked(manifest) as mark:
            for name, kind, directory in self._directories():
                with self._noted(name):
                    self._deliver_child(mark, manifest, name, kind, directory, live)
            if not self.in_a_hurry():
                with self._noted("sweep"):
                    self._deliver_parent(mark, manifest)

    def close(self, status: str) -> None:
        """End every run: the parent as `status` (FINISHED, FAILED or KILLED), children without a result as KILLED."""
        manifest = read_json(self.sweep.manifest)
        with self._marked(manifest) as mark:
            names = {run.run_id: name for name, run in mark.runs.items()}
            for found in self._search(mark, manifest, "attributes.status = 'RUNNING'"):
                if found.info.run_id != mark.parent_run_id:
                    moment = self._last_moment(names.get(found.info.run_id, ""))
                    self.client.set_terminated(found.info.run_id, "KILLED", moment)
            for run in mark.runs.values():
                run.status = "KILLED" if run.status == "RUNNING" else run.status
            if mark.parent_status != status:
                self.client.set_terminated(mark.parent_run_id, status, self._last_moment())
                mark.parent_status = status

    def publish(self, trial_id: str, folder: Path, register_as: str | None = None) -> None:
        """Add a model directory to a trial's run and register it as `register_as`@champion, unless that was done.

        The run gets no copy where the sweep says `checkpoints: none`.
        """
        from workflows.tracking import registry

        manifest = read_json(self.sweep.manifest)
        with self._marked(manifest) as mark:
            run = mark.runs[trial_id]
            checkpoint = registry.checkpoint_hash(folder)
            if run.published != checkpoint:
                if manifest["config"]["tracking"]["checkpoints"] != "none":
                    registry.log_checkpoint(self.client, run.run_id, folder, self._uploads)
                run.published = checkpoint
                # Registering may take long, and a process that is ended in it leaves no other mark.
                mark.write(self.sweep)
            if register_as and mark.registered != [register_as, trial_id, checkpoint]:
                registry.register(self.client, run.run_id, folder, register_as, trial_id, self._uploads)
                mark.registered = [register_as, trial_id, checkpoint]

    @contextlib.contextmanager
    def _marked(self, manifest: dict[str, Any]) -> Iterator[Mark]:
        """The mark, saved afterwards. After an error the store is searched again: a request may have been done."""
        mark = self._mark or self._reconcile(manifest)
        self._mark = None
        try:
            yield mark
            self._mark = mark
        finally:
            if self._mark is None:
                self._seen.clear()
            mark.write(self.sweep)

    @contextlib.contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note what another try would not cure; raise anything else."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, CorruptFile | ValidationError) and not is_refusal(error):
                raise
            self._seen.pop(name, None)
            self.problems.append(f"{name}: {redact(str(error))}")

    def _reconcile(self, manifest: dict[str, Any]) -> Mark:
        """The stored mark, corrected by what the store holds: its runs and their states."""
        mark = Mark.read(self.sweep, self.uri, self.experiment)
        experiment_id = store.experiment(self.client, self.experiment, self._artifact_location())
        if mark.experiment_id != experiment_id:
            mark = Mark(mark.uri, mark.experiment, experiment_id)
        marked, mark.runs, parent = mark.runs, {}, None
        for run in self._search(mark, manifest):
            name = run.data.tags.get(TRIAL_TAG)
            if name is None:
                parent = parent or run
            elif name not in mark.runs or marked[name].run_id == run.info.run_id:
                known = marked.setdefault(name, RunMark(run.info.run_id))
                mark.runs[name] = known if known.run_id == run.info.run_id else RunMark(run.info.run_id)
                mark.runs[name].status = run.info.status
        if parent is None or parent.info.run_id != mark.parent_run_id:
            mark.parent_content = None
        if mark.registered:
            _, champion, checkpoint = mark.registered
            # In a store that lost the champion's run, a version may be lost too.
            if champion not in mark.runs or mark.runs[champion].published != checkpoint:
                mark.registered = None
        mark.parent_run_id = parent.info.run_id if parent else self._create_parent(mark, manifest)
        mark.parent_status = parent.info.status if parent else "RUNNING"
        return mark

    def _search(self, mark: Mark, manifest: dict[str, Any], condition: str = "") -> Iterator[Any]:
        own = f"tags.`{SWEEP_TAG}` = '{manifest['sweep_id']}'"
        whole = f"{own} and {condition}" if condition else own
        return store.search(self.client, mark.experiment_id, whole)

    def _artifact_location(self) -> str | None:
        """A server knows where its artifacts go; without one MLflow would write them to ./mlruns."""
        if re.match(r"https?:|databricks", self.uri):
            return None
        folder = re.sub(r"[^\w.-]", "_", self.experiment)[:100]
        return (self.sweep.root.absolute().parent / "mlartifacts" / folder).as_uri()

    def _create_parent(self, mark: Mark, manifest: dict[str, Any]) -> str:
        tags = _origin("sweep") | {SWEEP_TAG: manifest["sweep_id"]}
        name = content.run_name(manifest["name"])
        run = self.client.create_run(mark.experiment_id, manifest["created"], tags, name)
        return str(run.info.run_id)

    def _directories(self) -> Iterator[tuple[str, str, TrialDirectory]]:
        for kind, folder in (("baseline", self.sweep.baselines), ("trial", self.sweep.trials)):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                yield path.name, kind, TrialDirectory(path)

    def _deliver_child(
        self, mark: Mark, manifest: dict[str, Any], name: str, kind: str, directory: TrialDirectory, live: bool
    ) -> None:
        """Send what is new of one trial or baseline. One without an epoch and without a result has no run yet."""
        cost = self._cost_file(name, kind)
        files = directory.epochs() + [path for path in (directory.result, cost) if path and path.exists()]
        seen = tuple((path.name, path.stat().st_mtime_ns) for path in files)
        drawing = not self.in_a_hurry() and (not live or time.monotonic() >= self._drawing_from)
        known = mark.runs.get(name)
        nothing_to_draw = known is None or known.ended is None or known.artifacts or not drawing
        if not files or (self._seen.get(name) == seen and nothing_to_draw):
            return
        child = _read(name, kind, directory, cost)
        run = self._open_run(mark, manifest, child)
        for record in child.records[len(run.epochs) :]:
            store.log_metrics(self.client, run.run_id, content.epoch_metrics(record))
            run.epochs.append(record.timestamp)
            self._sent += 1
        if child.result and run.ended != child.ended:
            self._deliver_result(run, child, child.result, manifest["labels"])
        if child.result and drawing and not run.artifacts:
            with contextlib.suppress(_InAHurry):
                self._deliver_artifacts(run, child, child.result, manifest)
        if child.cost and run.measured != child.cost.measured:
            metrics = content.inference_metrics(child.cost, child.result)
            store.log_metrics(self.client, run.run_id, metrics)
            run.measured = child.cost.measured
            self._sent += 1
        self._seen[name] = seen

    def _cost_file(self, name: str, kind: str) -> Path | None:
        """Where a child's inference cost will be. Its spec says so and does not change, so it is read once."""
        if name not in self._cost_files and (found := inference.cost_file(self.sweep, name, kind)):
            self._cost_files[name] = found
        return self._cost_files.get(name)

    def _open_run(self, mark: Mark, manifest: dict[str, Any], child: Child) -> RunMark:
        """The run of a trial: found, created, or created anew where the trial began again from its start."""
        run = mark.runs.get(child.name)
        if run and child.timestamps[: len(run.epochs)] != run.epochs:
            self.client.delete_run(run.run_id)
            run = None
        shown = _describe(child)
        if run is None:
            tags = _origin(child.kind) | {SWEEP_TAG: manifest["sweep_id"], TRIAL_TAG: child.name}
            tags |= {"mlflow.parentRunId": mark.parent_run_id} | shown.tags
            created = self.client.create_run(mark.experiment_id, child.started, tags, shown.name)
            run = mark.runs[child.name] = RunMark(created.info.run_id)
        if not run.described:
            store.log_params(self.client, run.run_id, shown.params)
            store.log_data_sets(self.client, run.run_id, manifest["data"])
            run.described = True
        if len(child.records) > len(run.epochs) or child.ended != run.ended:
            self._reopen(mark, run)
        return run

    def _reopen(self, mark: Mark, run: RunMark) -> None:
        if run.status != "RUNNING":
            store.delete_tags(self.client, run.run_id, content.END_TAGS)
            self.client.update_run(run.run_id, "RUNNING")
            run.status, run.ended = "RUNNING", None
        if mark.parent_status != "RUNNING":
            self.client.update_run(mark.parent_run_id, "RUNNING")
            mark.parent_status = "RUNNING"

    def _deliver_result(self, run: RunMark, child: Child, result: Result, labels: list[str]) -> None:
        last = child.records[-1] if child.records else None
        store.log_metrics(self.client, run.run_id, content.result_metrics(result, last, labels))
        store.set_tags(self.client, run.run_id, content.result_tags(result))
        status = content.RUN_STATUS[result.status]
        self.client.set_terminated(run.run_id, status, result.ended)
        run.status, run.ended, run.artifacts = status, result.ended, False
        self._sent += 1

    def _deliver_artifacts(self, run: RunMark, child: Child, result: Result, manifest: dict[str, Any]) -> None:
        started = time.monotonic()
        errors = ErrorsConfig.model_validate(manifest["config"].get("errors", {}))
        data = self.sweep.cache.data(manifest["data"]["fingerprint"])
        with tempfile.TemporaryDirectory(prefix="fleetune-artifacts-") as scratch:
            tables = artifacts.write_trial(
                Path(scratch), child.directory, result, child.records, manifest["labels"], data, errors, self._go_on
            )
            store.log_folder(self.client, run.run_id, Path(scratch))
        if tables:
            store.set_tags(self.client, run.run_id, content.table_tags(tables))
        if result.status == "DONE":
            calibrated = content.calibration_metrics(confidence.columns(child.directory), result)
            store.log_metrics(self.client, run.run_id, calibrated)
        run.artifacts = True
        self._sent += 1
        self._drawing_from = time.monotonic() + _DRAWING_SHARE * (time.monotonic() - started)

    def _go_on(self) -> None:
        if self.in_a_hurry():
            raise _InAHurry

    def _deliver_parent(self, mark: Mark, manifest: dict[str, Any]) -> None:
        """The effective config, the leaderboard and a summary, whenever one of them has changed."""
        board = read_json(self.sweep.leaderboard_json) if self.sweep.leaderboard_json.exists() else None
        digest = parent_content(self.sweep)
        if mark.parent_content == digest:
            return
        champion = board["champion"] if board else None
        checked = artifacts.findings(self.sweep)
        values = {"mlflow.note.content": content.note(manifest, board), CHAMPION_TAG: champion}
        tags = content.as_tags(values | {"fleetune.check": checked and checked.tally})
        tags |= content.table_tags([artifacts.CHECK_TABLE]) if checked and checked.findings else {}
        store.set_tags(self.client, mark.parent_run_id, tags)
        store.log_changes(self.client, mark.parent_run_id, content.sweep_metrics(board, self._last_moment()))
        store.log_data_sets(self.client, mark.parent_run_id, manifest["data"])
        with tempfile.TemporaryDirectory(prefix="fleetune-artifacts-") as scratch:
            artifacts.write_sweep(Path(scratch), self.sweep, manifest, board)
            store.log_folder(self.client, mark.parent_run_id, Path(scratch))
        if champion in mark.runs:
            for path in filter(Path.exists, (self.sweep.figures / f"{name}.png" for name in _CHAMPIONS_PLOTS)):
                self.client.log_artifact(mark.runs[champion].run_id, str(path), "plots")
        mark.parent_content = digest

    def _last_moment(self, name: str | None = None) -> int:
        """When the last epoch or result of a child, or of all, was recorded, in ms; now where there is none."""
        moments = []
        for other, _, directory in self._directories():
            if name in (None, other):
                with contextlib.suppress(CorruptFile):
                    moments += [EpochRecord.read(path).timestamp for path in directory.epochs()[-1:]]
                    moments += [Result.read(directory.result).ended] if directory.result.exists() else []
        return max(moments, default=int(time.time() * 1000))


def parent_content(sweep: SweepDirectory) -> str:
    """A hash of all that the parent run shows."""
    board = read_json(sweep.leaderboard_json) if sweep.leaderboard_json.exists() else None
    report = sha256_file(sweep.report) if sweep.report.exists() else None
    return sha256_json([read_json(sweep.manifest), board, report])


@dataclass(frozen=True)
class _Shown:
    name: str
    params: dict[str, str]
    tags: dict[str, str]


def _describe(child: Child) -> _Shown:
    """Name, params and tags of a trial's or a baseline's run."""
    if not child.directory.spec.exists():
        return _Shown(child.name, content.as_params({"model": child.name}), {})
    stored = read_json(child.directory.spec)
    spec = TrialSpec.model_validate(stored["spec"])
    params = content.trial_params(spec, stored["axes"])
    return _Shown(content.run_name(stored["name"]), params, {"fleetune.point_id": spec.point_id})


def _read(name: str, kind: str, directory: TrialDirectory, cost: Path | None) -> Child:
    records = [EpochRecord.read(path) for path in directory.epochs()]
    result = Result.read(directory.result) if directory.result.exists() else None
    measured = InferenceCost.read(cost) if result and result.status == "DONE" and cost and cost.exists() else None
    return Child(name, kind, directory, records, result, measured)


def _origin(kind: str) -> dict[str, str]:
    tags = {"fleetune.kind": kind, "mlflow.source.name": "fleetune"}
    with contextlib.suppress(OSError, KeyError):
        tags["mlflow.user"] = getpass.getuser()
    return tags
