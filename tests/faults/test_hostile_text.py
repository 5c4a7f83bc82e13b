"""Sixty hostile texts as texts, classes and names: each is shown, none does anything."""

from __future__ import annotations

import csv
import io
import json
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from jobs import run as runner
from jobs.evaluate import evaluate
from jobs.predict import predict
from jobs.screen import Screen
from jobs.summary import print_summary
from tests.faults import hostile
from tests.faults.hostile import PAYLOADS
from trainables.arguments import TrialSpec
from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from trainables.files import read_json
from workflows.baselines import run_baseline
from workflows.config import SweepConfig, TrackingConfig
from workflows.leaderboard import Leaderboard
from workflows.plan import PlannedTrial
from workflows.printable import printable
from workflows.progress import Board
from workflows.spinner import phase
from workflows.sweep import Outcome
from workflows.tracking.mirror import Mirror
from workflows.tracking.writer import default_uri

Made = tuple[SweepDirectory, tuple[str, ...]]
# What the terminal itself is told by rich on purpose: colours, the cursor of a live table, its visibility.
_RICH = re.compile(r"\x1b\[(?:[\d;]*m|\d*[AK]|2K|\?25[hl])|\r")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Three sweeps of twenty payloads each."""
    folder = tmp_path_factory.mktemp("hostile")
    return [hostile.make(folder / f"{share}" / "runs" / "reviews", share) for share in range(hostile.SHARES)]


def seen(text: str) -> str:
    """Text as it can be compared after a terminal or a browser has laid it out."""
    return "".join(printable(text).split())


def assert_inert(output: str, *shown: str) -> None:
    """Nothing but text and rich's own styles, and these texts in it, markup and all."""
    plain = _RICH.sub("", output)
    assert not [letter for letter in plain if letter not in "\n\t" and printable(letter) != letter]
    laid_out = "".join(plain.split())
    assert [text for text in shown if seen(text) not in laid_out] == []


def test_there_are_sixty_different_payloads() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) == 60


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[[Path], Any]]:
    """Open a file in the browser anew, with nothing in its log."""

    def load(path: Path) -> Any:
        chromium.get("about:blank")
        chromium.get_log("browser")
        chromium.get(path.as_uri())
        return chromium

    yield load
    chromium.get("about:blank")


# Looked at from within the page; what the report itself ships is left out: anchors, CSV, the shades of matrices.
_LOOK = """
const own = /^(#|data:text\\/csv;|data:image\\/png;base64,)/;
const every = [...document.querySelectorAll('*')];
const links = every.flatMap(e => [...e.attributes].filter(a => /href|src|action|srcdoc|formaction/.test(a.name)));
return {
  pwned: window.pwned ?? null,
  title: document.title,
  elements: [...new Set(every.map(e => e.localName))],
  handlers: every.flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')).map(a => a.name),
  links: links.map(a => a.value).filter(v => !own.test(v)),
  styles: document.querySelectorAll('style').length,
  requests: performance.getEntriesByType('resource').map(e => e.name).filter(v => !own.test(v)),
  address: location.href,
  height: document.querySelector('h1')?.offsetHeight,
  cells: [...document.querySelectorAll('td, dd')].map(e => e.textContent),
};
"""


@pytest.mark.browser
@pytest.mark.parametrize("share", range(hostile.SHARES))
@pytest.mark.quick
def test_in_a_browser_the_report_shows_every_payload_and_runs_none(
    share: int, made: list[Made], open_page: Callable[[Path], Any]
) -> None:
    sweep, payloads = made[share]
    browser = open_page(sweep.report)
    page = browser.execute_script(_LOOK)
    assert page["pwned"] is None
    assert page["title"] == f"{as_in_html(payloads[0])} · Fleetune report"
    assert page["address"] == sweep.report.as_uri()
    assert not {"script", "iframe", "img", "form", "base", "link", "math", "object", "embed"} & set(page["elements"])
    assert page["handlers"] == page["links"] == page["requests"] == []
    assert page["styles"] == 1 and page["height"] > 10
    assert browser.get_log("browser") == []
    counted = [page["cells"].count(as_in_html(payload)) for payload in payloads]
    # as a text, as a class, as a note, and why a trial has failed
    assert min(counted) >= 4


