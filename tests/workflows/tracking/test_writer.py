"""MLflow as the mirror of a sweep directory, against a real SQLite store and a real `mlflow server`."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests import recorded
from tests.mlflow_server import Server
from tests.tiny import tiny_tokenizer
from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from trainables.files import read_json, write_json
from trainables.records import EpochRecord
from workflows import confidence, figures
from workflows.tracking import registry
from workflows.tracking.content import END_TAGS
from workflows.tracking.mirror import Mirror
from workflows.tracking.writer import Writer, check_uri, default_uri, ui_command

FIRST, SECOND = recorded.TRIALS
HOSTILE = ("C#", "50%", "😀", "x" * 300, "../../x", "a\nb", "$\\frac{1}{2}$", "n/a | <b>", "")


@pytest.fixture
def sweep(storage: Path) -> SweepDirectory:
    return recorded.begin(storage / "demo")


def mirror(sweep: SweepDirectory, uri: str | None = None, experiment: str = "demo") -> Mirror:
    return Mirror(sweep, uri or default_uri(sweep.root.parent), experiment)


def runs(mirrored: Mirror, experiment: str = "demo") -> dict[str, Any]:
    """All runs of the experiment by trial id; the parent under `sweep`. Fails where two share a name."""
    found = mirrored.client.get_experiment_by_name(experiment)
    if found is None:
        return {}
    listed = list(mirrored.client.search_runs([found.experiment_id], max_results=1000))
    named = {run.data.tags.get("fleetune.trial_id", "sweep"): run for run in listed}
    assert len(named) == len(listed)
    return named


def everything(mirrored: Mirror, experiment: str = "demo") -> dict[str, Any]:
    """All that a store shows of a sweep: every point of every metric, params, tags, times, inputs, artifacts."""
    return {
        name: {
            "run_id": run.info.run_id,
            "info": (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name),
            "history": {
                key: [(m.step, m.value, m.timestamp) for m in mirrored.client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            },
            "params": run.data.params,
            "tags": run.data.tags,
            "inputs": [(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs],
            "artifacts": artifacts(mirrored, run),
        }
        for name, run in runs(mirrored, experiment).items()
    }


def artifacts(mirrored: Mirror, run: Any, path: str | None = None) -> list[str]:
    listed = []
    for item in mirrored.client.list_artifacts(run.info.run_id, path):
        listed += artifacts(mirrored, run, item.path) if item.is_dir else [item.path]
    return sorted(listed)


def artifact(mirrored: Mirror, run: Any, path: str, folder: Path) -> str:
    """The text of an artifact, by way of the store."""
    folder.mkdir(exist_ok=True)
    return Path(mirrored.client.download_artifacts(run.info.run_id, path, str(folder))).read_text()


def deliver(mirrored: Mirror, status: str = "FINISHED") -> None:
    mirrored.deliver()
    mirrored.close(status)
    assert mirrored.problems == []


def until(holds: Callable[[], bool]) -> None:
    """Wait for something that a thread brings about; fails after half a minute."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trial(run: Any) -> bool:
    return "fleetune.trial_id" in run.data.tags


