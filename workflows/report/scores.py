"""What the champion gets right and wrong on test: confusion matrices, scores per class, and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainables.records import Evaluation
from workflows import error_analysis, figures
from workflows.error_analysis import AccuracyBin, WorstText
from workflows.headline import shown, signed
from workflows.report import numbers
from workflows.report.content import Content, Run, data_folder
from workflows.report.page import Block, Column, Data, Figures, Paragraph, Plot, Row, Section, Table

if TYPE_CHECKING:
    import pandas as pd

_DRAWN_CLASSES = 40
# Larger matrices stand below each other.
_BESIDE_EACH_OTHER = 8
_OPEN_CLASSES = 40
_BINS = "Lengths are in the champion's tokens, before cutting; behind each interval stands its number of texts."
_OTHERS = "Their texts with the highest loss; MLflow has the same tables for every trial, under errors/."
_OTHER_TRIALS = 30
_PER_CLASS = ("precision", "recall", "f1")


def confusion(content: Content) -> Section | None:
    """The champion's and the best baseline's confusion matrices on test, as counts and by row."""
    plots = [
        plot
        for role, run in (("champion", content.champion), ("baseline", content.best_baseline))
        if run and run.test
        for plot in _matrices(content, role, run, run.test)
    ]
    if not plots:
        return None
    lead = "Test texts by their true class (rows) and the predicted one (columns). Shades are shares of the true class."
    return Section("confusion", "Confusion matrices", lead, [Figures(plots)])


def per_class(content: Content) -> Section | None:
    """Precision, recall and F1 of every class, with TF-IDF's beside them."""
    if content.champion is None or content.champion.test is None:
        return None
    best = content.champion.test.classification_report
    other = content.reference.test if content.reference else None
    known = other.classification_report if other else {}
    beside = shown(content.reference.run_id) if content.reference else ""
    columns = [Column("class", numeric=False), Column("texts"), *map(Column, _PER_CLASS)]
    columns += [Column(f"{beside}\n{key}") for key in _PER_CLASS if known] + ([Column("F1\ngained")] if known else [])
    rows = [Row(_class_cells(label, best[label], known.get(label))) for label in content.labels]
    table = Table("Scores of each class on test", columns, rows, folded=len(rows) > _OPEN_CLASSES)
    lead = f"{content.label(content.champion)} on test" + (f", beside {beside}." if known else ".")
    return Section("classes", "Scores per class", lead, [Figures([_f1_plot(content, best, known, beside)]), table])


def errors(content: Content) -> Section | None:
    """The champion's worst texts, the classes it confuses, accuracy by length and by share cut; others' worst texts."""
    champion = content.champion
    predicted = champion.predictions() if champion else None
    if champion is None or predicted is None:
        return None
    wrong = int((predicted["label"] != predicted["predicted"]).sum())
    blocks: list[Block] = [_worst_table(content, champion, predicted)]
    if champion.test:
        blocks.append(_pairs_table(content, champion.test))
    plots = list(_bins(content, predicted))
    if plots:
        blocks += [Paragraph(_BINS, "Length and cutting"), Figures(plots)]
    others = list(_worst_of_others(content, champion))
    if others:
        blocks += [Paragraph(_OTHERS, "The other trials and TF-IDF"), *others]
    lead = f"{content.label(champion)} is wrong on {wrong:,} of {len(predicted):,} test texts."
    return Section("errors", "Errors", lead, blocks)


