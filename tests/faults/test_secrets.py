"""Twenty planted secrets: none leaves the sweep directory, and what users wrote is left as it is.

Results and logs are planted as an earlier version wrote them, secrets and all: today's trials write none
(`tests/trainables/test_redaction.py`). What a sweep is continued from stays whole: manifest.json and trial.json.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import run as runner
from jobs.screen import Screen
from jobs.summary import print_summary
from tests.planted import SECRETS, leaked, letters
from tests.workflows.report import sweeps
from tests.workflows.report.sweeps import Trial
from trainables.arguments import TrialSpec
from trainables.directory import SweepDirectory
from trainables.errors import BadInput, FleetuneError, InfrastructureError
from trainables.files import read_json, write_json
from workflows.leaderboard import Leaderboard
from workflows.plan import PlannedTrial
from workflows.progress import Board
from workflows.report import content, write_report
from workflows.review import find_ui
from workflows.sweep import Outcome
from workflows.tracking.mark import Mark
from workflows.tracking.mirror import Mirror
from workflows.tracking.writer import Writer, default_uri

TEXT = "my password=hunter2 does not work, write to postgresql://me:pw@host"
LABEL = "token=expired"
_URI = next(planted for planted in SECRETS if planted.kind == "password of a database").text
_PATH = f"/mnt/{SECRETS[0].secret}/reviews.csv"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepDirectory]:
    """A reported and mirrored sweep with a secret in the environment, the URI, the path, and in each failure."""
    root = tmp_path_factory.mktemp("secrets") / "runs" / "reviews"
    with pytest.MonkeyPatch.context() as patch:
        for number, planted in enumerate(SECRETS):
            patch.setenv(f"PLANTED_{number}", planted.secret)
        trials = [Trial(own_id="done")]
        trials += [
            Trial(own_id=f"failed{number:02d}", status="FAILED", message=" ".join(planted.text.split()))
            for number, planted in enumerate(SECRETS)
        ]
        config = {
            "tracking": {"uri": _URI, "experiment": None, "register_as": None, "checkpoints": "none"},
            "errors": {"count": sweeps.TEXTS, "include_text": "full"},
        }
        labels = (LABEL, "other")
        made = sweeps.make(root, trials=trials, labels=labels, texts=[TEXT], config=config)
        prepared = made.cache.data("f" * 64)
        prepared.parent.mkdir(parents=True)
        (root.parent / "data").rename(prepared)
        _plant(made)
        write_report(made)
        mirror = Mirror(made, default_uri(root.parent), "secrets")
        mirror.deliver()
        assert mirror.problems == []
        yield made


def _plant(made: SweepDirectory) -> None:
    manifest = read_json(made.manifest)
    manifest["data"] |= {"path": _PATH, "notes": [planted.text for planted in SECRETS]}
    manifest["config"]["data"]["path"] = _PATH
    write_json(made.manifest, manifest)
    for number, planted in enumerate(SECRETS):
        made.trial(f"failed{number:02d}").log.write_text(f"ERROR: {planted.text}\n", encoding="utf-8")
    spec = made.trial("done").spec
    stored = read_json(spec)
    stored["spec"]["data"] = str(made.cache.data("f" * 64))
    write_json(spec, stored)
    found = content.read(made)
    Leaderboard(found.metric, found.rows, found.champion.run_id if found.champion else None).write(made)


def test_files_that_leave_the_sweep_directory_hold_no_secret(sweep: SweepDirectory) -> None:
    files = [sweep.report, sweep.leaderboard_csv, sweep.leaderboard_json, sweep.tracking, *sweep.figures.iterdir()]
    assert len(files) > 20
    assert {path.name: found for path in files if (found := leaked(_read(path)))} == {}
    assert "***" in sweep.report.read_text(encoding="utf-8")


def test_the_store_and_the_artifacts_of_mlflow_hold_no_secret(sweep: SweepDirectory) -> None:
    storage = sweep.root.parent
    files = [storage / "mlflow.db", *(path for path in (storage / "mlartifacts").rglob("*") if path.is_file())]
    assert len([path for path in files if path.name == "log.txt"]) == len(SECRETS)
    assert {str(path): found for path in files if (found := leaked(_read(path)))} == {}


def test_texts_and_classes_are_left_as_they_are(sweep: SweepDirectory) -> None:
    report = sweep.report.read_text(encoding="utf-8")
    assert f">{TEXT}</td>" in report and f">{LABEL}</td>" in report
    artifacts = sweep.root.parent / "mlartifacts"
    assert any(TEXT in path.read_text(encoding="utf-8") for path in artifacts.rglob("worst_texts.json"))
    assert all(LABEL in path.read_text(encoding="utf-8") for path in artifacts.rglob("confusion/test.json"))


def test_what_stays_inside_is_whole_so_that_the_sweep_can_go_on(sweep: SweepDirectory) -> None:
    assert read_json(sweep.manifest)["config"]["tracking"]["uri"] == _URI


def test_the_mark_of_what_was_delivered_names_the_store_without_its_password(tmp_path: Path) -> None:
    made = SweepDirectory(tmp_path / "reviews")
    made.root.mkdir()
    Mark.read(made, _URI, "reviews").write(made)
    assert leaked(_read(made.tracking)) == [] and "db.example.org" in _read(made.tracking)


def test_a_server_that_is_away_is_told_of_without_its_password(sweep: SweepDirectory) -> None:
    uri = f"http://me:{letters(11)}@127.0.0.1:9"
    writer = Writer(sweep, uri, "away", interval=0.1)
    assert not writer.finish("FINISHED", timeout=1)
    assert writer.last_error and leaked(writer.last_error) == []


def test_the_terminal_shows_no_secret(sweep: SweepDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    screen = Screen(file=stream, width=1000)
    board = read_json(sweep.leaderboard_json)
    ranked = Leaderboard(board["metric"], board["rows"], board["champion"])
    print_summary(Outcome(sweep, ranked, _URI, sweeps.TEXTS), screen)
    planned = [_planned(sweep, f"failed{number:02d}") for number in range(len(SECRETS))]
    with Board(planned, "accuracy", screen, {}) as shown:
        for trial, planted in zip(planned, SECRETS, strict=True):
            shown.on_report({"trial": trial.trial_id, "status": "FAILED", "message": planted.text})
    screen.print(*find_ui(sweep.root, 5000))
    for planted in SECRETS:
        for error in (BadInput(planted.text), InfrastructureError(planted.text), ValueError(planted.text)):
            _fail(error)
    told = capsys.readouterr()
    whole = stream.getvalue() + told.out + told.err
    assert whole.count("***") >= 5 * len(SECRETS) and leaked(whole) == []


def _planned(sweep: SweepDirectory, trial_id: str) -> PlannedTrial:
    spec = TrialSpec.model_validate(read_json(sweep.trial(trial_id).spec)["spec"])
    return PlannedTrial(trial_id, spec.point_id, spec.seed, spec.model, spec.freeze, spec.training, {})


def _fail(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        runner.run(fail)  # type: ignore[arg-type]
    assert ended.value.code == (error.exit_code if isinstance(error, FleetuneError) else 1)


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")
