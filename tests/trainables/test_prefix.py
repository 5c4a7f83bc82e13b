"""What frozen layers give: computed once, the same as computed anew, bounded in bytes, in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from trainables import forward, freeze, models, prefix, stored_rows
from trainables.arguments import TrialSpec
from trainables.directory import NodeCache, TrialDirectory
from trainables.files import COMMIT, is_committed
from trainables.records import EpochRecord
from trainables.tokens import TokenSplit, tokenize
from trainables.training import predict_logits
from trainables.trial import run_trial


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeCache:
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "node"))
    return NodeCache.here()


def build(spec: TrialSpec) -> tuple[torch.nn.Module, TokenSplit]:
    model = models.load_model(spec.model, spec.labels, spec.seed)
    return freeze.apply(model, spec.freeze, spec.training, spec.seed), tokenize(spec)["train"]


def spec_of(bert: Path, tmp_path: Path, policy: str, **changes: Any) -> TrialSpec:
    return trial_spec(bert, tmp_path, freeze=policy, **changes)


def entries(cache: NodeCache) -> list[Path]:
    return sorted(path for path in cache.prefixes.glob("*") if is_committed(path)) if cache.prefixes.exists() else []


@pytest.mark.parametrize(("policy", "kept"), [("head", True), ("top-1", True), ("embeddings", False), ("full", False)])
def test_only_policies_with_frozen_layers_keep_what_they_give(
    bert: Path, tmp_path: Path, cache: NodeCache, policy: str, kept: bool
) -> None:
    spec = spec_of(bert, tmp_path, policy)
    model, split = build(spec)
    assert (prefix.attach(spec, model, split, "train").hidden is not None) == kept
    assert len(entries(cache)) == kept


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("policy", ["head", "top-1"])
def test_logits_from_the_cache_are_those_computed_anew(bert: Path, tmp_path: Path, policy: str, precision: str) -> None:
    spec = spec_of(bert, tmp_path, policy).model_copy(update={"precision": precision})
    model, split = build(spec)
    expected = predict_logits(model, split, 16, spec.precision)
    found = predict_logits(model, prefix.attach(spec, model, split, "train"), 16, spec.precision)
    # bf16 has 8 bits; the kept states are rounded to it once more than those that are computed anew.
    assert np.abs(found - expected).max() < (1e-5 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize("policy", ["head", "top-1"])
def test_a_trial_is_the_same_with_the_cache_and_without(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    outcomes = []
    for name, budget in (("cached", "1000000000"), ("anew", "0")):
        monkeypatch.setenv("FLEETUNE_CACHE_BYTES", budget)
        spec = spec_of(bert, tmp_path / name, policy, num_train_epochs=3)
        result = run_trial(spec)
        losses = [EpochRecord.read(path).steps.loss for path in TrialDirectory(Path(spec.directory)).epochs()]
        outcomes.append((result.metrics, np.concatenate(losses)))
    (left, left_losses), (right, right_losses) = outcomes
    assert left == pytest.approx(right, abs=1e-4)
    assert np.abs(left_losses - right_losses).max() < 1e-4


@pytest.mark.parametrize("policy", ["head", "top-1"])
def test_a_trial_is_bit_for_bit_the_same_where_states_are_mapped_and_where_they_are_read(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    outcomes = []
    for name, most in (("mapped", 2**29), ("read", 0)):
        monkeypatch.setattr(stored_rows, "MAPPED_BYTES", most)
        spec = spec_of(bert, tmp_path / name, policy, num_train_epochs=2)
        result = run_trial(spec)
        losses = [EpochRecord.read(path).steps.loss for path in TrialDirectory(Path(spec.directory)).epochs()]
        outcomes.append((result.metrics, result.moved, losses))
    assert outcomes[0] == outcomes[1]


def test_trials_of_another_seed_and_rate_read_what_the_first_has_written(
    bert: Path, tmp_path: Path, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_trial(spec_of(bert, tmp_path / "a", "head"))
    assert len(entries(cache)) == 3

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the frozen layers ran again")

    monkeypatch.setattr(forward, "hidden_states", refuse)
    other = spec_of(bert, tmp_path / "a", "head", learning_rate=1e-2).model_copy(update={"seed": 7, "trial_id": "b"})
    assert run_trial(other).status == "DONE"
    assert len(entries(cache)) == 3


def test_what_changes_the_states_has_a_place_of_its_own(bert: Path, tmp_path: Path, cache: NodeCache) -> None:
    first = spec_of(bert, tmp_path, "head")
    deeper = tiny_model("bert", tmp_path / "other", seed=5)
    variants = [
        first,
        spec_of(bert, tmp_path, "top-1"),
        spec_of(bert, tmp_path, "head", max_length=8),
        first.model_copy(update={"precision": "bf16"}),
        spec_of(deeper, tmp_path, "head"),
    ]
    for count, spec in enumerate(variants, start=1):
        prefix.attach(spec, *build(spec), "train")
        assert len(entries(cache)) == count


def test_alberts_of_another_depth_that_share_their_weights_do_not_share_states(tmp_path: Path) -> None:
    whole = spec_of(tiny_model("albert", tmp_path / "model", initializer_range=0.3), tmp_path, "head")
    shallow = whole.model_copy(update={"model": whole.model.model_copy(update={"num_hidden_layers": 1})})
    for spec in (whole, shallow):
        model, split = build(spec)
        found = predict_logits(model, prefix.attach(spec, model, split, "train"), 64, "fp32")
        assert np.abs(found - predict_logits(model, split, 64, "fp32")).max() < 1e-5


def test_without_room_a_trial_runs_all_the_same(
    bert: Path, tmp_path: Path, cache: NodeCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLEETUNE_CACHE_BYTES", "100")
    spec = spec_of(bert, tmp_path, "top-1")
    model, split = build(spec)
    assert prefix.attach(spec, model, split, "train").hidden is None
    assert "no room" in caplog.text
    assert entries(cache) == []


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "file"))
    spec = spec_of(bert, tmp_path, "head")
    model, split = build(spec)
    assert prefix.attach(spec, model, split, "train").hidden is None
    assert "computed at every pass" in caplog.text


def test_what_was_unused_longest_makes_room(
    bert: Path, tmp_path: Path, cache: NodeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [spec_of(bert, tmp_path, "top-1", max_length=length) for length in (40, 30, 20)]
    for age, spec in ((300, specs[0]), (200, specs[1])):
        hidden = prefix.attach(spec, *build(spec), "train").hidden
        for path in entries(cache):
            if path.joinpath(COMMIT).stat().st_mtime > time.time() - 60:
                os.utime(path / COMMIT, (time.time() - age,) * 2)
    (oldest,) = [path for path in entries(cache) if path.joinpath(COMMIT).stat().st_mtime < time.time() - 250]
    assert hidden is not None
    monkeypatch.setenv("FLEETUNE_CACHE_BYTES", str(int(2.5 * hidden.states.nbytes)))
    mapped = prefix.attach(specs[0], *build(specs[0]), "train").hidden
    os.utime(oldest / COMMIT, (time.time() - 300,) * 2)
    prefix.attach(specs[2], *build(specs[2]), "train")
    assert oldest not in entries(cache)
    assert len(entries(cache)) == 2
    # whoever had it open still reads it
    assert mapped is not None
    assert np.isfinite(mapped.states[-1]).all()


def test_what_nobody_used_for_a_month_goes(bert: Path, tmp_path: Path, cache: NodeCache) -> None:
    spec = spec_of(bert, tmp_path, "head")
    prefix.attach(spec, *build(spec), "train")
    (old,) = entries(cache)
    os.utime(old / COMMIT, (time.time() - 40 * 24 * 3600,) * 2)
    prefix.attach(spec, *build(spec), "validation")
    assert old not in entries(cache)
    assert len(entries(cache)) == 1


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of the folder `held` until it is ended."""
    code = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""
    (tmp_path / "node" / "prefixes").mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "node" / "prefixes" / "held.lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_crash_of_the_first_blocks_nobody(
    bert: Path, tmp_path: Path, cache: NodeCache, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = cache.prefixes / "held.lock"
    monkeypatch.setattr(NodeCache, "prefix", lambda self, _: self.prefixes / "held")
    (cache.prefixes / ".held.half").mkdir()
    beats: list[float] = []

    def alive() -> None:
        beats.append(time.monotonic())
        if len(beats) == 2:
            holder.kill()

    spec = spec_of(bert, tmp_path, "head")
    assert prefix.attach(spec, *build(spec), "train", alive).hidden is not None
    assert len(beats) >= 2
    with FileLock(held, timeout=0):
        pass


def test_states_of_a_split_are_never_those_of_another(bert: Path, tmp_path: Path) -> None:
    spec = spec_of(bert, tmp_path, "head")
    model, _ = build(spec)
    splits = tokenize(spec)
    kept = {name: prefix.attach(spec, model, splits[name], name).hidden for name in ("validation", "test")}
    assert kept["validation"] is not None
    assert kept["test"] is not None
    assert not np.array_equal(kept["validation"].states, kept["test"].states)
    anew = replace(splits["test"], hidden=None)
    assert (
        np.abs(
            predict_logits(model, replace(anew, hidden=kept["test"]), 64, "fp32")
            - predict_logits(model, anew, 64, "fp32")
        ).max()
        < 1e-5
    )
