"""A classifier found by what a user names: an encoder and a baseline are used by the same commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.evaluate import evaluate as evaluate_command
from jobs.export import export as export_command
from jobs.predict import predict as predict_command
from jobs.run import application
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv, trial_spec
from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import write_json
from trainables.records import Result
from trainables.trial import run_trial
from workflows.baselines import BASELINES, run_baseline
from workflows.predict import evaluate, load_classifier, predict

LABELS = ("negative", "positive")
APP = application(predict=predict_command, evaluate=evaluate_command, export=export_command)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared splits under data/ and fitted baselines under runs/x/baselines/."""
    folder = tmp_path_factory.mktemp("predict")
    trial_spec(tiny_model("bert", folder / "bert"), folder)
    for name in BASELINES:
        run_baseline(name, folder / "data", LABELS, "accuracy", SweepDirectory(folder / "runs/x").baseline(name))
    return folder


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_of_a_loaded_baseline_are_those_it_was_ranked_by(folder: Path, name: str) -> None:
    directory = SweepDirectory(folder / "runs/x").baseline(name)
    classifier = load_classifier(str(directory.root), calibrated=False)
    texts = pq.read_table(folder / "data/test.parquet")
    recorded = pq.read_table(directory.predictions, filters=[("split", "==", "test")]).to_pylist()
    for prediction, row in zip(predict(classifier, texts["text"].to_pylist()), recorded, strict=True):
        assert prediction.label == LABELS[row["predicted"]]
        assert list(prediction.probabilities.values()) == pytest.approx(row["probabilities"], abs=1e-7)
    scored = evaluate(
        classifier, texts["text"].to_pylist(), None, texts["label"].to_pylist(), lambda raw: LABELS[int(raw)]
    )
    assert scored == Result.read(directory.result).evaluations["test"]


def test_a_baseline_says_what_it_costs_to_keep(folder: Path) -> None:
    directory = SweepDirectory(folder / "runs/x").baseline("tfidf")
    classifier = load_classifier(str(directory.root))
    assert classifier.bytes == directory.model.stat().st_size
    assert classifier.parameters == Result.read(directory.result).total_parameters
    assert classifier.device == "cpu"


def test_the_commands_label_and_score_with_a_baseline(folder: Path) -> None:
    source = str(folder / "runs/x/baselines/tfidf")
    found = CliRunner().invoke(APP, ["predict", source, "--json", "great love the movie"], catch_exceptions=False)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["label"] == "positive"
    held_out = str(reviews_csv(folder / "held-out.csv", 40))
    found = CliRunner().invoke(APP, ["evaluate", source, held_out, "--json"], catch_exceptions=False)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["metrics"]["accuracy"] > 0.9


def test_a_baseline_cannot_be_exported_and_nothing_is_written(folder: Path) -> None:
    source = folder / "runs/x/baselines/tfidf"
    before = sorted(source.iterdir())
    with pytest.raises(BadInput, match=r"a baseline is one JSON file .*fleetune predict"):
        CliRunner().invoke(APP, ["export", str(source)], catch_exceptions=False)
    assert sorted(source.iterdir()) == before


def test_a_baseline_without_a_model_says_how_to_get_one(tmp_path: Path, folder: Path) -> None:
    result = Result.read(SweepDirectory(folder / "runs/x").baseline("tfidf").result)
    result.write(TrialDirectory(tmp_path).result)
    with pytest.raises(BadInput, match="delete the directory and run the sweep again"):
        load_classifier(str(tmp_path))


def test_a_damaged_and_a_foreign_model_file_are_refused(tmp_path: Path, folder: Path) -> None:
    file = TrialDirectory(tmp_path).model
    file.write_text((folder / "runs/x/baselines/tfidf/model.json").read_text()[:-100])
    with pytest.raises(CorruptFile, match=r"model\.json"):
        load_classifier(str(tmp_path))
    write_json(file, {"format": "layers-model", "weightsManifest": []})
    with pytest.raises(BadInput, match="not the name of a baseline"):
        load_classifier(str(tmp_path))


def test_a_folder_that_holds_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="neither a sweep"):
        load_classifier(str(tmp_path))
    with pytest.raises(BadInput, match="no such directory"):
        load_classifier(str(tmp_path / "missing"))


@pytest.mark.parametrize("freeze", ["full", "lora"])
def test_an_encoder_loaded_from_its_trial_scores_as_it_was_ranked(folder: Path, freeze: str) -> None:
    spec = trial_spec(folder / "bert", folder, freeze=freeze, num_train_epochs=1)
    run_trial(spec)
    merged = load_classifier(spec.directory)
    texts = pq.read_table(folder / "data/test.parquet")["text"].to_pylist()
    recorded = pq.read_table(TrialDirectory(Path(spec.directory)).predictions, filters=[("split", "==", "test")])
    logits = np.stack(recorded["logits"].to_numpy(zero_copy_only=False))
    assert merged.labels == LABELS
    assert merged.logits(texts) == pytest.approx(logits, abs=1e-5)
    unmerged = load_classifier(spec.directory, merge=False)
    assert unmerged.logits(texts) == pytest.approx(logits, abs=1e-5)
    assert merged.parameters is not None
    assert unmerged.parameters is not None
    assert (unmerged.parameters > merged.parameters) == (freeze == "lora")
    assert merged.bytes == 4 * merged.parameters
