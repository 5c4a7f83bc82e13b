"""Model names to local folders: Hub ids are downloaded once, here on the driver, before anything is dispatched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trainables import freeze, models
from trainables.arguments import ModelSpec
from trainables.errors import BadInput
from workflows.config import ModelChoice, Point
from workflows.data.packages import locate

_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt", "*.model"]


def resolve_models(points: Iterable[Point]) -> dict[ModelChoice, ModelSpec]:
    """Find every model that the points name and check that each point can work with its model.

    Raises BadInput for a model that is not there or not supported, a policy that does not fit its layers, or a
    max_length beyond its positions.
    """
    resolved: dict[ModelChoice, ModelSpec] = {}
    for point in points:
        if point.model not in resolved:
            resolved[point.model] = _resolve(point.model)
        _check_fits(point, resolved[point.model])
    return resolved


def _resolve(choice: ModelChoice) -> ModelSpec:
    folder = _folder(choice)
    found = models.describe(folder)
    layers = choice.num_hidden_layers or found.num_hidden_layers
    if layers > found.num_hidden_layers:
        raise BadInput(
            f"model {choice.name}: num_hidden_layers: {layers}, but {choice.path} has {found.num_hidden_layers} layers"
        )
    weights, tokenizer = models.model_hash(folder)
    return ModelSpec(
        name=choice.name,
        path=str(folder),
        sha256=weights,
        tokenizer_sha256=tokenizer,
        model_type=found.model_type,
        num_hidden_layers=layers,
        hidden_size=found.hidden_size,
    )


def _folder(choice: ModelChoice) -> Path:
    if choice.path.startswith("pkg://"):
        return locate(choice.path)
    folder = Path(choice.path).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if choice.path.startswith((".", "/", "~")) or choice.path.count("/") > 1:
        raise BadInput(f"model: {choice.path}: no such folder; a model is a folder, a Hub id, or pkg://package/path")
    return _download(choice)


def _download(choice: ModelChoice) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(choice.path, revision=choice.revision, allow_patterns=_FILES)).resolve()
    except GatedRepoError:
        raise BadInput(f"model: {choice.path}: is gated; accept its terms on the Hub and set HF_TOKEN") from None
    except LocalEntryNotFoundError:
        why = "is no local folder, and not in the Hub cache while the Hub cannot be reached or HF_HUB_OFFLINE is set"
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        why = f"is neither a local folder nor a model on the Hub ({str(error).splitlines()[0]})"
    raise BadInput(f"model: {choice.path}: {why}; a model is a folder, a Hub id, or pkg://package/path")


def _check_fits(point: Point, model: ModelSpec) -> None:
    found = models.describe(Path(model.path))
    freeze.check(point.freeze, found.with_layers(model.num_hidden_layers))
    if found.max_positions is not None and point.training.max_length > found.max_positions:
        raise BadInput(
            f"max_length: {point.training.max_length}: {model.name} has positions for {found.max_positions} tokens"
        )
