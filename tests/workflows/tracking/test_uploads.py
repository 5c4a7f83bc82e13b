"""A model on its way to a store whose artifacts go over HTTP, and that is slow or fails."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests import recorded
from tests.artifact_store import ArtifactStore, artifact_store
from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from workflows.sync import sync
from workflows.tracking import registry
from workflows.tracking.mark import Mark
from workflows.tracking.mirror import Mirror
from workflows.tracking.store import open_client
from workflows.tracking.writer import Writer, default_uri

FIRST = recorded.TRIALS[0]
MODEL, PACKED = "model.safetensors", "packed.safetensors"


@pytest.fixture
def store() -> Iterator[ArtifactStore]:
    with artifact_store() as running:
        yield running


@pytest.fixture
def sweep(storage: Path, store: ArtifactStore) -> SweepDirectory:
    """A finished sweep, delivered but for its champion."""
    sweep = recorded.begin(storage / "demo", register_as="reviews", checkpoints="champion")
    recorded.finish(sweep)
    open_client(default_uri(storage)).create_experiment("demo", store.uri)
    mirrored = mirror(sweep)
    mirrored.deliver()
    mirrored.close("FINISHED")
    store.taken.clear()
    return sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What stands for an exported model, packed as a worker does it."""
    folder = tmp_path / "exports" / FIRST
    packed = folder.with_name(f"{FIRST}.mlflow")
    (packed / "model").mkdir(parents=True)
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / MODEL).write_bytes(bytes(2_000_000))
    (packed / "MLmodel").write_text("flavors: {}\n")
    (packed / "model" / PACKED).write_bytes(bytes(400_000))
    return folder


def mirror(sweep: SweepDirectory) -> Mirror:
    return Mirror(sweep, default_uri(sweep.root.parent), "demo")


def logged_models(mirrored: Mirror) -> list[Any]:
    experiment = mirrored.client.get_experiment_by_name("demo")
    return list(mirrored.client.search_logged_models([experiment.experiment_id]))


def held_up(store: ArtifactStore, file: str, until: Callable[[], object]) -> threading.Event:
    """Have the store take a file only when a call has returned; the event says that the file is on its way."""
    begun = threading.Event()

    def meets(name: str) -> int:
        if name == file:
            begun.set()
            until()
        return 200

    store.meets = meets
    return begun


def test_a_model_that_takes_longer_than_a_store_may_be_silent_arrives(
    sweep: SweepDirectory, store: ArtifactStore, folder: Path
) -> None:
    begun = held_up(store, MODEL, lambda: time.sleep(8.0))
    writer = Writer(sweep, default_uri(sweep.root.parent), "demo")
    writer.publish(FIRST, folder, "reviews")
    assert begun.wait(30)
    assert writer.finish("FINISHED", timeout=5.0), writer.last_error
    assert Writer.is_complete(sweep, default_uri(sweep.root.parent))


def test_a_checkpoint_that_has_arrived_is_marked_before_the_model_is_registered(
    sweep: SweepDirectory, store: ArtifactStore, folder: Path
) -> None:
    go_on = threading.Event()
    begun = held_up(store, PACKED, lambda: go_on.wait(30))
    publishing = threading.Thread(target=mirror(sweep).publish, args=(FIRST, folder, "reviews"))
    publishing.start()
    assert begun.wait(30)
    mark = Mark.read(sweep, default_uri(sweep.root.parent), "demo")
    go_on.set()
    publishing.join()
    assert mark.runs[FIRST].published == registry.checkpoint_hash(folder)
    assert mark.registered is None


def test_another_try_takes_up_the_logged_model_of_the_one_before(
    sweep: SweepDirectory, store: ArtifactStore, folder: Path
) -> None:
    store.meets = lambda name: 500 if name == PACKED else 200
    mirrored = mirror(sweep)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            mirrored.publish(FIRST, folder, "reviews")
    assert sorted(store.taken) == ["MLmodel", "config.json", MODEL], "what has arrived is not sent again"
    store.meets = lambda name: 200
    mirrored = mirror(sweep)
    mirrored.publish(FIRST, folder, "reviews")
    (logged,) = logged_models(mirrored)
    assert logged.status.value == "READY"
    version = mirrored.client.get_model_version_by_alias("reviews", "champion")
    assert version.source == logged.artifact_location
    run = mirrored.client.get_run(version.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]


def test_a_store_that_takes_all_but_one_file_is_given_up_in_the_end(
    sweep: SweepDirectory, store: ArtifactStore, folder: Path
) -> None:
    store.meets = lambda name: 500 if name == PACKED else 200
    writer = Writer(sweep, default_uri(sweep.root.parent), "demo")
    writer.publish(FIRST, folder, "reviews")
    # However slow the machine: the store has refused before the time runs.
    while writer.last_error is None:
        time.sleep(0.05)
    assert not writer.finish("FINISHED", timeout=0.5)
    assert writer.last_error and "500" in writer.last_error


def test_a_store_that_lost_the_champions_run_gets_its_checkpoint_and_its_version_again(
    sweep: SweepDirectory, folder: Path, migrated: Path
) -> None:
    uri = default_uri(sweep.root.parent)
    mirror(sweep).publish(FIRST, folder, "reviews")
    assert Writer.is_complete(sweep, uri)
    # An empty store numbers its experiments as the one before did.
    shutil.copy(migrated, sweep.root.parent / "mlflow.db")
    mirrored = mirror(sweep)
    mirrored.deliver()
    mark = Mark.read(sweep, uri, "demo")
    assert mark.runs[FIRST].published is None and mark.registered is None
    mirrored.publish(FIRST, folder, "reviews")
    assert mirrored.client.get_model_version_by_alias("reviews", "champion").run_id == mark.runs[FIRST].run_id


def test_sync_exports_the_champion_again_for_a_store_that_lost_it(
    sweep: SweepDirectory, folder: Path, migrated: Path
) -> None:
    mirror(sweep).publish(FIRST, folder, "reviews")
    sync(sweep, None, None, Console(quiet=True))
    shutil.copy(migrated, sweep.root.parent / "mlflow.db")
    with pytest.raises(BadInput, match="no such checkpoint folder"):
        sync(sweep, None, None, Console(quiet=True))
