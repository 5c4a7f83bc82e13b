"""A trained classifier, found by the directory of a sweep, checkpoint or baseline or a registered name, put to use.

An encoder and a baseline are used alike: both are a Classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import BadInput, CorruptFile
from trainables.files import is_committed, read_json
from trainables.records import Evaluation, Result
from workflows import confidence
from workflows.baselines import Baseline, load_baseline
from workflows.config import DataConfig
from workflows.resolve import local_path

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64


class Classifier(Protocol):
    """What labels texts. `labels[i]` names column i of its logits; `bytes` is its size as it would be shipped.

    Its calibrated probabilities are the softmax of logits / `temperature`.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def device(self) -> str: ...
    @property
    def parameters(self) -> int | None: ...
    @property
    def bytes(self) -> int: ...
    @property
    def temperature(self) -> float: ...

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Logits, shape (texts, labels); their softmax is the probabilities before calibration."""


@dataclass(frozen=True)
class EncoderClassifier:
    """A fine-tuned encoder in eval mode with its tokenizer."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    max_length: int
    temperature: float = 1.0

    @property
    def device(self) -> str:
        return str(self.model.device)

    @property
    def parameters(self) -> int:
        from trainables.freeze import count_parameters

        return count_parameters(self.model)[1]

    @property
    def bytes(self) -> int:
        return 4 * self.parameters

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Logits in fp32, shape (texts, labels). Texts longer than `max_length` tokens are cut, as in training."""
        from trainables.tokens import encode
        from trainables.training import predict_logits

        return predict_logits(self.model, encode(self.tokenizer, texts, pairs, self.max_length), _BATCH, "fp32")


@dataclass(frozen=True)
class BaselineClassifier:
    """A fitted baseline, read from JSON; `bytes` is the size of that file."""

    baseline: Baseline
    bytes: int
    device: str = "cpu"
    temperature: float = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        return self.baseline.labels

    @property
    def parameters(self) -> int | None:
        return self.baseline.parameters

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Log-probabilities in float64, shape (texts, labels); a pair is read as one text, as in training."""
        return self.baseline.logits(texts, pairs)


@dataclass(frozen=True)
class Prediction:
    """One text's label and the probability of each label, in order of label ids."""

    text: str
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called that a classifier labels, and what its raw labels stand for."""

    text: list[str]
    pair: str | None
    label: str
    labels: Mapping[str, str]


def columns_of(folder: Path, text: list[str] | None, pair: str | None, label: str | None = None) -> Columns:
    """The columns as given, else as in the sweep that the folder of a classifier lies in, else `text` and `label`.

    An export elsewhere and a registered model lie in no sweep.
    """
    # The deepest classifier is <sweep>/trials/<id>/checkpoint.
    manifests = [SweepDirectory(root).manifest for root in folder.absolute().parents[:3]]
    found = next((read_json(path)["config"]["data"] for path in manifests if path.exists()), {"path": ""})
    data = DataConfig.model_validate(found)
    texts = [data.text_column] if isinstance(data.text_column, str) else data.text_column
    return Columns(text or texts, pair or data.text_pair_column, label or data.label_column, data.labels or {})


def load_classifier(source: str, *, merge: bool = True, device: str = "cpu", calibrated: bool = True) -> Classifier:
    """Load the classifier that `source` names: a sweep directory (its champion), a trial, checkpoint or export
    directory, the directory of a baseline, or `models:/name@alias` in the MLflow registry.

    An encoder is put on `device`, with LoRA adapters merged into its weights unless `merge` is false; a baseline has
    no adapters and stays on the CPU. Without `calibrated` its temperature is 1. Raises BadInput where `source` is none
    of these, CorruptFile where its files are not what was written.
    """
    folder = find_classifier(source)
    temperature = confidence.temperature(folder) if calibrated else 1.0
    if is_baseline(folder):
        file = TrialDirectory(folder).model
        return BaselineClassifier(load_baseline(TrialDirectory(folder)), file.stat().st_size, temperature=temperature)
    return replace(load_encoder(folder, merge=merge, device=device), temperature=temperature)


def load_encoder(folder: Path, *, merge: bool = True, device: str = "cpu") -> EncoderClassifier:
    """Load a checkpoint or export directory, without its temperature; see `load_classifier`."""
    from trainables import checkpoint

    if is_committed(folder):
        try:
            model, tokenizer, info = checkpoint.load(folder, merge=merge)
        except CorruptFile as error:
            raise CorruptFile(f"{error}{_how_to_mend(folder)}") from None
        return EncoderClassifier(model.to(device), tokenizer, tuple(info.labels), info.max_length)
    model, tokenizer = checkpoint.load_exported(folder)
    names = model.config.id2label
    labels = tuple(names[index] for index in sorted(names))
    return EncoderClassifier(model.to(device), tokenizer, labels, tokenizer.model_max_length)


def _how_to_mend(folder: Path) -> str:
    """What to do about the damaged checkpoint of a sweep's trial; nothing for one that came from elsewhere."""
    trial = TrialDirectory(folder.parent)
    if not trial.result.exists() or folder != trial.checkpoint:
        return ""
    return f". Delete {trial.result} and run the sweep again, which trains this trial anew"


