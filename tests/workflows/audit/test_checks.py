"""The table of checks: each finds its planted fault and no other, with the right count, and none in clean data."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from tests.real_data import real_set
from tests.workflows.audit.faulty import PLANTED, checked, clean, copied, counts, prepared
from trainables.directory import CacheDirectory
from trainables.records import SPLITS
from workflows.audit.checks import DATA_CHECKS, TOKEN_CHECKS, check_data
from workflows.audit.finding import EXAMPLES, GRADES, NEAR_DUPLICATES, Checked
from workflows.config import CheckConfig, DataConfig
from workflows.data.dataset import prepare


def test_every_check_has_a_setting_and_a_planted_fault() -> None:
    settings = set(CheckConfig.model_fields) - {"drop_overlap"}
    assert settings == {*DATA_CHECKS, *TOKEN_CHECKS, NEAR_DUPLICATES}
    assert set(PLANTED) == set(DATA_CHECKS)


def test_nothing_is_found_in_clean_data(tmp_path: Path) -> None:
    found = checked(tmp_path, clean())
    assert found.findings == ()
    assert found.tally == "nothing was found"
    assert {split: about.rows for split, about in found.splits.items()} == {
        "train": 700,
        "validation": 100,
        "test": 200,
    }


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found_with_its_count_and_nothing_else(tmp_path: Path, name: str) -> None:
    frame, expected = PLANTED[name](clean())
    found = checked(tmp_path, frame)
    assert counts(found) == expected
    for finding in found.findings:
        assert finding.grade in GRADES
        assert finding.message and finding.remedy
        assert len(finding.rows) <= EXAMPLES
        assert set(finding.rows) | set(finding.twins) <= set(frame.index)
        assert set(frame.loc[list(finding.rows), "split"]) <= set(finding.splits)
        assert finding.share is None or 0 < finding.share <= 1


@pytest.mark.parametrize("name", PLANTED)
def test_the_sweep_file_decides_what_a_finding_is(tmp_path: Path, name: str) -> None:
    data = prepared(tmp_path, PLANTED[name](clean())[0])
    for wanted, grade in {"error": "error", "warn": "warning", "note": "note"}.items():
        found = check_data(data, CheckConfig.model_validate({name: wanted}))
        assert {finding.grade for finding in found.findings if finding.name == name} == {grade}
    ignored = check_data(data, CheckConfig.model_validate({name: "ignore"}))
    assert name not in {finding.name for finding in ignored.findings}


def test_faults_together_are_each_counted_as_if_alone(tmp_path: Path) -> None:
    frame = clean(2000)
    train, validation, test = (frame.index[frame["split"] == split] for split in SPLITS)
    frame.loc[train[:40], "text"] = " \t"
    frame.loc[[*train[40:44], validation[0], test[50]], "label"] = "mixed"
    frame = copied(frame, test[:20], split="train")
    shouted = "  " + frame.loc[test[20:40], "text"].str.upper().str.replace(" ", "   ")
    frame = copied(frame, test[20:40], split="train", text=shouted)
    assert counts(checked(tmp_path, frame)) == {
        ("overlap", ("test", "train")): 20,
        ("normalised_overlap", ("test", "train")): 20,
        ("blank_texts", ("train",)): 40,
        ("rare_classes", ("train",)): 1,
        ("rare_classes", ("validation",)): 1,
        ("rare_classes", ("test",)): 1,
    }


@pytest.mark.parametrize(("rows", "grade"), [(10, "warning"), (12, "error")])
def test_test_rows_in_train_are_an_error_above_five_in_a_hundred(tmp_path: Path, rows: int, grade: str) -> None:
    frame = clean()
    test = frame[frame["split"] == "test"]
    found = checked(tmp_path, pd.concat([frame, test[:rows].assign(split="train")], ignore_index=True))
    (finding,) = found.findings
    assert (finding.grade, finding.count, finding.share) == (grade, rows, rows / 200)
    assert finding.rows == tuple(test.index[:EXAMPLES])
    assert finding.twins == tuple(range(1000, 1000 + EXAMPLES))
    assert finding.where.startswith(f"{test.index[0]} (= 1000), {test.index[1]} (= 1001), ")
    assert "drop_overlap" in finding.remedy


def test_errors_come_first_and_the_tally_says_how_many(tmp_path: Path) -> None:
    frame = PLANTED["duplicates"](PLANTED["one_class"](clean())[0])[0]
    found = checked(tmp_path, frame, duplicates="error")
    order = [GRADES.index(finding.grade) for finding in found.findings]
    assert order == sorted(order)
    assert found.tally == "2 errors, 1 warning"


def test_a_check_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = checked(tmp_path, PLANTED["overlap"](clean())[0])
    found.write(tmp_path / "check.json")
    assert Checked.read(tmp_path / "check.json") == found


def test_pairs_are_compared_as_pairs_and_one_blank_half_is_blank(tmp_path: Path) -> None:
    frame = clean(200).assign(second=[f"second {index}" for index in range(200)])
    frame.loc[150:, "text"] = "the same first text"
    frame.loc[7, "second"] = "n/a"
    frame.loc[8, "second"] = ""
    found = check_data(prepared(tmp_path, frame, text_pair_column="second"), CheckConfig())
    assert counts(found) == {("placeholder_texts", ("train",)): 1, ("blank_texts", ("train",)): 1}
    assert [finding.rows for finding in found.findings] == [(8,), (7,)]


def test_an_id_as_label_is_told_from_classes(tmp_path: Path) -> None:
    frame = clean()
    frame["label"] = [f"user-{index // 6 % 150}" for index in range(1000)]
    found = {finding.name: finding for finding in checked(tmp_path, frame).findings}
    assert found["id_like_labels"].count == 150
    assert "looks like an id" in found["id_like_labels"].message


def test_what_is_known_of_trec_is_found(tmp_path: Path) -> None:
    found = _real(tmp_path, "trec6.parquet")
    # ten texts of test stand in train, one of them with another label; train has 71 copies before validation is cut
    assert found[("overlap", ("test", "train"))] + found[("normalised_overlap", ("test", "train"))] == 10
    assert found[("duplicates", ("train",))] + found[("duplicates", ("validation",))] == 71
    assert found[("conflicting_labels", ("train", "test"))] == 2


def test_what_is_known_of_other_real_sets_is_found(tmp_path: Path) -> None:
    sms = _real(tmp_path / "sms", "sms_spam.parquet")
    assert sum(sms[("duplicates", (split,))] for split in SPLITS) == 403
    assert not any(name in ("overlap", "normalised_overlap") for name, _ in sms)
    imdb = _real(tmp_path / "imdb", "imdb_2k_2k.parquet")
    assert not any(name == "overlap" for name, _ in imdb)


def _real(folder: Path, name: str) -> dict[tuple[str, tuple[str, ...]], int]:
    data = prepare(DataConfig(path=real_set(name)), CacheDirectory(folder / "cache"))
    found = check_data(data, CheckConfig())
    assert all(finding.grade != "error" for finding in found.findings)
    assert all(math.isfinite(finding.share or 0) for finding in found.findings)
    return counts(found)
