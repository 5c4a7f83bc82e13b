"""What a person sees while a sweep runs: a live table on a terminal, plain lines when piped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from trainables.arguments import Metric, better
from trainables.records import Result
from trainables.redaction import redact
from workflows import plan
from workflows.plan import PlannedTrial

_MAX_ROWS = 20
_STYLES = {"RUNNING": "cyan", "DONE": "green", "FAILED": "red", "STOPPED": "yellow", "PENDING": "dim"}


@dataclass
class _State:
    """What is known of one trial."""

    trial: PlannedTrial
    work: float
    status: str = "PENDING"
    epoch: int = 0
    share: float = 0.0
    value: float | None = None
    best: float | None = None
    message: str = ""
    began: float | None = None
    seconds: float | None = None

    def elapsed(self) -> float | None:
        """Seconds that it took, or has taken so far."""
        if self.seconds is not None or self.began is None:
            return self.seconds
        return time.monotonic() - self.began


@dataclass
class Board:
    """Takes the reports of workers and shows them.

    `finished` has the results of trials that ended before; `expected` is how many trials there will be when a search
    has drawn them all (never fewer than there are). Use as a context manager around dispatch; `on_report` and `add`
    may be called from the dispatching thread only.
    """

    trials: Sequence[PlannedTrial]
    metric: Metric
    console: Console
    finished: Mapping[str, Result]
    expected: int = 0
    states: dict[str, _State] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self.add(self.trials)
        for trial_id, result in self.finished.items():
            state = self.states[trial_id]
            state.status, state.share, state.epoch = result.status, 1.0, result.epoch or 0
            state.best = result.metrics.get(f"validation/{self.metric}")
        self._began = time.monotonic()
        self._live = Live(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=2,
            transient=True,
            # Otherwise it would bring to the screen what Ray prints, wherever that is sent.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def add(self, trials: Sequence[PlannedTrial]) -> None:
        """Take note of trials that wait to be run."""
        with self._lock:
            self.states |= {trial.trial_id: _State(trial, plan.work(trial)) for trial in trials}

    def on_report(self, report: Mapping[str, Any]) -> None:
        """Take one report: {"trial", "status", and maybe "epoch", "step", "total_steps", "metrics", "message"}."""
        with self._lock:
            state = self.states[report["trial"]]
            line = self._take(state, report)
        if line and not self.console.is_terminal:
            self.console.print(line, highlight=False, soft_wrap=True)

    def unfinished(self) -> list[str]:
        """Ids of the trials of which no end was reported."""
        return [name for name, state in self.states.items() if state.status in ("PENDING", "RUNNING")]

    def _take(self, state: _State, report: Mapping[str, Any]) -> str | None:
        now = time.monotonic()
        state.began = state.began or now
        before, state.status = state.status, report["status"]
        state.epoch = report.get("epoch", state.epoch)
        if report.get("total_steps"):
            state.share = report["step"] / report["total_steps"]
        if state.status == "RUNNING":
            return self._take_epoch(state, report) if before == "RUNNING" else f"{self._head(state)} started"
        state.share, state.seconds, state.message = 1.0, now - state.began, redact(report.get("message") or "")
        return self._end_line(state)

    def _take_epoch(self, state: _State, report: Mapping[str, Any]) -> str | None:
        if not report.get("metrics"):
            return None
        state.value = report["metrics"][f"validation/{self.metric}"]
        if state.best is None or better(self.metric, state.value, than=state.best):
            state.best = state.value
        return f"{self._head(state)} epoch {state.epoch}  validation/{self.metric} {state.value:.4f}"

    def _head(self, state: _State) -> str:
        return f"[{self._elapsed()}] {escape(state.trial.name)}"

    def _end_line(self, state: _State) -> str:
        done = sum(other.status not in ("PENDING", "RUNNING") for other in self.states.values())
        outcome = state.status if not state.message else f"{state.status} ({escape(state.message)})"
        best = f"best so far {self._best():.4f}" if self._best() is not None else "none finished yet"
        ended = f"{outcome} in {state.seconds:.0f} s  —  {done}/{self._count()} finished"
        return f"{self._head(state)} {ended}, {best}, {self._eta()}"

    def _render(self) -> RenderableType:
        with self._lock:
            return Group(self._table(), Text(self._summary(), style="bold"))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        columns = ("state", "model", "freeze", "learning rate", "seed", "epoch", f"validation/{self.metric}", "time")
        for name in columns:
            table.add_column(name, no_wrap=True, justify="right" if name in columns[3:] else "left")
        shown = sorted(self.states.values(), key=self._interest)
        for state in shown[:_MAX_ROWS]:
            table.add_row(*self._cells(state))
        if len(shown) > _MAX_ROWS:
            table.add_row(Text(f"… and {len(shown) - _MAX_ROWS} more", style="dim"))
        return table

    def _cells(self, state: _State) -> list[Text]:
        trial = state.trial
        seconds = (
            state.seconds if state.seconds is not None else time.monotonic() - state.began if state.began else None
        )
        texts = (
            state.status + (f" ({state.message})" if state.message else ""),
            trial.model.name,
            trial.policy,
            plan.number(trial.training.learning_rate),
            str(trial.seed),
            f"{state.share * trial.training.num_train_epochs:.1f}/{trial.training.num_train_epochs}",
            "" if state.best is None else f"{state.best:.4f}",
            "" if seconds is None else f"{seconds:.0f} s",
        )
        return [Text(text, style=_STYLES[state.status] if index == 0 else "") for index, text in enumerate(texts)]

    def _summary(self) -> str:
        counts = {status: sum(s.status == status for s in self.states.values()) for status in _STYLES}
        if unseen := self._count() - len(self.states):
            counts["to be drawn"] = unseen
        told = ", ".join(f"{count} {status.lower()}" for status, count in counts.items() if count)
        best = "" if self._best() is None else f"best so far {self._best():.4f} · "
        return f"{told} · {best}{self._elapsed()} elapsed · {self._eta()}"

    def _count(self) -> int:
        """How many trials there will be."""
        return max(self.expected, len(self.states))

    def _best(self) -> float | None:
        values = [state.best for state in self.states.values() if state.best is not None]
        return (min if self.metric == "loss" else max)(values, default=None)

    def _eta(self) -> str:
        """Time left, from the share of all work that this run has done and the time it took.

        Trials that are still to be drawn count as much as the mean of the others.
        """
        known = sum(state.work for state in self.states.values())
        total = known * self._count() / len(self.states) if self.states else 0.0
        done = sum(state.work * state.share for state in self.states.values())
        here = done - sum(self.states[trial_id].work for trial_id in self.finished)
        if done >= total:
            return "nothing left"
        if here <= 0:
            return "time left unknown yet"
        return f"about {_duration((total - done) * (time.monotonic() - self._began) / here)} left"

    def _interest(self, state: _State) -> tuple[int, float]:
        """Failures first, then what runs, then the best, then what waits."""
        order = {"FAILED": 0, "RUNNING": 1, "DONE": 2, "STOPPED": 3, "PENDING": 4}
        if state.best is None:
            return (order[state.status], math.inf)
        return (order[state.status], state.best if self.metric == "loss" else -state.best)

    def _elapsed(self) -> str:
        return _duration(time.monotonic() - self._began)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