def _matrices(content: Content, role: str, run: Run, evaluation: Evaluation) -> Iterable[Plot]:
    matrix, labels = evaluation.confusion_matrix, content.labels
    name = content.label(run) if role == "champion" else shown(run.run_id)
    right = sum(matrix[index][index] for index in range(len(labels)))
    pairs = error_analysis.confused_pairs(matrix, labels, 1)
    worst = f"; most often {pairs[0].label} is taken for {pairs[0].predicted} ({pairs[0].count} texts)" if pairs else ""
    alt = f"{name}: {right:,} of {sum(map(sum, matrix)):,} test texts are on the diagonal{worst}."
    cells = [
        (labels[true], labels[other], number, number / sum(row) if sum(row) else None)
        for true, row in enumerate(matrix)
        for other, number in enumerate(row)
    ]
    for kind, percent in (("counts", False), ("percent of row", True)):
        yield Plot(
            name=f"confusion-{role}-{'rows' if percent else 'counts'}",
            title=f"{name}: {kind}",
            alt=f"{alt} Cells hold {kind}.",
            figure=figures.confusion_matrix(matrix, labels, f"{role.capitalize()}: {kind}", percent=percent),
            data=Data(("true", "predicted", "count", "share_of_true"), cells),
            wide=len(labels) > _BESIDE_EACH_OTHER,
        )


def _class_cells(label: str, best: dict[str, float], other: dict[str, float] | None) -> list[str]:
    cells = [label, numbers.whole(int(best["support"])), *(numbers.score(best[key]) for key in _PER_CLASS)]
    if other:
        cells += [*(numbers.score(other[key]) for key in _PER_CLASS), signed(best["f1"] - other["f1"])]
    return cells


def _f1_plot(content: Content, best: dict[str, Any], known: dict[str, Any], beside: str) -> Plot:
    """F1 per class, the weakest first; of very many classes the weakest alone are drawn."""
    order = sorted(content.labels, key=lambda label: best[label]["f1"])
    drawn = order[:_DRAWN_CLASSES]
    series = {"champion": [best[label]["f1"] for label in drawn]}
    if known:
        series[beside] = [known[label]["f1"] for label in drawn]
    keys = [f"{role}_{key}" for role in ("champion", "reference")[: len(series)] for key in _PER_CLASS]
    rows = [
        (
            label,
            int(best[label]["support"]),
            *(found[label][key] for found in filter(None, (best, known)) for key in _PER_CLASS),
        )
        for label in order
    ]
    weakest, strongest = order[0], order[-1]
    many = f" The {_DRAWN_CLASSES} weakest of {len(order)} classes are drawn." if len(order) > len(drawn) else ""
    return Plot(
        name="f1-per-class",
        title="F1 of each class on test, the weakest first",
        alt=f"The champion's F1 is lowest for {weakest} ({best[weakest]['f1']:.4f}) and highest for {strongest} "
        f"({best[strongest]['f1']:.4f}).{_better_in(content, best, known, beside)}{many}",
        figure=figures.dots(drawn, series, "F1 on test"),
        data=Data(("class", "texts", *keys), rows),
    )


def _better_in(content: Content, best: dict[str, Any], known: dict[str, Any], beside: str) -> str:
    if not known:
        return ""
    ahead = sum(best[label]["f1"] > known[label]["f1"] for label in content.labels)
    return f" It is above that of {beside} in {ahead} of {len(content.labels)} classes."


def _worst_table(content: Content, run: Run, predicted: pd.DataFrame, champion: Run | None = None) -> Table:
    """A run's texts with the highest loss; a baseline has no prepared data of its own, so the champion's is read."""
    asked, folder = content.errors, data_folder(champion or run)
    include = asked.include_text if folder else "none"
    found = error_analysis.worst_texts(predicted, folder or run.directory.root, content.labels, asked.count, include)
    text = [Column("text", numeric=False, wide=True)] if include != "none" else []
    columns = [Column("row"), Column("true", numeric=False), Column("predicted", numeric=False), *text]
    columns += map(Column, ("probability", "of the\ntrue class", "loss", "tokens", "cut\noff"))
    gone = "The prepared data is not where it was, so the texts are not shown." if folder is None else ""
    note = gone if asked.include_text != "none" else "Texts are not shown (errors.include_text: none)."
    rows = [Row(_worst_cells(worst, include != "none")) for worst in found]
    return Table("Test texts with the highest loss", columns, rows, note=note)


