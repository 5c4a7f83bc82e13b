"""What the mirror promises, over every kind of store that MLflow keeps runs in: SQLite, a server, PostgreSQL."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from tests import recorded
from tests.workflows.tracking.test_writer import artifact, everything, runs
from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from trainables.files import read_json, write_json
from trainables.records import EpochRecord
from workflows.printable import printable
from workflows.tracking import content, store
from workflows.tracking.mirror import Mirror
from workflows.tracking.writer import Writer, check_uri, default_uri

FIRST, SECOND = recorded.TRIALS
# Over a server each of these takes seconds.
STORES = ("sqlite", "postgresql", pytest.param("server", marks=pytest.mark.slow))
# The ends of what 64 bits hold, and decimals that none of them hold exactly.
EXACT = [0.1 + 0.2, 1 / 3, 1e-300, 1.7976931348623157e308, -2.2250738585072014e-308, 123456789.12345679, 0.0]
HOSTILE = {
    "nul": "before\0after",
    "half a surrogate pair": "before\ud800after",
    "5 kB": "lång 😀 " * 700,
    "quotes": "'; DROP TABLE runs; -- \" ` \\ %s {0}",
    "controls": "\x01\x1b[31m\t\r\n\x7f",
}


@pytest.fixture(params=STORES)
def uri(request: pytest.FixtureRequest, storage: Path) -> str:
    """A store of each kind. Experiments have names of their own, so that tests can share one."""
    if request.param == "sqlite":
        return default_uri(storage)
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql"))
    server = request.getfixturevalue("server")
    server.start()
    server.wait()
    return str(server.uri)


@pytest.fixture
def experiment() -> str:
    return f"demo-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def sweep(storage: Path) -> SweepDirectory:
    return recorded.begin(storage / "demo")


def deliver(sweep: SweepDirectory, uri: str, experiment: str, status: str = "FINISHED") -> Mirror:
    """All of a sweep into a store, by a mirror that knows nothing of earlier ones but the mark."""
    mirrored = Mirror(sweep, uri, experiment)
    mirrored.deliver()
    mirrored.close(status)
    assert mirrored.problems == []
    return mirrored


def test_a_replay_adds_nothing_and_finds_every_run_by_its_tags(
    sweep: SweepDirectory, uri: str, experiment: str
) -> None:
    recorded.finish(sweep)
    before = everything(deliver(sweep, uri, experiment), experiment)
    assert set(before) == {"sweep", FIRST, SECOND, "majority"}
    assert len(before[FIRST]["history"]["train/loss"]) == 6
    sweep.tracking.unlink()
    assert everything(deliver(sweep, uri, experiment), experiment) == before


def test_what_a_killed_driver_left_running_is_ended_and_taken_up_again(
    sweep: SweepDirectory, uri: str, experiment: str
) -> None:
    recorded.epoch(sweep, FIRST, 1, accuracy=0.8)
    recorded.epoch(sweep, SECOND, 1, accuracy=0.8)
    Mirror(sweep, uri, experiment).deliver(live=True)
    left = runs(Mirror(sweep, uri, experiment), experiment)
    assert {run.info.status for run in left.values()} == {"RUNNING"}
    # The next driver knows nothing of it, and one trial is gone from the directory.
    sweep.tracking.unlink()
    shutil.rmtree(sweep.trial(SECOND).root)
    again = deliver(sweep, uri, experiment, "KILLED")
    assert {run.info.status for run in runs(again, experiment).values()} == {"KILLED"}
    recorded.finish(sweep, [FIRST])
    after = runs(deliver(sweep, uri, experiment), experiment)
    assert {name: run.info.run_id for name, run in after.items() if name in left} == {
        name: run.info.run_id for name, run in left.items()
    }
    states = {name: run.info.status for name, run in after.items()}
    assert states == {"sweep": "FINISHED", FIRST: "FINISHED", "majority": "FINISHED", SECOND: "KILLED"}


def test_metrics_come_back_to_the_last_bit(sweep: SweepDirectory, uri: str, experiment: str) -> None:
    recorded.epoch(sweep, FIRST, 1)
    path = sweep.trial(FIRST).epoch(1)
    record = EpochRecord.read(path)
    count = range(len(EXACT))
    steps = {"step": [1 + index for index in count], "timestamp": [recorded.START + index for index in count]}
    write_json(path, read_json(path) | {"steps": steps | {"learning_rate": EXACT, "loss": EXACT}, "step": len(EXACT)})
    mirrored = Mirror(sweep, uri, experiment)
    mirrored.deliver()
    assert mirrored.problems == []
    history = everything(mirrored, experiment)[FIRST]["history"]
    assert history["train/loss"] == [(1 + index, EXACT[index], recorded.START + index) for index in count]
    assert history["validation/f1_macro"] == [(len(EXACT), record.metrics["validation/f1_macro"], record.timestamp)]


def test_the_report_comes_back_as_it_was_written(
    sweep: SweepDirectory, uri: str, experiment: str, tmp_path: Path
) -> None:
    recorded.finish(sweep)
    page = "<!doctype html><title>lång – 😀</title>\n"
    sweep.report.write_text(page, encoding="utf-8")
    sweep.figures.mkdir()
    (sweep.figures / "curve.csv").write_text("step,loss\n1,0.5\n")
    mirrored = deliver(sweep, uri, experiment)
    parent = runs(mirrored, experiment)["sweep"]
    assert artifact(mirrored, parent, "report/report.html", tmp_path / "out") == page
    assert artifact(mirrored, parent, "report/figures/curve.csv", tmp_path / "out") == "step,loss\n1,0.5\n"


def test_a_writer_delivers_all_while_a_sweep_runs(sweep: SweepDirectory, uri: str, experiment: str) -> None:
    writer = Writer(sweep, uri, experiment, interval=0.1)
    recorded.epoch(sweep, FIRST, 1, accuracy=0.8)
    writer.notify()
    recorded.finish(sweep)
    assert writer.finish("FINISHED", timeout=60), writer.last_error
    assert Writer.is_complete(sweep, uri, experiment)
    statuses = {run.info.status for run in runs(Mirror(sweep, uri, experiment), experiment).values()}
    assert statuses == {"FINISHED"}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_keeps_a_run_out_of_a_store(uri: str, experiment: str, text: str) -> None:
    client = store.open_client(uri)
    found = store.experiment(client, experiment, None)
    run_id = client.create_run(found, recorded.START, {}, content.run_name(text)).info.run_id
    store.set_tags(client, run_id, content.as_tags({"fleetune.message": text}))
    store.log_params(client, run_id, content.as_params({"model": text, f"axis {text}": 1}))
    data = {"path": text, "fingerprint": "f" * 64, "rows": {"train": 3}, "classes": {"train": {text: 3}}}
    store.log_data_sets(client, run_id, data)
    run = client.get_run(run_id)
    shown = printable(text)
    # What a store does with the rim of a text is its own affair.
    assert run.data.params["model"].strip() == shown.strip()
    assert run.data.tags["fleetune.message"].strip() == shown.strip()
    assert run.inputs.dataset_inputs[0].dataset.digest == "f" * 36


def test_names_and_classes_with_hostile_text_reach_every_store(storage: Path, uri: str, experiment: str) -> None:
    # Half a surrogate pair is no text that a record could hold.
    names = [text for name, text in HOSTILE.items() if name != "half a surrogate pair"]
    sweep = recorded.begin(storage / "hostile", labels=names)
    for path, key in ((sweep.trial(FIRST).spec, "name"), (sweep.manifest, "name")):
        write_json(path, read_json(path) | {key: "".join(names)})
    recorded.finish(sweep, labels=names)
    recorded.result(sweep, SECOND, "FAILED", best=1, reason="infra", message="".join(names))
    found = everything(deliver(sweep, uri, experiment, "FAILED"), experiment)
    assert {name: run["info"][0] for name, run in found.items()} == {
        "sweep": "FAILED",
        FIRST: "FINISHED",
        SECOND: "FAILED",
        "majority": "FINISHED",
    }
    assert found[SECOND]["tags"]["fleetune.message"].strip() == printable("".join(names)).strip()
    assert "confusion/test.png" in found[FIRST]["artifacts"]


def test_a_database_whose_driver_is_not_installed_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(BadInput, match=r"needs the Python package psycopg2, which is not installed"):
        check_uri("postgresql+psycopg2://me:secret@host/db")
    with pytest.raises(BadInput) as refused:
        check_uri("postgresql+nosuch://me:secret@host/db")
    assert "secret" not in str(refused.value)