def as_in_html(text: str) -> str:
    """What the parser of HTML makes of text: no NUL, newlines alike."""
    return text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.browser
def test_the_same_payloads_run_where_a_page_does_not_escape_them(
    tmp_path: Path, open_page: Callable[[Path], Any]
) -> None:
    raw = [payload for payload in hostile.HTML if "alert" not in payload and "refresh" not in payload]
    ran = 0
    for payload in raw:
        (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8><p>{payload}", encoding="utf-8")
        page = open_page(tmp_path / "page.html").execute_script(_LOOK)
        harmed = page["handlers"] or page["links"] or page["requests"] or "script" in page["elements"]
        ran += bool(page["pwned"] or page["title"] == "pwned" or harmed)
    assert ran >= 20


@pytest.mark.parametrize("share", range(hostile.SHARES))
def test_no_cell_of_a_csv_is_a_formula_and_none_is_lost(share: int, made: list[Made]) -> None:
    sweep, payloads = made[share]
    cells = set()
    files = sorted(sweep.root.rglob("*.csv"))
    assert len(files) > 5
    for path in files:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.reader(stream))
        assert len({len(row) for row in rows}) == 1, path
        cells |= {cell for row in rows for cell in row}
    texts = [cell for cell in cells if not _is_number(cell)]
    assert not [text for text in texts if text.lstrip(string.whitespace)[:1] in set("=+-@＝＋－＠")]
    assert not [text for text in texts if text[:1] in set("\t\r\n")]
    assert set(payloads) <= cells | {cell.removeprefix("'") for cell in cells}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("share", range(hostile.SHARES))
def test_the_last_screen_of_a_sweep_shows_names_and_messages_as_text(
    share: int, terminal: bool, made: list[Made]
) -> None:
    sweep, payloads = made[share]
    board = read_json(sweep.leaderboard_json)
    ranked = Leaderboard(board["metric"], board["rows"], board["champion"])
    outcome = Outcome(sweep, ranked, "sqlite:///x", 90, tracking_error=payloads[-1])
    screen, stream = _screen(terminal)
    print_summary(outcome, screen)
    assert_inert(stream.getvalue(), *payloads)


def _screen(terminal: bool) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(file=stream, force_terminal=terminal, width=60_000, color_system="truecolor"), stream


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_progress_shows_names_and_messages_as_text(terminal: bool, made: list[Made]) -> None:
    for sweep, payloads in made:
        screen, stream = _screen(terminal)
        planned = [_planned(sweep, f"trial{index:02d}") for index in range(1, len(payloads) + 1)]
        with Board(planned, "accuracy", screen, {}) as board:
            for trial, payload in zip(planned, payloads, strict=True):
                board.on_report({"trial": trial.trial_id, "status": "RUNNING"})
                board.on_report({"trial": trial.trial_id, "status": "FAILED", "message": payload})
        assert_inert(stream.getvalue(), *payloads)


def _planned(sweep: SweepDirectory, trial_id: str) -> PlannedTrial:
    spec = TrialSpec.model_validate(read_json(sweep.trial(trial_id).spec)["spec"])
    return PlannedTrial(trial_id, spec.point_id, spec.seed, spec.model, spec.freeze, spec.training, {})


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_what_is_going_on_is_named_as_text(terminal: bool) -> None:
    screen, stream = _screen(terminal)
    for payload in PAYLOADS:
        with phase(screen, payload):
            pass
    assert_inert(stream.getvalue(), *(() if terminal else PAYLOADS))


