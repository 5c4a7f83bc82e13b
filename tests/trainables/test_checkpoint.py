"""A checkpoint gives its model back exactly, an export works without Fleetune, and damage is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.tiny import edit_config, tiny_model, tiny_spec
from tests.tiny_data import trial_spec
from trainables import checkpoint, freeze, models
from trainables.arguments import TrainingArguments, TrialSpec
from trainables.errors import BadInput, CorruptFile
from trainables.files import new_directory
from trainables.trial import run_trial

FAMILIES = sorted(models.FAMILIES)
NAMES = [name.replace("top-N", "top-2") for name in freeze.POLICIES]
LABELS = ("fresh", "rotten", "C#")
TEXTS = ["a great film, nice story", "bad", "the worst movie of the year and the plot is boring"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(name, root / name) for name in FAMILIES}


def trial(folder: Path, policy: str, layers: int | None = None) -> TrialSpec:
    return TrialSpec(
        trial_id="t1",
        point_id="p1",
        seed=1,
        model=tiny_spec(folder, layers),
        freeze=policy,
        training=TrainingArguments(max_length=24, lora_r=4),
        labels=LABELS,
        precision="fp32",
        data="",
        data_fingerprint="",
        cache="",
        directory="",
    )


def trained(spec: TrialSpec) -> nn.Module:
    """A model whose trainable weights are no longer what they began as."""
    model = freeze.apply(models.load_model(spec.model, spec.labels, spec.seed), spec.freeze, spec.training, spec.seed)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return model.eval()


def logits(model: nn.Module, tokenizer: object) -> torch.Tensor:
    with torch.inference_mode():
        return model(**tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")).logits  # type: ignore[operator]


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max())


def cases() -> list[tuple[str, str]]:
    shared = {name for name in FAMILIES if models.FAMILIES[name].shared_layers}
    return [(family, name) for family in FAMILIES for name in NAMES if family not in shared or name != "top-2"]


@pytest.fixture
def saved(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A `head` checkpoint of the tiny BERT that a test may damage."""
    spec = trial(folders["bert"], "head")
    checkpoint.save(trained(spec), spec, 2, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def recommit(directory: Path) -> None:
    """Write COMMIT anew, as one who changes a checkpoint on purpose would."""
    with new_directory(directory) as scratch:
        for path in directory.iterdir():
            if path.name != "COMMIT":
                shutil.copy(path, scratch / path.name)


@pytest.mark.parametrize(("family", "policy"), cases())
def test_a_checkpoint_and_its_export_give_the_same_logits(
    folders: dict[str, Path], tmp_path: Path, family: str, policy: str
) -> None:
    spec = trial(folders[family], policy, layers=None if policy == "full" else 3)
    model = trained(spec)
    checkpoint.save(model, spec, 2, tmp_path / "checkpoint")
    before = torch.get_rng_state()
    exact, tokenizer, info = checkpoint.load(tmp_path / "checkpoint", merge=False)
    assert torch.equal(torch.get_rng_state(), before)
    expected = logits(model, tokenizer)
    assert torch.equal(logits(exact, tokenizer), expected)
    assert not exact.training
    assert (info.epoch, info.freeze, info.labels, info.max_length) == (2, policy, LABELS, 24)
    merged = checkpoint.load(tmp_path / "checkpoint").model
    assert difference(logits(merged, tokenizer), expected) <= 1e-6
    assert not any("lora" in name for name, _ in merged.named_parameters())

    checkpoint.export(tmp_path / "checkpoint", tmp_path / "out")
    plain, words = checkpoint.load_exported(tmp_path / "out")
    assert words(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert difference(logits(plain, words), expected) <= 1e-5
    assert plain.config.id2label == dict(enumerate(LABELS))


@pytest.mark.parametrize("policy", ["full", "lora"])
def test_a_cut_model_comes_back_cut(folders: dict[str, Path], tmp_path: Path, policy: str) -> None:
    spec = trial(folders["modernbert"], policy, layers=2)
    model = trained(spec)
    checkpoint.save(model, spec, 1, tmp_path / "checkpoint")
    checkpoint.export(tmp_path / "checkpoint", tmp_path / "out")
    plain, tokenizer = checkpoint.load_exported(tmp_path / "out")
    assert plain.config.num_hidden_layers == 2
    assert difference(logits(plain, tokenizer), logits(model, tokenizer)) <= 1e-5


def test_a_pipeline_loads_the_export_and_names_the_labels(folders: dict[str, Path], tmp_path: Path) -> None:
    from transformers import pipeline

    spec = trial(folders["bert"], "lora")
    model = trained(spec)
    checkpoint.save(model, spec, 1, tmp_path / "checkpoint")
    checkpoint.export(tmp_path / "checkpoint", tmp_path / "new" / "out")
    shutil.rmtree(tmp_path / "checkpoint")
    with models.quiet():
        classify = pipeline("text-classification", str(tmp_path / "new" / "out"), device="cpu")
    found = classify(TEXTS, top_k=None, truncation=True)
    expected = logits(model, checkpoint.load_exported(tmp_path / "new" / "out")[1]).softmax(dim=1)
    for row, scores in zip(expected, found, strict=True):
        got = {item["label"]: item["score"] for item in scores}
        assert got == pytest.approx(dict(zip(LABELS, row.tolist(), strict=True)), abs=1e-5)
    # 100 words: cut to the trained max_length, as in training
    assert classify.tokenizer.model_max_length == 24
    assert len(classify.tokenizer("bad " * 100, truncation=True)["input_ids"]) == 24
    assert classify("bad " * 1000, truncation=True)


def test_an_export_holds_no_path_of_this_machine_and_no_pickle(folders: dict[str, Path], tmp_path: Path) -> None:
    for policy in ("full", "lora"):
        spec = trial(folders["bert"], policy)
        checkpoint.save(trained(spec), spec, 1, tmp_path / "checkpoint")
        checkpoint.export(tmp_path / "checkpoint", tmp_path / policy)
        names = {path.name for path in (tmp_path / policy).iterdir()}
        assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        for path in (tmp_path / policy).glob("*.json"):
            assert str(tmp_path.parent) not in path.read_text(), path.name


def test_an_export_into_a_folder_that_is_not_empty_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    checkpoint.export(saved, tmp_path / "out")
    with pytest.raises(BadInput, match="out: is not an empty folder"):
        checkpoint.export(saved, tmp_path / "out")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_full_checkpoint_needs_no_base_and_smaller_ones_name_it(folders: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(folders["bert"], tmp_path / "base"))
    for policy in ("full", "head"):
        spec = trial(base, policy)
        checkpoint.save(trained(spec), spec, 1, tmp_path / policy)
    moved = base.rename(tmp_path / "moved")
    assert checkpoint.load(tmp_path / "full")
    with pytest.raises(BadInput, match=rf"needs its base model tiny, which is no longer at {base}"):
        checkpoint.load(tmp_path / "head")
    assert checkpoint.load(tmp_path / "head", base=moved)


def test_a_base_that_changed_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(folders["bert"], tmp_path / "base"))
    spec = trial(base, "lora")
    checkpoint.save(trained(spec), spec, 1, tmp_path / "checkpoint")
    edit_config(base, layer_norm_eps=1e-5)
    with pytest.raises(BadInput, match="has changed since training"):
        checkpoint.load(tmp_path / "checkpoint")


def test_checkpoints_of_head_and_lora_are_far_smaller_than_full(tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base", num_hidden_layers=12, hidden=64)
    size = {}
    for policy in ("full", "head", "lora"):
        spec = trial(base, policy)
        checkpoint.save(trained(spec), spec, 1, tmp_path / policy)
        size[policy] = (tmp_path / policy / checkpoint.WEIGHTS).stat().st_size
    assert size["head"] < size["full"] / 50
    assert size["lora"] < size["full"] / 10


@pytest.mark.parametrize("policy", NAMES)
def test_restore_brings_back_the_saved_weights_in_place(folders: dict[str, Path], tmp_path: Path, policy: str) -> None:
    spec = trial(folders["bert"], policy)
    model = trained(spec)
    checkpoint.save(model, spec, 1, tmp_path / "checkpoint")
    best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    held = dict(model.named_parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(2)
    checkpoint.restore(model, tmp_path / "checkpoint")
    assert all(torch.equal(tensor, best[name]) for name, tensor in model.state_dict().items())
    assert all(parameter is held[name] for name, parameter in model.named_parameters())


def test_saving_again_replaces_the_earlier_checkpoint(folders: dict[str, Path], tmp_path: Path) -> None:
    spec = trial(folders["bert"], "head")
    for epoch in (1, 2):
        checkpoint.save(trained(spec), spec, epoch, tmp_path / "checkpoint")
    assert checkpoint.read_info(tmp_path / "checkpoint").epoch == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_checkpoint_that_was_never_finished_is_refused(saved: Path) -> None:
    (saved / "COMMIT").unlink()
    with pytest.raises(CorruptFile, match="never finished"):
        checkpoint.load(saved)
    with pytest.raises(BadInput, match="no such checkpoint folder"):
        checkpoint.load(saved / "nowhere")


@pytest.mark.parametrize("name", ["trainable.safetensors", "config.json", "tokenizer.json", "checkpoint.json"])
def test_a_changed_byte_is_found_in_every_file(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(CorruptFile, match=name):
        checkpoint.load(saved)


def test_a_symbolic_link_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "tokenizer.json").rename(tmp_path / "outside.json")
    (saved / "tokenizer.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(CorruptFile, match=r"tokenizer\.json is a symbolic link"):
        checkpoint.load(saved)


def test_a_file_that_nobody_wrote_is_refused(saved: Path) -> None:
    (saved / "added_tokens.json").write_text("{}")
    with pytest.raises(CorruptFile, match=r"added_tokens\.json is not what COMMIT lists"):
        checkpoint.load(saved)


@pytest.mark.parametrize("listed", [{"../base": {}}, {"/etc/hostname": {}}, [], {"config.json": 1}, None])
def test_a_commit_that_lists_something_else_is_refused(saved: Path, listed: object) -> None:
    from trainables.files import write_json

    write_json(saved / "COMMIT", {"files": listed})
    with pytest.raises(CorruptFile, match="COMMIT"):
        checkpoint.load(saved)


def lying_header(path: Path, change: str) -> None:
    """Rewrite a safetensors header so that it no longer tells the truth about the data behind it."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    if change == "length":
        path.write_bytes((2**40).to_bytes(8, "little") + content[8:])
        return
    if change == "offsets":
        header[name]["data_offsets"][1] += 10**9
    if change == "shape":
        header[name]["shape"] = [10**6, 10**6]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize("change", ["length", "offsets", "shape"])
def test_a_lying_safetensors_header_is_refused_naming_the_file(saved: Path, change: str) -> None:
    lying_header(saved / checkpoint.WEIGHTS, change)
    recommit(saved)
    with pytest.raises(CorruptFile, match=r"trainable\.safetensors is not a sound safetensors file"):
        checkpoint.load(saved)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "dtype"])
def test_weights_that_do_not_fit_are_refused_naming_the_tensor(saved: Path, change: str) -> None:
    tensors = load_file(saved / checkpoint.WEIGHTS)
    if change == "missing":
        del tensors["classifier.bias"]
    if change == "unexpected":
        tensors["bert.encoder.layer.0.output.dense.bias"] = torch.zeros(32)
    if change == "shape":
        tensors["classifier.bias"] = torch.zeros(4)
    if change == "dtype":
        tensors["classifier.bias"] = tensors["classifier.bias"].half()
    save_file(tensors, saved / checkpoint.WEIGHTS)
    recommit(saved)
    name = r"bert\.encoder\.layer\.0\.output" if change == "unexpected" else r"classifier\.bias"
    with pytest.raises(CorruptFile, match=rf"trainable\.safetensors does not fit the model: {name}"):
        checkpoint.load(saved)


def test_a_checkpoint_json_of_another_kind_is_refused(saved: Path) -> None:
    from trainables.files import write_json

    write_json(saved / "checkpoint.json", {"trial_id": "t1"})
    recommit(saved)
    with pytest.raises(CorruptFile, match=r"checkpoint\.json does not describe a checkpoint"):
        checkpoint.load(saved)


def test_a_plain_encoder_is_not_taken_for_a_classifier(folders: dict[str, Path]) -> None:
    with pytest.raises(BadInput, match="not a trained classifier: its weights lack classifier"):
        checkpoint.load_exported(folders["bert"])


def test_an_exported_tokenizer_without_a_limit_gets_the_models(saved: Path, tmp_path: Path) -> None:
    checkpoint.export(saved, tmp_path / "out")
    path = tmp_path / "out" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 10**30}))
    assert checkpoint.load_exported(tmp_path / "out")[1].model_max_length == 512


def test_a_trial_whose_checkpoint_cannot_be_written_fails_with_the_reason(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    result = run_trial(trial_spec(folders["bert"], tmp_path))
    assert (result.status, result.reason) == ("FAILED", "infra")
    assert "No space left on device" in (result.message or "")
