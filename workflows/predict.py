"""A trained classifier, found by a sweep directory, a checkpoint directory or a registered name, put to use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from trainables.files import is_committed, read_json
from trainables.records import Evaluation

if TYPE_CHECKING:
    import numpy as np

_BATCH = 64


@dataclass(frozen=True)
class Classifier:
    """A model in eval mode with its tokenizer; `labels[i]` is the name of column i of its probabilities."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    max_length: int

    def logits(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Logits in fp32, shape (texts, labels). Texts longer than `max_length` tokens are cut, as in training."""
        from trainables.tokens import encode
        from trainables.training import predict_logits

        return predict_logits(self.model, encode(self.tokenizer, texts, pairs, self.max_length), _BATCH, "fp32")


@dataclass(frozen=True)
class Prediction:
    """One text's label and the probability of each label, in order of label ids."""

    text: str
    label: str
    probabilities: dict[str, float]


def load_classifier(source: str) -> Classifier:
    """Load the classifier that `source` names: a sweep directory (its champion), a checkpoint or export directory,
    or `models:/name@alias` in the MLflow registry. Raises BadInput where it is none of these.
    """
    from trainables import checkpoint

    folder = find_checkpoint(source)
    if is_committed(folder):
        model, tokenizer, info = checkpoint.load(folder)
        return Classifier(model, tokenizer, tuple(info.labels), info.max_length)
    model, tokenizer = checkpoint.load_exported(folder)
    names = model.config.id2label
    return Classifier(model, tokenizer, tuple(names[index] for index in sorted(names)), tokenizer.model_max_length)


def find_checkpoint(source: str) -> Path:
    """The folder with the weights that `source` names; see `load_classifier`."""
    if source.startswith("models:/"):
        from workflows.tracking.registry import fetch

        return fetch(source)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise BadInput(f"{source}: no such directory; name a sweep or checkpoint directory, or models:/name@alias")
    sweep = SweepDirectory(folder)
    if sweep.manifest.exists():
        return sweep.trial(_champion(sweep)).checkpoint
    if is_committed(folder / "checkpoint"):
        return folder / "checkpoint"
    if is_committed(folder) or (folder / "config.json").exists():
        return folder
    raise BadInput(f"{source}: holds neither a sweep (manifest.json) nor a checkpoint (config.json)")


def _champion(sweep: SweepDirectory) -> str:
    try:
        champion = read_json(sweep.leaderboard_json)["champion"]
    except FileNotFoundError:
        champion = None
    if champion is None:
        raise BadInput(f"{sweep.root}: no trial is DONE yet, so there is no champion; run the sweep to its end first")
    return str(champion)


def predict(classifier: Classifier, texts: list[str], pairs: list[str] | None = None) -> list[Prediction]:
    """Label each text. An empty list gives an empty list."""
    from scipy.special import softmax

    if not texts:
        return []
    probabilities = softmax(classifier.logits(texts, pairs), axis=1)
    return [
        Prediction(text, classifier.labels[row.argmax()], dict(zip(classifier.labels, row.tolist(), strict=True)))
        for text, row in zip(texts, probabilities, strict=True)
    ]


def evaluate(
    classifier: Classifier, texts: list[str], pairs: list[str] | None, labels: list[str], rename: Callable[[str], str]
) -> Evaluation:
    """Score a classifier on labelled texts; `rename` turns a raw label into a label name.

    Raises BadInput for a label that the classifier does not know.
    """
    import numpy as np

    from trainables.metrics import score

    named = [rename(label) for label in labels]
    unknown = sorted(set(named) - set(classifier.labels))
    if unknown:
        known = ", ".join(classifier.labels)
        raise BadInput(f"label {unknown[0]!r}: the classifier knows {known}; map it with --label {unknown[0]}=NAME")
    ids = np.array([classifier.labels.index(name) for name in named])
    return score(classifier.logits(texts, pairs), ids, classifier.labels)