def _worst_of_others(content: Content, champion: Run) -> Iterable[Table]:
    """The worst texts of the best trials beside the champion, and of the baseline that errors are held against."""
    others = [run for run in content.done if run is not champion][:_OTHER_TRIALS]
    for run in filter(None, (content.reference, *others)):
        predicted = run.predictions()
        if predicted is not None:
            name = content.label(run) if run.row["kind"] == "trial" else shown(run.run_id)
            yield replace(_worst_table(content, run, predicted, champion), caption=name, folded=True, note="")


def _worst_cells(worst: WorstText, with_text: bool) -> list[str]:
    return [
        str(worst.row),
        worst.label,
        worst.predicted,
        *([worst.text or ""] if with_text else []),
        f"{worst.probability:.3f}",
        f"{worst.probability_of_label:.3f}",
        f"{worst.loss:.3f}",
        numbers.whole(worst.tokens),
        numbers.whole(worst.tokens_cut),
    ]


def _pairs_table(content: Content, evaluation: Evaluation) -> Table:
    pairs = error_analysis.confused_pairs(evaluation.confusion_matrix, content.labels)
    columns = [
        Column("true", numeric=False),
        Column("predicted", numeric=False),
        Column("texts"),
        Column("of the class"),
    ]
    rows = [Row([pair.label, pair.predicted, f"{pair.count:,}", numbers.percent(pair.share)]) for pair in pairs]
    return Table("Most confused pairs of classes", columns, rows, note="" if rows else "No text is confused.")


def _bins(content: Content, predicted: pd.DataFrame) -> Iterable[Plot]:
    measured = error_analysis.text_lengths(predicted)
    if measured is None:
        return
    lengths, shares = measured
    sides = {"champion": predicted} | _beside(content, predicted)
    by_length = {side: error_analysis.accuracy_by_length(found, lengths) for side, found in sides.items()}
    yield _bin_plot("accuracy-by-length", "Accuracy by length", by_length, _tokens)
    if shares.any():
        by_share = {side: error_analysis.accuracy_by_share_cut(found, shares) for side, found in sides.items()}
        yield _bin_plot("accuracy-by-share-cut", "Accuracy by the share that was cut off", by_share, _share_cut)


def _beside(content: Content, predicted: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The reference's predictions, where they are of the same texts in the same order."""
    found = content.reference.predictions() if content.reference else None
    if content.reference is None or found is None or found["row"].tolist() != predicted["row"].tolist():
        return {}
    return {shown(content.reference.run_id): found}


def _bin_plot(
    name: str, title: str, bins: dict[str, list[AccuracyBin]], interval: Callable[[AccuracyBin], str]
) -> Plot:
    first = bins["champion"]
    low, high = (choose(first, key=lambda item: item.accuracy) for choose in (min, max))
    values = {side: [item.accuracy for item in found] for side, found in bins.items()}
    ticks = [f"{interval(item)}  ({item.texts:,})" for item in first]
    rows = [(side, item.low, item.high, item.texts, item.accuracy) for side, found in bins.items() for item in found]
    return Plot(
        name=name,
        title=title,
        alt=f"The champion's accuracy is lowest at {interval(low)} ({low.accuracy:.4f} on {low.texts:,} texts) and "
        f"highest at {interval(high)} ({high.accuracy:.4f} on {high.texts:,}).",
        figure=figures.dots(ticks, values, "accuracy on test"),
        data=Data(("side", "low", "high", "texts", "accuracy"), rows),
    )


def _tokens(item: AccuracyBin) -> str:
    low, high = int(item.low), int(item.high)
    return f"{low} tokens" if low == high else f"{low} – {high} tokens"


def _share_cut(item: AccuracyBin) -> str:
    if item.high == 0:
        return "nothing cut"
    low, high = (f"{100 * value:.0f}" for value in (item.low, item.high))
    return f"{low} % cut" if low == high else f"{low} – {high} % cut"
