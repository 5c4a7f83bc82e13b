"""Checkpoints, exports and models that are not what they say: numbers 73 to 77 of the list, on load.

What was written by a sweep and is another by now ends with exit 4, what somebody brought with exit 2; neither runs
anything that lies in the folder.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.evaluate import evaluate as evaluate_command
from tests.bad_input.rows import Row, before_ray, ended, made
from tests.tiny import edit_config, tiny_model
from tests.tiny_data import reviews_csv, trial_spec
from trainables import checkpoint, freeze, models
from trainables.directory import TrialDirectory
from trainables.files import new_directory, read_json, write_json
from trainables.trial import run_trial
from workflows.predict import load_classifier, predict

LABELS = ("negative", "positive")


class Malicious:
    """What runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as `bert`, checkpoints of it as `head` and `full`, and the export of one as `export`."""
    folder = tmp_path_factory.mktemp("artifacts")
    tiny_model("bert", folder / "bert")
    for policy in ("head", "full"):
        spec = trial_spec(folder / "bert", folder, freeze=policy)
        model = models.load_model(spec.model, LABELS, spec.seed)
        checkpoint.save(freeze.apply(model, policy, spec.training, spec.seed), spec, 1, folder / policy)
    checkpoint.export(folder / "full", folder / "export")
    reviews_csv(folder / "reviews.csv")
    return folder


@pytest.fixture
def folder(made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with copies that a test may change."""
    for name in ("bert", "head", "full", "export"):
        shutil.copytree(made_once / name, tmp_path / name)
    (tmp_path / "reviews.csv").write_bytes((made_once / "reviews.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recommit(directory: Path) -> None:
    """Write COMMIT anew, as one who changes a checkpoint on purpose would."""
    with new_directory(directory) as scratch:
        for path in directory.iterdir():
            if path.name != "COMMIT":
                shutil.copy(path, scratch / path.name)


def other_weights(directory: Path, file: str, classes: int = 5) -> None:
    """The weights of a classifier for more classes."""
    tensors = load_file(directory / file)
    tensors |= {"classifier.weight": torch.zeros(classes, 32), "classifier.bias": torch.zeros(classes)}
    save_file(tensors, directory / file, metadata={"format": "pt"})


def another_number_of_labels(folder: Path) -> None:
    other_weights(folder / "head", checkpoint.WEIGHTS)
    recommit(folder / "head")


def an_export_of_another_number_of_labels(folder: Path) -> None:
    other_weights(folder / "export", "model.safetensors")


def another_order_of_labels(folder: Path) -> None:
    edit_config(folder / "full", id2label={"0": LABELS[1], "1": LABELS[0]})
    recommit(folder / "full")


def pickled_weights(folder: Path) -> None:
    (folder / "export" / "model.safetensors").unlink()
    pickle_into(folder / "export")


def pickle_into(directory: Path) -> None:
    command = f"touch {directory.parent / 'pwned'}"
    (directory / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(command)))


def a_pickle_in_a_checkpoint(folder: Path) -> None:
    pickle_into(folder / "head")


def a_link_to_elsewhere(folder: Path) -> None:
    (folder / "head" / "tokenizer.json").unlink()
    (folder / "head" / "tokenizer.json").symlink_to("/etc/hostname")


def a_commit_of_what_lies_elsewhere(folder: Path) -> None:
    files = read_json(folder / "head" / "COMMIT")["files"]
    write_json(folder / "head" / "COMMIT", {"files": files | {"../bert/config.json": files["config.json"]}})


def shards_elsewhere(folder: Path) -> None:
    (folder / "export" / "model.safetensors").rename(folder / "elsewhere.safetensors")
    index = {"metadata": {}, "weight_map": {"classifier.bias": "../elsewhere.safetensors"}}
    (folder / "export" / "model.safetensors.index.json").write_text(json.dumps(index))


def lie(path: Path) -> None:
    """A header that tells of more bytes than the file has."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [10**6, 10**6]
    header[name]["data_offsets"][1] += 4 * 10**12
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def a_lying_header(folder: Path) -> None:
    lie(folder / "head" / checkpoint.WEIGHTS)
    recommit(folder / "head")


def a_lying_header_in_an_export(folder: Path) -> None:
    lie(folder / "export" / "model.safetensors")


@dataclass(frozen=True)
class Artifact:
    """A folder, what was done to it, and how loading it ends."""

    number: str
    name: str
    change: Callable[[Path], None]
    code: int
    says: tuple[str, ...]


ARTIFACTS = [
    Artifact(
        "73", "head", another_number_of_labels, 4, ("head/trainable.safetensors does not fit the model: cl", "(5")
    ),
    Artifact("73", "export", an_export_of_another_number_of_labels, 2, ("export: its weights cannot be loaded: ",)),
    Artifact("74", "full", another_order_of_labels, 4, ("full/config.json: its id2label (", "(negative, positive, in")),
    Artifact(
        "75", "export", pickled_weights, 2, ("export: has pickled weights only (pytorch_model.bin), which can run",)
    ),
    Artifact("75", "head", a_pickle_in_a_checkpoint, 4, ("pytorch_model.bin is not what COMMIT lists",)),
    Artifact(
        "76", "head", a_link_to_elsewhere, 4, ("head/tokenizer.json is a symbolic link; a checkpoint holds plain",)
    ),
    Artifact("76", "head", a_commit_of_what_lies_elsewhere, 4, ("head: ../bert/config.json is not what COMMIT lists",)),
    Artifact("76", "export", shards_elsewhere, 2, ("names weights that are not files in its folder: ['../elsewhere",)),
    Artifact("77", "head", a_lying_header, 4, ("head/trainable.safetensors is not a sound safetensors file: ",)),
    Artifact("77", "export", a_lying_header_in_an_export, 2, ("export: its weights cannot be loaded: ",)),
]


@pytest.mark.parametrize("case", ARTIFACTS, ids=[f"{case.number}: {case.change.__name__}" for case in ARTIFACTS])
def test_a_folder_that_is_not_what_it_says_is_refused_and_runs_nothing(
    case: Artifact, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case.change(folder)
    code, told = ended(lambda: load_classifier(str(folder / case.name)), capsys)
    assert code == case.code, told
    for part in case.says:
        assert part in told
    assert "Traceback" not in told
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_every_command_that_takes_a_classifier_refuses_it_alike(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.export import export

    pickled_weights(folder)
    actions: dict[str, Callable[[], object]] = {
        "evaluate": lambda: evaluate_command(str(folder / "export"), folder / "reviews.csv"),
        "export": lambda: export(str(folder / "export"), folder / "new"),
    }
    code, told = ended(actions[command], capsys)
    assert code == 2
    assert "has pickled weights only (pytorch_model.bin)" in told
    assert not (folder / "new").exists()
    assert not (folder / "pwned").exists()


def test_labels_of_an_export_follow_their_ids_wherever_they_stand(folder: Path) -> None:
    texts = ["a great film", "the worst of all"]
    before = predict(load_classifier(str(folder / "export")), texts)
    edit_config(folder / "export", id2label={"1": LABELS[1], "0": LABELS[0]})
    assert predict(load_classifier(str(folder / "export")), texts) == before


def test_a_pickle_beside_sound_weights_is_left_alone(folder: Path) -> None:
    pickle_into(folder / "export")
    assert load_classifier(str(folder / "export")).labels == LABELS
    pickle_into(folder / "bert")
    made(Row("75", "a sound sweep"), folder)
    before_ray(Row("75", "a sound sweep"))
    assert not (folder / "pwned").exists()


def test_a_base_model_with_a_lying_header_is_refused_before_anything_starts(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lie(folder / "bert" / "model.safetensors")
    made(Row("77", "a sound sweep"), folder)
    code, told = ended(lambda: before_ray(Row("77", "a lying header")), capsys)
    assert code == 2
    assert "bert/model.safetensors: is no whole safetensors file (" in told
    assert [path.name for path in folder.glob("runs/*")] == []


def test_a_state_of_another_number_of_labels_is_never_trained_on(folder: Path) -> None:
    def end(values: dict[str, Any]) -> None:
        if "metrics" in values:
            raise SystemExit

    spec = trial_spec(folder / "bert", folder, freeze="head")
    with pytest.raises(SystemExit):
        run_trial(spec, end)
    state = TrialDirectory(Path(spec.directory)).state_at(1)
    tensors = load_file(state / "tensors.safetensors")
    tensors |= {"weight/classifier.weight": torch.zeros(5, 32), "weight/classifier.bias": torch.zeros(5)}
    save_file(tensors, state / "tensors.safetensors")
    recommit(state)
    result = run_trial(spec)
    assert (result.status, result.reason) == ("FAILED", "infra")
    assert "does not fit the model: classifier" in (result.message or "")
