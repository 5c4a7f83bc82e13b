"""MLflow's client as the mirror uses it: quiet, impatient, always with explicit run ids, never the active run."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from trainables.files import new_file
from workflows.tracking import content, uploads
from workflows.tracking.repeating import Repeating

_BATCH = 1000
_PARAMS = 100
_ENVIRONMENT = {
    # Fleetune repeats what may be repeated, and looks for what any other unanswered request has done.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def import_client() -> type[Any]:
    """Import MLflow's client, a second or two, and return it. It reads how it is to behave when it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient


def open_client(uri: str) -> Any:
    """An MlflowClient that is quiet, asks again where that may help, and gives up soon.

    Creates an sqlite store that is not there yet, whole or not at all.
    """
    client = import_client()
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if path := _sqlite_file(uri):
        _create(path)
    return Repeating(client(tracking_uri=uri, registry_uri=uri))


def _sqlite_file(uri: str) -> Path | None:
    """The file that an sqlite URI names, if it names one."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url

    name = make_url(uri).database
    return Path(name).absolute() if name and name != ":memory:" and not name.startswith("file:") else None


def _create(path: Path) -> None:
    """Make MLflow's store in an sqlite file, unless that is there.

    MLflow makes one by dozens of migrations, which sqlite does not undo: killed amid them, or with two processes at
    them at once, it leaves a file that it can never open again (mlflow/mlflow#19943). So it is made elsewhere, and
    whoever comes first with a whole one has made it.
    """
    if path.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fleetune-store-") as scratch:
        made = Path(scratch) / path.name
        SqlAlchemyStore(f"sqlite:///{made}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
        # It permits what the user's other files permit: others may write to it too.
        with new_file(path, replace=False, mode=made.stat().st_mode & 0o777) as new:
            shutil.copyfile(made, new)


def missing_driver(uri: str) -> str | None:
    """The Python package that a database needs and that is not installed; None where nothing is missing."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        return error.name
    except (ArgumentError, NoSuchModuleError) as error:
        return str(error)
    return None


def experiment(client: Any, name: str, artifact_location: str | None) -> str:
    """The id of an experiment, which is created, or restored where someone deleted it."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # The tag makes MLflow's pages open on runs rather than on traces.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location, tags))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def search(client: Any, experiment_id: str, condition: str) -> Iterator[Any]:
    """All runs that are not deleted and meet a condition, oldest first."""
    token = None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs([experiment_id], condition, order_by=order, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def log_metrics(client: Any, run_id: str, metrics: Sequence[content.Metric]) -> None:
    """Send metrics in as few requests as MLflow takes."""
    from mlflow.entities import Metric

    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=[Metric(*metric) for metric in metrics[start : start + _BATCH]])


def log_changes(client: Any, run_id: str, metrics: Sequence[content.Metric]) -> None:
    """Send those metrics whose value is not what the run shows already, whenever that was measured."""
    shown = client.get_run(run_id).data.metrics
    log_metrics(client, run_id, [metric for metric in metrics if shown.get(metric[0]) != metric[1]])


def log_params(client: Any, run_id: str, params: dict[str, str]) -> None:
    """Send params. They cannot be changed, so those that the run has already are left alone."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, value) for key, value in params.items() if key not in known]
    for start in range(0, len(new), _PARAMS):
        client.log_batch(run_id, params=new[start : start + _PARAMS])


def set_tags(client: Any, run_id: str, tags: dict[str, str]) -> None:
    """Send tags in one request."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def delete_tags(client: Any, run_id: str, names: Sequence[str]) -> None:
    """Take tags away from a run. One that is not there is no error."""
    known = client.get_run(run_id).data.tags
    for name in names:
        if name in known:
            client.delete_tag(run_id, name)


def log_data_sets(client: Any, run_id: str, data: dict[str, Any]) -> None:
    """Name the splits that a run learned from and was scored on; `data` is the manifest's section."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=split["name"],
                digest=split["digest"],
                source_type="local",
                source=json.dumps(split["source"]),
                profile=json.dumps(split["profile"]),
            ),
            [InputTag("mlflow.data.context", split["context"])],
        )
        for split in content.data_sets(data)
    ]
    client.log_inputs(run_id, inputs)


def log_folder(client: Any, run_id: str, folder: Path) -> None:
    """Add the files of a folder to a run's artifacts, one by one, so that a lost one is no reason to send all again."""
    for path, parent in uploads.contents(folder):
        client.log_artifact(run_id, str(path), parent)
