"""The temperature of what a sweep trained: beside its result, made anew where it is not, along with what leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax
from typer.testing import CliRunner

from jobs.evaluate import evaluate as evaluate_command
from jobs.predict import predict as predict_command
from jobs.run import application
from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from tests.workflows.report import sweeps
from trainables import predictions
from trainables.directory import CALIBRATION, SweepDirectory, TrialDirectory
from trainables.errors import CorruptFile
from trainables.files import write_json
from trainables.records import Result
from trainables.trial import run_trial
from workflows import calibration, confidence
from workflows.baselines import run_baseline
from workflows.export import export
from workflows.leaderboard import Leaderboard
from workflows.predict import load_classifier, predict
from workflows.report import content

APP = application(predict=predict_command, evaluate=evaluate_command)
TEXTS = ["great love the movie", "a film", "terrible awful story"]


@pytest.fixture
def trial(tmp_path: Path) -> TrialDirectory:
    """A finished trial with predictions of three classes."""
    sweep = sweeps.make(tmp_path / "runs" / "reviews", trials=[sweeps.Trial()])
    (folder,) = sweep.trials.iterdir()
    return TrialDirectory(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrialDirectory:
    """A tiny trial that was really trained."""
    folder = tmp_path_factory.mktemp("trained")
    spec = trial_spec(tiny_model("bert", folder / "bert", num_hidden_layers=1), folder, num_train_epochs=1)
    run_trial(spec)
    return TrialDirectory(Path(spec.directory))


def split(directory: TrialDirectory, name: str) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(directory.predictions, filters=[("split", "==", name)])
    return np.stack(table["logits"].to_numpy(zero_copy_only=False)).astype(float), table["label"].to_numpy()


def test_a_temperature_is_fitted_on_validation_and_rated_on_test(trial: TrialDirectory) -> None:
    found = confidence.of(trial)
    (logits, labels), (test, truth) = split(trial, "validation"), split(trial, "test")
    assert found.temperature == calibration.fit_temperature(logits, labels)
    assert found.texts == len(labels)
    for ending, value in (("", 1.0), ("_calibrated", found.temperature)):
        chances = softmax(test / value, axis=1)
        assert found.metrics[f"test/ece{ending}"] == pytest.approx(calibration.reliability(chances, truth).error)
        assert found.metrics[f"test/brier{ending}"] == pytest.approx(calibration.brier(chances, truth))


def test_what_lies_beside_the_result_is_used_and_nothing_else_is_touched(trial: TrialDirectory) -> None:
    before = {path: path.read_bytes() for path in trial.root.rglob("*") if path.is_file()}
    confidence.keep(trial)
    file = trial.calibration
    assert {path: path.read_bytes() for path in trial.root.rglob("*") if path.is_file() and path != file} == before
    trial.predictions.unlink()
    assert confidence.of(trial) == confidence.Calibration.read(file)


@pytest.mark.parametrize("harm", ["cut off", "of another version", "of other predictions"])
def test_a_calibration_that_is_not_of_these_predictions_is_made_anew(trial: TrialDirectory, harm: str) -> None:
    confidence.keep(trial)
    file, sound = trial.calibration, confidence.of(trial)
    if harm == "cut off":
        file.write_text(file.read_text()[:-9])
    elif harm == "of another version":
        write_json(file, {"temperature": 9.0})
    else:
        sound.model_copy(update={"temperature": 9.0, "predictions_sha256": "0" * 64}).write(file)
    assert confidence.of(trial) == sound
    confidence.keep(trial)
    assert confidence.Calibration.read(file) == sound


def test_without_predictions_there_is_no_temperature_and_the_way_round_it_is_named(trial: TrialDirectory) -> None:
    trial.predictions.unlink()
    confidence.keep(trial)
    assert not trial.calibration.exists()
    assert confidence.columns(trial) == {}
    with pytest.raises(CorruptFile, match=r"predictions\.parquet.*--uncalibrated"):
        confidence.temperature(trial.checkpoint)


def test_logits_that_are_no_numbers_are_no_answers(trial: TrialDirectory) -> None:
    scored = predictions.Scored(np.arange(2), np.arange(2), np.array([[np.nan, 0.0], [0.0, 1.0]]))
    written = predictions.write(trial.predictions, {"validation": scored, "test": scored})
    Result.read(trial.result).model_copy(update={"predictions_sha256": written}).write(trial.result)
    assert confidence.columns(trial) == {}


def test_a_trial_that_has_no_test_score_and_a_model_from_elsewhere_have_the_temperature_1(tmp_path: Path) -> None:
    sweep = sweeps.make(tmp_path / "reviews", trials=[sweeps.Trial(status="STOPPED"), sweeps.Trial("head")])
    (stopped,) = (TrialDirectory(path) for path in sweep.trials.iterdir() if "full" in path.name)
    assert confidence.temperature(stopped.checkpoint) == 1.0
    (tmp_path / "elsewhere").mkdir()
    assert confidence.temperature(tmp_path / "elsewhere") == 1.0


def test_the_leaderboard_has_calibration_also_of_a_sweep_that_was_kept_without(tmp_path: Path) -> None:
    sweep = sweeps.make(tmp_path / "reviews")
    read = content.read(sweep)
    for run in [*read.done, *read.baselines]:
        assert {name: run.row[name] for name in confidence.COLUMNS} == confidence.of(run.directory).columns()
    assert not list(sweep.root.rglob(CALIBRATION))
    unfinished = [run.row["temperature"] for run in read.trials if run not in read.done]
    assert unfinished == [None, None]
    Leaderboard("accuracy", read.rows, None).write(sweep)
    assert "test/ece_calibrated" in sweep.leaderboard_csv.read_text().splitlines()[0]


def test_predictions_are_calibrated_and_uncalibrated_ones_are_as_trained(trained: TrialDirectory) -> None:
    expected = calibration.fit_temperature(*split(trained, "validation"))
    calibrated, raw = (load_classifier(str(trained.root), calibrated=value) for value in (True, False))
    assert calibrated.temperature == pytest.approx(expected)
    assert abs(calibrated.temperature - 1) > 0.01
    assert raw.temperature == 1.0
    for one, other, row in zip(predict(calibrated, TEXTS), predict(raw, TEXTS), raw.logits(TEXTS), strict=True):
        assert one.label == other.label
        assert list(one.probabilities.values()) == pytest.approx(softmax(row.astype(float) / expected), abs=1e-6)
        assert list(other.probabilities.values()) == pytest.approx(softmax(row.astype(float)), abs=1e-6)


def test_the_commands_turn_it_off(trained: TrialDirectory, tmp_path: Path) -> None:
    def said(*arguments: str) -> dict[str, object]:
        found = CliRunner().invoke(APP, [*arguments, "--json"], catch_exceptions=False)
        assert found.exit_code == 0
        return dict(json.loads(found.stdout))

    source = str(trained.root)
    assert said("predict", source, TEXTS[0]) != said("predict", source, TEXTS[0], "--uncalibrated")
    held_out = tmp_path / "held-out.csv"
    held_out.write_text("text,label\ngreat love,positive\nterrible awful,negative\n")
    calibrated, raw = said("evaluate", source, str(held_out)), said("evaluate", source, str(held_out), "--uncalibrated")
    assert calibrated["confusion_matrix"] == raw["confusion_matrix"]
    assert calibrated["metrics"] != raw["metrics"]


def test_an_export_is_as_it_was_ranked_to_transformers_and_calibrated_to_predict(
    trained: TrialDirectory, tmp_path: Path
) -> None:
    from transformers import pipeline

    folder = export(str(trained.root), tmp_path / "exported")
    assert predict(load_classifier(str(folder)), TEXTS)[0].probabilities == pytest.approx(
        predict(load_classifier(str(trained.root)), TEXTS)[0].probabilities, abs=1e-5
    )
    raw = predict(load_classifier(str(trained.root), calibrated=False), TEXTS)
    for answer, prediction in zip(pipeline("text-classification", str(folder))(TEXTS), raw, strict=True):
        assert answer["label"] == prediction.label
        assert answer["score"] == pytest.approx(max(prediction.probabilities.values()), abs=1e-5)
    again = export(str(folder), tmp_path / "again")
    assert load_classifier(str(again)).temperature == load_classifier(str(folder)).temperature != 1.0


def test_an_export_whose_temperature_is_damaged_says_so(trained: TrialDirectory, tmp_path: Path) -> None:
    folder = export(str(trained.root), tmp_path / "exported")
    (folder / CALIBRATION).write_text("{}")
    with pytest.raises(CorruptFile, match=r"calibration\.json.*--uncalibrated"):
        load_classifier(str(folder))
    assert load_classifier(str(folder), calibrated=False).temperature == 1.0


def test_a_baseline_is_calibrated_like_a_trial(trained: TrialDirectory, tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path).baseline("tfidf")
    run_baseline("tfidf", trained.root.parent.parent / "data", ("negative", "positive"), "accuracy", directory)
    found = load_classifier(str(directory.root))
    assert found.temperature == calibration.fit_temperature(*split(directory, "validation")) != 1.0
    shutil.copy(directory.model, tmp_path / "model.json")
    assert load_classifier(str(tmp_path)).temperature == 1.0
