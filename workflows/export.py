"""The champion as a directory of its own: a full model that transformers loads, checked to score the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainables.directory import SweepDirectory, TrialDirectory
from trainables.errors import BadInput, InfrastructureError
from workflows import confidence
from workflows.predict import find_classifier, is_baseline
from workflows.soundness import read_predictions

if TYPE_CHECKING:
    import numpy as np

# The export is fp32 and merged; its logits may differ from the checkpoint's by rounding only. Rounding grows with what
# is rounded, so both are of the largest logit where that is above 1.
TOLERANCE = 1e-5
# A few steps of bf16, which lie up to 2^-7 of a logit apart.
_HALF_TOLERANCE = 0.05
_CHECKED_TEXTS = 64


def export(source: str, destination: Path) -> Path:
    """Write the classifier that `source` names as a directory for `pipeline("text-classification", …)`.

    The export is loaded again and compared with the checkpoint. The pipeline's probabilities are those before
    calibration; the temperature lies beside the weights in calibration.json, where `fleetune predict` finds it.
    Raises BadInput where `destination` is not empty or `source` is a baseline, InfrastructureError where the two do
    not give the same logits.
    """
    from trainables import checkpoint

    folder = find_classifier(source)
    if is_baseline(folder):
        raise BadInput(
            f"{source}: a baseline is one JSON file ({folder / 'model.json'}), not a model that transformers loads; "
            f"use it with fleetune predict {source} or fleetune evaluate {source}"
        )
    checkpoint.export(folder, destination)
    _compare(folder, destination)
    confidence.export(folder, destination)
    return destination


def export_trial(sweep: SweepDirectory, trial_id: str, destination: Path) -> Path:
    """Export one trial's checkpoint after scoring it again: what is published is exactly what was ranked."""
    trial = sweep.trial(trial_id)
    _rescore(trial)
    return export(str(trial.checkpoint), destination)


def _rescore(trial: TrialDirectory) -> None:
    """Load the checkpoint from disk, score validation as the trial did, and refuse any other predictions."""
    import numpy as np

    from trainables import checkpoint
    from trainables.arguments import TrialSpec
    from trainables.files import read_json
    from trainables.tokens import tokenize
    from trainables.training import pick_device, predict_logits

    spec = TrialSpec.model_validate(read_json(trial.spec)["spec"])
    model, _, _ = checkpoint.load(trial.checkpoint, merge=False)
    batch_size = spec.training.per_device_eval_batch_size
    again = predict_logits(model.to(pick_device()), tokenize(spec)["validation"], batch_size, spec.precision)
    recorded = np.stack(read_predictions(trial, "validation")["logits"].to_numpy(zero_copy_only=False))
    difference = float(np.abs(again - recorded).max())
    # Another kind of machine may round bf16 products in another order, and a trial that read what frozen layers gave
    # had that rounded once more; so near a tie a label may be another.
    changed = int((again.argmax(axis=1) != recorded.argmax(axis=1)).sum())
    allowed = TOLERANCE if spec.precision == "fp32" else _HALF_TOLERANCE
    if difference > allowed * _scale(recorded) or (changed and spec.precision == "fp32"):
        raise InfrastructureError(
            f"the checkpoint of trial {trial.root.name} does not score as it was ranked: logits differ by up to "
            f"{difference:.2g}, {changed} of {len(recorded)} validation labels differ; it is not published"
        )


def _scale(logits: np.ndarray) -> float:
    """The largest logit, but at least 1."""
    return max(1.0, float(abs(logits).max()))


def _compare(folder: Path, destination: Path) -> None:
    """The export must give the checkpoint's logits within TOLERANCE of the largest, both in fp32."""
    import numpy as np

    from workflows.predict import load_encoder

    before, after = load_encoder(folder), load_encoder(destination)
    words = " ".join(before.tokenizer.convert_ids_to_tokens(range(min(2_000, len(before.tokenizer)))))
    texts = [words[start : start + 80] for start in range(0, 80 * _CHECKED_TEXTS, 80)]
    expected = before.logits(texts)
    difference = float(np.abs(after.logits(texts) - expected).max())
    if difference > TOLERANCE * _scale(expected):
        raise InfrastructureError(
            f"{destination}: the export's logits differ from the checkpoint's by {difference:.2g}"
        )
