"""`fleetune init`: whatever the table, the file it writes is one that a sweep reads as it was meant, or none."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.real_data import minilm, real_set
from tests.tiny import tiny_model
from trainables.directory import CacheDirectory
from trainables.errors import BadInput
from workflows import sweep_file, yaml_file
from workflows.config import SweepConfig
from workflows.data import dataset
from workflows.draft import Draft, Wish, write_draft
from workflows.draft_file import quoted, remark
from workflows.plan import points

HOSTILE = [
    "no",
    "1e5",
    "#x",
    'a: "b"',
    "- [x]",
    "{y}",
    "'",
    "null",
    "0o17",
    "~",
    "[red]",
    "\u2028end",
    "🎬 film",
    "é\tü",
]


def table(path: Path, rows: int = 60, **columns: Sequence[Any]) -> Path:
    """A CSV of some columns, each repeated from its start to the number of rows; texts get a number to be distinct."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in range(rows):
            writer.writerow([values[row % len(values)] for values in columns.values()])
    return path


def texts(words: int = 6, rows: int = 60) -> list[str]:
    return [" ".join(["some words to read"] * (words // 4) + ["number", str(row)]) for row in range(rows)]


def draft(source: Path | str, output: Path, **wish: Any) -> tuple[Draft, SweepConfig]:
    """Write the file, read it as a sweep does, and see that its data are what was looked at."""
    wish.setdefault("model", "distilbert-base-uncased")
    found = write_draft(Wish(str(source), output, **wish), Console(file=io.StringIO()))
    config = sweep_file.load(output)
    again = dataset.prepare(config.data, CacheDirectory(output.parent / "cache"))
    assert again.fingerprint == found.found.fingerprint
    return found, config


CASES: dict[str, tuple[dict[str, Sequence[Any]], str | list[str], str]] = {
    "the defaults": ({"text": texts(), "label": ["x", "y"]}, "text", "label"),
    "names in capitals": ({"Review": texts(), "Stars": ["1", "2", "5"]}, "Review", "Stars"),
    "the first of several known names": (
        {"title": texts(), "body": texts(12), "class": ["a", "b"], "topic": ["c", "d", "e"]},
        "body",
        "class",
    ),
    "names that hold a known word": (
        {"review_text": texts(), "review_id": range(60), "my_label": ["a", "b"]},
        "review_text",
        "my_label",
    ),
    "no known name at all": ({"id": range(60), "what": texts(12), "by": ["ann", "bob"]}, "what", "by"),
    "a column of numbers under a text's name": (
        {"text": range(60), "words": texts(), "label": ["a", "b"]},
        "words",
        "label",
    ),
    "a unique column under a label's name": ({"text": texts(), "label": range(60), "kind": ["a", "b"]}, "text", "kind"),
    "names that YAML would misread": ({"# 1": texts(12), "no": ["a", "b"]}, "# 1", "no"),
    "unicode": ({"отзыв: текст": texts(12), "оценка": ["да", "нет"]}, "отзыв: текст", "оценка"),
    "labels that YAML would misread": ({"text": texts(rows=560), "label": HOSTILE}, "text", "label"),
    "labels that are numbers": ({"text": texts(), "label": ["1", "0"]}, "text", "label"),
}


@pytest.mark.parametrize("case", CASES)
def test_columns_are_guessed_and_the_file_says_so(case: str, tmp_path: Path) -> None:
    columns, text, label = CASES[case]
    source = table(tmp_path / "data.csv", max(map(len, columns.values())), **columns)
    found, config = draft(source, tmp_path / "sweep.yaml")
    assert (config.data.text_column, config.data.label_column) == (text, label)
    assert set(found.train) == set(map(str, columns[label]))
    assert remark(repr(label)) in (tmp_path / "sweep.yaml").read_text()


UNDECIDED: dict[str, tuple[dict[str, Sequence[Any]], str]] = {
    "two texts of equal length": (
        {"left": texts(), "right": texts(), "label": ["a", "b"]},
        "'left', 'right' are equally likely; say which it is with --text-column",
    ),
    "two labels": (
        {"text": texts(), "one": ["a", "b"], "two": ["c", "d"]},
        "'one', 'two' are equally likely; say which it is with --label-column",
    ),
    "one name in two spellings": (
        {"text": texts(), "Text": texts(), "label": ["a", "b"]},
        "'text', 'Text' are equally likely; say which it is with --text-column",
    ),
    "no text": (
        {"n": range(60), "label": ["a", "b"]},
        "none looks like one (found: 'n', 'label'); say which it is with --text-column",
    ),
    "a text alone": (
        {"text": texts()},
        "none looks like one (found: 'text'); say which it is with --label-column",
    ),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_what_cannot_be_guessed_names_the_columns_and_the_option(case: str, tmp_path: Path) -> None:
    columns, message = UNDECIDED[case]
    source = table(tmp_path / "data.csv", **columns)
    with pytest.raises(BadInput) as refused:
        draft(source, tmp_path / "sweep.yaml")
    assert message in str(refused.value)
    assert not (tmp_path / "sweep.yaml").exists()


def test_what_the_user_says_is_taken_and_several_texts_are_joined(tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", left=texts(), right=texts(), one=["a", "b"], two=["c", "d", "e"])
    _, config = draft(source, tmp_path / "sweep.yaml", text_columns=("right", "left"), label_column="two")
    assert config.data.text_column == ["right", "left"]
    assert config.data.label_column == "two"
    with pytest.raises(BadInput, match=r"no column 'rihgt'; did you mean 'right'\?.*--text-column"):
        draft(source, tmp_path / "b.yaml", text_columns=("rihgt",), label_column="two")
    with pytest.raises(BadInput, match="both the text and the label"):
        draft(source, tmp_path / "b.yaml", text_columns=("one",), label_column="one")


def test_a_sentence_pair_and_a_split_column_are_noticed(tmp_path: Path) -> None:
    split = ["train"] * 8 + ["dev", "test"]
    source = table(
        tmp_path / "d.csv", 80, premise=texts(rows=80), hypothesis=texts(12, 80), label=["x", "y", "z"], Subset=split
    )
    found, config = draft(source, tmp_path / "sweep.yaml")
    assert (config.data.text_column, config.data.text_pair_column) == ("premise", "hypothesis")
    assert config.data.split_column == "Subset"
    assert found.found.rows == {"train": 64, "validation": 8, "test": 8}


def test_a_file_separated_by_semicolons_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text;label\ngood film;a\nbad film;b\n")
    with pytest.raises(BadInput, match="separated by ';'"):
        draft(tmp_path / "data.csv", tmp_path / "sweep.yaml")


def test_numbers_and_class_names_of_parquet_stay_what_they_are(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": texts(), "label": [0, 1, 2] * 20, "weight": [0.5, 1.5] * 30})
    frame.to_parquet(tmp_path / "reviews 2.parquet")
    found, config = draft(tmp_path / "reviews 2.parquet", tmp_path / "sweep.yaml")
    assert config.data.labels is None
    assert set(found.train) == {"0", "1", "2"}
    assert config.name == "reviews-2"


def test_imbalance_changes_the_metric_and_says_why(tmp_path: Path) -> None:
    rare = table(tmp_path / "rare.csv", 100, text=texts(rows=100), label=["x"] * 12 + ["y"] * 12 + ["z"])
    _, config = draft(rare, tmp_path / "rare.yaml")
    assert config.training.metric_for_best_model == "f1_macro"
    text = (tmp_path / "rare.yaml").read_text()
    assert "times the rows of the smallest" in text
    assert "Fewer than 10 rows, so hard to learn and to score: z" in text
    most = table(tmp_path / "most.csv", 100, text=texts(rows=100), label=["x", "x", "y"])
    assert draft(most, tmp_path / "most.yaml")[1].training.metric_for_best_model == "f1_macro"
    even = table(tmp_path / "even.csv", 100, text=texts(rows=100), label=["x", "y"])
    assert draft(even, tmp_path / "even.yaml")[1].training.metric_for_best_model == "accuracy"


def test_classes_that_cannot_be_split_are_left_out_by_a_mapping(tmp_path: Path) -> None:
    labels = ["no", "1e5"] * 29 + ["#once", "#twice", "#twice"]
    source = table(tmp_path / "data.csv", len(labels), text=texts(rows=61), label=labels)
    found, config = draft(source, tmp_path / "sweep.yaml")
    assert config.data.labels == {"1e5": "1e5", "no": "no"}
    assert found.left_out == {"#once": 1, "#twice": 2}
    assert "fewer than 3 distinct texts (one per split): #once, #twice" in (tmp_path / "sweep.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "max_length", "batch"),
    [(8, 32, 16), (40, 64, 16), (80, 128, 16), (180, 256, 16), (360, 512, 8), (900, 512, 8)],
)
def test_max_length_holds_nearly_all_texts_whole_up_to_512(
    words: int, max_length: int, batch: int, tmp_path: Path
) -> None:
    source = table(tmp_path / "data.csv", text=texts(words), label=["a", "b"])
    found, config = draft(source, tmp_path / "sweep.yaml")
    assert config.training.max_length == max_length
    assert config.training.per_device_train_batch_size == batch
    assert found.lengths.cut == (1 if words == 900 else 0)
    assert "estimated" in (tmp_path / "sweep.yaml").read_text()


def test_one_long_text_in_a_hundred_does_not_decide_max_length(tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", 100, text=[*texts(rows=99), *texts(900, 1)], label=["a", "b"])
    assert draft(source, tmp_path / "sweep.yaml")[1].training.max_length == 32


def test_texts_without_spaces_are_not_taken_for_single_words(tmp_path: Path) -> None:
    source = table(
        tmp_path / "data.csv", text=["这部电影非常好看" * 9 + str(row) for row in range(60)], label=["好", "坏"]
    )
    assert draft(source, tmp_path / "sweep.yaml")[1].training.max_length == 128


def test_a_local_model_counts_tokens_and_bounds_max_length_and_policies(tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", text=texts(100), label=["a", "b"])
    model = tiny_model("bert", tmp_path / "bert", num_hidden_layers=2, max_position_embeddings=100)
    found, config = draft(source, tmp_path / "sweep.yaml", model=str(model))
    assert found.lengths.counted
    assert found.lengths.tokens[0] > 100
    assert config.training.max_length == 64
    assert {point.freeze for point in points(config)} == {"full", "head", "lora"}
    albert = tiny_model("albert", tmp_path / "albert", num_hidden_layers=4)
    config = draft(source, tmp_path / "albert.yaml", model=str(albert))[1]
    assert {point.freeze for point in points(config)} == {"full", "head", "lora"}
    deep = tiny_model("bert", tmp_path / "deep model: 3", num_hidden_layers=3)
    config = draft(source, tmp_path / "deep.yaml", model=str(deep))[1]
    assert {point.freeze for point in points(config)} == {"full", "top-2", "head", "lora"}
    assert {point.model.path for point in points(config)} == {str(deep)}


def test_a_model_that_is_not_there_or_not_supported_is_refused(tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", text=texts(), label=["a", "b"])
    (tmp_path / "empty").mkdir()
    for model, message in (("./missing", "no such folder"), (str(tmp_path / "empty"), r"has no config\.json")):
        with pytest.raises(BadInput, match=message):
            draft(source, tmp_path / "sweep.yaml", model=model)


@pytest.mark.parametrize(("rows", "epochs"), [(60, 4), (4_000, 3), (80_000, 2)])
def test_more_rows_need_fewer_epochs(rows: int, epochs: int, tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", rows, text=texts(rows=rows), label=["a", "b"])
    _, config = draft(source, tmp_path / "sweep.yaml")
    assert config.training.num_train_epochs == epochs
    assert ("cap the splits under sizes" in (tmp_path / "sweep.yaml").read_text()) == (rows == 80_000)


def test_an_output_that_is_there_is_only_overwritten_on_demand(tmp_path: Path) -> None:
    source = table(tmp_path / "data.csv", text=texts(), label=["a", "b"])
    output = tmp_path / "sweep.yaml"
    output.write_text("mine")
    with pytest.raises(BadInput, match=r"is there already.*--force"):
        draft(source, output)
    assert output.read_text() == "mine"
    draft(source, output, force=True)
    with pytest.raises(BadInput, match="is a folder"):
        draft(source, tmp_path)


NAMES = {
    "reviews.csv": "reviews",
    "My reviews (2).csv": "My-reviews-2",
    "été.csv": "ete",
    "-x-.csv": "x",
    "电影.csv": "sub",
    "v1.2.csv": "v1.2",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_sweep_is_named_after_the_data(name: str, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    source = table(tmp_path / "sub" / name, text=texts(), label=["a", "b"])
    assert draft(source, tmp_path / "sweep.yaml")[1].name == NAMES[name]


def test_a_folder_of_splits_and_a_glob_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "news").mkdir()
    for split in ("train", "dev", "test"):
        table(tmp_path / "news" / f"{split}.csv", text=texts(), label=["a", "b"])
    found, config = draft(tmp_path / "news", tmp_path / "a.yaml")
    assert found.found.rows == {"train": 60, "validation": 60, "test": 60}
    assert config.name == "news"
    assert draft(f"{tmp_path}/news/*.csv", tmp_path / "b.yaml")[1].name == "news"


@pytest.mark.parametrize(
    ("name", "metric"),
    [("imdb_2k_2k", "accuracy"), ("ag_news_8k_2k", "accuracy"), ("trec6", "f1_macro"), ("sms_spam", "f1_macro")],
)
def test_real_sets_are_understood(name: str, metric: str, tmp_path: Path) -> None:
    found, config = draft(real_set(f"{name}.parquet"), tmp_path / "sweep.yaml", model=minilm())
    assert (config.data.text_column, config.data.label_column, config.data.split_column) == ("text", "label", "split")
    assert config.training.metric_for_best_model == metric
    assert found.lengths.counted
    assert found.lengths.cut < 0.05 or config.training.max_length == 512


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_read_back_from_yaml_as_it_was(text: str) -> None:
    assert yaml_file.parse(f"a: {quoted(text)}").value == {"a": text}
    assert yaml_file.parse(f"{quoted(text)}: b").value == {text: "b"}
    assert yaml_file.parse(f"# {remark(text)}\na: [{quoted(text)}, {quoted(text)}]").value == {"a": [text, text]}


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.sampled_from(["text", "label", "Review", "split", "class", "id", "", "a: b"]) | CELL


def as_csv(path: Path, names: list[str], rows: list[list[str]]) -> Path:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([names, *rows])
    path.with_suffix(".csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    return path.with_suffix(".csv")


def as_json_lines(path: Path, names: list[str], rows: list[list[str]]) -> Path:
    lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    path.with_suffix(".jsonl").write_text("\n".join(lines))
    return path.with_suffix(".jsonl")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    save=st.sampled_from([as_csv, as_json_lines]),
    names=st.lists(NAME, min_size=2, max_size=4, unique=True),
    labels=st.lists(st.sampled_from(HOSTILE) | CELL, min_size=2, max_size=4, unique=True),
    rows=st.integers(1, 40) | st.just(40),
    said=st.booleans(),
    data=st.data(),
)
def test_any_small_table_gives_a_file_that_a_sweep_reads_or_a_clear_refusal(
    save: Callable[[Path, list[str], list[list[str]]], Path],
    names: list[str],
    labels: list[str],
    rows: int,
    said: bool,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    cells: list[Callable[[int], str]] = [lambda row: f"text of row {row}", lambda row: labels[row % len(labels)]]
    cells += [lambda row: data.draw(CELL)] * (len(names) - 2)
    content = [[cell(row) for cell in cells] for row in range(rows)]
    wish: dict[str, Any] = {"text_columns": (names[0],), "label_column": names[1]} if said else {}
    try:
        draft(save(folder / "t", names, content), folder / "sweep.yaml", **wish)
    except BadInput as refused:
        event("refused")
        assert str(refused)
        assert not (folder / "sweep.yaml").exists()
    else:
        event("written")
