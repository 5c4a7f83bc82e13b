"""What a person sees while a sweep runs, as plain lines and as a table."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from trainables.arguments import Metric, ModelSpec, TrainingArguments
from trainables.records import Result
from workflows.plan import PlannedTrial
from workflows.progress import Board


def trial(name: str, model: str = "m") -> PlannedTrial:
    spec = ModelSpec(
        name=model, path="/m", sha256="a", tokenizer_sha256="b", model_type="bert", num_hidden_layers=2, hidden_size=8
    )
    return PlannedTrial(name, name, 1, spec, "lora", TrainingArguments(learning_rate=1e-4), {"lora_r": 4})


def board(*names: str, terminal: bool = False, model: str = "m") -> tuple[Board, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=140)
    return Board([trial(n, model) for n in names], "accuracy", console, {}), stream


def epoch(name: str, number: int, value: float) -> dict[str, object]:
    metrics = {"validation/accuracy": value}
    return {
        "trial": name,
        "status": "RUNNING",
        "epoch": number,
        "step": number * 5,
        "total_steps": 15,
        "metrics": metrics,
    }


def test_a_pipe_gets_one_line_per_start_epoch_and_end() -> None:
    shown, stream = board("a", "b")
    with shown:
        shown.on_report({"trial": "a", "status": "RUNNING"})
        shown.on_report({"trial": "a", "status": "RUNNING", "epoch": 1, "step": 3, "total_steps": 15})
        shown.on_report(epoch("a", 1, 0.5))
        shown.on_report({"trial": "a", "status": "DONE", "metrics": {}, "message": ""})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("m · lora · lr 0.0001 · lora_r 4 · seed 1 started")
    assert lines[1].endswith("epoch 1  validation/accuracy 0.5000")
    assert "DONE" in lines[2]
    assert "1/2 finished, best so far 0.5000" in lines[2]
    assert shown.unfinished() == ["b"]


def test_trials_are_counted_right_while_a_search_draws_them() -> None:
    stream = io.StringIO()
    earlier = Result(
        kind="trial", trial_id="a", status="STOPPED", metrics={"validation/accuracy": 0.25}, started=0, ended=1
    )
    shown = Board([trial("a")], "accuracy", Console(file=stream, width=140), {"a": earlier}, expected=3)
    with shown:
        for name in ("b", "c"):
            shown.add([trial(name)])
            shown.on_report({"trial": name, "status": "RUNNING"})
            shown.on_report(epoch(name, 3, 0.5))
            shown.on_report({"trial": name, "status": "DONE", "metrics": {}})
    ends = [line for line in stream.getvalue().splitlines() if "DONE" in line]
    assert ["2/3 finished" in ends[0], "3/3 finished" in ends[1]] == [True, True]
    assert "nothing left" not in ends[0]
    assert "nothing left" in ends[1]
    assert shown.unfinished() == []


def test_a_stopped_trial_of_an_earlier_run_is_shown_as_stopped() -> None:
    stream = io.StringIO()
    earlier = Result(
        kind="trial", trial_id="a", status="STOPPED", metrics={"validation/accuracy": 0.25}, started=0, ended=1
    )
    console = Console(file=stream, force_terminal=True, width=140)
    with Board([trial("a")], "accuracy", console, {"a": earlier}, expected=2):
        pass
    assert "STOPPED" in stream.getvalue()
    assert "1 stopped, 1 to be drawn" in stream.getvalue()


def test_a_failure_is_one_line_with_its_reason() -> None:
    shown, stream = board("a")
    with shown:
        shown.on_report({"trial": "a", "status": "FAILED", "metrics": {}, "message": "nan: loss became nan at step 7"})
    (line,) = stream.getvalue().splitlines()
    assert "FAILED (nan: loss became nan at step 7)" in line


def test_a_terminal_gets_a_table_with_state_policy_epoch_best_and_time_left() -> None:
    shown, stream = board("a", "b", terminal=True)
    with shown:
        shown.on_report({"trial": "a", "status": "RUNNING"})
        shown.on_report(epoch("a", 1, 0.75))
        shown.on_report(epoch("a", 2, 0.25))
    text = stream.getvalue()
    for expected in ("RUNNING", "PENDING", "lora, lora_r 4", "2.0/3", "0.7500", "1 pending", "left"):
        assert expected in text, expected


def test_the_best_value_so_far_is_kept_when_a_later_epoch_is_worse() -> None:
    shown, stream = board("a")
    with shown:
        shown.on_report({"trial": "a", "status": "RUNNING"})
        shown.on_report(epoch("a", 1, 0.75))
        shown.on_report(epoch("a", 2, 0.25))
        shown.on_report({"trial": "a", "status": "DONE", "metrics": {}})
    assert "best so far 0.7500" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("terminal", [True, False])
def test_markup_in_a_name_is_shown_and_not_obeyed(terminal: bool) -> None:
    shown, stream = board("a", terminal=terminal, model="[red]x[/red]")
    with shown:
        shown.on_report({"trial": "a", "status": "RUNNING"})
    assert "[red]x[/red]" in stream.getvalue()


@pytest.mark.parametrize(("metric", "order"), [("loss", ["a", "b"]), ("accuracy", ["b", "a"])])
def test_the_best_of_those_that_ended_comes_first_and_for_a_loss_that_is_the_least(
    metric: Metric, order: list[str]
) -> None:
    results = {
        name: Result(
            kind="trial", trial_id=name, status="DONE", metrics={f"validation/{metric}": value}, started=0, ended=1
        )
        for name, value in (("a", 0.25), ("b", 0.75))
    }
    stream = io.StringIO()
    trials = [trial("a", "a"), trial("b", "b"), trial("c", "c")]
    with Board(trials, metric, Console(file=stream, force_terminal=True, width=140), results):
        pass
    plain = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", stream.getvalue().split("state")[-1])
    assert re.findall(r"(?:DONE|PENDING) +(\w)", plain) == [*order, "c"]
