"""The check of a sweep's data: run first by every sweep, and alone by `fleetune check CONFIG`. It starts no Ray.

The findings themselves are made in `workflows.audit`; here they are brought together, said, and acted upon.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.arguments import ModelSpec
from trainables.errors import BadInput, CorruptFile, UnusableData
from workflows import plan
from workflows.audit import checks, tokens
from workflows.audit.finding import Checked, Finding
from workflows.config import CheckConfig, SweepConfig
from workflows.prepare import Prepared, prepare
from workflows.spinner import phase
from workflows.sweep_file import load

# How long a sweep waits for another process that is making the tokens which it wants to look at.
PATIENCE_SECONDS = 5.0
UNUSABLE = "unusable"


@dataclass(frozen=True)
class Outcome:
    """What `fleetune check` has found in the data of a sweep file; `notes` are what the preparation had to say."""

    config: SweepConfig
    checked: Checked
    fingerprint: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """2 where a sweep would not begin, else 0."""
        return 2 if self.checked.of("error") else 0

    def document(self) -> dict[str, Any]:
        """All of it as one JSON value."""
        found = self.checked.model_dump(mode="json")
        about = {"path": self.config.data.path, "fingerprint": self.fingerprint, "notes": list(self.notes)}
        counts = {f"{grade}s": len(self.checked.of(grade)) for grade in ("error", "warning", "note")}
        del found["fingerprint"]
        return {"name": self.config.name, "data": about, **counts, **found}


def check_file(path: Path, overrides: Sequence[str], console: Console, *, near: bool = False) -> Outcome:
    """Check the data of a sweep file, whose tokens are made for the sweep to come; `near`: near duplicates as well.

    Data that a sweep would refuse at once are a finding too. Raises BadInput for what is wrong with the rest of the
    file, and where near duplicates are asked for and datasketch is not installed.
    """
    config = load(path, overrides)
    if near and config.check.near_duplicates == "ignore":
        config = config.model_copy(update={"check": config.check.model_copy(update={"near_duplicates": "warn"})})
    try:
        prepared = prepare(config, console)
    except UnusableData as error:
        return Outcome(config, Checked(findings=(_unusable(error),)))
    with phase(console, "looking at the tokens"):
        prepared = with_tokens(prepared)
    return Outcome(config, prepared.checked, prepared.data.fingerprint, prepared.data.notes)


def announce(prepared: Prepared, console: Console) -> Prepared:
    """Say what the check of the splits has found, before anything is started.

    Raises BadInput where there is an error and the sweep has not begun. Tokens are looked at here only where the
    sweep file makes errors of what they show.
    """
    grades = (getattr(prepared.config.check, name) for name in checks.TOKEN_CHECKS)
    if "error" in grades and not prepared.sweep.manifest.exists():
        with phase(console, "looking at the tokens"):
            prepared = with_tokens(prepared)
    _say(f"check of the data: {prepared.checked.tally}", console)
    _judge(prepared, prepared.checked.findings, console)
    return prepared


def continued(prepared: Prepared) -> Prepared:
    """With what an earlier run of the sweep has already found out about the tokens of the same data."""
    try:
        stored = Checked.read(prepared.sweep.check)
    except (FileNotFoundError, CorruptFile):
        return prepared
    known = {(each.tokenizer_sha256, each.max_length): each for each in stored.tokenizers}
    wanted = [(model.tokenizer_sha256, max_length) for model, max_length in _tokenizers(prepared)]
    if stored.fingerprint != prepared.checked.fingerprint or not all(pair in known for pair in wanted):
        return prepared
    figures = [known[pair] for pair in wanted]
    return replace(prepared, checked=checks.with_tokens(prepared.checked, figures, prepared.config.check))


def with_tokens(prepared: Prepared, patience: float = -1) -> Prepared:
    """With findings about tokens, where they are not there yet; `patience` as in `workflows.audit.tokens.measure`."""
    if prepared.checked.tokenizers:
        return prepared
    figures = tokens.measure(prepared.data, prepared.sweep.cache, _tokenizers(prepared), patience)
    return replace(prepared, checked=checks.with_tokens(prepared.checked, figures, prepared.config.check))


def with_tokens_if_possible(prepared: Prepared) -> tuple[Prepared, str | None]:
    """`with_tokens` of a sweep, or why there are none: whatever keeps it from reading them, the trials meet as well.

    They say what it means for each of them, so this is not the place to end the sweep.
    """
    try:
        found = with_tokens(prepared, PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001 - told, and met again by the trials
        return prepared, f"{type(error).__name__}: {error}"
    missing = len(_tokenizers(prepared)) - len(found.checked.tokenizers)
    return found, "another process is making them" if missing > 0 else None


def announce_tokens(before: Prepared, after: Prepared, why: str | None, console: Console) -> None:
    """Say what tokens have shown, where it was not said before. Raises BadInput as `announce`."""
    if why:
        _say(f"the tokens were not checked: {why}", console)
    known = set(before.checked.findings)
    _judge(after, [finding for finding in after.checked.findings if finding not in known], console)


def _unusable(error: UnusableData) -> Finding:
    return Finding(name=UNUSABLE, grade="error", count=1, share=None, splits=(), message=str(error), remedy="")


def _tokenizers(prepared: Prepared) -> list[tuple[ModelSpec, int]]:
    """The tokenizers of the sweep, each with every max_length; where lengths are drawn, with the longest."""
    points = plan.points(prepared.config)
    return tokens.distinct((prepared.models[point.model], point.training.max_length) for point in points)


def _judge(prepared: Prepared, findings: Iterable[Finding], console: Console) -> None:
    """Show errors and warnings, and refuse to begin a sweep with errors. One that has begun goes on."""
    errors = [finding for finding in findings if finding.grade == "error"]
    if errors and not prepared.sweep.manifest.exists():
        listed = "\n".join(_refusal(finding, prepared.config.check) for finding in errors)
        raise BadInput(f"the check of the data has found {_errors(len(errors))}, so nothing was started:\n{listed}")
    for finding in errors:
        _say(f"  error: {finding.sentence} (the sweep has begun, so it goes on)", console)
    for finding in findings:
        if finding.grade == "warning":
            _say(f"  warning: {finding.sentence}", console)


def _refusal(finding: Finding, config: CheckConfig) -> str:
    rows = f" (rows {finding.where})" if finding.rows else ""
    meant = f"check.{finding.name}: warn, if it is meant to be so"
    strict = (
        f"; check.{finding.name} makes it an error" if getattr(config, finding.name) == "error" else f"; or {meant}"
    )
    return f"  {finding.name}: {finding.message}{rows}\n    {finding.remedy}{strict}"


def _errors(count: int) -> str:
    return "1 error" if count == 1 else f"{count} errors"


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
