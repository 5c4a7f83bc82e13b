"""What a check of the data comes to, as values: findings by grade, and the figures that they are about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from trainables.arguments import Frozen
from trainables.records import Record

Grade = Literal["error", "warning", "note"]
GRADES: tuple[Grade, ...] = ("error", "warning", "note")
NEAR_DUPLICATES = "near_duplicates"
# Rows that are shown of each finding.
EXAMPLES = 10


def part(count: int, whole: int) -> str:
    """A count and its share, as in `9 (1.8 %)`."""
    share = 100 * count / whole
    return f"{count:,} ({share:.1f} %)" if share >= 0.05 else f"{count:,} of {whole:,}"


class Finding(Frozen):
    """One thing that was found. Rows are numbered as in the source, from 0.

    `count` of them are `share` of what was looked at (0 to 1; null where a share says nothing). `rows` are the first
    ten, `twins` the rows that each of them is equal to or nearly so, in the same order (empty where there are none).
    """

    name: str
    grade: Grade
    count: int
    share: float | None
    splits: tuple[str, ...]
    rows: tuple[int, ...] = ()
    twins: tuple[int, ...] = ()
    message: str
    remedy: str

    @property
    def where(self) -> str:
        """The example rows, each with its twin: `7 (= 3), 9 (= 3), …`, where rows 7 and 9 are equal to row 3."""
        sign = "≈" if self.name == NEAR_DUPLICATES else "="
        twins = [f" ({sign} {twin})" for twin in self.twins] or [""] * len(self.rows)
        named = ", ".join(f"{row}{twin}" for row, twin in zip(self.rows, twins, strict=True))
        return f"{named}, …" if len(self.rows) == EXAMPLES and self.count > EXAMPLES else named

    @property
    def sentence(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.name}: {self.message}{f'; {self.remedy}' if self.remedy else ''}"


class SplitFigures(Frozen):
    """A split in numbers; `characters` are the median, the 95th percentile and the longest of its texts."""

    rows: int
    classes: dict[str, int]
    characters: tuple[int, int, int]


class TokenFigures(Frozen):
    """All texts as one tokenizer sees them at one max_length; `lengths` are tokens before the cut, as `characters`.

    `tokens` counts them all, and `tokens_cut` those of them beyond max_length, both with the special tokens around a
    text. `unknown` counts unknown tokens among the rest. The rows are the first ten where something is cut or unknown.
    """

    model: str
    max_length: int
    tokenizer_sha256: str
    texts: int
    texts_cut: int
    rows_cut: tuple[int, ...] = ()
    tokens: int
    tokens_cut: int
    unknown: int
    texts_unknown: int
    rows_unknown: tuple[int, ...] = ()
    lengths: tuple[int, int, int]


class Checked(Record):
    """A whole check: the splits, the tokenizers of the sweep, and what was found, errors first."""

    fingerprint: str = ""
    splits: dict[str, SplitFigures] = Field(default_factory=dict)
    tokenizers: tuple[TokenFigures, ...] = ()
    findings: tuple[Finding, ...] = ()

    def of(self, grade: Grade) -> tuple[Finding, ...]:
        """The findings of one grade."""
        return tuple(found for found in self.findings if found.grade == grade)

    def with_findings(self, more: Iterable[Finding]) -> Checked:
        """With more findings, in order of their grade."""
        every = sorted((*self.findings, *more), key=lambda finding: GRADES.index(finding.grade))
        return self.model_copy(update={"findings": tuple(every)})

    @property
    def tally(self) -> str:
        """How many of each grade, as in `1 error, 2 warnings`."""
        counts = {grade: len(self.of(grade)) for grade in GRADES}
        said = [f"{count} {grade}{'' if count == 1 else 's'}" for grade, count in counts.items() if count]
        return ", ".join(said) or "nothing was found"
