"""The model that leaves a sweep by MLflow: files of a run, a version in the registry, and back to a local folder.

What is stored and fetched is a plain Hugging Face directory: safetensors, JSON and tokenizer files. Nothing here
calls `mlflow.pyfunc.load_model`, which runs code that comes with a model.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from trainables.directory import CALIBRATION
from trainables.errors import BadInput, InfrastructureError, nearest
from trainables.files import is_committed, new_directory, read_json, sha256_file, sha256_json
from trainables.redaction import redact
from workflows.tracking.repeating import is_refusal
from workflows.tracking.store import open_client
from workflows.tracking.uploads import Uploads

ALIAS = "champion"
_TRIAL_TAG = "fleetune.trial_id"
_CHECKPOINT_TAG = "fleetune.checkpoint"
_TASK = "text-classification"
_LIBRARIES = ("torch", "transformers", "safetensors")
_PLAIN = (".safetensors", ".json", ".txt", ".model", ".jinja")
_URI = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[\w-]+)|/(?P<version>\d+))")


def checkpoint_hash(folder: Path) -> str:
    """What identifies the weights of a model directory: the hash over its safetensors files."""
    return sha256_json({path.name: sha256_file(path) for path in sorted(folder.glob("*.safetensors"))})


def log_checkpoint(client: Any, run_id: str, folder: Path, uploads: Uploads) -> None:
    """Store a model directory as `checkpoint/` of a run."""

    def put(path: str, parent: str | None) -> None:
        client.log_artifact(run_id, path, f"checkpoint/{parent}" if parent else "checkpoint")

    uploads.send(folder, run_id, put)


def pack(folder: Path) -> Path:
    """Write a model directory in MLflow's transformers flavour too, beside it, for `register`; returns where.

    Loads the model and MLflow's flavour, seconds of a core: for a worker that has most of that in memory. What was
    packed before stays as it is.
    """
    packed = _packed(folder)
    if not packed.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".pack.") as scratch:
            model = Path(scratch) / "model"
            _save(folder, model)
            _add_calibration(folder, model)
            model.rename(packed)
    return packed


def _packed(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.mlflow")


def register(client: Any, run_id: str, folder: Path, name: str, trial_id: str, uploads: Uploads) -> str:
    """Make a model directory `name`@champion and return its version. It is packed here where nobody has done so.

    A new version is made only where no version has these weights of this trial; else the alias moves to that one.
    """
    tags = {_TRIAL_TAG: trial_id, _CHECKPOINT_TAG: checkpoint_hash(folder)}
    version = _version_with(client, name, tags) or _new_version(client, run_id, folder, name, tags, uploads)
    client.set_registered_model_alias(name, ALIAS, version)
    return version


def fetch(uri: str, tracking_uri: str | None = None) -> Path:
    """A local Hugging Face directory with the model that `models:/name@alias` or `models:/name/3` names.

    Kept in the user's cache (FLEETUNE_CACHE), so that a version is downloaded once. The store is `tracking_uri`,
    else MLFLOW_TRACKING_URI, else runs/mlflow.db. Raises BadInput for a name that is not there or holds no
    safetensors, InfrastructureError where the store does not answer.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise BadInput(f"{uri}: must be models:/name@alias or models:/name/3")
    store = tracking_uri or _store(uri)
    client = open_client(store)
    version = _find(client, match, uri)
    key = sha256_json([redact(store), version.name, str(version.version), version.creation_timestamp])[:16]
    final = _cache() / "models" / key
    if not is_committed(final):
        with new_directory(final) as scratch, tempfile.TemporaryDirectory(dir=scratch.parent) as downloads:
            model = _download(client, version, downloads)
            _copy_plain(model, scratch / "model", uri)
    return final / "model"


def _version_with(client: Any, name: str, tags: dict[str, str]) -> str | None:
    for version in client.search_model_versions(f"name = '{name}'"):
        if tags.items() <= version.tags.items():
            return str(version.version)
    return None


