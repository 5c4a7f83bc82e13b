"""The page from its sections, and its figures as files: report.html, figures/*.png and figures/*.csv."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.directory import SweepDirectory
from trainables.files import new_directory, write_text
from workflows import figures
from workflows.headline import NO_CHAMPION, Headline, interval, shown, signed, times
from workflows.report import content as contents
from workflows.report import numbers
from workflows.report.content import Content
from workflows.report.page import Plot, Section
from workflows.report.sections import SECTIONS

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATE = "page.html.j2"
# Larger data is found as a file; in the page it would cost more than it is worth.
_LINKED_BYTES = 24_000


@dataclass(frozen=True)
class Tile:
    """One number of the headline: what it is, and what stands beside it."""

    name: str
    value: str
    note: str = ""


def write_report(sweep: SweepDirectory) -> Path:
    """Write report.html and figures/ of a sweep, finished or not, from its directory alone; returns the page's path.

    Both are replaced whole. Raises BadInput for a folder without a manifest, CorruptFile for a damaged record.
    """
    content = contents.read(sweep)
    sections = [section for make in SECTIONS if (section := make(content)) is not None]
    page = render(content, sections)
    with new_directory(sweep.figures) as folder:
        for plot in _plots(sections):
            figures.save(plot.figure, folder / f"{plot.name}.png")
            (folder / f"{plot.name}.csv").write_text(plot.data.csv(), encoding="utf-8")
    write_text(sweep.report, page)
    return sweep.report


def render(content: Content, sections: Sequence[Section]) -> str:
    """The page as HTML. Everything but our own SVG is escaped by the template."""
    from workflows.report.svg import inline

    template = _environment().get_template(_TEMPLATE)
    headline = content.headline
    return template.render(
        name=content.manifest["name"],
        sections=sections,
        headline=headline,
        sentences=headline.sentences if headline else [NO_CHAMPION],
        tiles=tiles(headline) if headline else [],
        progress=_progress(content),
        svg=lambda plot: inline(plot.figure, plot.name, plot.alt),
        csv_link=_csv_link,
    )


def tiles(headline: Headline) -> list[Tile]:
    """The numbers of the headline; those against a baseline are against the strongest one."""
    found = [
        Tile("test accuracy", numbers.score(headline.accuracy), _interval(headline.accuracy_interval)),
        Tile("test macro-F1", numbers.score(headline.f1_macro), _interval(headline.f1_macro_interval)),
    ]
    for versus in headline.versus[:1]:
        name = shown(versus.baseline)
        if versus.accuracy is not None:
            found.append(Tile(f"accuracy against {name}", signed(versus.accuracy)))
        if versus.train_time is not None:
            found.append(Tile("training time", times(versus.train_time), f"that of {name}"))
        if versus.latency is not None:
            found.append(Tile("time per text", times(versus.latency), f"that of {name}"))
    return found


def _interval(ends: tuple[float, float] | None) -> str:
    return f"95 %: {interval(ends)}" if ends else ""


def _progress(content: Content) -> str:
    """What is missing from an unfinished sweep, in words; nothing where all trials have ended."""
    states = [run.row["status"] for run in content.trials]
    planned = len(content.manifest["trials"])
    ended = sum(state in ("DONE", "STOPPED", "FAILED") for state in states)
    fitted = {run.run_id for run in content.baselines}
    without = [shown(name) for name in content.manifest.get("baselines", []) if name not in fitted]
    if ended == planned and not without:
        return ""
    missing = f", without {' and '.join(without)}" if without else ""
    search = content.config.get("search", {})
    # Optuna draws a trial when a slot is free, and fewer than it may where the space holds no more.
    most = (search.get("num_trials") or 0) * len(search.get("seeds", [])) if search.get("algorithm") == "optuna" else 0
    count = f"at most {most}" if most > planned else str(planned)
    return (
        f"This sweep is not finished: {ended} of {count} trials have ended{missing}. "
        "What follows is what there is so far."
    )


def _plots(sections: Iterable[Section]) -> list[Plot]:
    return [plot for section in sections for plot in section.plots]


def _csv_link(plot: Plot) -> str:
    """A data: link to the figure's CSV, or nothing where that is large."""
    text = plot.data.csv()
    if len(text) > _LINKED_BYTES:
        return ""
    return "data:text/csv;charset=utf-8," + urllib.parse.quote(text)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    return Environment(loader=PackageLoader("workflows.report", ""), autoescape=True, **options)
