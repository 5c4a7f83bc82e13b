"""Labels to look at again: how many of each split, and which."""

from __future__ import annotations

from pathlib import Path

from workflows import error_analysis, label_errors
from workflows.label_errors import Judged, LabelErrors
from workflows.report import numbers
from workflows.report.content import Content, data_folder
from workflows.report.page import Block, Column, Row, Section, Table

_ROWS = 50
_TITLE = "Labels to look at again"
_MISSING = (
    "Not looked for, since the extra label-errors is not installed (pip install -c constraints.txt '.[label-errors]'). "
    "With it, fleetune report finds them."
)
_NO_TEXT = "Texts are not shown (errors.include_text: none)."
_NOTE = "Rows count from 0 in the source. All that was found is in label_errors.json."


def suspected(content: Content) -> Section | None:
    """Texts whose label the champion, and those tied with it, hold for wrong; of train, by cross-validation."""
    champion = content.champion
    if champion is None or champion.test is None:
        return None
    if not label_errors.is_installed():
        return Section("label-errors", _TITLE, _MISSING)
    tied = [run.directory for run in content.done if run is champion or run.row.get("tied")]
    data = data_folder(champion)
    train = data / "train.parquet" if data is not None else None
    known = train if train is not None and train.exists() else None
    found = label_errors.find(content.sweep, tied, known, content.manifest["data"]["fingerprint"])
    blocks: list[Block] = [_counts(found)]
    blocks += [_table(content, judged, data) for judged in found.splits if judged.suspects and judged.is_telling]
    lead = (
        "Texts whose label is improbable, by models that have not seen it, by more than their usual errors explain "
        f"(confident learning). Validation and test are judged by {_judges(found.trials)}, train by TF-IDF and "
        "cross-validation. A classifier is wrong too, the more often the harder the task is: read a text before you "
        "change its label."
    )
    return Section("label-errors", _TITLE, lead, blocks)


def _judges(trials: int) -> str:
    if trials == 1:
        return "the champion"
    others = "the other trial" if trials == 2 else f"the {trials - 1} other trials"
    return f"the champion and {others} that cannot be told from it, on average"


def _counts(found: LabelErrors) -> Table:
    columns = [Column("split", numeric=False), Column("labels\njudged"), Column("suspected"), Column("share")]
    rows = [
        Row(
            [
                judged.split,
                numbers.whole(judged.texts),
                *_told(judged),
            ]
        )
        for judged in found.splits
    ]
    notes = [] if found.has_train else ["The prepared data is not where it was, so train is not judged."]
    vague = [judged for judged in found.splits if not judged.is_telling]
    if vague:
        which = " and ".join(f"{judged.split} ({numbers.percent(judged.share)} are improbable)" for judged in vague)
        notes.append(
            f"The labels of {which} cannot be judged: so many are hardly wrong, it is the models that are, because the "
            "task is hard for them."
        )
    return Table("Suspected labels, by split", columns, rows, note=" ".join(notes))


def _told(judged: Judged) -> tuple[str, str]:
    """How many labels are suspected, and their share; unknown where the models are not good enough to say."""
    if not judged.is_telling:
        return numbers.NONE, numbers.NONE
    return numbers.whole(len(judged.suspects)), numbers.percent(judged.share)


def _table(content: Content, judged: Judged, data: Path | None) -> Table:
    asked, there = content.errors.include_text, data is not None and (data / f"{judged.split}.parquet").exists()
    shown = judged.suspects[:_ROWS]
    texts = {}
    if data is not None and there:
        texts = error_analysis.texts_of(data, judged.split, [each.row for each in shown], asked)
    with_text = there and asked != "none"
    text = [Column("text", numeric=False, wide=True)] if with_text else []
    columns = [Column("row"), Column("label", numeric=False), Column("suggested", numeric=False), *text]
    columns += [Column("probability\nof the label"), Column("of the\nsuggested")]
    rows = []
    for each in shown:
        cells = [str(each.row), content.labels[each.label], content.labels[each.suggested]]
        cells += [texts.get(each.row, "")] if with_text else []
        rows.append(Row([*cells, f"{each.probability_of_label:.3f}", f"{each.probability:.3f}"]))
    notes = [f"… {len(judged.suspects) - _ROWS:,} more."] if len(judged.suspects) > _ROWS else []
    if not with_text:
        gone = "The prepared data is not where it was, so the texts are not shown."
        notes.append(_NO_TEXT if asked == "none" else gone)
    return Table(f"Suspected labels in {judged.split}", columns, rows, note=" ".join([*notes, _NOTE]), folded=True)
