"""The report as a file: self-contained, inert, complete, and the same whenever it is made."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.report import sweeps
from tests.workflows.report.reading import Page, files
from tests.workflows.report.sweeps import Trial
from trainables.directory import SweepDirectory
from trainables.errors import BadInput
from workflows import sweep_file
from workflows.config import SweepConfig
from workflows.report import write_report

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "</svg><img src=x onerror=alert(1)>",
    "$\\frac{1}{$",
    "C#",
    "😀",
    "x" * 300,
    "_hidden",
    "#24292f",
    "",
]
ALWAYS = ["data", "leaderboard"]


def page(root: Path, **about: Any) -> Page:
    return Page(write_report(sweeps.make(root / "reviews", **about)))


def test_a_finished_sweep_has_every_section_and_links_to_each(sweep: SweepDirectory) -> None:
    read = Page(sweep.report)
    assert read.anchors() == [
        *ALWAYS,
        "verdict",
        "curves",
        "schedules",
        "confusion",
        "classes",
        "calibration",
        "policies",
        "inference",
        "lora",
        "errors",
        "label-errors",
        "unfinished",
        "reproduce",
    ]
    assert [link["href"] for link in read.of("a") if "download" not in link] == [f"#{name}" for name in read.anchors()]


def test_every_figure_is_in_the_page_with_words_and_beside_it_as_png_and_csv(sweep: SweepDirectory) -> None:
    read = Page(sweep.report)
    drawn = [svg for svg in read.of("svg") if svg.get("role") == "img"]
    names = {path.stem for path in sweep.figures.glob("*.png")}
    assert len(drawn) == len(read.of("svg")) == len(read.of("figure")) == len(names) == 16
    assert all(len(str(svg["aria-label"])) > 30 for svg in drawn)
    assert {path.stem for path in sweep.figures.glob("*.csv")} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in sweep.figures.glob("*.png"))
    assert {str(link["download"]).removesuffix(".csv") for link in read.of("a") if "download" in link} <= names


@pytest.mark.parametrize("hostile", [False, True])
def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(
    hostile: bool, sweep: SweepDirectory, tmp_path: Path
) -> None:
    read = page(tmp_path, labels=HOSTILE, trials=[Trial()]) if hostile else Page(sweep.report)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in read.elements}
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:text/csv;", "data:image/png;base64,"))
    (policy,) = [meta["content"] for meta in read.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    own = "style-src 'unsafe-inline'; img-src data:"
    assert policy == f"default-src 'none'; {own}; base-uri 'none'; form-action 'none'"
    style = sweep.report.read_text(encoding="utf-8")
    assert "url(http" not in style and "@import" not in style


def test_text_of_users_is_shown_and_never_read_as_html(tmp_path: Path) -> None:
    model = "<b>model</b>"
    config = {"errors": {"count": 5, "include_text": "full"}}
    trials = [Trial(model=model), Trial("head", status="FAILED")]
    read = page(tmp_path, labels=HOSTILE, text="<i>text</i>", trials=trials, config=config)
    assert not {"b", "i", "img"} & {tag for tag, _ in read.elements}
    for text in (*HOSTILE, model, "<i>text</i>", "<b>of 6</b>"):
        assert text in read.text
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert ids and max(ids.values()) == 1


def test_every_reference_within_the_page_leads_somewhere(sweep: SweepDirectory) -> None:
    read = Page(sweep.report)
    ids = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    links = [attributes["href"] for _, attributes in read.elements if (attributes.get("href") or "").startswith("#")]
    assert links and {str(link)[1:] for link in links} <= ids


def test_figures_take_the_ink_of_the_page(sweep: SweepDirectory) -> None:
    text = sweep.report.read_text(encoding="utf-8")
    assert "currentColor" in text and "#24292f" not in text


def test_the_same_directory_gives_the_same_bytes(sweep: SweepDirectory, tmp_path: Path) -> None:
    again = SweepDirectory(tmp_path / "reviews")
    shutil.copytree(sweep.root, again.root, ignore=shutil.ignore_patterns("figures", "report.html"))
    write_report(again)
    assert dict(files(again.figures)) == dict(files(sweep.figures))
    assert again.report.read_bytes() == sweep.report.read_bytes()


def test_a_figure_that_is_not_made_any_more_does_not_stay(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial("lora"), Trial()], baselines=())
    write_report(made)
    assert (made.figures / "lora.png").exists()
    write_report(sweeps.make(tmp_path / "reviews", trials=[Trial()], baselines=()))
    assert not (made.figures / "lora.png").exists()


def test_a_baseline_that_has_no_result_is_said_to_be_missing(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    made.baseline("tfidf").result.unlink()
    assert "1 of 1 trials have ended, without TF-IDF" in Page(write_report(made)).text


@pytest.mark.parametrize(
    ("about", "missing", "said"),
    [
        ({"trials": [Trial(), Trial("head", status="RUNNING")]}, {"lora"}, "1 of 2 trials have ended"),
        ({"trials": [Trial()]}, {"lora", "unfinished"}, "Champion: MiniLM"),
        ({"trials": [Trial()], "costs": False}, {"inference", "lora", "unfinished"}, "Champion: MiniLM"),
        ({"trials": [Trial()], "baselines": ()}, {"verdict", "lora", "unfinished"}, "Champion: MiniLM"),
        (
            {"trials": [Trial(status="FAILED"), Trial("head", status="FAILED")]},
            {"verdict", "classes", "calibration", "policies", "lora", "errors", "label-errors"},
            "there is no champion",
        ),
        (
            {"trials": [Trial(status="PENDING")], "baselines": (), "costs": False},
            {"verdict", "curves", "schedules", "confusion", "classes", "policies", "inference", "lora", "errors"}
            | {"calibration", "label-errors"},
            "0 of 1 trials have ended",
        ),
    ],
    ids=["unfinished", "one trial", "no costs", "no baselines", "all failed", "nothing yet"],
)
def test_a_sweep_of_which_parts_are_missing_is_shown_as_it_is(
    about: dict[str, Any], missing: set[str], said: str, sweep: SweepDirectory, tmp_path: Path
) -> None:
    read = page(tmp_path, **about)
    assert set(Page(sweep.report).anchors()) - set(read.anchors()) == missing
    assert said in read.text


def test_without_the_prepared_data_errors_are_shown_without_texts(tmp_path: Path) -> None:
    made = sweeps.make(tmp_path / "reviews", trials=[Trial()])
    shutil.rmtree(tmp_path / "data")
    read = Page(write_report(made))
    rows = read.rows("Test texts with the highest loss")
    assert len(rows) == 20 and "text" not in rows[0]
    assert "the texts are not shown" in read.text


def test_texts_are_shown_as_configured(tmp_path: Path) -> None:
    config = {"errors": {"count": 3, "include_text": "none"}}
    read = page(tmp_path, trials=[Trial()], config=config)
    assert len(read.rows("Test texts with the highest loss")) == 3
    assert "a fine film" not in read.text


def test_of_many_trials_the_first_fifty_are_shown(tmp_path: Path) -> None:
    trials = [Trial("head", rate=1e-3 + index * 1e-5, skill=index / 30) for index in range(70)]
    read = page(tmp_path, trials=trials, costs=False)
    assert len(read.rows("Trials and baselines by rank")) == 50
    assert "… 22 more in leaderboard.csv" in read.text


@pytest.mark.slow
def test_a_hundred_and_fifty_classes_fit(tmp_path: Path) -> None:
    read = page(tmp_path, trials=[Trial()], labels=[f"class {index}" for index in range(150)])
    assert len(read.rows("Scores of each class on test")) == 150


def test_a_folder_without_a_manifest_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a sweep directory: it has no manifest\.json"):
        write_report(SweepDirectory(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_sweep_file_in_the_page_runs_the_same_sweep_without_its_secrets(tmp_path: Path) -> None:
    values = {
        "name": "reviews",
        "data": {"path": "reviews.csv"},
        "search": {
            "space": [{"model": "MiniLM", "freeze": ["full", "head"], "learning_rate": [5e-5]}],
            "seeds": [1, 2],
        },
        "tracking": {"uri": "postgresql://me:s3cret@host/db"},
    }
    config = SweepConfig.model_validate(values)
    written = write_report(sweeps.make(tmp_path / "reviews", trials=[Trial()], config=config.model_dump(mode="json")))
    assert "s3cret" not in written.read_text(encoding="utf-8")
    listing = Page(written).text.split("every default written out")[1]
    (tmp_path / "sweep.yaml").write_text(listing, encoding="utf-8")
    values["tracking"] = {"uri": "postgresql://***@host/db"}
    assert sweep_file.load(tmp_path / "sweep.yaml") == SweepConfig.model_validate(values)
