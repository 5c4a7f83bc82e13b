"""Checkpoints of a trial: the trained weights, and from what they can be made a whole model again.

<checkpoint>/trainable.safetensors   parameters that trained, by their name in the (peft) model
             config.json             of the classification model, with label names
             tokenizer files         copied from the base
             checkpoint.json         base, freeze policy, training arguments, labels, epoch
             COMMIT                  sizes and hashes of all of these

Under `full` this is complete; under the other policies the frozen weights come from the base, whose hash is kept.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from trainables import freeze, model_folder, models
from trainables.arguments import ModelSpec, Precision, TrainingArguments, TrialSpec
from trainables.directory import WEIGHTS
from trainables.errors import BadInput, CorruptFile
from trainables.files import COMMIT, is_committed, new_directory, read_json, verify
from trainables.records import Record

INFO = "checkpoint.json"
# What transformers leaves out of config.json.
_DEFAULT_NAMES = {"0": "LABEL_0", "1": "LABEL_1"}


class CheckpointInfo(Record):
    """How a checkpoint came about: all that is needed to build its model again."""

    trial_id: str
    model: ModelSpec
    freeze: str
    training: TrainingArguments
    labels: tuple[str, ...]
    precision: Precision
    epoch: int

    @property
    def max_length(self) -> int:
        return self.training.max_length


class Checkpoint(NamedTuple):
    """A loaded checkpoint: model in eval mode, tokenizer that cuts at the trained max_length, and its origin."""

    model: Any
    tokenizer: Any
    info: CheckpointInfo


def save(model: nn.Module, spec: TrialSpec, epoch: int, directory: Path) -> None:
    """Write the trained weights of `model` as a COMMIT-ed directory, replacing an earlier one."""
    write(trained_weights(model), models.unwrapped(model).config, spec, epoch, directory)


def trained_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what trains, by name, on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in _trained(model).items()
    }


def write(weights: Mapping[str, torch.Tensor], config: Any, spec: TrialSpec, epoch: int, directory: Path) -> None:
    """`save`, from a copy of the trained weights and the model's config: training may go on meanwhile."""
    info = CheckpointInfo(
        trial_id=spec.trial_id,
        model=spec.model,
        freeze=spec.freeze,
        training=spec.training,
        labels=spec.labels,
        precision=spec.precision,
        epoch=epoch,
    )
    with new_directory(directory) as scratch:
        save_file(dict(weights), scratch / WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(scratch)
        for path in model_folder.tokenizer_files(Path(spec.model.path)):
            shutil.copyfile(path, scratch / path.name)
        info.write(scratch / INFO)


def restore(model: nn.Module, directory: Path) -> None:
    """Put a checkpoint's weights back into a model of the same structure and policy, in place.

    Raises CorruptFile where the checkpoint is not what was written, or is of another structure.
    """
    _verify(directory)
    _overlay(model, directory / WEIGHTS)


def load(directory: Path, merge: bool = True, base: Path | None = None) -> Checkpoint:
    """Build a checkpoint's model again, exactly; LoRA is merged into the weights unless `merge` is false.

    `base` names the base model's folder where it is no longer where the checkpoint says. Raises CorruptFile naming
    the file that is not what was written, BadInput where the base is gone or is another one.
    """
    info = read_info(directory)
    model: Any = freeze.apply(_untrained(directory, info, base), info.freeze, info.training, seed=0)
    _refuse_other_labels(directory, info)
    _overlay(model, directory / WEIGHTS)
    if merge and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    tokenizer = _tokenizer(directory)
    tokenizer.model_max_length = info.max_length
    return Checkpoint(model.eval(), tokenizer, info)


def read_info(directory: Path) -> CheckpointInfo:
    """Verify a checkpoint and read how it came about. Raises BadInput or CorruptFile."""
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such checkpoint folder")
    _verify(directory)
    try:
        return CheckpointInfo.read(directory / INFO)
    except (FileNotFoundError, ValidationError) as error:
        raise CorruptFile(f"{directory / INFO} does not describe a checkpoint: {_one_line(error)}") from None


def export(directory: Path, destination: Path, base: Path | None = None) -> None:
    """Write a checkpoint, or a model that was exported before, as a whole folder that transformers loads by itself.

    LoRA is merged, label names are in config.json, and the tokenizer's model_max_length is the trained max_length.
    Raises BadInput where `destination` is not empty, and what `load` raises.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BadInput(f"{destination}: is not an empty folder; export to a new one")
    is_checkpoint = (directory / INFO).exists() or is_committed(directory)
    model, tokenizer = load(directory, base=base)[:2] if is_checkpoint else load_exported(directory)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
        whole = Path(scratch) / "model"
        with models.quiet():
            model.save_pretrained(whole)
            tokenizer.save_pretrained(whole)
        whole.replace(destination)


def load_exported(directory: Path) -> tuple[Any, Any]:
    """Load the model (eval mode) and tokenizer of a plain Hugging Face classification folder.

    Raises BadInput as `models.describe` does, and where the weights hold no trained classifier.
    """
    from transformers import AutoModelForSequenceClassification

    about = models.describe(directory)
    with models.quiet(), models.seeded(0, "load"):
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                directory, output_loading_info=True, **models.loading_arguments(models.FAMILIES[about.model_type])
            )
        except (SafetensorError, RuntimeError) as error:
            raise BadInput(f"{directory}: its weights cannot be loaded: {_one_line(error)}") from None
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise BadInput(f"{directory}: is not a trained classifier: its weights lack {missing}")
    tokenizer = _tokenizer(directory)
    # many folders on the Hub say 1e30 here, which would let a text run past the position embeddings
    tokenizer.model_max_length = min(tokenizer.model_max_length, about.max_positions or 512)
    return model.eval(), tokenizer


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _untrained(directory: Path, info: CheckpointInfo, base: Path | None) -> Any:
    """The model before training; where everything trained, one of the right structure will do."""
    if info.freeze == "full":
        return _from_config(directory)
    folder = base or Path(info.model.path)
    model = info.model.model_copy(update={"path": str(folder)})
    if not folder.is_dir():
        raise BadInput(
            f"{directory}: needs its base model {info.model.name}, which is no longer at {folder}; "
            f"put it back (sha256 {info.model.sha256[:12]}…) or name its folder"
        )
    if model_folder.model_hash(folder)[0] != info.model.sha256:
        raise BadInput(
            f"{directory}: its base model at {folder} has changed since training: "
            f"its sha256 is no longer {info.model.sha256[:12]}…"
        )
    return models.load_model(model, info.labels, seed=0)


def _from_config(directory: Path) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    with models.quiet(), models.seeded(0, "load"):
        return AutoModelForSequenceClassification.from_config(
            config,
            attn_implementation=models.attention_implementation(
                models.find_family(config.model_type, directory / "config.json")
            ),
            dtype=torch.float32,
            trust_remote_code=False,
        )


def _refuse_other_labels(directory: Path, info: CheckpointInfo) -> None:
    """Both files name the columns of the logits, and an export takes its names from config.json."""
    named = model_folder.read_config(directory).get("id2label", _DEFAULT_NAMES)
    if named != {str(index): label for index, label in enumerate(info.labels)}:
        raise CorruptFile(
            f"{directory / 'config.json'}: its id2label ({named}) is not what {INFO} says "
            f"({', '.join(info.labels)}, in this order)"
        )


def _tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    model_folder.tokenizer_files(directory)
    with models.quiet():
        return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def _overlay(model: nn.Module, path: Path) -> None:
    """Copy a file's tensors over the trainable parameters: the same names, shapes and types, none more or less."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CorruptFile(f"{path} is not a sound safetensors file: {_one_line(error)}") from None
    put(tensors, model, path)


def put(tensors: Mapping[str, torch.Tensor], model: nn.Module, source: Path) -> None:
    """Copy tensors over what trains in a model: the same names, shapes and types. Raises CorruptFile."""
    trained = _trained(model)
    if tensors.keys() != trained.keys():
        wrong = sorted(tensors.keys() ^ trained.keys())
        raise CorruptFile(
            f"{source} does not fit the model: {', '.join(wrong[:3])} ({len(wrong)} in all) lacking or extra"
        )
    _refuse_other_shapes(source, tensors, trained)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])


def _refuse_other_shapes(path: Path, tensors: Mapping[str, torch.Tensor], trained: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        expected = trained[name]
        if tensor.shape != expected.shape or tensor.dtype != expected.dtype:
            raise CorruptFile(
                f"{path} does not fit the model: {name} is {tuple(tensor.shape)} {tensor.dtype}, "
                f"not {tuple(expected.shape)} {expected.dtype}"
            )


def _verify(directory: Path) -> None:
    """Every file is listed in COMMIT with its hash, and is a plain file; a link could bring in anything."""
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise CorruptFile(f"{path} is a symbolic link; a checkpoint holds plain files only")
    try:
        if is_committed(directory):
            _refuse_unlisted(directory)
        verify(directory)
    except (KeyError, AttributeError, TypeError, ValueError):
        raise CorruptFile(f"{directory / COMMIT} does not list files with their size and sha256") from None


def _refuse_unlisted(directory: Path) -> None:
    listed = set(read_json(directory / COMMIT)["files"])
    present = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()} - {COMMIT}
    if listed != present:
        raise CorruptFile(f"{directory}: {', '.join(sorted(listed ^ present)[:3])} is not what {COMMIT} lists")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