def test_an_error_shows_what_it_quotes_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    for payload in PAYLOADS:
        for error in (BadInput(payload), ValueError(payload)):

            def fail(error: Exception = error) -> None:
                raise error

            with pytest.raises(SystemExit) as ended:
                runner.run(fail)  # type: ignore[arg-type]
            assert ended.value.code == (2 if isinstance(error, BadInput) else 1)
            told = capsys.readouterr()
            assert_inert(told.out + told.err, payload)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fitted baseline whose sixty classes are the payloads, on texts that are payloads."""
    folder = tmp_path_factory.mktemp("baseline")
    ids = list(range(len(PAYLOADS)))
    columns = {"row": ids, "text": list(PAYLOADS), "text_pair": pa.nulls(len(ids), pa.string()), "label": ids}
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    directory = SweepDirectory(folder).baseline("majority")
    run_baseline("majority", folder, PAYLOADS, "accuracy", directory)
    columns = {"text": list(PAYLOADS), "label": list(PAYLOADS)}
    pq.write_table(pa.table(columns), folder / "labelled.parquet")
    return directory.root


def test_predict_shows_texts_and_classes_as_text_and_gives_them_whole_as_json(baseline: Path) -> None:
    command, source = runner.application(predict=predict), str(baseline)
    file = str(baseline.parents[1] / "labelled.parquet")
    shown = CliRunner().invoke(command, [source, "--file", file], env={"COLUMNS": "6000"})
    assert shown.exit_code == 0, shown.output
    # a preview of each text; what nobody asked for stands in the JSON alone
    assert_inert(shown.output, *(payload for payload in PAYLOADS if len(payload) < 80))
    told = CliRunner().invoke(command, [source, "--file", file, "--json"])
    assert_inert(told.output)
    predictions = [json.loads(line) for line in told.output.split("\n") if line]
    assert [prediction["text"] for prediction in predictions] == list(PAYLOADS)
    assert list(predictions[0]["probabilities"]) == list(PAYLOADS)


def test_evaluate_shows_classes_as_text_and_gives_them_whole_as_json(baseline: Path) -> None:
    command, source = runner.application(evaluate=evaluate), str(baseline)
    file = str(baseline.parents[1] / "labelled.parquet")
    shown = CliRunner().invoke(command, [source, file])
    assert shown.exit_code == 0, shown.output
    assert_inert(shown.output, *PAYLOADS)
    told = CliRunner().invoke(command, [source, file, "--json"])
    assert_inert(told.output)
    assert set(json.loads(told.output)["classification_report"]) >= set(PAYLOADS)


def test_mlflow_holds_payloads_as_values_and_never_as_keys(made: list[Made]) -> None:
    sweep, payloads = made[0]
    mirror = Mirror(sweep, default_uri(sweep.root.parent), "hostile")
    mirror.deliver()
    assert mirror.problems == []
    experiment = mirror.client.get_experiment_by_name("hostile").experiment_id
    runs = {run.data.tags.get("fleetune.trial_id"): run for run in mirror.client.search_runs([experiment])}
    for run in runs.values():
        for key in [*run.data.metrics, *run.data.params, *run.data.tags]:
            assert re.fullmatch(r"[A-Za-z0-9_.\-/]+", key), key
    classes = [key for key in runs["trial00"].data.metrics if key.startswith("test/f1/")]
    assert sorted(classes) == [f"test/f1/class_{index:02d}" for index in range(len(payloads))]
    for index, payload in enumerate(payloads, start=1):
        run = runs[f"trial{index:02d}"]
        assert run.data.params["model"] == printable(payload)
        assert run.data.tags["fleetune.message"] == printable(payload)
    note = runs[None].data.tags["mlflow.note.content"]
    assert not re.search(r"(?<!\\)[<>\[\]`]", note) and printable(note) == note
    folder = sweep.root.parent / "mlartifacts"
    (table,) = folder.rglob(f"{runs['trial00'].info.run_id}/artifacts/errors/worst_texts.json")
    rows = json.loads(table.read_text(encoding="utf-8"))
    texts = {row[rows["columns"].index("text")] for row in rows["data"]}
    assert set(payloads) <= texts
    assert {path.parts[len(folder.parts)] for path in folder.rglob("*")} == {"hostile"}


def test_names_that_become_folders_are_refused() -> None:
    for payload in (*PAYLOADS, ".", "..", "a/b", "a\nb"):
        with pytest.raises(ValidationError, match="name"):
            SweepConfig.model_validate(
                {"name": payload, "data": {"path": "x.csv"}, "search": {"space": [{"model": "m"}]}}
            )
    for name in (".", "..", "a\0b", "a\x1b[31m", "a\nb"):
        with pytest.raises(ValidationError, match="must be printable"):
            TrackingConfig(experiment=name)
