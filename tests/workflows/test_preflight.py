"""What a node says about itself, from real folders, mounts and packages, and what the driver makes of it."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.mounts import with_mounts
from tests.tiny import tiny_model
from trainables.files import new_directory
from workflows import node_check, preflight
from workflows.footprint import Footprint
from workflows.node_check import DRIVERS, Asked, Device, Seen

ROOT = Path(__file__).parents[2]
LOOK = """
import pickle, sys
from workflows import node_check
asked = pickle.loads(sys.stdin.buffer.read())
sys.stdout.buffer.write(pickle.dumps(node_check.look(asked) if asked else node_check.versions()))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[Path, int]]:
    return {"tiny": preflight._files(tiny_model("bert", tmp_path_factory.mktemp("model")))}


@pytest.fixture
def asked(tmp_path: Path, models: dict[str, dict[Path, int]]) -> Asked:
    """What the driver asks, with a storage, models and data that are all there."""
    storage = tmp_path / "storage"
    probe = storage / ".preflight.abc"
    probe.mkdir(parents=True)
    (probe / DRIVERS).write_text("token")
    with new_directory(storage / "cache" / "data" / "fingerprint") as scratch:
        (scratch / "train.parquet").write_text("rows")
    return Asked(probe, "token", models["tiny"], storage / "cache" / "data" / "fingerprint")


