"""Label texts with a trained classifier: `fleetune predict runs/demo "a fine film"`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs.run import application, run
from jobs.screen import Screen
from jobs.source import Source, Uncalibrated
from trainables.errors import BadInput
from workflows.printable import json_line

_SHOWN_CLASSES = 5


def predict(
    source: Source,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; none: one per line from stdin.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read texts from a csv, tsv, jsonl or parquet file.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the texts in --file.")] = "text",
    text_pair_column: Annotated[str | None, typer.Option(help="Column of the second sentences in --file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per text.")] = False,
    uncalibrated: Uncalibrated = False,
) -> None:
    """Print the label and the probability of each label, for each text; the probabilities are calibrated.

    **Examples**

    - `fleetune predict runs/demo "This was the best movie I've ever seen!"`
    - `fleetune predict runs/demo --file reviews.csv --text-column review --json > labelled.jsonl`
    - `fleetune predict runs/demo/baselines/tfidf "a fine film"` – a baseline
    - `cat reviews.txt | fleetune predict models:/reviews@champion`
    """
    found, pairs = _texts(texts, file, text_column, text_pair_column)
    from workflows.predict import load_classifier
    from workflows.predict import predict as label

    predictions = label(load_classifier(source, calibrated=not uncalibrated), found, pairs)
    if as_json:
        for prediction in predictions:
            typer.echo(json_line(vars(prediction)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("label", "probabilities", "text"):
        table.add_column(name)
    for prediction in predictions:
        table.add_row(*map(Text, (prediction.label, _probabilities(prediction.probabilities), _line(prediction.text))))
    Screen().print(table)


def _texts(
    texts: list[str] | None, file: Path | None, text_column: str, text_pair_column: str | None
) -> tuple[list[str], list[str] | None]:
    if texts and file:
        raise BadInput("give texts or --file, not both")
    if file:
        from workflows.data.dataset import read_texts

        return read_texts(str(file), text_column, text_pair_column)
    if not texts:
        texts = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not texts:
        raise BadInput("no texts: give them as arguments, with --file, or one per line on stdin")
    return texts, None


def _probabilities(values: dict[str, float]) -> str:
    shown = sorted(values.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown)


def _line(text: str) -> str:
    """One line without control characters: what a text says must not move the cursor."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return flat if len(flat) <= 80 else f"{flat[:79]}…"


if __name__ == "__main__":
    run(application(predict=predict))
