"""A first sweep file for your own data: `fleetune init reviews.csv`, then `fleetune sweep sweep.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import screen
from jobs.run import application, run


def init(
    source: Annotated[
        str,
        typer.Argument(
            help="Labelled text: a file (csv, tsv, jsonl, parquet), a folder, a glob, pkg://package/path or a Hub id.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option(help="The sweep file to write.")] = Path("sweep.yaml"),
    text_column: Annotated[
        list[str] | None, typer.Option(help="Column of the texts; given many times: joined. Default: guessed.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels. Default: guessed.")] = None,
    model: Annotated[
        str, typer.Option(help="A Hub id, a local folder, or pkg://package/path. Nothing is downloaded here.")
    ] = "distilbert-base-uncased",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Look at labelled text and write a commented sweep file for it.

    **Examples**

    - `fleetune init reviews.csv`
    - `fleetune init reviews.csv --text-column title --text-column body --label-column stars --output stars.yaml`
    - `fleetune init stanfordnlp/imdb --model ./my-encoder`
    """
    from workflows import shell
    from workflows.draft import Wish, write_draft
    from workflows.draft_file import guessed, lengths

    console = screen.output()
    wish = Wish(source, output, model, tuple(text_column or ()), label_column, force)
    draft = write_draft(wish, console)
    rows = ", ".join(f"{count:,} {split}" for split, count in draft.found.rows.items())
    metric = f"metric: {draft.metric}" + (f" ({draft.imbalance})" if draft.imbalance else "")
    for line in (
        *guessed(draft),
        f"rows: {rows}; {len(draft.train)} classes",
        metric,
        f"{lengths(draft)} {draft.lengths.max_length}",
        f"written: {output}",
        f"next: {shell.command('fleetune', 'sweep', str(output))}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run(application(init=init))