def ask(
    asked: Asked | None, *, mounts: str | None = None, path: Sequence[Path] = (ROOT,), options: Sequence[str] = ()
) -> Seen | dict[str, str | None]:
    """What another process sees: with other mounts, another PYTHONPATH, or other options of the interpreter."""
    command = [sys.executable, "-P", *options, "-c", LOOK]
    ended = subprocess.run(
        command if mounts is None else with_mounts(mounts, command),
        input=pickle.dumps(asked),
        env={"PYTHONPATH": os.pathsep.join(map(str, path)), "PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    return pickle.loads(ended.stdout)  # noqa: S301 - it is what this test has just written


def problems(asked: Asked, seen: object, models: Mapping[str, Mapping[Path, int]]) -> list[str]:
    assert isinstance(seen, Seen)
    return preflight.compare("10.0.0.7", models, asked, seen)


def test_a_node_like_the_driver_has_no_problem_and_leaves_its_answer(
    asked: Asked, models: dict[str, dict[Path, int]]
) -> None:
    seen = ask(asked)
    assert problems(asked, seen, models) == []
    assert isinstance(seen, Seen)
    assert (asked.probe / seen.answer).read_text() == "token"


def test_another_folder_at_the_path_of_the_storage_is_named_and_gets_nothing_written(
    asked: Asked, models: dict[str, dict[Path, int]], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    seen = ask(asked, mounts=f"mount --bind {tmp_path}/other {asked.probe.parent}")
    (problem,) = problems(asked, seen, models)
    assert problem.startswith(f"10.0.0.7: storage {asked.probe.parent}: ")
    assert "cannot be read on this node (No such file or directory)" in problem
    assert list((tmp_path / "other").iterdir()) == []


def test_a_storage_that_is_mounted_read_only_is_named(asked: Asked, models: dict[str, dict[Path, int]]) -> None:
    storage = asked.probe.parent
    seen = ask(asked, mounts=f"mount --bind {storage} {storage}\nmount -o remount,bind,ro {storage}")
    assert problems(asked, seen, models) == [
        f"10.0.0.7: storage {storage}: cannot be written to on this node (Read-only file system)"
    ]


def test_what_a_node_writes_into_its_own_layer_over_the_storage_is_not_seen_by_the_driver(
    asked: Asked, models: dict[str, dict[Path, int]], tmp_path: Path
) -> None:
    storage = asked.probe.parent
    layers = f"lowerdir={storage},upperdir={tmp_path}/layers/upper,workdir={tmp_path}/layers/work"
    mounts = f"mount -t tmpfs none {tmp_path}/layers\nmkdir {tmp_path}/layers/upper {tmp_path}/layers/work\n"
    (tmp_path / "layers").mkdir()
    seen = ask(asked, mounts=f"{mounts}mount -t overlay none -o {layers} {storage}")
    assert problems(asked, seen, models) == []
    assert isinstance(seen, Seen)
    node, sound = preflight.Node("10.0.0.7", 1, 0, "a"), preflight.Node("10.0.0.8", 1, 0, "b")
    (asked.probe / "sound").write_text("token")
    assert preflight._unseen(asked, {node: seen.answer, sound: "sound"}) == [node]


def test_a_file_that_appears_late_is_waited_for(asked: Asked, models: dict[str, dict[Path, int]]) -> None:
    (asked.probe / DRIVERS).unlink()
    late = threading.Timer(0.6, (asked.probe / DRIVERS).write_text, ["token"])
    late.start()
    assert problems(asked, node_check.look(asked), models) == []


def test_a_model_that_is_missing_or_of_another_size_is_named_with_both(
    asked: Asked, models: dict[str, dict[Path, int]], tmp_path: Path
) -> None:
    weights = next(path for path in models["tiny"] if path.suffix == ".safetensors")
    (tmp_path / "empty").mkdir()
    (missing,) = problems(asked, ask(asked, mounts=f"mount --bind {tmp_path}/empty {weights.parent}"), models)
    assert missing.startswith(f"10.0.0.7: model tiny: {weights.parent / 'config.json'} has ")
    assert "cannot be read on this node (No such file or directory)" in missing
    half = tmp_path / "half"
    half.write_bytes(weights.read_bytes()[:1000])
    (cut,) = problems(asked, ask(asked, mounts=f"mount --bind {half} {weights}"), models)
    assert f"{weights} has {weights.stat().st_size:,} bytes on the driver and has 1,000 bytes on this node" in cut


def test_data_that_are_not_complete_on_a_node_are_named(asked: Asked, models: dict[str, dict[Path, int]]) -> None:
    (asked.data / "COMMIT").unlink()
    (problem,) = problems(asked, node_check.look(asked), models)
    assert problem == f"10.0.0.7: data: {asked.data} is not there, or not complete, on this node"


def test_another_version_of_a_package_is_named_with_both(
    asked: Asked, models: dict[str, dict[Path, int]], tmp_path: Path
) -> None:
    other = tmp_path / "transformers-4.56.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.56.1\n")
    (problem,) = problems(asked, ask(asked, path=(tmp_path, ROOT)), models)
    here = importlib.metadata.version("transformers")
    assert problem.startswith(f"10.0.0.7: transformers 4.56.1 (the driver has {here}); install the same versions")


def test_packages_that_a_node_lacks_are_all_named_in_one_line(asked: Asked, models: dict[str, dict[Path, int]]) -> None:
    # An interpreter without its site-packages has nothing but the checkout.
    (problem,) = problems(asked, ask(asked, options=["-S"]), models)
    for name in ("torch", "transformers", "tokenizers", "peft", "ray", "numpy", "safetensors"):
        assert f"{name} is not installed (the driver has " in problem
    assert "python" not in problem


def test_a_checkout_with_other_code_is_another_version(tmp_path: Path) -> None:
    for name in ("trainables", "workflows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    here = node_check.versions()
    assert ask(None, path=(tmp_path,)) == here
    with (tmp_path / "trainables" / "training.py").open("a") as stream:
        stream.write("\n")
    there = ask(None, path=(tmp_path,))
    assert isinstance(there, dict)
    assert {name for name in here if here[name] != there[name]} == {"fleetune's code"}


def test_builds_of_one_version_for_other_devices_are_equal(tmp_path: Path) -> None:
    public = importlib.metadata.version("torch").split("+")[0]
    build = tmp_path / f"torch-{public}+cu999.dist-info"
    build.mkdir()
    (build / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {public}+cu999\n")
    assert ask(None, path=(tmp_path, ROOT)) == node_check.versions()


def test_a_gpu_that_torch_cannot_use_is_named_with_driver_and_torch() -> None:
    import torch

    found = node_check.device()
    assert found.available == torch.cuda.is_available()
    if found.available:
        assert preflight.compare_device("10.0.0.7", found) == []
    (problem,) = preflight.compare_device("10.0.0.7", Device(False, "2.13.0+cpu", None, "no NVIDIA driver"))
    assert problem.startswith("10.0.0.7: its GPU cannot be used")
    assert "torch 2.13.0+cpu, built without CUDA; no NVIDIA driver" in problem


def test_a_full_storage_is_named_with_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    needed = Footprint(checkpoints=3_000_000, states=2_000_000, published=500_000, held=1_000_000)
    assert preflight.disk(tmp_path, needed, 4_000_000) == []
    (problem,) = preflight.disk(tmp_path, needed, 3_999_999)
    assert f"storage {tmp_path}: about 4 MB more are needed, and 4 MB are free" in problem
    assert "checkpoints 3 MB, states of the trials that run at once 2 MB" in problem


def test_the_probe_folder_is_gone_however_the_questions_end(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), preflight._probe(tmp_path) as (probe, token):
        assert (probe / DRIVERS).read_text() == token
        (probe / "answer").write_text(token)
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
