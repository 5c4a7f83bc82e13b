"""The check as a sweep and `fleetune check` run it: what is said, what is refused, what a continued sweep keeps."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from tests.tiny import tiny_model
from tests.workflows.audit.faulty import clean, copied, of
from trainables.errors import BadInput
from workflows import check
from workflows.prepare import Prepared, prepare
from workflows.sweep_file import load

File = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def file(tmp_path: Path, model: Path) -> File:
    """Writes a sweep file for some rows."""

    def write(frame: pd.DataFrame, **grades: Any) -> Path:
        frame.to_parquet(tmp_path / "data.parquet")
        config = {
            "name": "mine",
            "data": {"path": str(tmp_path / "data.parquet")},
            "search": {"space": [{"model": str(model)}]},
            "training": {"max_length": 16},
            "check": grades,
            "storage": str(tmp_path / "runs"),
        }
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(config))
        return tmp_path / "sweep.yaml"

    return write


def leaking(rows: int) -> pd.DataFrame:
    frame = clean()
    return copied(frame, of(frame, "test", rows), split="train")


def announced(path: Path, begun: bool = False) -> tuple[Prepared, str]:
    """What a sweep says first."""
    console = Console(file=io.StringIO(), width=160)
    prepared = prepare(load(path), Console(quiet=True))
    if begun:
        prepared.sweep.root.mkdir()
        prepared.sweep.manifest.write_text("{}")
    prepared = check.announce(prepared, console)
    return prepared, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_leak_above_five_in_a_hundred_stops_a_sweep_before_it_begins(file: File, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        announced(file(leaking(40)))
    said = str(refused.value)
    assert "the check of the data has found 1 error, so nothing was started" in said
    assert (
        "overlap: rows of test that stand in train too: 40 (20.0 %) (rows 0 (= 1000), 1 (= 1001), 10 (= 1002)" in said
    )
    assert "check.drop_overlap: true takes such rows out of train" in said
    assert "or check.overlap: warn, if it is meant to be so" in said
    assert not (tmp_path / "runs" / "mine").exists()


def test_a_sweep_that_has_begun_is_told_and_goes_on(file: File) -> None:
    _, said = announced(file(leaking(40)), begun=True)
    assert "check of the data: 1 error" in said
    assert "error: overlap: rows of test that stand in train too: 40 (20.0 %)" in said
    assert "the sweep has begun, so it goes on" in said


@pytest.mark.parametrize(("grade", "shown"), [("warn", True), ("note", False), ("ignore", False)])
def test_who_means_it_says_so_and_notes_are_only_counted(file: File, grade: str, shown: bool) -> None:
    _, said = announced(file(leaking(40), overlap=grade))
    assert ("warning: overlap:" in said) == shown
    assert {"warn": "1 warning", "note": "1 note", "ignore": "nothing was found"}[grade] in said


def test_dropping_the_overlap_takes_the_rows_out_of_train_and_says_how_many(file: File) -> None:
    prepared, said = announced(file(leaking(40), drop_overlap=True))
    assert "nothing was found" in said
    assert prepared.data.rows == {"train": 700, "validation": 100, "test": 200}
    assert prepared.data.dropped_overlap == 40
    assert any("40 of 740 rows of train were dropped" in note for note in prepared.data.notes)


def test_a_strict_grade_for_tokens_stops_a_sweep_before_it_begins(file: File) -> None:
    with pytest.raises(BadInput, match=r"(?s)truncated: texts that .* cuts at max_length 16: .*truncated makes it"):
        announced(file(clean().assign(text=clean()["text"] + " and so on" * 8), truncated="error"))


def test_tokens_are_looked_at_later_otherwise_and_said_once(file: File) -> None:
    before, said = announced(file(leaking(4).assign(text=leaking(4)["text"] + " and so on" * 8)))
    assert "overlap" in said and "truncated" not in said
    after, why = check.with_tokens_if_possible(before)
    console = Console(file=io.StringIO(), width=160)
    check.announce_tokens(before, after, why, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert why is None
    assert "warning: truncated" in said and "overlap" not in said


def test_a_tokenizer_that_cannot_be_used_is_left_to_the_trials_by_a_sweep(file: File, tmp_path: Path) -> None:
    prepared, _ = announced(file(clean()))
    broken = {name: spec.model_copy(update={"path": str(tmp_path)}) for name, spec in prepared.models.items()}
    found, why = check.with_tokens_if_possible(replace(prepared, models=broken))
    assert found.checked.tokenizers == ()
    assert why is not None and "Error: " in why


def test_a_continued_sweep_knows_what_was_found_out_about_tokens(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(clean())
    first = check.with_tokens(prepare(load(path), Console(quiet=True)))
    first.sweep.root.mkdir()
    first.checked.write(first.sweep.check)
    monkeypatch.setattr(check.tokens, "measure", None)
    assert check.continued(prepare(load(path), Console(quiet=True))).checked == first.checked
    stricter = load(path, ["check.truncated=error"])
    again = check.continued(prepare(stricter, Console(quiet=True)))
    assert again.checked.tokenizers == first.checked.tokenizers
    other = load(path, ["training.max_length=20"])
    assert check.continued(prepare(other, Console(quiet=True))).checked.tokenizers == ()


def test_the_command_checks_texts_and_tokens_and_its_json_says_all(file: File) -> None:
    found = check.check_file(file(leaking(40)), [], Console(quiet=True))
    assert found.exit_code == 2
    document = json.loads(json.dumps(found.document()))
    assert (document["name"], document["errors"], document["warnings"]) == ("mine", 1, 0)
    assert document["findings"][0]["name"] == "overlap"
    assert document["findings"][0]["count"] == 40
    assert document["splits"]["test"]["rows"] == 200
    assert sum(document["splits"]["test"]["classes"].values()) == 200
    assert document["tokenizers"][0]["max_length"] == 16
    assert document["data"]["fingerprint"] == found.fingerprint
    assert check.check_file(file(leaking(4)), [], Console(quiet=True)).exit_code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": "same"}, "a classifier needs at least two classes"),
        ({"label": [str(index) for index in range(1000)]}, "it looks like an id or a regression target"),
        ({"text": [None] + ["text"] * 999}, "1 of 1,000 rows have no value (rows 0"),
    ],
)
def test_data_that_a_sweep_refuses_are_a_finding_of_the_command(file: File, change: dict[str, Any], said: str) -> None:
    found = check.check_file(file(clean().assign(**change)), [], Console(quiet=True))
    assert found.exit_code == 2
    (finding,) = found.checked.findings
    assert (finding.name, finding.grade) == ("unusable", "error")
    assert said in finding.message
    assert found.document()["errors"] == 1
