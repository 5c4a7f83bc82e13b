"""Model names to local folders: Hub ids are downloaded once, here on the driver, before anything is dispatched."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable
from pathlib import Path

from trainables import freeze, model_folder, models
from trainables.arguments import ModelSpec
from trainables.errors import BadInput
from workflows.config import ModelChoice, Point
from workflows.data.packages import locate

_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*", "vocab*", "merges.txt", "*.model"]
_FORMS = "a model is a folder, a Hub id, or pkg://package/path"


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
    model_folder.check_weights(folder)
    _check_vocabulary(choice, folder)
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
    folder = local_path(choice.path, "model")
    if folder.is_dir():
        return folder.resolve()
    if choice.path.startswith((".", "/", "~")) or choice.path.count("/") > 1:
        raise BadInput(f"model: {choice.path}: no such folder{_near(folder)}; {_FORMS}")
    return _download(choice)


def local_path(path: str, setting: str) -> Path:
    """A path as a user wrote it, with `~` expanded. Raises BadInput for what can be no path here."""
    if "\0" in path:
        raise BadInput(f"{setting}: {path!r}: holds a NUL character, which no path can")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{setting}: {path}: cannot be a path here: {error}") from None


def _near(folder: Path) -> str:
    """The folder beside it that may be meant."""
    with contextlib.suppress(OSError):
        beside = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
        if close := difflib.get_close_matches(folder.name, beside, n=1):
            return f" (did you mean '{folder.parent / close[0]}'?)"
    return ""


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        why = f"is neither a local folder nor a model on the Hub ({reason})"
    raise BadInput(f"model: {choice.path}: {why}{_near(Path(choice.path))}; {_FORMS}")


def _check_vocabulary(choice: ModelChoice, folder: Path) -> None:
    """A token without an embedding would end a trial, and only where a text holds it."""
    tokens, rows = model_folder.vocabulary_size(folder), model_folder.read_config(folder).get("vocab_size")
    if tokens is not None and isinstance(rows, int) and tokens > rows:
        raise BadInput(
            f"model: {choice.path}: its tokenizer makes ids up to {tokens - 1:,}, but config.json has a vocab_size of "
            f"{rows:,}; the tokenizer is of another model, or the embeddings were not resized"
        )


def _check_fits(point: Point, model: ModelSpec) -> None:
    found = models.describe(Path(model.path))
    try:
        freeze.check(point.freeze, found.with_layers(model.num_hidden_layers))
    except BadInput as error:
        raise BadInput(f"model {model.name}: {error}") from None
    if found.max_positions is not None and point.training.max_length > found.max_positions:
        raise BadInput(
            f"max_length: {point.training.max_length}: {model.name} has positions for {found.max_positions} tokens; "
            f"set max_length to at most {found.max_positions}"
        )
