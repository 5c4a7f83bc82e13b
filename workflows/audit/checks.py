"""The table of checks, and what a sweep file makes of their grades: a new check is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from workflows.audit import classes, facts, near, texts, tokens
from workflows.audit.facts import Facts
from workflows.audit.finding import Checked, Finding, Grade, TokenFigures
from workflows.config import CheckConfig, Severity
from workflows.data.dataset import LabelledData

# Checks of the prepared splits, in the order in which they are shown. Each has a setting of its name under `check`.
DATA_CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "overlap": texts.overlap,
    "normalised_overlap": texts.normalised_overlap,
    "conflicting_labels": texts.conflicting_labels,
    "blank_texts": texts.blank_texts,
    "placeholder_texts": texts.placeholder_texts,
    "one_class": classes.one_class,
    "missing_classes": classes.missing_classes,
    "rare_classes": classes.rare_classes,
    "label_spelling": classes.label_spelling,
    "id_like_labels": classes.id_like_labels,
    "duplicates": texts.duplicates,
    "normalised_duplicates": texts.normalised_duplicates,
}
# Checks of what a tokenizer makes of them, for each tokenizer and max_length of a sweep.
TOKEN_CHECKS: dict[str, Callable[[TokenFigures], Iterator[Finding]]] = {
    "truncated": tokens.truncated,
    "unknown_tokens": tokens.unknown_tokens,
}

_GRADES: dict[Severity, Grade] = {"error": "error", "warn": "warning", "note": "note"}


def check_data(data: LabelledData, config: CheckConfig) -> Checked:
    """Check prepared splits. Near duplicates are looked for only where they are asked for.

    Raises BadInput where near duplicates are asked for and datasketch is not installed.
    """
    if config.near_duplicates != "ignore":
        near.refuse_missing()
    read = facts.read(data)
    found = [finding for find in DATA_CHECKS.values() for finding in find(read)]
    if config.near_duplicates != "ignore":
        found += near.near_duplicates(read, data)
    checked = Checked(fingerprint=data.fingerprint, splits=read.figures())
    return checked.with_findings(graded(found, config))


def with_tokens(checked: Checked, figures: Sequence[TokenFigures], config: CheckConfig) -> Checked:
    """A check of the splits, and what it comes to for some tokenizers."""
    found = [finding for each in figures for find in TOKEN_CHECKS.values() for finding in find(each)]
    return checked.model_copy(update={"tokenizers": tuple(figures)}).with_findings(graded(found, config))


def graded(found: Iterable[Finding], config: CheckConfig) -> Iterator[Finding]:
    """Findings with the grade that the sweep file gives them, without those that it ignores."""
    for finding in found:
        wanted: Severity | None = getattr(config, finding.name)
        if wanted is None:
            yield finding
        elif wanted != "ignore":
            yield finding.model_copy(update={"grade": _GRADES[wanted]})
