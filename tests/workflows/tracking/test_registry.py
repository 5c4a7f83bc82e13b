"""A champion in MLflow and back: files of its run, versions of a registered model, a plain directory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import recorded
from tests.tiny import tiny_model, tiny_tokenizer
from trainables.directory import CALIBRATION, SweepDirectory
from trainables.errors import BadInput, InfrastructureError
from trainables.files import read_json, write_json
from workflows import confidence
from workflows.predict import load_classifier
from workflows.tracking import registry
from workflows.tracking.mirror import Mirror
from workflows.tracking.writer import Writer, default_uri

FIRST, SECOND = recorded.TRIALS


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two classifiers as `fleetune export` writes them: a whole Hugging Face directory each."""
    import torch
    from transformers import AutoModelForSequenceClassification

    root = tmp_path_factory.mktemp("exported")
    encoder = tiny_model("bert", root / "encoder", num_hidden_layers=1)
    folders = {}
    for seed, trial_id in enumerate(recorded.TRIALS):
        torch.manual_seed(seed)
        names = dict(enumerate(recorded.LABELS))
        model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2, id2label=names)
        folders[trial_id] = root / trial_id
        model.save_pretrained(folders[trial_id])
        tiny_tokenizer().save_pretrained(folders[trial_id])
    return folders