def _new_version(client: Any, run_id: str, folder: Path, name: str, tags: dict[str, str], uploads: Uploads) -> str:
    """Log the directory in MLflow's transformers flavour, tied to its run, and register that.

    What an earlier try has logged is used. `mlflow.transformers.log_model` would do the same through the process's
    active run and tracking URI.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    packed = pack(folder)
    run = client.get_run(run_id)
    logged = _logged_model(client, run, name, tags)
    if logged.status != LoggedModelStatus.READY:
        _describe(packed, logged, run_id)
        uploads.send(packed, logged.model_id, partial(client.log_model_artifact, logged.model_id))
        client.finalize_logged_model(logged.model_id, "READY")
    if logged.model_id not in [output.model_id for output in run.outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    _create_name(client, name)
    # Not models:/<id>, which a SQLite registry looks up in the process's own store.
    source = logged.artifact_location
    made = client.create_model_version(
        name, source, run_id, tags, description=_description(folder), model_id=logged.model_id
    )
    return str(made.version)


def _logged_model(client: Any, run: Any, name: str, tags: dict[str, str]) -> Any:
    """The logged model of a run with a name and tags: that of a try that came to no version, else a new one."""
    condition = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    for logged in client.search_logged_models([run.info.experiment_id], condition):
        if (logged.source_run_id, logged.name) == (run.info.run_id, name):
            return logged
    return client.create_logged_model(run.info.experiment_id, name=name, source_run_id=run.info.run_id, tags=tags)


def _describe(packed: Path, logged: Any, run_id: str) -> None:
    """Write into a packed model which logged model of which run it is."""
    from mlflow.models import Model

    described = Model.load(str(packed))
    described.artifact_path, described.run_id = logged.artifact_location, run_id
    described.model_uuid = described.model_id = logged.model_id
    described.save(str(packed / "MLmodel"))


def _save(folder: Path, destination: Path) -> None:
    """Write a model directory in MLflow's transformers flavour: signature, requirements, weights as safetensors."""
    import mlflow
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from trainables.models import quiet

    own = {"local_files_only": True, "trust_remote_code": False}
    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, **own)
        mlflow.transformers.save_model(
            {"model": model, "tokenizer": AutoTokenizer.from_pretrained(folder, **own)},
            str(destination),
            task=_TASK,
            signature=_signature(),
            pip_requirements=_requirements(),
        )


def _add_calibration(folder: Path, saved: Path) -> None:
    """Put the temperature beside the weights, where `fetch` finds it. MLflow's own predictions do not use it."""
    if (folder / CALIBRATION).exists():
        weights = min(saved.rglob("config.json"), key=lambda path: len(path.parts))
        shutil.copyfile(folder / CALIBRATION, weights.parent / CALIBRATION)


def _create_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _signature() -> Any:
    """Texts in; the best label and its probability out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    inputs = Schema([ColSpec(DataType.string, "text")])
    outputs = Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "score")])
    return ModelSignature(inputs, outputs)


def _requirements() -> list[str]:
    """The libraries that a model of this flavour needs, at the versions in use (without a build's local part)."""
    import importlib.metadata

    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in _LIBRARIES]


def _description(folder: Path) -> str | None:
    """What whoever loads a version must know of its probabilities."""
    if not (folder / CALIBRATION).exists():
        return None
    temperature = read_json(folder / CALIBRATION)["temperature"]
    return (
        "Scores are softmax(logits), not calibrated. Calibrated ones are softmax(logits / temperature), with the "
        f"temperature {temperature:.6g} that is in {CALIBRATION} beside the weights; `fleetune predict` uses it."
    )


def _store(uri: str) -> str:
    from workflows.tracking.writer import default_uri

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ["MLFLOW_TRACKING_URI"]
    if Path("runs/mlflow.db").exists():
        return default_uri(Path("runs"))
    raise BadInput(f"{uri}: which MLflow? Set MLFLOW_TRACKING_URI, or run this where runs/mlflow.db is")


def _find(client: Any, match: re.Match[str], uri: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        if match["alias"]:
            return client.get_model_version_by_alias(match["name"], match["alias"])
        return client.get_model_version(match["name"], match["version"])
    except MlflowException as error:
        if not is_refusal(error):
            raise InfrastructureError(f"{uri}: MLflow does not answer: {redact(str(error))}") from error
        names = [model.name for model in client.search_registered_models()]
        known = nearest(match["name"], names) if names else "nothing is registered there"
        raise BadInput(f"{uri}: no such registered model or version; {known}") from None


def _cache() -> Path:
    return Path(os.environ.get("FLEETUNE_CACHE") or "~/.cache/fleetune").expanduser()


def _download(client: Any, version: Any, destination: str) -> Path:
    """Fetch from where a version lies. (By its models:/ address MLflow would ask the process's own store.)"""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        source = client.get_model_version_download_uri(version.name, version.version)
        logged = re.fullmatch(r"models:/(m-\w+)", source)
        address = client.get_logged_model(logged[1]).artifact_location if logged else source
        return Path(download_artifacts(address, dst_path=destination, tracking_uri=client.tracking_uri))
    except (MlflowException, OSError) as error:
        name = f"models:/{version.name}/{version.version}"
        raise InfrastructureError(f"{name}: cannot be downloaded: {redact(str(error))}") from error


def _copy_plain(downloaded: Path, destination: Path, uri: str) -> None:
    """Take the Hugging Face files out of a downloaded model and leave everything else, pickles first of all."""
    configs = sorted(downloaded.rglob("config.json"), key=lambda path: len(path.parts))
    source = configs[0].parent if configs else downloaded
    if not list(source.glob("*.safetensors")):
        raise BadInput(f"{uri}: holds no *.safetensors beside a config.json; other kinds of models are not loaded")
    destination.mkdir()
    for path in [*source.iterdir(), *(downloaded / "components" / "tokenizer").glob("*")]:
        if path.suffix in _PLAIN and path.is_file() and not path.is_symlink():
            shutil.copy2(path, destination / path.name)
