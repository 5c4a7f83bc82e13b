"""The sections of the report, in their order: a new one is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable

from workflows.report import (
    checks,
    closing,
    confidence,
    costs,
    label_errors,
    lora,
    overview,
    planned,
    scores,
    training,
    verdicts,
)
from workflows.report.content import Content
from workflows.report.page import Section

# A section that has nothing to show in a sweep is None.
SECTIONS: tuple[Callable[[Content], Section | None], ...] = (
    overview.data,
    checks.findings,
    overview.board,
    overview.doubts,
    verdicts.comparisons,
    training.learning_curves,
    training.schedules,
    scores.confusion,
    scores.per_class,
    confidence.calibration,
    costs.policies,
    costs.inference,
    lora.lora,
    scores.errors,
    label_errors.suspected,
    planned.times,
    closing.unfinished,
    closing.reproduce,
)
