"""What is published is scored again first: rounding is no reason to refuse it, other weights are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import edit_config, tiny_model
from tests.tiny_data import trial_spec
from trainables.directory import SweepDirectory
from trainables.errors import InfrastructureError
from trainables.files import write_json
from trainables.trial import run_trial
from workflows.export import export_trial
from workflows.soundness import read_predictions


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """Two trials in bf16 that read states of frozen layers, with logits far above 8, where bf16 has steps of 0.0625."""
    root = tmp_path_factory.mktemp("sweep")
    # The output layer is drawn this wide.
    model = edit_config(tiny_model("bert", root / "model"), initializer_range=30.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEETUNE_CACHE", str(root / "node"))
        for seed in (1, 2):
            spec = trial_spec(model, root, freeze="top-1", seed=seed, num_train_epochs=1)
            spec = spec.model_copy(update={"precision": "bf16"})
            assert run_trial(spec).status == "DONE"
            trial = SweepDirectory(root).trial(spec.trial_id)
            write_json(trial.spec, {"spec": spec.model_dump(mode="json")})
    return SweepDirectory(root)


def test_a_sound_champion_in_bf16_is_published_however_large_its_logits(sweep: SweepDirectory, tmp_path: Path) -> None:
    recorded = read_predictions(sweep.trial("trial-top-1-1"), "validation")["logits"].to_numpy(zero_copy_only=False)
    assert np.abs(np.stack(recorded)).max() > 16
    export_trial(sweep, "trial-top-1-1", tmp_path / "published")
    assert (tmp_path / "published" / "model.safetensors").is_file()


def test_a_checkpoint_that_is_not_what_was_ranked_is_not_published(sweep: SweepDirectory, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sweep.root, tmp_path / "sweep"))
    first, second = (SweepDirectory(root).trial(f"trial-top-1-{seed}") for seed in (1, 2))
    shutil.rmtree(first.checkpoint)
    shutil.copytree(second.checkpoint, first.checkpoint)
    with pytest.raises(InfrastructureError, match="does not score as it was ranked"):
        export_trial(SweepDirectory(root), "trial-top-1-1", tmp_path / "published")
    assert not (tmp_path / "published").exists()
