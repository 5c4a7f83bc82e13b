"""A classifier found by what a user names: an encoder and a baseline are used by the same commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

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


def beside_a_sweep(folder: Path, root: Path, **data: object) -> str:
    """The fitted TF-IDF in the directory of a sweep with such a data section."""
    source = shutil.copytree(folder / "runs/x/baselines/tfidf", root / "sweep/baselines/tfidf")
    write_json(root / "sweep/manifest.json", {"config": {"data": {"path": "x.csv", **data}}})
    return str(source)


def test_the_columns_are_those_that_it_was_trained_on_unless_others_are_named(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "film.csv"
    file.write_text("title,body,text,stars\nawful,hate boring,great love,1\ngreat,love wonderful,awful hate,2\n")
    stars = {"label_column": "stars", "labels": {"1": "negative", "2": "positive"}}
    source = beside_a_sweep(folder, tmp_path, text_column=["title", "body"], **stars)

    def told(command: str, *more: str) -> list[dict[str, Any]]:
        arguments = [source, str(file)] if command == "evaluate" else [source, "--file", str(file)]
        found = CliRunner().invoke(APP, [command, *arguments, "--json", *more], catch_exceptions=False)
        assert found.exit_code == 0
        return [json.loads(line) for line in found.stdout.splitlines()]

    assert [each["text"] for each in told("predict")] == ["awful hate boring", "great love wonderful"]
    assert [each["text"] for each in told("predict", "--text-column", "text")] == ["great love", "awful hate"]
    both = told("predict", "--text-column", "body", "--text-column", "title")
    assert [each["text"] for each in both] == ["hate boring awful", "love wonderful great"]
    assert told("evaluate")[0]["metrics"]["accuracy"] == 1.0
    assert told("evaluate", "--text-column", "text")[0]["metrics"]["accuracy"] == 0.0


def test_a_classifier_of_pairs_wants_pairs(folder: Path, tmp_path: Path) -> None:
    source = beside_a_sweep(folder, tmp_path, text_column="premise", text_pair_column="claim")
    with pytest.raises(BadInput, match=r"trained on pairs of texts \(premise; claim\): give them with --file"):
        CliRunner().invoke(APP, ["predict", source, "great"], catch_exceptions=False)
    file = tmp_path / "half.csv"
    file.write_text("premise,label\ngreat,positive\n")
    with pytest.raises(BadInput, match="claim"):
        CliRunner().invoke(APP, ["evaluate", source, str(file)], catch_exceptions=False)


def test_a_column_of_no_file_is_refused(folder: Path) -> None:
    source = str(folder / "runs/x/baselines/tfidf")
    with pytest.raises(BadInput, match="--file, which is not given"):
        CliRunner().invoke(APP, ["predict", source, "great", "--text-column", "body"], catch_exceptions=False)


def test_a_line_of_stdin_that_is_not_utf_8_is_named(folder: Path) -> None:
    source = str(folder / "runs/x/baselines/tfidf")
    with pytest.raises(BadInput, match="stdin:2: is not UTF-8"):
        CliRunner().invoke(APP, ["predict", source], input=b"great\ncaf\xe9\n", catch_exceptions=False)


def test_a_home_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(BadInput, match="SOURCE: ~nobody-here/runs: cannot be a path here"):
        load_classifier("~nobody-here/runs")
