"""What no node or storage can carry is refused by the command line before anything is started, with exit 4."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.mounts import with_mounts
from tests.nodes import ROOT, Nodes, cluster, environment
from tests.tiny import tiny_model
from tests.tiny_data import reviews_csv
from trainables.files import read_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one trial; its storage is `runs` beside the sweep file."""
    folder = tmp_path_factory.mktemp("preflight")
    tiny_model("bert", folder / "bert", hidden=128)
    reviews_csv(folder / "reviews.csv")
    config = {
        "name": "tiny",
        "data": {"path": str(folder / "reviews.csv")},
        "search": {"space": [{"model": str(folder / "bert"), "learning_rate": 3e-3}]},
        "training": {"num_train_epochs": 3, "per_device_train_batch_size": 8, "max_length": 32, "bf16": False},
        "storage": str(folder / "runs"),
    }
    (folder / "runs").mkdir()
    (folder / "sweep.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_storage_that_is_too_small_for_the_sweep_is_refused_and_nothing_is_started(folder: Path) -> None:
    # What is in the storage can be seen only from inside the namespace, so the shell lists it after the sweep.
    listing = '"$@"; code=$?; ls -A runs runs/*; exit $code'
    sweep = ["sh", "-c", listing, "sh", sys.executable, "-m", "jobs.cli", "sweep", "sweep.yaml"]
    inside = with_mounts(f"mount -t tmpfs -o size=3m none {folder}/runs", sweep)
    refused = subprocess.run(inside, cwd=folder, env=environment(), capture_output=True, text=True, timeout=200)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert f"storage {folder}/runs: about " in refused.stderr
    assert " MB are free" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "trials to run" not in refused.stdout
    listed = refused.stdout.split("runs:\n")[1]
    assert "cache" in listed
    for name in ("manifest.json", "trials", "mlflow.db", ".preflight"):
        assert name not in listed


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with cluster(tmp_path) as nodes:
        yield nodes


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_nodes_that_are_unlike_the_driver_are_all_named_before_anything_is_started(
    nodes: Nodes, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "transformers-4.56.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.56.1\n")
    (tmp_path / "elsewhere").mkdir()
    nodes.join("127.0.0.2", mounts=f"mount --bind {tmp_path}/elsewhere {folder}/runs")
    nodes.join("127.0.0.3", path=(tmp_path, ROOT))
    refused = nodes.sweep(folder)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    lines = [line.strip() for line in refused.stderr.splitlines() if "127.0.0." in line]
    assert [line.split(":")[0] for line in sorted(lines)] == ["127.0.0.2", "127.0.0.3"], refused.stderr
    assert f"storage {folder}/runs: a file that the driver has just written there cannot be read" in refused.stderr
    assert "127.0.0.3: transformers 4.56.1 (the driver has " in refused.stderr
    assert sorted(path.name for path in (folder / "runs" / "tiny").iterdir()) == ["baselines"]
    assert not list((folder / "runs").glob(".preflight*"))
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_a_gpu_that_torch_cannot_use_is_refused_and_the_same_nodes_train_on_their_cpus(
    nodes: Nodes, folder: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU that torch can use")
    nodes.join("127.0.0.2", "--num-gpus=1")
    refused = nodes.sweep(folder)
    assert refused.returncode == 4, refused.stdout + refused.stderr
    assert "127.0.0.2: its GPU cannot be used: torch.cuda.is_available() is False there (torch " in refused.stderr
    assert not (folder / "runs" / "tiny" / "manifest.json").exists()
    trained = nodes.sweep(folder, "--set", "resources.gpus_per_trial=0", "--set", "training.num_train_epochs=1")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    board = read_json(folder / "runs" / "tiny" / "leaderboard.json")
    assert {row["status"] for row in board["rows"]} == {"DONE"}