def test_every_trial_and_baseline_has_a_run_under_the_sweeps_run(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    found = runs(mirrored)
    assert set(found) == {"sweep", FIRST, SECOND, "majority"}
    parent = found.pop("sweep")
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert {run.data.tags["fleetune.sweep_id"] for run in found.values()} == {"5eed5eed5eed5eed"}
    assert found[FIRST].info.run_name == "MiniLM · full · lr 5e-05 · seed 0"
    assert parent.data.tags["fleetune.champion"] == FIRST
    assert "reviews.csv" in parent.data.tags["mlflow.note.content"]
    assert {run.info.status for run in [parent, *found.values()]} == {"FINISHED"}
    assert found[FIRST].info.end_time == parent.info.end_time == recorded.START + 60_000


def test_the_curves_are_the_recorded_ones_at_optimizer_steps(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    history = everything(mirrored)[FIRST]["history"]
    assert [step for step, _, _ in history["train/learning_rate"]] == [1, 2, 3, 4, 5, 6]
    assert [value for _, value, _ in history["train/loss"]] == pytest.approx([1 / step for step in range(1, 7)])
    assert [(step, value) for step, value, _ in history["epoch"]][:2] == [(3, 1.0), (6, 2.0)]
    assert history["validation/loss"][0] == (3, 0.7, recorded.START + 1000)
    for key, points in history.items():
        assert len({step for step, _, _ in points}) == len(points), f"{key} has two values at one step"


def test_the_table_of_runs_shows_the_best_epochs_scores_even_if_a_later_one_was_worse(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    shown = runs(mirrored)[FIRST].data.metrics
    assert (shown["validation/accuracy"], shown["epoch"], shown["test/accuracy"]) == (0.8, 1.0, 0.75)
    assert shown["test/f1/class_01"] == 1.0


def test_a_trial_that_ran_out_of_memory_shows_how_many_texts_fitted(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    recorded.result(sweep, SECOND, texts_at_once=4)
    mirrored = mirror(sweep)
    deliver(mirrored)
    found = runs(mirrored)
    assert found[SECOND].data.metrics["texts_at_once"] == 4
    assert "texts_at_once" not in found[FIRST].data.metrics


def test_params_are_what_varies_and_the_main_arguments(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    params = runs(mirrored)[SECOND].data.params
    chosen = {"model": "MiniLM", "freeze": "full", "seed": "1", "learning_rate": "5e-05", "num_train_epochs": "2"}
    assert chosen.items() <= params.items()
    assert not any(key.startswith("lora_") for key in params)


def test_how_often_state_is_saved_is_no_param_because_it_may_change(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    stored = read_json(sweep.trial(SECOND).spec)
    stored["spec"]["training"]["save_steps"] = 500
    write_json(sweep.trial(SECOND).spec, stored)
    mirrored = mirror(sweep)
    deliver(mirrored)
    assert "save_steps" not in runs(mirrored)[SECOND].data.params


def test_artifacts_lie_in_the_storage_folder(sweep: SweepDirectory, tmp_path: Path) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    found = everything(mirrored)
    assert found[FIRST]["artifacts"] == [
        "config/trial.json",
        "confusion/test.json",
        "confusion/test.png",
        "confusion/validation.json",
        "confusion/validation.png",
        "errors/accuracy_by_length.json",
        "errors/accuracy_by_share_cut.json",
        "errors/worst_texts.json",
        "plots/learning_rate.png",
        "report/test.json",
        "report/validation.json",
    ]
    parent = ["config/manifest.json", "config/sweep.yaml", "leaderboard.csv", "leaderboard.json"]
    assert found["sweep"]["artifacts"] == parent
    assert list((sweep.root.parent / "mlartifacts" / "demo").rglob("confusion/test.png"))
    matrix = json.loads(artifact(mirrored, runs(mirrored)[FIRST], "confusion/test.json", tmp_path / "out"))
    assert matrix == {"labels": list(recorded.LABELS), "matrix": [[2, 0], [0, 2]]}


def test_the_worst_texts_are_a_table_that_mlflow_loads_and_a_replay_does_not_double_it(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    recorded.finish(sweep)
    data = sweep.cache.data("f" * 64)
    data.mkdir(parents=True)
    texts = [f"text {row} <b> " + "long " * 100 for row in range(4)]
    pd.DataFrame({"row": range(4), "text": texts, "text_pair": None}).to_parquet(data / "test.parquet")
    for _ in range(2):
        sweep.tracking.unlink(missing_ok=True)
        mirrored = mirror(sweep)
        deliver(mirrored)
    run = runs(mirrored)[FIRST]
    # load_table asks the process's own store, whatever its client was given.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mirrored.uri)
    found = mirrored.client.load_table(run.info.experiment_id, "errors/worst_texts.json", [run.info.run_id])
    assert found["row"].tolist() == [0, 1, 2, 3]
    assert found["label"].tolist() == found["predicted"].tolist() == ["negative", "positive"] * 2
    assert found["tokens_cut"].tolist() == [0, 1, 0, 1]
    assert found["text"].tolist() == [f"{text[:200]}…" for text in texts]


def test_with_layerwise_decay_the_rate_of_every_block_is_a_series(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    path = sweep.trial(FIRST).epoch(1)
    record = EpochRecord.read(path)
    blocks = {"head": record.steps.learning_rate, "layer-0": [rate / 2 for rate in record.steps.learning_rate]}
    steps = record.steps.model_copy(update={"block_learning_rates": blocks})
    record.model_copy(update={"steps": steps}).write(path)
    mirrored = mirror(sweep)
    mirrored.deliver()
    run_id = runs(mirrored)[FIRST].info.run_id
    for block, rates in blocks.items():
        history = mirrored.client.get_metric_history(run_id, f"train/learning_rate/{block}")
        assert [(point.step, point.value) for point in history] == list(zip(record.steps.step, rates, strict=True))


def test_what_predicting_costs_reaches_the_runs_that_it_was_measured_for(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    assert Writer.is_complete(sweep, mirrored.uri)
    for graph_id in (recorded.graph_id(sweep), "majority"):
        recorded.cost(sweep, graph_id, latency_p50_ms=12.5)
    assert not Writer.is_complete(sweep, mirrored.uri), "what was measured later must still be delivered"
    for _ in range(2):
        deliver(mirrored)
    assert Writer.is_complete(sweep, mirrored.uri)
    for name in (FIRST, SECOND, "majority"):
        history = mirrored.client.get_metric_history(runs(mirrored)[name].info.run_id, "inference/latency_p50_ms")
        assert [(metric.value, metric.timestamp) for metric in history] == [(12.5, recorded.START + 90_000)]


def test_a_sweep_that_goes_on_shows_its_champions_score_once_until_it_is_another(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    deliver(mirror(sweep))
    later = {"started": recorded.START + 70_000, "ended": recorded.START + 90_000}
    recorded.result(sweep, SECOND, best=1, accuracy=0.7, **later)
    board = read_json(sweep.leaderboard_json)
    board["rows"].append({"rank": 2, "kind": "trial", "trial_id": SECOND, "validation/accuracy": 0.7})
    write_json(sweep.leaderboard_json, board)
    went_on = mirror(sweep)
    deliver(went_on)
    history = everything(went_on)["sweep"]["history"]["validation/accuracy"]
    assert [(value, moment) for _, value, moment in history] == [(0.8, recorded.START + 60_000)]
    board["rows"][0]["validation/accuracy"] = 0.9
    write_json(sweep.leaderboard_json, board)
    deliver(went_on)
    history = everything(went_on)["sweep"]["history"]["validation/accuracy"]
    assert [value for _, value, _ in history] == [0.8, 0.9]
    assert runs(went_on)["sweep"].data.metrics["validation/accuracy"] == 0.9


def test_a_report_is_an_artifact_of_the_parent_run_and_follows_its_changes(
    sweep: SweepDirectory, tmp_path: Path
) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    for content in ("<p>one</p>", "<p>two</p>"):
        sweep.figures.mkdir(exist_ok=True)
        (sweep.figures / "curve.png").write_bytes(b"png")
        sweep.report.write_text(content)
        assert not Writer.is_complete(sweep, mirrored.uri)
        deliver(mirrored)
        parent = runs(mirrored)["sweep"]
        assert artifact(mirrored, parent, "report/report.html", tmp_path / content[3:6]) == content
    assert "report/figures/curve.png" in everything(mirrored)["sweep"]["artifacts"]


def test_runs_show_how_they_are_calibrated_and_the_champions_has_the_figures(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    for name in ("reliability", "coverage", "accuracy-latency"):
        sweep.figures.mkdir(exist_ok=True)
        (sweep.figures / f"{name}.png").write_bytes(name.encode())
    mirrored = mirror(sweep)
    deliver(mirrored)
    found = runs(mirrored)
    for name, directory in ((FIRST, sweep.trial(FIRST)), ("majority", sweep.baseline("majority"))):
        columns = confidence.of(directory).columns()
        assert {key: found[name].data.metrics[key] for key in columns} == columns
    drawn = {"plots/reliability.png", "plots/coverage.png"}
    assert drawn <= set(artifacts(mirrored, found[FIRST]))
    assert "plots/accuracy-latency.png" not in artifacts(mirrored, found[FIRST])
    assert not drawn & set(artifacts(mirrored, found[SECOND]))


def test_runs_name_the_data_by_its_fingerprint_once_per_split(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    expected = [(f"reviews.csv {split}", "f" * 36, split) for split in ("test", "train", "validation")]
    for name, run in everything(mirrored).items():
        assert sorted(run["inputs"]) == expected, name


def test_delivering_again_adds_nothing(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    before = everything(mirrored)
    mirrored.deliver()
    again = mirror(sweep)
    deliver(again)
    assert everything(again) == before


def test_without_its_mark_a_replay_finds_all_runs_and_adds_nothing(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    before = everything(mirrored)
    sweep.tracking.unlink()
    again = mirror(sweep)
    deliver(again)
    assert everything(again) == before


def test_a_damaged_mark_is_as_good_as_none(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    deliver(mirror(sweep))
    sweep.tracking.write_text(sweep.tracking.read_text()[:40])
    again = mirror(sweep)
    deliver(again)
    assert len(runs(again)) == 4


def test_a_lost_store_is_filled_again(sweep: SweepDirectory, migrated: Path) -> None:
    recorded.finish(sweep)
    first = mirror(sweep)
    deliver(first)
    before = everything(first)
    fresh = sweep.root.parent / "fresh.db"
    shutil.copy(migrated, fresh)
    other = mirror(sweep, f"sqlite:///{fresh}")
    deliver(other)
    after = everything(other)
    assert {name: run["history"] for name, run in after.items()} == {
        name: run["history"] for name, run in before.items()
    }
    assert [mark["uri"].rsplit("/")[-1] for mark in read_json(sweep.tracking)["stores"]] == ["mlflow.db", "fresh.db"]
    assert Writer.is_complete(sweep, default_uri(sweep.root.parent))


def test_epochs_arrive_while_a_trial_runs_and_its_run_says_running(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    mirrored = mirror(sweep)
    mirrored.deliver(live=True)
    found = runs(mirrored)
    assert set(found) == {"sweep", FIRST}
    assert found[FIRST].info.status == "RUNNING"
    recorded.epoch(sweep, FIRST, 2)
    mirrored.deliver(live=True)
    assert runs(mirrored)[FIRST].data.metrics["epoch"] == 2


@pytest.mark.parametrize(("status", "expected"), [("DONE", "FINISHED"), ("FAILED", "FAILED"), ("STOPPED", "KILLED")])
def test_a_runs_status_is_the_trials(sweep: SweepDirectory, tmp_path: Path, status: str, expected: str) -> None:
    more = {"reason": "oom", "message": "out of memory, hf_abcdefghijkl"} if status == "FAILED" else {}
    recorded.epoch(sweep, FIRST, 1)
    recorded.result(sweep, FIRST, status, best=1, **more)
    sweep.trial(FIRST).log.write_text("Traceback with hf_abcdefghijkl")
    mirrored = mirror(sweep)
    deliver(mirrored)
    run = runs(mirrored)[FIRST]
    assert run.info.status == expected
    assert run.data.tags["fleetune.status"] == ("FAILED(oom)" if more else status)
    assert "hf_abc" not in run.data.tags.get("fleetune.message", "")
    if status == "FAILED":
        assert artifact(mirrored, run, "log.txt", tmp_path / "out") == "Traceback with ***"


def test_no_run_stays_running_when_a_sweep_is_interrupted_and_continuing_opens_the_same_ones(
    sweep: SweepDirectory,
) -> None:
    recorded.epoch(sweep, FIRST, 1, accuracy=0.8)
    mirrored = mirror(sweep)
    deliver(mirrored, "KILLED")
    before = runs(mirrored)
    assert {name: run.info.status for name, run in before.items()} == {"sweep": "KILLED", FIRST: "KILLED"}
    again = mirror(sweep)
    recorded.epoch(sweep, FIRST, 2, accuracy=0.6)
    again.deliver(live=True)
    assert {run.info.status for run in runs(again).values()} == {"RUNNING"}
    recorded.finish(sweep)
    deliver(again)
    after = runs(again)
    assert after[FIRST].info.run_id == before[FIRST].info.run_id
    assert {run.info.status for run in after.values()} == {"FINISHED"}


def test_an_interrupt_in_the_middle_of_drawing_closes_the_runs_and_the_figures_come_later(
    sweep: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.finish(sweep)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    figures = []

    def drawn() -> bool:
        figures.extend(scratch.glob("fleetune-artifacts-*/confusion/*.png"))
        return bool(figures)

    mirrored = mirror(sweep)
    mirrored.in_a_hurry = drawn
    deliver(mirrored, "KILLED")
    assert len(set(figures)) == 1
    interrupted = runs(mirrored)
    assert interrupted.pop("sweep").info.status == "KILLED"
    assert {run.info.status for run in interrupted.values()} == {"FINISHED"}
    assert [artifacts(mirrored, run) for run in interrupted.values()] == [[]] * len(interrupted)
    mirrored.in_a_hurry = lambda: False
    deliver(mirrored)
    assert all("confusion/test.png" in artifacts(mirrored, run) for run in interrupted.values())


def test_runs_that_a_killed_driver_left_running_are_ended(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    mirror(sweep).deliver()
    sweep.tracking.unlink()
    shutil.rmtree(sweep.trial(FIRST).root)
    again = mirror(sweep)
    again.close("FAILED")
    assert {name: run.info.status for name, run in runs(again).items()} == {"sweep": "FAILED", FIRST: "KILLED"}


def test_a_trial_that_begins_again_from_its_start_gets_a_new_run(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    mirrored = mirror(sweep)
    mirrored.deliver()
    before = runs(mirrored)[FIRST].info.run_id
    recorded.epoch(sweep, FIRST, 1, start=recorded.START + 50_000)
    mirrored.deliver()
    after = everything(mirrored)[FIRST]
    assert after["run_id"] != before
    assert len(after["history"]["epoch"]) == 1


def test_a_failed_trial_that_is_tried_again_ends_as_what_it_became(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1, accuracy=0.8)
    recorded.result(sweep, FIRST, "FAILED", reason="infra", message="lost")
    mirrored = mirror(sweep)
    deliver(mirrored, "FAILED")
    sweep.trial(FIRST).result.unlink()
    recorded.epoch(sweep, FIRST, 2)
    again = mirror(sweep)
    again.deliver()
    assert not any(name in runs(again)[FIRST].data.tags for name in END_TAGS)
    recorded.result(sweep, FIRST, accuracy=0.8, ended=recorded.START + 90_000)
    deliver(again)
    run = runs(again)[FIRST]
    assert (run.info.status, run.data.tags["fleetune.status"]) == ("FINISHED", "DONE")
    assert "fleetune.message" not in run.data.tags
    assert run.info.end_time == recorded.START + 90_000


def test_class_names_that_mlflow_refuses_do_not_hurt(storage: Path, tmp_path: Path) -> None:
    sweep = recorded.begin(storage / "demo", labels=HOSTILE)
    recorded.finish(sweep, labels=HOSTILE)
    mirrored = mirror(sweep)
    deliver(mirrored)
    run = runs(mirrored)[FIRST]
    assert {f"test/f1/class_{index:02d}" for index in range(len(HOSTILE))} <= set(run.data.metrics)
    report = json.loads(artifact(mirrored, run, "report/test.json", tmp_path / "out"))
    assert list(report["classes"].values()) == list(HOSTILE)


def test_more_points_than_one_request_takes_all_arrive(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    path = sweep.trial(FIRST).epoch(1)
    record = read_json(path)
    count = 1200
    stamps = [recorded.START + index for index in range(count)]
    record["steps"] = {"step": list(range(1, count + 1)), "learning_rate": [1e-4] * count, "loss": [0.5] * count}
    record["steps"]["timestamp"], record["step"] = stamps, count
    write_json(path, record)
    mirrored = mirror(sweep)
    deliver(mirrored)
    assert len(everything(mirrored)[FIRST]["history"]["train/loss"]) == count


def test_a_damaged_file_holds_up_its_own_run_only(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    result = sweep.trial(FIRST).result
    result.write_text(result.read_text().replace('"DONE"', '"STOPPED"'))
    mirrored = mirror(sweep)
    mirrored.deliver()
    assert set(runs(mirrored)) == {"sweep", SECOND, "majority"}
    assert len(mirrored.problems) == 1
    assert "result.json" in mirrored.problems[0]


def test_damaged_predictions_hold_up_the_figures_of_their_own_run_only(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    predictions = sweep.trial(FIRST).predictions
    predictions.write_bytes(predictions.read_bytes()[:-20])
    mirrored = mirror(sweep)
    mirrored.deliver()
    found = everything(mirrored)
    assert set(found) == {"sweep", FIRST, SECOND, "majority"}
    assert found[FIRST]["artifacts"] == []
    assert "errors/worst_texts.json" in found[SECOND]["artifacts"]
    assert [str(predictions) in problem for problem in mirrored.problems] == [True]


def test_a_deleted_experiment_is_restored(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    mirrored.client.delete_experiment(mirrored.client.get_experiment_by_name("demo").experiment_id)
    again = mirror(sweep)
    deliver(again)
    assert len(runs(again)) == 4


def test_passwords_reach_neither_mlflow_nor_the_mark(sweep: SweepDirectory, tmp_path: Path) -> None:
    manifest = read_json(sweep.manifest)
    manifest["config"]["tracking"]["uri"] = "postgresql://me:secret@host/db"
    write_json(sweep.manifest, manifest)
    recorded.finish(sweep)
    mirrored = mirror(sweep)
    deliver(mirrored)
    for name in ("config/sweep.yaml", "config/manifest.json"):
        assert "secret" not in artifact(mirrored, runs(mirrored)["sweep"], name, tmp_path / "out")
    assert ui_command("postgresql://me:secret@host/db", tmp_path)[3] == "postgresql://***@host/db"


def test_the_writer_delivers_while_it_runs_and_says_when_all_is_there(sweep: SweepDirectory) -> None:
    uri = default_uri(sweep.root.parent)
    writer = Writer(sweep, uri, "demo", interval=0.1)
    recorded.finish(sweep)
    writer.notify()
    assert writer.finish("FINISHED", timeout=30)
    assert writer.last_error is None
    assert Writer.is_complete(sweep, uri)
    assert {run.info.status for run in runs(mirror(sweep)).values()} == {"FINISHED"}
    recorded.result(sweep, SECOND, ended=recorded.START + 70_000)
    assert not Writer.is_complete(sweep, uri)


def test_figures_wait_while_trials_need_the_cores_and_come_when_none_does(
    sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.tracking.mirror._DRAWING_SHARE", 10_000)
    recorded.finish(sweep)
    writer, mirrored = Writer(sweep, default_uri(sweep.root.parent), "demo", interval=0.1), mirror(sweep)

    def drawn() -> int:
        return sum("confusion/test.png" in artifacts(mirrored, run) for run in runs(mirrored).values())

    until(lambda: len(runs(mirrored)) == 4 and drawn() == 1)
    time.sleep(0.5)
    assert drawn() == 1
    writer.draw_all()
    until(lambda: drawn() == 3)
    assert writer.finish("FINISHED")


def test_nothing_is_delivered_in_a_pause_and_what_has_come_by_then_right_after_it(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    writer, mirrored = Writer(sweep, default_uri(sweep.root.parent), "demo", interval=3600), mirror(sweep)
    until(lambda: set(runs(mirrored)) == {"sweep", FIRST})
    with writer.paused():
        recorded.epoch(sweep, SECOND, 1)
        writer.notify()
        time.sleep(0.5)
        assert set(runs(mirrored)) == {"sweep", FIRST}
    until(lambda: SECOND in runs(mirrored))
    recorded.epoch(sweep, SECOND, 2)
    with writer.paused():
        pass
    until(lambda: runs(mirrored)[SECOND].data.metrics["epoch"] == 2)
    assert writer.finish("KILLED")


def test_a_pause_waits_for_no_further_figure(sweep: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.finish(sweep)
    paused, save = threading.Event(), figures.save

    def save_and_wait(figure: Any, path: Path) -> Path:
        found = save(figure, path)
        drawn.append(path.name)
        paused.wait(30)
        return found

    drawn: list[str] = []
    monkeypatch.setattr(figures, "save", save_and_wait)
    writer = Writer(sweep, default_uri(sweep.root.parent), "demo")
    until(lambda: bool(drawn))
    threading.Timer(0.5, paused.set).start()
    with writer.paused():
        assert len(drawn) == 1
    assert writer.finish("FINISHED")
    assert all(
        "confusion/test.png" in artifacts(mirror(sweep), run) for run in runs(mirror(sweep)).values() if trial(run)
    )


def test_a_new_store_says_nothing_on_the_screen(tmp_path: Path) -> None:
    sweep = recorded.begin(tmp_path / "demo")
    recorded.finish(sweep)
    code = (
        "import sys; from pathlib import Path; from trainables.directory import SweepDirectory\n"
        "from workflows.tracking.writer import Writer, default_uri\n"
        "assert 'mlflow' not in sys.modules; root = Path(sys.argv[1])\n"
        "writer = Writer(SweepDirectory(root), default_uri(root.parent), 'demo')\n"
        "sys.exit(not writer.finish('FINISHED', 100))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(sweep.root)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_that_comes_late_gets_everything_and_then_the_same_as_sqlite(
    sweep: SweepDirectory, server: Server
) -> None:
    server.stop()
    server.start()
    recorded.epoch(sweep, FIRST, 1, accuracy=0.8)
    writer = Writer(sweep, server.uri, "demo", interval=0.2)
    deadline = time.monotonic() + 30
    while writer.last_error is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert writer.last_error is not None
    recorded.finish(sweep)
    server.wait()
    assert writer.finish("FINISHED", timeout=60)
    remote, local = mirror(sweep, server.uri), mirror(sweep)
    before = everything(remote)
    deliver(remote)
    assert everything(remote) == before
    sweep.tracking.unlink()
    replayed = mirror(sweep, server.uri)
    deliver(replayed)
    assert everything(replayed) == before
    deliver(local)
    assert local.uri.startswith("sqlite:")
    for name, run in everything(local).items():
        same = ("history", "params", "inputs", "artifacts", "info")
        assert {key: run[key] for key in same} == {key: before[name][key] for key in same}


def test_a_model_goes_through_a_server_and_comes_back(
    sweep: SweepDirectory, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "cache"))
    config = AutoConfig.for_model("bert", hidden_size=8, num_attention_heads=1, num_hidden_layers=1, vocab_size=400)
    folder = tmp_path / "model"
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    recorded.finish(sweep)
    server.wait()
    remote = mirror(sweep, server.uri, "published")
    deliver(remote)
    remote.publish(FIRST, folder, "reviews")
    fetched = registry.fetch("models:/reviews@champion", server.uri)
    assert (fetched / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    run = runs(remote, "published")[FIRST]
    assert run.info.status == "FINISHED"


def test_a_store_that_never_answers_costs_no_more_than_the_given_time(sweep: SweepDirectory) -> None:
    recorded.finish(sweep)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        writer = Writer(sweep, f"http://127.0.0.1:{deaf.getsockname()[1]}", "demo")
        started = time.monotonic()
        assert not writer.finish("FINISHED", timeout=1)
    assert time.monotonic() - started < 20
    assert writer.last_error


def test_an_interrupted_sweep_waits_for_a_slow_store_until_no_run_is_running(sweep: SweepDirectory) -> None:
    recorded.epoch(sweep, FIRST, 1)
    mirrored = mirror(sweep)
    deliver(mirrored, "KILLED")
    recorded.epoch(sweep, FIRST, 2)
    with contextlib.closing(sqlite3.connect(sweep.root.parent / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        threading.Timer(3.0, other.rollback).start()
        writer = Writer(sweep, mirrored.uri, "demo")
        writer.finish("KILLED", timeout=0.5, for_states=60.0)
        assert {run.info.status for run in runs(mirrored).values()} == {"KILLED"}


def test_epochs_that_come_while_a_sweep_is_being_ended_leave_no_run_open(sweep: SweepDirectory) -> None:
    ended = threading.Event()

    def work() -> None:
        number = 1
        while not ended.wait(0.02):
            recorded.epoch(sweep, FIRST, number)
            number += 1

    worker = threading.Thread(target=work)
    worker.start()
    writer = Writer(sweep, default_uri(sweep.root.parent), "demo")
    assert writer.finish("KILLED", timeout=30.0)
    ended.set()
    worker.join()
    assert {run.info.status for run in runs(mirror(sweep)).values()} == {"KILLED"}


def test_the_ui_command_shows_the_store_on_this_machine_only(tmp_path: Path) -> None:
    command = ui_command(default_uri(tmp_path), tmp_path)
    assert command[:4] == ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    assert command[-2:] == ["--host", "127.0.0.1"]
    assert ui_command("http://tracking:5000", tmp_path) == ["http://tracking:5000"]


@pytest.mark.parametrize(
    "uri", ["sqlite:", "sqlite:mlflow.db", "sqlite:///", "http://", "https://:80", "http://h:port"]
)
def test_an_address_that_cannot_work_is_bad_input(uri: str) -> None:
    with pytest.raises(BadInput, match=r"^tracking\.uri: "):
        check_uri(uri)


@pytest.mark.parametrize(
    "uri", ["sqlite:///a.db", "sqlite:////tmp/a.db", "http://h:5000", "postgresql+psycopg2://h/db"]
)
def test_an_address_that_may_work_passes(uri: str) -> None:
    check_uri(uri)