def find_classifier(source: str) -> Path:
    """The folder with the weights, or with the fitted baseline, that `source` names; see `load_classifier`."""
    if source.startswith("models:/"):
        from workflows.tracking.registry import fetch

        return fetch(source)
    folder = local_path(source, "SOURCE")
    if not folder.is_dir():
        raise BadInput(
            f"{source}: no such directory; name a sweep, checkpoint or baseline directory, or models:/name@alias"
        )
    sweep = SweepDirectory(folder)
    if sweep.manifest.exists():
        return sweep.trial(_champion(sweep)).checkpoint
    if is_committed(folder / "checkpoint"):
        return folder / "checkpoint"
    if is_committed(folder) or (folder / "config.json").exists() or is_baseline(folder):
        return folder
    _refuse_baseline_without_model(folder)
    raise BadInput(
        f"{source}: holds neither a sweep (manifest.json) nor a checkpoint (config.json) nor a baseline (model.json)"
    )


def is_baseline(folder: Path) -> bool:
    """Whether a folder is that of a fitted baseline. Cheap: looks for its file only."""
    return TrialDirectory(folder).model.is_file() and not is_committed(folder)


def _refuse_baseline_without_model(folder: Path) -> None:
    """Baselines of earlier versions left their scores only."""
    result = TrialDirectory(folder).result
    try:
        kept = result.exists() and Result.read(result).kind == "baseline"
    except (CorruptFile, ValueError):
        return
    if kept:
        raise BadInput(
            f"{folder}: an earlier version fitted this baseline and kept its scores only; delete the directory and run "
            "the sweep again, which fits it anew"
        )


def _champion(sweep: SweepDirectory) -> str:
    try:
        champion = read_json(sweep.leaderboard_json)["champion"]
    except FileNotFoundError:
        raise BadInput(
            f"{sweep.root}: has no {sweep.leaderboard_json.name} yet, so there is no champion; run the sweep (again)"
        ) from None
    if champion is None:
        raise BadInput(f"{sweep.root}: no trial is DONE yet, so there is no champion; run the sweep to its end first")
    return str(champion)


def predict(classifier: Classifier, texts: list[str], pairs: list[str] | None = None) -> list[Prediction]:
    """Label each text, with probabilities at the classifier's temperature. An empty list gives an empty list."""
    from scipy.special import softmax

    if not texts:
        return []
    probabilities = softmax(classifier.logits(texts, pairs) / classifier.temperature, axis=1)
    return [
        Prediction(text, classifier.labels[row.argmax()], dict(zip(classifier.labels, row.tolist(), strict=True)))
        for text, row in zip(texts, probabilities, strict=True)
    ]


def evaluate(
    classifier: Classifier, texts: list[str], pairs: list[str] | None, labels: list[str], rename: Callable[[str], str]
) -> Evaluation:
    """Score a classifier on labelled texts, at its temperature; `rename` turns a raw label into a label name.

    The temperature changes the loss and nothing else. Raises BadInput for a label that the classifier does not know.
    """
    import numpy as np

    from trainables.metrics import score

    named = [rename(label) for label in labels]
    unknown = sorted(set(named) - set(classifier.labels))
    if unknown:
        known = ", ".join(classifier.labels)
        raise BadInput(f"label {unknown[0]!r}: the classifier knows {known}; map it with --label {unknown[0]}=NAME")
    ids = np.array([classifier.labels.index(name) for name in named])
    return score(classifier.logits(texts, pairs) / classifier.temperature, ids, classifier.labels)
