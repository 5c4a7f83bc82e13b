"""What tokenizers make of the texts: counted on the tokens that trials read, which are made once."""

from __future__ import annotations

import shutil

import pytest
from filelock import FileLock

from tests.tiny import tiny_model, tiny_spec, tiny_tokenizer
from tests.workflows.audit.faulty import clean, prepared
from trainables.arguments import ModelSpec
from trainables.directory import CacheDirectory
from workflows.audit import checks, tokens
from workflows.audit.finding import Checked, TokenFigures
from workflows.config import CheckConfig
from workflows.data.dataset import LabelledData

LENGTH = 9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return tiny_spec(tiny_model("bert", tmp_path_factory.mktemp("models") / "bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledData:
    frame = clean(200)
    frame.loc[[20, 31, 42], "text"] = ["good ☃ film ☃", "the ☃ film", "a film " * 30]
    return prepared(tmp_path_factory.mktemp("data"), frame)


def measured(data: LabelledData, model: ModelSpec, length: int = LENGTH, patience: float = -1) -> list[TokenFigures]:
    return tokens.measure(data, CacheDirectory(data.directory.parents[1]), [(model, length)], patience)


def test_what_is_cut_and_unknown_is_what_the_tokenizer_says_of_the_whole_texts(
    data: LabelledData, model: ModelSpec
) -> None:
    import pandas as pd

    tokenizer = tiny_tokenizer("bert")
    frames = [pd.read_parquet(data.directory / f"{split}.parquet") for split in ("train", "validation", "test")]
    every = pd.concat(frames)
    rows = [(row, tokenizer(text)["input_ids"]) for row, text in zip(every["row"], every["text"], strict=True)]
    (found,) = measured(data, model)
    assert found.texts == 200
    assert found.tokens == sum(len(ids) for _, ids in rows)
    assert found.texts_cut == sum(len(ids) > LENGTH for _, ids in rows)
    assert found.rows_cut == tuple([row for row, ids in rows if len(ids) > LENGTH][:10])
    assert found.tokens_cut == sum(max(0, len(ids) - LENGTH) for _, ids in rows)
    assert found.lengths[2] == max(len(ids) for _, ids in rows) == 62
    assert (found.unknown, found.texts_unknown, set(found.rows_unknown)) == (3, 2, {20, 31})


def test_tokens_are_made_once_and_opened_after_that(data: LabelledData, model: ModelSpec) -> None:
    first = measured(data, model)
    (folder,) = [
        path for path in CacheDirectory(data.directory.parents[1]).tokens("x").parent.iterdir() if path.is_dir()
    ]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert measured(data, model) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_tokens_that_another_process_is_making_are_not_waited_for_for_ever(
    data: LabelledData, model: ModelSpec
) -> None:
    measured(data, model, length=12)
    folders = CacheDirectory(data.directory.parents[1]).tokens("x").parent
    before = set(folders.glob("*.lock"))
    measured(data, model, length=13)
    (lock,) = set(folders.glob("*.lock")) - before
    shutil.rmtree(lock.with_suffix(""))
    with FileLock(lock):
        assert measured(data, model, length=13, patience=0.05) == []
    assert len(measured(data, model, length=13, patience=0.05)) == 1


def test_one_of_the_models_that_share_a_tokenizer_stands_for_all(model: ModelSpec) -> None:
    other = model.model_copy(update={"name": "other"})
    pairs = [(model, 32), (other, 32), (other, 64)]
    assert tokens.distinct(pairs) == [(model, 32), (other, 64)]


def figures(**changes: int) -> TokenFigures:
    about = {"texts": 1000, "texts_cut": 0, "tokens": 20_000, "tokens_cut": 0, "unknown": 0, "texts_unknown": 0}
    values = {"model": "m", "max_length": 32, "tokenizer_sha256": "0", "lengths": (20, 30, 90)}
    return TokenFigures.model_validate(values | about | changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"texts_cut": 5, "tokens_cut": 50}, [("truncated", "note", 5)]),
        ({"texts_cut": 210, "tokens_cut": 50}, [("truncated", "warning", 210)]),
        ({"texts_cut": 100, "tokens_cut": 2500}, [("truncated", "warning", 100)]),
        ({"unknown": 20, "texts_unknown": 10}, [("unknown_tokens", "note", 20)]),
        ({"unknown": 400, "texts_unknown": 10}, [("unknown_tokens", "warning", 400)]),
    ],
)
def test_cutting_much_and_knowing_little_are_warnings(
    changes: dict[str, int], expected: list[tuple[str, str, int]]
) -> None:
    found = checks.with_tokens(Checked(), [figures(**changes)], CheckConfig())
    assert [(finding.name, finding.grade, finding.count) for finding in found.findings] == expected
    strict = CheckConfig(truncated="error", unknown_tokens="ignore")
    graded = checks.with_tokens(Checked(), [figures(**changes)], strict).findings
    assert [finding.grade for finding in graded] == ["error" for name, *_ in expected if name == "truncated"]
