"""A device without the memory for a batch: the trial runs it in smaller passes, and ends as if there had been enough.

A CPU has no such error, so the passes of a real trial raise it here where they hold more texts than "fit".
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.tiny import tiny_model
from tests.tiny_data import trial_spec
from tests.trainables.test_group import heads
from tests.trainables.test_group import run as run_together
from tests.trainables.test_state import Ended, end_after
from tests.trainables.test_training import build, split
from trainables import checkpoint, forward
from trainables.arguments import TrainingArguments, TrialSpec
from trainables.directory import TrialDirectory
from trainables.errors import TrialFailure
from trainables.optimization import Optimization, trained_blocks
from trainables.records import EpochRecord, Result
from trainables.room import Room
from trainables.training import predict_logits, train_epoch
from trainables.trial import run_trial

CPU = torch.device("cpu")
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("bert"), **WITHOUT_DROPOUT)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("dropping"))


@contextlib.contextmanager
def small_device(
    fitting: int, *, name: str = "logits", when: Callable[[], bool] = lambda: True, in_backward: bool = False
) -> Iterator[list[int]]:
    """Inside the block passes by `forward.<name>` of more texts than fit raise; yields the texts of each that did."""
    original = getattr(forward, name)
    refused: list[int] = []

    def out_of_memory(texts: int) -> None:
        refused.append(texts)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def limited(model: torch.nn.Module, tokens: Any, indices: np.ndarray, *more: Any, **named: Any) -> Any:
        if len(indices) > fitting and when():
            if in_backward and torch.is_grad_enabled():
                stacked = (
                    more[0].values() if name == "logits_of_heads" else trained_blocks(model, TrainingArguments())["all"]
                )
                _once_gradients_are_there(stacked, lambda: out_of_memory(len(indices)))
            else:
                out_of_memory(len(indices))
        return original(model, tokens, indices, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forward, name, limited)
        yield refused


def _once_gradients_are_there(parameters: Iterable[torch.Tensor], act: Callable[[], None]) -> None:
    """Act when the gradient reaches the lowest block that trains: those above it have theirs by then."""
    lowest = next(parameter for parameter in parameters if parameter.requires_grad)

    def once(_: torch.Tensor) -> None:
        handle.remove()
        act()

    handle = lowest.register_hook(once)


def directory(spec: TrialSpec) -> TrialDirectory:
    return TrialDirectory(Path(spec.directory))


def records(spec: TrialSpec) -> list[EpochRecord]:
    return [EpochRecord.read(path) for path in directory(spec).epochs()]


def assert_equal_but_for_rounding(spec: TrialSpec, other: TrialSpec) -> None:
    """That two trials have taken the same steps, and that the weights they kept and their scores are the same."""
    for mine, theirs in zip(records(spec), records(other), strict=True):
        assert mine.steps.loss == pytest.approx(theirs.steps.loss, abs=1e-4)
        assert mine.steps.learning_rate == theirs.steps.learning_rate
    left, right = (load_file(directory(each).checkpoint / checkpoint.WEIGHTS) for each in (spec, other))
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert np.abs(value - right[name]).max() < 1e-3, name
    found, expected = (Result.read(directory(each).result) for each in (spec, other))
    assert (found.status, found.epoch, found.step) == ("DONE", expected.epoch, expected.step)
    assert found.metrics == pytest.approx(expected.metrics, abs=1e-3)


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("policy", ["full", "top-1", "head", "lora"])
def test_a_trial_whose_batches_do_not_fit_ends_as_if_they_did(
    bert: Path, tmp_path: Path, policy: str, in_backward: bool
) -> None:
    arguments = {"gradient_accumulation_steps": 2, "lora_dropout": 0.0}
    calm = trial_spec(bert, tmp_path / "calm", freeze=policy, **arguments)
    assert run_trial(calm).texts_at_once is None
    spec = trial_spec(bert, tmp_path / "small", freeze=policy, **arguments)
    with small_device(5, when=torch.is_grad_enabled, in_backward=in_backward) as refused:
        result = run_trial(spec)
    assert refused == [8], "what was found out at the first step holds for all others"
    assert result.texts_at_once == 4
    assert [record.texts_at_once for record in records(spec)] == [4, 4]
    assert_equal_but_for_rounding(spec, calm)
    assert "run 4 texts at once and no longer 8 (CUDA out of memory" in directory(spec).log.read_text()
    assert not directory(calm).log.exists()


def test_gradients_of_the_batches_before_the_one_that_did_not_fit_count_once(bert: Path, tmp_path: Path) -> None:
    calm = trial_spec(bert, tmp_path / "calm", gradient_accumulation_steps=4)
    run_trial(calm)
    spec = trial_spec(bert, tmp_path / "small", gradient_accumulation_steps=4)
    calls = iter(range(1000))
    with small_device(5, when=lambda: torch.is_grad_enabled() and next(calls) >= 6) as refused:
        run_trial(spec)
    assert refused == [8]
    assert_equal_but_for_rounding(spec, calm)


def test_scoring_that_does_not_fit_is_cut_too(bert: Path, tmp_path: Path) -> None:
    calm, spec = (trial_spec(bert, tmp_path / name) for name in ("calm", "small"))
    run_trial(calm)
    with small_device(8, when=lambda: not torch.is_grad_enabled()) as refused:
        assert run_trial(spec).texts_at_once == 6
    assert refused == [24, 12]
    assert_equal_but_for_rounding(spec, calm)


def test_one_text_that_does_not_fit_fails_the_trial_and_nothing_is_left_for_the_next(
    dropping: Path, tmp_path: Path
) -> None:
    before, spec, after = (trial_spec(dropping, tmp_path / name) for name in ("before", "hopeless", "after"))
    run_trial(before)
    with small_device(0) as refused:
        result = run_trial(spec)
    assert refused == [8, 4, 2, 1]
    assert (result.status, result.reason) == ("FAILED", "oom")
    assert "one text at a time; a smaller max_length" in (result.message or "")
    assert run_trial(after).texts_at_once is None
    assert not directory(after).log.exists()
    weights = [(directory(each).checkpoint / checkpoint.WEIGHTS).read_bytes() for each in (before, after)]
    assert weights[0] == weights[1]


def test_a_step_that_runs_again_draws_the_dropout_that_it_began_with(dropping: Path) -> None:
    def losses(known: int | None) -> list[float]:
        model, training = build(dropping)
        optimization = Optimization.of(model, training, 6)
        room = Room(CPU)
        room.restrict(known)
        step: dict[str, Any] = {"seed": 1, "epoch": 1, "precision": "fp32", "on_step": lambda _: None, "room": room}
        found = train_epoch(model, split(), optimization, **step)
        assert room.texts_at_once == 2
        return found.loss

    expected = losses(known=2)
    with small_device(2, in_backward=True) as refused:
        assert losses(known=None) == expected
    assert refused == [4]


@pytest.mark.parametrize("policy", ["head", "top-1"])
def test_frozen_layers_that_do_not_fit_are_computed_in_smaller_passes(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    calm, spec = (trial_spec(bert, tmp_path / name, freeze=policy) for name in ("calm", "small"))
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "one"))
    run_trial(calm)
    monkeypatch.setenv("FLEETUNE_CACHE", str(tmp_path / "another"))
    with small_device(40, name="hidden_states") as refused:
        assert run_trial(spec).texts_at_once == 32
    assert refused == [64]
    assert_equal_but_for_rounding(spec, calm)


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
def test_heads_that_do_not_fit_together_go_on_together_in_smaller_passes(
    bert: Path, tmp_path: Path, in_backward: bool
) -> None:
    grouped, alone = heads(bert, tmp_path / "a"), heads(bert, tmp_path / "b")
    for spec in alone:
        run_trial(spec)
    with small_device(4, name="logits_of_heads", in_backward=in_backward) as refused:
        ends = run_together(grouped)
    assert refused == [8]
    assert [result.texts_at_once for result in ends] == [4, 4, 4]
    for spec, other in zip(grouped, alone, strict=True):
        assert_equal_but_for_rounding(spec, other)
        assert "one by one" not in directory(spec).log.read_text()


def test_what_was_found_out_before_an_interruption_holds_after_it(bert: Path, tmp_path: Path) -> None:
    spec = trial_spec(bert, tmp_path)
    with small_device(4, when=torch.is_grad_enabled), pytest.raises(Ended):
        run_trial(spec, end_after(1))
    with small_device(4, when=torch.is_grad_enabled) as refused:
        assert run_trial(spec).texts_at_once == 4
    assert refused == []


def test_a_classifier_that_is_put_to_use_may_run_out_of_memory_too(bert: Path) -> None:
    model, _ = build(bert)
    expected = predict_logits(model, split(), 16, "fp32")
    with small_device(3):
        assert np.abs(predict_logits(model, split(), 16, "fp32") - expected).max() < 1e-5


@pytest.mark.parametrize(("known", "found", "expected"), [(None, 4, 4), (8, 4, 4), (4, 8, 4), (4, None, 4)])
def test_a_room_only_ever_shrinks(known: int | None, found: int | None, expected: int) -> None:
    room = Room(CPU)
    room.restrict(known)
    room.restrict(found)
    assert room.texts_at_once == expected
    assert [len(part) for part in room.cut([np.arange(9), np.arange(3)])] == [4, 4, 1, 3]


def test_what_did_not_fit_is_let_go_before_the_work_begins_again(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    original = forward.logits

    def watched(model: torch.nn.Module, tokens: Any, indices: np.ndarray) -> torch.Tensor:
        assert not any(each() is not None for each in held)
        found = original(model, tokens, indices)
        if len(indices) > 2:
            held.append(weakref.ref(found))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return found

    monkeypatch.setattr(forward, "logits", watched)
    model, training = build(bert)
    optimization = Optimization.of(model, training, 6)
    train_epoch(model, split(), optimization, seed=1, epoch=1, precision="fp32", on_step=lambda _: None)
    predict_logits(model, split(), 16, "fp32")
    assert len(held) == 1 + 3


def test_other_errors_pass_through_at_once() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise TrialFailure("nan", "not this one")

    with pytest.raises(TrialFailure, match="not this one"):
        Room(CPU).run(work)
    assert calls == [1]
