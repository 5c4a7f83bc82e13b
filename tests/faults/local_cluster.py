"""Sweeps in this process: the code of `fleetune sweep`, its trials, data, baselines and files, without Ray and MLflow.

Thousands of damaged sweeps are continued this way; those that must show the whole command run it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from trainables.arguments import TrialSpec
from trainables.files import read_json
from trainables.group import run_group
from workflows import cluster, trials
from workflows import sweep as sweeps
from workflows.cluster import Cluster, Node, Request
from workflows.handed import OnReport, Source
from workflows.report import content
from workflows.sweep import Outcome, run_sweep
from workflows.tracking.writer import Writer


class _Silent:
    """A mirror of nothing: MLflow is not what is looked at."""

    problems: tuple[str, ...] = ()
    arrived, allowance = 0, 0.0

    def deliver(self, *, live: bool = False) -> None:
        pass

    def close(self, status: str) -> None:
        pass

    def publish(self, trial_id: str, folder: Path, register_as: str | None = None) -> None:
        pass


def sweep(folder: Path, *overrides: str, tracked: bool = False) -> tuple[Outcome, str]:
    """Run `sweep.yaml` in `folder`, or continue it; returns its outcome and what it printed.

    `tracked` delivers to the real MLflow store and draws the report.
    """
    screen = io.StringIO()
    with _here(tracked) as patch:
        patch.chdir(folder)
        outcome = run_sweep(Path("sweep.yaml"), overrides, Console(file=screen, width=200))
    return outcome, screen.getvalue()


@contextlib.contextmanager
def _here(tracked: bool) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "connect", _connect)
        patch.setattr(cluster, "run_on_worker", _call)
        patch.setattr(trials, "dispatch", _dispatch)
        if not tracked:
            patch.setattr(Writer, "_open", lambda _: _Silent())
            # Drawing takes most of the time, and what is drawn is compared by its numbers.
            patch.setattr(sweeps, "write_report", content.read)
        yield patch


@contextlib.contextmanager
def _connect() -> Iterator[Cluster]:
    yield Cluster((Node("127.0.0.1", 1.0, 0.0, "here"),), is_own=True)


def _call(function: Callable[..., Any], _: Request, *arguments: Any, **__: Any) -> Any:
    return function(*arguments)


def _dispatch(source: Source, *_: Any, on_report: OnReport, **__: Any) -> None:
    """Run the groups of a source one after the other, as a worker does."""
    while group := source.next():
        waiting = [directory for directory in group if not directory.result.exists()]
        specs = [TrialSpec.model_validate(read_json(directory.spec)["spec"]) for directory in waiting]
        for result in run_group(specs, [lambda _: None] * len(specs)):
            on_report({"trial": result.trial_id, **result.outcome()})
        source.ended(group)
