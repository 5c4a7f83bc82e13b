"""The parts of a trial, timed: on every policy, on texts that stand for all, and without leaving a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables import prefix, probe
from trainables.arguments import TrialSpec
from trainables.directory import NodeCache, TrialDirectory
from trainables.errors import BadInput
from trainables.timing import Timing
from trainables.tokens import tokenize
from trainables.trial import Setting, run_trial

POLICIES = ("full", "embeddings", "top-1", "head", "lora")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeCache:
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "node"))
    return NodeCache.here()


def timed(specs: Sequence[TrialSpec], folder: Path, **more: Any) -> Timing:
    return probe.probe(specs, folder / "scratch", **more)


def heads(bert: Path, folder: Path, count: int) -> list[TrialSpec]:
    rates = [1e-3 * (index + 1) for index in range(count)]
    return [trial_spec(bert, folder, freeze="head", learning_rate=rate) for rate in rates]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_is_timed_and_nothing_of_it_counts_as_a_trial(
    bert: Path, tmp_path: Path, cache: NodeCache, policy: str
) -> None:
    spec = trial_spec(bert, tmp_path, freeze=policy)
    found = timed([spec], tmp_path, predicts=True)
    parts = ("setup", "epoch", "longest_step", "validation", "test", "commit", "end", "one_text", "texts")
    assert all(getattr(found, part) > 0 for part in parts)
    assert (found.prefix > 0) == (policy in ("top-1", "head"))
    assert found.steps >= 3
    assert 1e8 < (found.peak_bytes or 0) < found.device_bytes
    assert not Path(spec.directory).exists()
    assert not list(cache.prefixes.glob("*/COMMIT")) if cache.prefixes.exists() else True


@pytest.mark.parametrize("family", ["distilbert", "deberta-v2", "modernbert", "albert"])
@pytest.mark.parametrize("policy", ["full", "head"])
def test_other_families_are_timed_too(tmp_path: Path, family: str, policy: str) -> None:
    model = tiny_model(family, tmp_path / family)
    assert timed([trial_spec(model, tmp_path, freeze=policy)], tmp_path).epoch > 0


def test_heads_that_train_at_once_are_timed_at_once(bert: Path, tmp_path: Path) -> None:
    several = timed(heads(bert, tmp_path, 4), tmp_path)
    assert several.together == 4
    assert several.epoch > 0


def test_what_cannot_be_kept_is_timed_as_trials_run_it(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room for what frozen layers give, they run in every pass, and heads train one by one."""
    monkeypatch.setenv("FLEETUNE_CACHE_BYTES", "10")
    found = timed(heads(bert, tmp_path, 3), tmp_path)
    assert found.together == 1
    assert found.prefix == 0


def test_frozen_layers_that_are_in_the_cache_cost_nothing_more(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path, freeze="head")
    run_trial(spec)
    assert timed([spec], tmp_path).prefix == 0


def test_the_cache_is_told_of_without_being_changed(bert: Path, tmp_path: Path, cache: NodeCache) -> None:
    spec = trial_spec(bert, tmp_path, freeze="top-1")
    setting = Setting.of(spec)
    split = setting.splits["train"]
    assert prefix.outlook(spec, setting.model, split, "train") == "missing"
    whole = prefix.attach(spec, setting.model, split, "train")
    assert prefix.outlook(spec, setting.model, split, "train") == "kept"
    in_memory = prefix.attach_in_memory(spec, setting.model, split, setting.room)
    assert whole.hidden is not None and in_memory.hidden is not None
    np.testing.assert_array_equal(whole.hidden.states, in_memory.hidden.states)


def test_texts_that_stand_for_all_are_spread_over_their_lengths(bert: Path, tmp_path: Path) -> None:
    split = tokenize(trial_spec(bert, tmp_path))["train"]
    part = probe.evenly(split, 16)
    assert len(part) == 16
    assert part.lengths.mean() == pytest.approx(split.lengths.mean(), rel=0.05)
    assert part.lengths.min() <= np.quantile(split.lengths, 0.1)
    assert part.lengths.max() >= np.quantile(split.lengths, 0.9)
    texts = {tuple(split.input_ids[split.offsets[i] : split.offsets[i + 1]]) for i in range(len(split))}
    assert {tuple(part.input_ids[part.offsets[i] : part.offsets[i + 1]]) for i in range(16)} <= texts
    assert len(probe.evenly(split, 10_000)) == len(split)


def test_an_epoch_is_as_many_steps_as_its_texts_make(bert: Path, tmp_path: Path) -> None:
    """Twice the batch is half of the steps: what is counted is a whole epoch, not the few steps that were run."""
    few = trial_spec(bert, tmp_path, per_device_train_batch_size=16)
    many = trial_spec(bert, tmp_path, per_device_train_batch_size=1)
    # Steps of a tiny model take as long whatever they hold.
    assert timed([many], tmp_path / "many").epoch > 4 * timed([few], tmp_path / "few").epoch


def test_what_a_trial_would_fail_with_comes_out(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="top-9"):
        timed([trial_spec(bert, tmp_path, freeze="top-9")], tmp_path)


def test_a_probe_leaves_its_own_folder_alone_with_what_a_trial_writes(bert: Path, tmp_path: Path) -> None:
    timed([trial_spec(bert, tmp_path)], tmp_path)
    directory = TrialDirectory(tmp_path / "scratch")
    assert directory.predictions.exists() and len(directory.epochs()) == 2