@pytest.fixture
def sweep(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    """A finished sweep that asks for a registered champion."""
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copy(migrated, tmp_path / "runs" / "mlflow.db")
    sweep = recorded.begin(tmp_path / "runs" / "demo", register_as="reviews", checkpoints="champion")
    recorded.finish(sweep)
    return sweep


@pytest.fixture
def mirror(sweep: SweepDirectory) -> Mirror:
    mirror = Mirror(sweep, default_uri(sweep.root.parent), "demo")
    mirror.deliver()
    mirror.close("FINISHED")
    return mirror


def versions(mirror: Mirror) -> list[Any]:
    return sorted(mirror.client.search_model_versions("name = 'reviews'"), key=lambda version: int(version.version))


def test_the_champion_is_registered_with_its_files_and_its_run_stays_as_it_ended(
    mirror: Mirror, exported: dict[str, Path]
) -> None:
    run_id = run_of(mirror, FIRST)
    before = mirror.client.get_run(run_id).info
    mirror.publish(FIRST, exported[FIRST], "reviews")
    after = mirror.client.get_run(run_id).info
    assert (after.status, after.end_time) == ("FINISHED", before.end_time)
    stored = {item.path for item in mirror.client.list_artifacts(run_id, "checkpoint")}
    assert {"checkpoint/model.safetensors", "checkpoint/config.json", "checkpoint/tokenizer.json"} <= stored
    champion = mirror.client.get_model_version_by_alias("reviews", "champion")
    assert (champion.run_id, champion.tags["fleetune.trial_id"]) == (run_id, FIRST)


def test_a_version_is_an_mlflow_model_that_says_what_goes_in_and_what_comes_out(
    mirror: Mirror, exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd

    mirror.publish(FIRST, exported[FIRST], "reviews")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mirror.uri)
    folder = mlflow.artifacts.download_artifacts("models:/reviews@champion", dst_path=str(tmp_path / "down"))
    model = mlflow.pyfunc.load_model(folder)
    assert model.metadata.signature.inputs.input_names() == ["text"]
    assert model.metadata.signature.outputs.input_names() == ["label", "score"]
    answers = model.predict(pd.DataFrame({"text": ["a good film", "a bad film"]}))
    assert list(answers.columns) == ["label", "score"]
    assert set(answers["label"]) <= set(recorded.LABELS)
    needed = (Path(folder) / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in needed} >= {"torch", "transformers"}
    assert not any("+" in line for line in needed)


def test_a_new_version_is_made_only_when_the_champion_changes(mirror: Mirror, exported: dict[str, Path]) -> None:
    mirror.publish(FIRST, exported[FIRST], "reviews")
    mirror.publish(FIRST, exported[FIRST], "reviews")
    mirror.sweep.tracking.unlink()
    again = Mirror(mirror.sweep, mirror.uri, "demo")
    again.publish(FIRST, exported[FIRST], "reviews")
    assert len(versions(again)) == 1
    again.publish(SECOND, exported[SECOND], "reviews")
    assert [version.tags["fleetune.trial_id"] for version in versions(again)] == [FIRST, SECOND]
    assert again.client.get_model_version_by_alias("reviews", "champion").run_id == run_of(again, SECOND)
    again.publish(FIRST, exported[FIRST], "reviews")
    assert len(versions(again)) == 2
    assert again.client.get_model_version_by_alias("reviews", "champion").run_id == run_of(again, FIRST)


def test_what_a_worker_has_packed_is_registered_as_it_is_with_the_names_of_its_run_and_model(
    mirror: Mirror, exported: dict[str, Path], tmp_path: Path
) -> None:
    import yaml

    folder = shutil.copytree(exported[FIRST], tmp_path / "exports" / FIRST)
    packed = registry.pack(folder)
    (packed / "packed-here.txt").write_text("yes")
    mirror.publish(FIRST, folder, "reviews")
    assert sorted(path.name for path in folder.parent.iterdir()) == [FIRST, packed.name]
    champion = mirror.client.get_model_version_by_alias("reviews", "champion")
    location = Path(champion.source.removeprefix("file://"))
    assert (location / "packed-here.txt").exists()
    described = yaml.safe_load((location / "MLmodel").read_text())
    assert described["run_id"] == run_of(mirror, FIRST)
    assert mirror.client.get_logged_model(described["model_id"]).artifact_location == champion.source


def test_what_is_fetched_is_the_exported_directory_and_it_classifies(mirror: Mirror, exported: dict[str, Path]) -> None:
    from transformers import pipeline

    mirror.publish(FIRST, exported[FIRST], "reviews")
    for uri in ("models:/reviews@champion", "models:/reviews/1"):
        folder = registry.fetch(uri)
        same = (folder / "model.safetensors").read_bytes() == (exported[FIRST] / "model.safetensors").read_bytes()
        assert same, uri
    assert {path.suffix for path in folder.iterdir()} <= {".safetensors", ".json", ".txt", ".jinja"}
    (answer,) = pipeline("text-classification", str(folder))("a good film")
    (expected,) = pipeline("text-classification", str(exported[FIRST]))("a good film")
    assert answer == expected
    assert answer["label"] in recorded.LABELS


def test_a_temperature_goes_with_a_version_to_whoever_fetches_it_and_a_version_says_what_its_scores_are(
    mirror: Mirror, exported: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(exported[FIRST], tmp_path / "calibrated")
    found = confidence.Calibration(temperature=1.75, texts=9, metrics={}, predictions_sha256="0" * 64)
    found.write(folder / CALIBRATION)
    mirror.publish(FIRST, folder, "reviews")
    assert load_classifier(str(registry.fetch("models:/reviews@champion"))).temperature == 1.75
    version = mirror.client.get_model_version_by_alias("reviews", "champion")
    assert "not calibrated" in version.description and "1.75" in version.description
    mirror.publish(SECOND, exported[SECOND], "reviews")
    assert load_classifier(str(registry.fetch("models:/reviews@champion"))).temperature == 1.0


def test_checkpoints_none_registers_without_a_copy_in_the_run(mirror: Mirror, exported: dict[str, Path]) -> None:
    manifest = read_json(mirror.sweep.manifest)
    manifest["config"]["tracking"]["checkpoints"] = "none"
    write_json(mirror.sweep.manifest, manifest)
    mirror.publish(FIRST, exported[FIRST], "reviews")
    assert mirror.client.list_artifacts(run_of(mirror, FIRST), "checkpoint") == []
    assert len(versions(mirror)) == 1


def test_a_sweep_is_complete_once_its_champion_is_registered(sweep: SweepDirectory, exported: dict[str, Path]) -> None:
    uri = default_uri(sweep.root.parent)
    writer = Writer(sweep, uri, "demo")
    assert writer.finish("FINISHED")
    assert not Writer.is_complete(sweep, uri)
    writer = Writer(sweep, uri, "demo")
    writer.publish(FIRST, exported[FIRST], "reviews")
    assert writer.finish("FINISHED"), writer.last_error
    assert Writer.is_complete(sweep, uri)


def test_an_unknown_name_answers_with_the_nearest_one(mirror: Mirror, exported: dict[str, Path]) -> None:
    mirror.publish(FIRST, exported[FIRST], "reviews")
    with pytest.raises(BadInput, match="did you mean 'reviews'"):
        registry.fetch("models:/review@champion")
    with pytest.raises(BadInput, match="no such registered model or version"):
        registry.fetch("models:/reviews/7")
    with pytest.raises(BadInput, match="must be models:/name@alias"):
        registry.fetch("models:/reviews")


def test_a_model_without_safetensors_is_refused(sweep: SweepDirectory, mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    run_id = run_of(mirror, FIRST)
    mirror.client.log_artifacts(run_id, str(folder), "pickled")
    source = f"{mirror.client.get_run(run_id).info.artifact_uri}/pickled"
    mirror.client.create_registered_model("pickled")
    mirror.client.create_model_version("pickled", source, run_id)
    with pytest.raises(BadInput, match="holds no"):
        registry.fetch("models:/pickled/1")


def test_a_store_that_is_away_is_no_bad_input(sweep: SweepDirectory) -> None:
    with pytest.raises(InfrastructureError, match="does not answer"):
        registry.fetch("models:/reviews@champion", "http://127.0.0.1:9")


def run_of(mirror: Mirror, trial_id: str) -> str:
    experiment = mirror.client.get_experiment_by_name("demo")
    (run,) = mirror.client.search_runs([experiment.experiment_id], f"tags.`fleetune.trial_id` = '{trial_id}'")
    return str(run.info.run_id)
