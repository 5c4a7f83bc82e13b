"""What the check of the data has found, and the texts in the tokens of each model."""

from __future__ import annotations

from trainables.redaction import redact
from workflows.audit.finding import Checked
from workflows.report import numbers
from workflows.report.content import Content
from workflows.report.page import Block, Column, Paragraph, Row, Section, Table


def findings(content: Content) -> Section | None:
    """Every finding with its remedy. None for a sweep from before there was a check."""
    checked = content.checked
    if checked is None:
        return None
    blocks: list[Block] = [_table(checked) if checked.findings else Paragraph("Nothing was found.")]
    if checked.tokenizers:
        blocks.append(_tokenizers(checked))
    lead = (
        "Looked for before anything was trained: texts in two splits, copies, texts with several labels, blanks, "
        "missing and rare classes, what max_length cuts off. Rows are numbered as in the source, from 0."
    )
    return Section("check", "Check of the data", lead, blocks)


def _table(checked: Checked) -> Table:
    columns = [Column("grade", numeric=False), Column("finding", numeric=False), Column("count"), Column("share")]
    columns += [Column(title, numeric=False, wide=True) for title in ("what was found", "rows", "what to do")]
    rows = [
        Row(
            [
                found.grade,
                found.name,
                numbers.whole(found.count),
                numbers.percent(found.share),
                redact(found.message),
                found.where,
                found.remedy,
            ]
        )
        for found in checked.findings
    ]
    return Table(f"Findings: {checked.tally}", columns, rows)


def _tokenizers(checked: Checked) -> Table:
    columns = [Column("model", numeric=False), Column("max_length"), Column("texts cut"), Column("tokens\ncut")]
    columns += [Column("unknown\ntokens"), Column("half\nup to"), Column("95 %\nup to"), Column("longest")]
    rows = [
        Row(
            [
                redact(found.model),
                numbers.whole(found.max_length),
                numbers.percent(found.texts_cut / found.texts),
                numbers.percent(found.tokens_cut / found.tokens),
                numbers.percent(found.unknown / max(1, found.tokens - found.tokens_cut)),
                *map(numbers.whole, found.lengths),
            ]
        )
        for found in checked.tokenizers
    ]
    return Table("Texts in tokens", columns, rows)
