"""Label texts with a trained classifier: `fleetune predict runs/demo "a fine film"`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from jobs.run import application, run
from jobs.screen import output, print_whole, say
from jobs.source import Source, TextColumn, TextPairColumn, Uncalibrated
from trainables.errors import BadInput
from workflows.printable import json_line

if TYPE_CHECKING:
    from workflows.predict import Columns

_SHOWN_CLASSES = 5


def predict(
    source: Source,
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; none: one per line from stdin.")] = None,
    file: Annotated[Path | None, typer.Option(help="Read texts from a csv, tsv, jsonl or parquet file.")] = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
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
    if not file and (text_column or text_pair_column):
        raise BadInput("--text-column and --text-pair-column name columns of --file, which is not given")
    if texts and file:
        raise BadInput("give texts or --file, not both")
    from workflows.predict import columns_of, find_classifier, load_classifier
    from workflows.predict import predict as label

    folder = find_classifier(source)
    found, pairs = _read(texts, file, columns_of(folder, text_column, text_pair_column))
    predictions = label(load_classifier(str(folder), calibrated=not uncalibrated), found, pairs)
    if as_json:
        for prediction in predictions:
            say(json_line(vars(prediction)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("label", "probabilities", "text"):
        table.add_column(name)
    for prediction in predictions:
        table.add_row(*map(Text, (prediction.label, _probabilities(prediction.probabilities), _line(prediction.text))))
    console = output()
    # On a terminal long texts had better wrap in their column; whoever reads a pipe wants a line for each.
    if console.is_terminal:
        console.print(table)
    else:
        print_whole(table, console)


def _read(texts: list[str] | None, file: Path | None, columns: Columns) -> tuple[list[str], list[str] | None]:
    """Texts, and the second sentences of a classifier of pairs."""
    if file:
        from workflows.data.dataset import read_texts

        return read_texts(str(file), columns.text, columns.pair)
    if columns.pair:
        raise BadInput(
            f"this classifier was trained on pairs of texts ({', '.join(columns.text)}; {columns.pair}): "
            "give them with --file"
        )
    texts = texts or [line for line in _stdin_lines() if line.strip()]
    if not texts:
        raise BadInput("no texts: give them as arguments, with --file, or one per line on stdin")
    return texts, None


def _stdin_lines() -> Iterator[str]:
    """Lines of stdin, which is UTF-8 whatever the locale says. Raises BadInput for one that is not."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise BadInput(f"stdin:{number}: is not UTF-8 ({error.reason}); convert it, as with iconv") from None


def _probabilities(values: dict[str, float]) -> str:
    shown = sorted(values.items(), key=lambda item: -item[1])[:_SHOWN_CLASSES]
    return "  ".join(f"{name} {value:.3f}" for name, value in shown)


def _line(text: str) -> str:
    """One line without control characters: what a text says must not move the cursor."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return flat if len(flat) <= 80 else f"{flat[:79]}…"


if __name__ == "__main__":
    run(application(predict=predict))
