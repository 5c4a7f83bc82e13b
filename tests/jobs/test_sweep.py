"""Whole sweeps by the command line: a real Ray, a real MLflow store, tiny models and texts."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from tests.workplace import Workplace
from trainables.files import read_json

TEXTS = ["great love the movie was a story", "terrible awful the movie was a story"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("sweeps")
    tiny_model("bert", folder / "bert")
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "tiny",
        "data": {"path": "reviews.csv"},
        "search": {
            "space": [
                {"model": "./bert", "freeze": ["full", "head"], "learning_rate": 3e-3},
                {"model": {"path": "./bert", "name": "bert-2", "num_hidden_layers": 2}, "learning_rate": 3e-3},
            ]
        },
        "training": {"num_train_epochs": 4, "per_device_train_batch_size": 8, "max_length": 32, "bf16": False},
        "tracking": {"register_as": "tiny-reviews"},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return Workplace(folder)


@pytest.fixture(scope="module")
def finished(workplace: Workplace) -> subprocess.CompletedProcess[str]:
    """The first run of the sweep, which most tests look at."""
    return workplace.fleetune("sweep", "sweep.yaml")


def test_a_sweep_ends_with_exit_0_and_a_leaderboard_of_trials_and_baselines(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    assert finished.returncode == 0, finished.stdout + finished.stderr
    board = workplace.leaderboard()
    assert sorted(row["kind"] for row in board["rows"]) == ["baseline"] * 2 + ["trial"] * 3
    assert {row["status"] for row in board["rows"]} == {"DONE"}
    assert sorted(row["rank"] for row in board["rows"]) == [1, 2, 3, 4, 5]
    champion = next(row for row in board["rows"] if row["trial_id"] == board["champion"])
    assert champion["validation/accuracy"] >= 0.8
    assert str(workplace.folder / "runs" / "tiny" / "leaderboard.json") in finished.stdout.replace("\n", "")


def test_the_check_of_the_data_runs_first_and_its_findings_reach_report_and_mlflow(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    from mlflow import MlflowClient

    assert finished.stdout.index("check of the data: ") < finished.stdout.index("trials to run")
    found = read_json(workplace.folder / "runs/tiny/check.json")
    assert [(each["model"], each["max_length"]) for each in found["tokenizers"]] == [("./bert", 32)]
    assert read_json(workplace.folder / "runs/tiny/manifest.json")["checked"] is True
    assert "Check of the data" in (workplace.folder / "runs/tiny/report.html").read_text()
    (parent,) = [run for run in workplace.runs() if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["fleetune.check"]
    client = MlflowClient(f"sqlite:///{workplace.folder}/runs/mlflow.db")
    assert "check" in {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}


def test_other_grades_of_the_check_let_a_finished_sweep_be_run_again(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    again = workplace.fleetune(
        "sweep", "sweep.yaml", "--set", "check.truncated=error", "--set", "check.duplicates=error"
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing left to do" in again.stdout


def test_the_end_of_a_sweep_says_what_was_gained_over_tfidf_and_at_which_cost(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    board = workplace.leaderboard()
    rows = {row["trial_id"]: row for row in board["rows"]}
    gain = rows[board["champion"]]["test/accuracy"] - rows["tfidf"]["test/accuracy"]
    shown = f"{gain:+.4f}".replace("-", "−")
    assert f"Against TF-IDF: accuracy {shown}" in finished.stdout
    assert "the training time" in finished.stdout
    assert "the time per text" in finished.stdout
    for row in board["rows"]:
        assert 0 < row["latency_p50_ms"] <= row["latency_p95_ms"]
        assert row["throughput"] > 0
        assert row["checkpoint_bytes"] > 0
    assert all(row["peak_memory_bytes"] > 1e8 for row in board["rows"] if row["kind"] == "trial")
    same = {row["latency_p50_ms"] for row in board["rows"] if row["model"] == "./bert"}
    assert len(same) == 1, "trials that differ in their weights alone share what was measured"
    report = (workplace.folder / "runs" / "tiny" / "report.html").read_text()
    assert "Against TF-IDF" in report
    again = workplace.fleetune("report", "runs/tiny")
    assert again.stdout.strip().endswith("runs/tiny/report.html")
    assert (workplace.folder / "runs" / "tiny" / "report.html").read_text() == report


def test_mlflow_has_one_parent_and_a_child_per_trial_and_baseline_and_none_is_running(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    runs = workplace.runs()
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (parent,) = [run for run in runs if run not in children]
    assert len(children) == 5
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_nothing_of_ray_and_tune_reaches_the_screen(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    assert not re.search(r"(?i)\btune\b|raylet|tensorboard|warning", finished.stdout + finished.stderr)
    assert "bert · head" not in finished.stderr
    assert "validation/accuracy" in finished.stdout


def test_the_same_command_again_returns_at_once_and_trains_nothing(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    results = {path: path.stat().st_mtime_ns for path in workplace.folder.glob("runs/tiny/trials/*/result.json")}
    again = workplace.fleetune("sweep", "sweep.yaml")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Nothing left to do" in again.stdout
    assert "starting Ray" not in again.stdout
    assert {path: path.stat().st_mtime_ns for path in results} == results


@pytest.mark.slow
def test_added_points_extend_a_sweep_and_removed_ones_are_kept_unranked(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    before = {row["trial_id"]: row["seconds"] for row in workplace.leaderboard()["rows"]}
    extended = workplace.fleetune("sweep", "sweep.yaml", "--set", "search.space.0.freeze=[full, top-1]")
    assert extended.returncode == 0, extended.stdout + extended.stderr
    assert "1 of 3 trials to run" in extended.stdout
    rows = workplace.leaderboard()["rows"]
    assert sorted(row["freeze"] for row in rows if row["kind"] == "trial") == ["full", "full", "top-1"]
    assert len(list((workplace.folder / "runs/tiny/trials").iterdir())) == 4
    assert [row["seconds"] for row in rows if row["trial_id"] in before] == [
        before[row["trial_id"]] for row in rows if row["trial_id"] in before
    ]
    assert len([run for run in workplace.runs() if "mlflow.parentRunId" not in run.data.tags]) == 1
    restored = workplace.fleetune("sweep", "sweep.yaml")
    assert restored.returncode == 0, restored.stdout + restored.stderr


def test_a_change_of_what_trials_mean_is_refused_with_a_diff(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    changed = workplace.fleetune("sweep", "sweep.yaml", "--set", "training.num_train_epochs=5")
    assert changed.returncode == 2
    assert "training.num_train_epochs: 4 → 5" in changed.stderr
    data = workplace.fleetune("sweep", "sweep.yaml", "--set", "data.sizes.train=50")
    assert data.returncode == 2
    assert "data.sizes" in data.stderr
    assert "Traceback" not in changed.stderr + data.stderr


def test_predict_takes_arguments_files_and_stdin_from_every_kind_of_source(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    board = workplace.leaderboard()
    exported = workplace.folder / "exported"
    made = workplace.fleetune("export", "runs/tiny", str(exported))
    assert made.returncode == 0, made.stderr
    sources = ["runs/tiny", f"runs/tiny/trials/{board['champion']}", str(exported), "models:/tiny-reviews@champion"]
    found = []
    for source in sources:
        answer = workplace.fleetune("predict", source, *TEXTS, "--json")
        assert answer.returncode == 0, answer.stderr
        found.append([json.loads(line) for line in answer.stdout.splitlines()])
    for predictions in found:
        assert [item["label"] for item in predictions] == ["positive", "negative"]
        for item, first in zip(predictions, found[0], strict=True):
            assert item["probabilities"] == pytest.approx(first["probabilities"], abs=1e-5)
    piped = workplace.fleetune("predict", "runs/tiny", "--json", input="\n".join(TEXTS))
    assert [json.loads(line)["label"] for line in piped.stdout.splitlines()] == ["positive", "negative"]
    table = workplace.fleetune("predict", str(exported), "--file", "reviews.csv")
    assert table.returncode == 0, table.stderr
    assert "probabilities" in table.stdout


def test_an_export_loads_in_a_pipeline_with_label_names(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    from transformers import pipeline

    folder = workplace.folder / "for-pipeline"
    assert workplace.fleetune("export", "runs/tiny", str(folder)).returncode == 0
    answer = pipeline("text-classification", str(folder))(TEXTS)
    assert [item["label"] for item in answer] == ["positive", "negative"]
    again = workplace.fleetune("export", "runs/tiny", str(folder))
    assert again.returncode == 2
    assert "empty" in again.stderr


def test_evaluate_scores_a_labelled_file(workplace: Workplace, finished: subprocess.CompletedProcess[str]) -> None:
    with (workplace.folder / "raw.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("review", "score"), (TEXTS[0], 1), (TEXTS[1], 0)])
    columns = ("--text-column", "review", "--label-column", "score")
    refused = workplace.fleetune("evaluate", "runs/tiny", "raw.csv", *columns)
    assert refused.returncode == 2
    assert "negative, positive" in refused.stderr
    names = ("--label", "1=positive", "--label", "0=negative")
    scored = workplace.fleetune("evaluate", "runs/tiny", "raw.csv", *columns, *names, "--json")
    assert json.loads(scored.stdout)["metrics"]["accuracy"] == 1.0


def test_ui_names_the_store_of_the_sweep(workplace: Workplace, finished: subprocess.CompletedProcess[str]) -> None:
    shown = workplace.fleetune("ui", "runs/tiny", "--port", "5123")
    assert f"sqlite:///{workplace.folder}/runs/mlflow.db" in shown.stdout
    assert "--port 5123" in shown.stdout
    assert workplace.fleetune("ui", "nowhere").returncode == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("baselines=[tfdif]", "did you mean 'tfidf'?"),
        ("search.space.0.freeze=hed", "did you mean 'head'?"),
        ("search.space.0.freeze=top-3", "top-1 to top-2 is allowed"),
        ("search.space.0.model=./brt", "no such folder"),
        ("search.space.1.model.num_hidden_layers=9", "has 3 layers"),
        ("search.space.0.max_length=100000", "has positions for"),
        ("data.path=reviws.csv", "reviws.csv"),
        ("data.text_column=txt", "text"),
        ("tracking.uri=http://", "must name a host"),
    ],
)
def test_bad_input_ends_with_exit_2_before_anything_is_started(
    workplace: Workplace, override: str, expected: str
) -> None:
    refused = workplace.fleetune("sweep", "sweep.yaml", "--set", override, "--set", "name=bad")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert expected in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "starting Ray" not in refused.stdout
    assert not (workplace.folder / "runs" / "bad").exists()


def test_a_request_that_the_cluster_can_never_meet_is_refused_at_once(workplace: Workplace) -> None:
    refused = workplace.fleetune("sweep", "sweep.yaml", "--set", "resources.gpus_per_trial=4", "--set", "name=greedy")
    assert refused.returncode == 4
    assert "every trial asks for 1 CPU and 4 GPU, and no node has that" in refused.stderr
    assert "0 GPUs" in refused.stderr


@pytest.mark.slow
def test_what_a_refused_sweep_left_does_not_count_for_other_data(workplace: Workplace) -> None:
    greedy = ("--set", "resources.gpus_per_trial=4")
    name = ("--set", "name=restarted", "--set", "search.space=[{model: ./bert}]", "--set", "tracking.register_as=null")
    assert workplace.fleetune("sweep", "sweep.yaml", *name, *greedy).returncode == 4
    # Labels turned round: what TF-IDF scored before is not what it scores now.
    labels = ("--set", "data.labels={positive: bad, negative: good}", "--set", "data.sizes={test: 12}")
    assert workplace.fleetune("sweep", "sweep.yaml", *name, *labels).returncode == 0
    baseline = read_json(workplace.folder / "runs/restarted/baselines/tfidf/result.json")
    assert sum(map(sum, baseline["evaluations"]["test"]["confusion_matrix"])) == 12


@pytest.mark.slow
@pytest.mark.quick
def test_a_trial_that_fails_leaves_the_others_complete_and_exits_with_3(workplace: Workplace) -> None:
    from safetensors.torch import load_file, save_file

    broken = tiny_model("bert", workplace.folder / "broken")
    weights = load_file(broken / "model.safetensors")
    save_file({name: weights[name] for name in weights if "layer.1" not in name}, broken / "model.safetensors")
    ended = workplace.fleetune(
        *("sweep", "sweep.yaml", "--set", "name=partly", "--set", "tracking.register_as=null"),
        *("--set", "search.space=[{model: [./bert, ./broken], learning_rate: 3e-3}]"),
    )
    assert ended.returncode == 3, ended.stdout + ended.stderr
    rows = {row["model"]: row for row in workplace.leaderboard("partly")["rows"]}
    assert (rows["./bert"]["status"], rows["./broken"]["status"]) == ("DONE", "FAILED")
    assert (rows["./broken"]["rank"], rows["./broken"]["reason"]) == (None, "user")
    assert "FAILED(user)" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert sorted(run.info.status for run in workplace.runs("partly")) == ["FAILED", *["FINISHED"] * 4]


@pytest.mark.slow
@pytest.mark.quick
def test_heads_train_together_and_are_trials_all_the_same(workplace: Workplace) -> None:
    command = ("sweep", "sweep.yaml", "--set", "name=heads", "--set", "tracking.register_as=null")
    space = "[{model: ./bert, freeze: head, learning_rate: [1e-3, 3e-3, 1e-2]}, {model: ./bert, learning_rate: 3e-3}]"
    ended = workplace.fleetune(*command, "--set", f"search.space={space}", "--set", "search.seeds=[1, 2]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "8 of 8 trials to run, 2 at a time" in ended.stdout
    assert "6 that train the head alone run together" in ended.stdout
    groups = read_json(workplace.folder / "runs/heads/manifest.json")["groups"]
    assert sorted(map(len, groups)) == [1, 1, 3, 3]
    rows = [row for row in workplace.leaderboard("heads")["rows"] if row["kind"] == "trial"]
    assert [row["status"] for row in rows] == ["DONE"] * 8
    for group in groups:
        (seed,) = {row["seed"] for row in rows if row["trial_id"] in group}
        for trial_id in group:
            folder = workplace.folder / "runs/heads/trials" / trial_id
            assert read_json(folder / "trial.json")["spec"]["seed"] == seed
            assert len(list(folder.glob("epoch-*.json"))) == 4
    assert [run.info.status for run in workplace.runs("heads")] == ["FINISHED"] * 11
    # One that is lost is trained again, by itself.
    lost = next(group for group in groups if len(group) == 3)[1]
    before = workplace.leaderboard("heads")
    (workplace.folder / "runs/heads/trials" / lost / "result.json").unlink()
    again = workplace.fleetune(*command, "--set", f"search.space={space}", "--set", "search.seeds=[1, 2]")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 of 8 trials to run" in again.stdout
    after = workplace.leaderboard("heads")
    assert [row["trial_id"] for row in after["rows"]] == [row["trial_id"] for row in before["rows"]]
    assert read_json(workplace.folder / "runs/heads/manifest.json")["groups"] == groups


@pytest.mark.slow
def test_sync_shows_a_sweep_with_its_champion_in_another_store(
    workplace: Workplace, finished: subprocess.CompletedProcess[str]
) -> None:
    from mlflow import MlflowClient

    other = f"sqlite:///{workplace.folder / 'other.db'}"
    done = workplace.fleetune("sync", "runs/tiny", "--uri", other)
    assert done.returncode == 0, done.stdout + done.stderr
    # The parent is no trial; other tests have added points to the sweep.
    assert f"{len(workplace.runs()) - 1} runs of trials and baselines in experiment 'tiny'" in done.stdout
    client = MlflowClient(other)
    version = client.get_model_version_by_alias("tiny-reviews", "champion")
    run = client.get_run(version.run_id)
    assert run.data.tags["fleetune.trial_id"] == workplace.leaderboard()["champion"]
    assert run.info.status == "FINISHED"
    assert "checkpoint" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    # The sweep's own store was complete, and still is.
    assert "Nothing left to do" in workplace.fleetune("sweep", "sweep.yaml").stdout


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_tried_again_by_the_same_command(workplace: Workplace) -> None:
    from filelock import FileLock

    command = ("sweep", "sweep.yaml", "--set", "name=hang", "--set", "search.space=[{model: ./bert}]")
    command += ("--set", "tracking.register_as=null", "--set", "training.max_length=16")
    storage = ("--set", f"storage={workplace.folder / 'hang-runs'}")
    first = workplace.fleetune(*command, *storage)
    assert first.returncode == 0, first.stdout + first.stderr
    tokens = next(path for path in (workplace.folder / "hang-runs/cache/tokens").iterdir() if path.is_dir())
    shutil.rmtree(tokens)
    # Whoever wants the tokens now waits for a lock that is never given back.
    with FileLock(tokens.with_suffix(".lock")):
        hung = workplace.fleetune(*command, *storage, "--set", "name=hung", "--set", "resources.trial_timeout=4s")
    assert hung.returncode == 3, hung.stdout + hung.stderr
    assert "FAILED(timeout)" in hung.stdout
    (trial,) = (workplace.folder / "hang-runs/hung/trials").iterdir()
    assert "tokenize" in (trial / "log.txt").read_text()
    again = workplace.fleetune(*command, *storage, "--set", "name=hung")
    assert again.returncode == 0, again.stdout + again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.quick
def test_an_interrupted_sweep_is_finished_by_the_same_command(workplace: Workplace, number: signal.Signals) -> None:
    name = f"cut-{number.name.lower()}"
    command = ("sweep", "sweep.yaml", "--set", f"name={name}", "--set", "training.num_train_epochs=30")
    # How often state is saved may be another one each time.
    saved = ("--set", "training.save_steps=3") if number == signal.SIGKILL else ()
    driver = workplace.start(*command, *saved, "--set", "resources.max_concurrent_trials=1")
    results = workplace.folder / "runs" / name / "trials"
    deadline = time.monotonic() + 200
    while len(list(results.glob("*/result.json"))) < 1 and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.2)
    twice = workplace.fleetune(*command)
    assert twice.returncode == 4
    assert f"is driven by another process now (process {driver.pid} on" in twice.stderr.replace("\n", " ")
    driver.send_signal(number)
    output, _ = driver.communicate(timeout=60)
    kept = {path: path.stat().st_mtime_ns for path in results.glob("*/result.json")}
    assert 1 <= len(kept) < 3, output
    epochs = {path: path.read_text() for path in results.glob("*/epoch-*.json")}
    if number == signal.SIGINT:
        assert driver.returncode == 130
        told = output.replace("\n", " ")
        assert "Continue with: " in told and f"fleetune sweep sweep.yaml --set name={name}" in told
        statuses = {run.info.status for run in workplace.runs(name)}
        assert "KILLED" in statuses and "RUNNING" not in statuses, f"{statuses}\n{output}"
    again = workplace.fleetune(*command)
    assert again.returncode == 0, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # What was committed is not trained again: its records are those of the first attempt.
    assert {path: path.read_text() for path in epochs} == epochs
    assert {row["status"] for row in workplace.leaderboard(name)["rows"]} == {"DONE"}
    statuses = [run.info.status for run in workplace.runs(name)]
    assert statuses == ["FINISHED"] * 6
