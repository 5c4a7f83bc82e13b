"""Score a trained classifier on a labelled file: `fleetune evaluate runs/demo held-out.csv`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs.run import application, run
from jobs.screen import Screen, output, print_whole, say
from jobs.source import Source, TextColumn, TextPairColumn, Uncalibrated
from trainables.errors import BadInput
from trainables.records import Evaluation
from workflows.printable import json_line


def evaluate(
    source: Source,
    file: Annotated[Path, typer.Argument(help="A labelled csv, tsv, jsonl or parquet file.", show_default=False)],
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the labels.", show_default="as in the sweep of SOURCE, else label")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RAW=NAME",
            help="What a raw label is called; may be given many times.",
            show_default="as in the sweep of SOURCE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    uncalibrated: Uncalibrated = False,
) -> None:
    """Print metrics, scores per class and the confusion matrix on a labelled file.

    **Examples**

    - `fleetune evaluate runs/demo held-out.csv`
    - `fleetune evaluate runs/demo held-out.parquet --label 0=negative --label 1=positive --json`
    - `fleetune evaluate runs/demo/baselines/tfidf held-out.csv` – a baseline
    """
    from workflows.data.dataset import read_labelled
    from workflows.predict import columns_of, find_classifier, load_classifier
    from workflows.predict import evaluate as score

    given = _mapping(label or [])
    folder = find_classifier(source)
    columns = columns_of(folder, text_column, text_pair_column, label_column)
    names = {**columns.labels, **given}
    texts, pairs, labels = read_labelled(str(file), columns.text, columns.pair, columns.label)
    classifier = load_classifier(str(folder), calibrated=not uncalibrated)
    found = score(classifier, texts, pairs, labels, lambda raw: names.get(raw, raw))
    if as_json:
        say(json_line(found.model_dump(mode="json")))
    else:
        _show(found, output())


def _mapping(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise BadInput(f"--label {pair}: write it as RAW=NAME, as in --label 0=negative")
    return dict(pair.split("=", 1) for pair in pairs)


def _show(found: Evaluation, console: Screen) -> None:
    for name, value in found.metrics.items():
        console.print(f"{name:10} {value:.4f}", highlight=False)
    names = list(found.classification_report)
    table = Table(
        box=None, pad_edge=False, header_style="bold", title="\nPer class; rows of the matrix are true labels"
    )
    for column in ("label", "precision", "recall", "f1", "support", *(f"→ {name}" for name in names)):
        table.add_column(Text(column), justify="left" if column == "label" else "right")
    for name, counts in zip(names, found.confusion_matrix, strict=True):
        scores = found.classification_report[name]
        shown = [f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")]
        table.add_row(Text(name), *shown, f"{scores['support']:.0f}", *map(str, counts))
    print_whole(table, console)


if __name__ == "__main__":
    run(application(evaluate=evaluate))
