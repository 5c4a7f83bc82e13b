"""What is real: every point against the champion's, and how much choosing has flattered the winner."""

from __future__ import annotations

from workflows.headline import metric_name, p_value, point_name, shown, signed
from workflows.leaderboard import Row as BoardRow
from workflows.report.content import Content
from workflows.report.page import Block, Column, Paragraph, Row, Section, Table
from workflows.verdict import SIGNIFICANT, Choice, Compared, Verdict

_ROWS = 50


def comparisons(content: Content) -> Section | None:
    """The champion's point against each other one, on validation and on test. None where nothing was compared."""
    verdict = content.verdict
    if verdict is None or not (verdict.validation or verdict.unusable or verdict.choice):
        return None
    blocks: list[Block] = []
    if verdict.validation:
        blocks.append(_table(content, verdict))
    if verdict.choice is not None:
        text = flattery(verdict.choice, verdict.metric, verdict.texts)
        blocks.append(Paragraph(text, "What choosing the best has flattered"))
    if verdict.unusable:
        text = "; ".join(f"{run}: {why}" for run, why in verdict.unusable.items())
        blocks.append(Paragraph(f"{text}. The same sweep again makes them anew.", "Not compared"))
    lead = (
        "The champion's point against every other one, on the same texts. Tied is what a paired test on validation "
        f"does not tell from it: p ≥ {SIGNIFICANT:g} after Holm's correction, and after one for the champion being the "
        "best of all by these texts. Test had no part in the choice, so Holm's correction is enough there, for the "
        "baselines (and freezing) and for the trials. Accuracy of one seed against one: McNemar's exact test; else a "
        "paired bootstrap over texts, to which the variance between seeds is added. Ranges are 95 % intervals of each "
        "difference alone."
    )
    return Section("verdict", "What is real", lead, blocks)


def flattery(choice: Choice, metric: str, texts: int) -> str:
    """How much the winner's validation score owes to its having been chosen by it."""
    told = (
        f"The winner's {metric_name(metric)} on validation is {choice.score:.4f}. It is the best of {choice.trials} "
        f"trials ({choice.points} points) by the same {texts:,} texts, and the best of several is in part the "
        "luckiest. Chosen anew on bootstrap samples, and scored on the texts that these leave out, winners come to "
        f"{choice.expect:.4f}: "
    )
    off = choice.expect - choice.score if metric == "loss" else choice.score - choice.expect
    if off <= 0:
        return f"{told}no flattery shows."
    return (
        f"{told}about {off:.4f} of it is flattery. (That the best epoch was chosen by these texts too is not counted.) "
        "Test chose nothing: expect what it says."
    )


def _table(content: Content, verdict: Verdict) -> Table:
    points = {row["point_id"]: row for row in reversed(content.rows)}
    on_test = {compared.other: compared for compared in verdict.test}
    rows = []
    for compared in verdict.validation[:_ROWS]:
        row, other = points[compared.other], on_test.get(compared.other)
        tied = "" if compared.is_real else "≈"
        rows.append(Row([_named(row), *_cells(compared), tied, *(_cells(other) if other else [""] * 3)]))
    name, reported = metric_name(verdict.metric), metric_name(verdict.reported)
    columns = [Column("champion's point against", numeric=False)]
    columns += [Column(f"validation\n{name}"), Column("validation,\n95 %"), Column("validation,\ncorrected p")]
    columns += [Column("tied", numeric=False)]
    columns += [Column(f"test\n{reported}"), Column("test,\n95 %"), Column("test,\ncorrected p")]
    rest = len(verdict.validation) - len(rows)
    note = f"… {rest:,} more in leaderboard.json" if rest else ""
    return Table("The champion's point minus each other one", columns, rows, note=note)


def _named(row: BoardRow) -> str:
    return f"{shown(row['trial_id'])} (baseline)" if row["kind"] == "baseline" else point_name(row)


def _cells(compared: Compared) -> list[str]:
    ends = f"{signed(compared.low)} to {signed(compared.high)}"
    return [signed(compared.difference), ends, p_value(compared.corrected).removeprefix("p ").removeprefix("= ")]
