"""Data that cannot be learned from, or hardly: numbers 40 to 69 of the list, but for what the data audit looks at."""

from __future__ import annotations

import codecs
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard

from tests.bad_input.rows import SWEEP, Row
from tests.tiny_data import reviews

TEXTS = reviews(60)[0]
LABELS = ["positive", "negative"] * 30
JSONL, PARQUET = "data.path=reviews.jsonl", "data.path=reviews.parquet"
HEADER = b"text,label\n"


def table(texts: Sequence[object] = TEXTS, labels: Sequence[object] = LABELS) -> list[str]:
    """The lines of a CSV file."""
    return ["text,label", *(f"{text},{label}" for text, label in zip(texts, labels, strict=True))]


def csv(texts: Sequence[object] = TEXTS, labels: Sequence[object] = LABELS, encoding: str = "utf-8"):
    return written(("\n".join(table(texts, labels)) + "\n").encode(encoding))


def written(content: bytes, name: str = "reviews.csv"):
    return lambda folder: (folder / name).write_bytes(content)


def jsonl(texts: Sequence[object] = TEXTS, labels: Sequence[object] = LABELS):
    records = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    return written("\n".join(map(json.dumps, records)).encode(), "reviews.jsonl")


def parquet(texts: Sequence[object] = TEXTS, labels: Sequence[object] = LABELS):
    return lambda folder: pq.write_table(pa.table({"text": texts, "label": labels}), folder / "reviews.parquet")


def splits(*parts: tuple[str, Sequence[object], Sequence[object]]):
    """A file for each split in the folder `parts`."""

    def change(folder: Path) -> None:
        (folder / "parts").mkdir()
        for name, texts, labels in parts:
            (folder / "parts" / f"{name}.csv").write_text("\n".join(table(texts, labels)))

    return change


def lines(*changed: tuple[int, str]) -> bytes:
    """The CSV file with some lines changed; the header is line 1."""
    found = table()
    for number, line in changed:
        found[number - 1] = line
    return ("\n".join(found) + "\n").encode()


def with_first(*texts: str) -> list[str]:
    return [*texts, *TEXTS[len(texts) :]]


def bad_line(folder: Path) -> None:
    good = json.dumps({"text": "a", "label": "b"})
    (folder / "reviews.jsonl").write_text("\n".join([*[good] * 5000, '{"text": ', good]))


def cut_parquet(folder: Path) -> None:
    parquet()(folder)
    path = folder / "reviews.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def latin_parquet(folder: Path) -> None:
    path = folder / "reviews.parquet"
    table = pa.table({"text": ["caf\xe9", *TEXTS[1:]], "label": LABELS})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace("caf\xe9".encode(), b"caf\xe9 "))


def bomb(name: str, pack: Callable[[bytes], bytes]):
    return lambda folder: (folder / name).write_bytes(pack(HEADER + b"a" * (65 * 2**20)))


def script(folder: Path) -> None:
    (folder / "imdb").mkdir()
    (folder / "imdb" / "imdb.py").write_text("raise SystemExit('was run')")


HOSTILE = ["<script>alert(1)</script>", "{{7*7}}", "=cmd|'/C calc'!A0", "%s%n", "\x1b]0;owned\x07", "[red]x[/red]"]
NAMES = ["C#", "50%", "🎬", "x" * 300, "../x", "a/b:c"]
STRANGE = ["nul \0 byte", "bell \a", "\u202eright to left", "a\u200bb", "x" * 1_000_000, "\u200b\u200b"]

DATA_ROWS = [
    Row(
        "40",
        "labels that YAML 1.1 takes for something else",
        text=yaml.safe_dump({**SWEEP, "data": {"path": "reviews.csv"}}).replace(
            "path: reviews.csv", "path: reviews.csv\n  labels: {no: no, on: on, 1.0: 1.0}"
        ),
        change=csv(labels=["no", "on", "1.0"] * 20),
        says=("train holds no 33%, on 33%, 1.0 35%",),
        accepted=True,
    ),
    Row(
        "40",
        "a list as the name of a label",
        ("data.labels={a: [b]}",),
        ("data.labels.a: input should be a valid string",),
    ),
    Row(
        "41",
        "a file that is not there",
        ("data.path=reviws.csv",),
        ("'reviws.csv': no such file or folder; did you mean 'reviews.csv'? A source is a data file (csv, tsv, ",),
    ),
    Row(
        "41",
        "a folder without data",
        ("data.path=nothing",),
        ("'nothing': the folder holds no data file (.csv, ",),
        change=lambda folder: (folder / "nothing").mkdir(),
    ),
    Row("42", "an empty file", says=("reviews.csv: the file is empty",), change=written(b"")),
    Row("42", "blank lines only", says=("reviews.csv: the file is empty",), change=written(b" \n\n")),
    Row("42", "a header only", says=("reviews.csv: there are no rows",), change=written(HEADER)),
    Row(
        "43",
        "other columns",
        says=("reviews.csv: no column 'text'; did you mean 'texts'? Known: texts, stars. Set data.text_column to",),
        change=written(b"texts,stars\na,b\n"),
    ),
    Row(
        "43",
        "the label as text",
        ("data.text_column=label",),
        ("data: label_column and a text column are both 'label': the answer would be in the text",),
    ),
    Row(
        "44",
        "semicolons",
        says=("reviews.csv:1: one column was found, 'text;label': the file seems to be separated by ';'", "commas"),
        change=written("\n".join(table()).replace(",", ";").encode()),
    ),
    Row("44", "a byte order mark", change=written(codecs.BOM_UTF8 + "\n".join(table()).encode()), accepted=True),
    Row(
        "44",
        "UTF-16",
        says=("reviews.csv:1: not UTF-8 text (byte 0 is 0xff) but UTF-16", "iconv -f UTF-16 -t UTF-8"),
        change=csv(encoding="utf-16"),
    ),
    Row(
        "44",
        "Latin-1",
        says=("reviews.csv:3: not UTF-8 text (byte ", " is 0xe9); save the file as UTF-8"),
        change=written(lines((3, "caf\xe9,positive")).replace("\xe9".encode(), b"\xe9")),
    ),
    Row(
        "45",
        "a quote left open",
        says=("reviews.csv:9: a quote is opened and never",),
        change=written(lines((9, '"a,b'))),
    ),
    Row(
        "45",
        "quotes that swallow rows",
        says=("reviews.csv:5: a quote is opened here and closed 7 lines later, so that the rows between would be one",),
        change=written(lines((5, '"Great,positive'), (12, "he is 6'2\",negative"))),
    ),
    Row("45", "paragraphs in quotes", change=written(lines((5, '"One,\n\ntwo,\nthree",positive'))), accepted=True),
    Row(
        "46",
        "a row too wide",
        says=("reviews.csv:7: 3 fields, but the header has 2",),
        change=written(lines((7, "a,b,c"))),
    ),
    Row(
        "46",
        "a row too narrow",
        says=("reviews.csv:8: 1 fields, but the header has 2",),
        change=written(lines((8, "a"))),
    ),
    Row(
        "47",
        "texts that are null",
        (JSONL,),
        ("data.text_column 'text': 2 of 60 rows have no value (rows 0, 1, counted from 0); fill them or remove",),
        change=jsonl(texts=[None, None, *TEXTS[2:]]),
    ),
    Row(
        "47",
        "labels that are null",
        (JSONL,),
        ("data.label_column 'label': 1 of 60 rows have no value (rows 0, counted from 0)",),
        change=jsonl(labels=[None, *LABELS[1:]]),
    ),
    Row("48", "texts that are numbers", (PARQUET,), change=parquet(texts=list(range(60))), accepted=True),
    *(
        Row(
            "48",
            f"texts that are {what}",
            (PARQUET,),
            (f"data.text_column 'text': must hold text, but row 0 (counted from 0) holds a value of type {kind}",),
            change=parquet(texts=[value] * 60),
        )
        for what, kind, value in [("lists", "ndarray", ["a"]), ("bytes", "bytes", b"a"), ("objects", "dict", {"a": 1})]
    ),
    Row("49", "no text at all", says=("data.text_column: all 60 texts are blank",), change=csv(texts=["", " \t"] * 30)),
    Row("49", "nothing to see", says=("data.text_column: all 60 texts are blank",), change=csv(texts=["\u200b"] * 60)),
    Row(
        "50",
        "one class",
        says=("data.label_column 'label': only 'x' in 60 rows; a classifier needs at least two classes",),
        change=csv(labels=["x"] * 60),
    ),
    Row(
        "51",
        "a class of one",
        says=(
            "the test split cannot be cut from train: the class 'rare' has 1 distinct texts",
            "data.labels",
            "data.splits",
        ),
        change=csv(labels=["rare", *LABELS[1:]]),
    ),
    Row(
        "52",
        "a label that train lacks",
        ("data.path=parts",),
        ("the label 'mixed' is in test but in no row of train", "train has negative, positive. Drop it (data.labels)"),
        change=splits(("train", TEXTS, LABELS), ("test", ["a", "b"], ["mixed", "positive"])),
    ),
    Row(
        "53",
        "a test split without labels",
        ("data.path=parts",),
        ("the test split has no labels (all are -1, hidden", "in data.splits write test: null"),
        change=splits(("train", TEXTS, ["0", "1"] * 30), ("test", ["a", "b"], ["-1", "-1"])),
    ),
    Row(
        "56",
        "several labels in one",
        says=("negative|positive look like several labels in one", "data.labels"),
        change=csv(labels=["negative|positive", "positive", "negative"] * 20),
        accepted=True,
    ),
    Row(
        "62",
        "characters that do not show",
        (JSONL,),
        ("1 of 60 texts are blank; they were kept",),
        change=jsonl(texts=with_first(*STRANGE)),
        accepted=True,
    ),
    Row(
        "62",
        "half of a surrogate pair",
        (JSONL,),
        ("data.text_column 'text': holds half of a Unicode surrogate pair ('\\ud83d')",),
        change=jsonl(texts=with_first("\ud83d")),
    ),
    Row(
        "63",
        "texts and labels that mean harm",
        (JSONL,),
        (", %s%n 17%, ", "<script>alert(1)</script> 17%", "[red]x[/red] 17%", "{{7*7}} 17%"),
        change=jsonl(texts=[f"{text} {number}" for number, text in enumerate(HOSTILE * 10)], labels=HOSTILE * 10),
        accepted=True,
        never=("\x1b", "\x07"),
    ),
    Row("64", "labels of every kind", (JSONL,), ("../x 17%", "C# 17%"), change=jsonl(labels=NAMES * 10), accepted=True),
    Row("65", "Parquet cut off", (PARQUET,), ("reviews.parquet: not a whole Parquet file: ",), change=cut_parquet),
    Row(
        "65",
        "Parquet with Latin-1 in it",
        (PARQUET,),
        ("reviews.parquet: not a whole Parquet file: ", "UTF8"),
        change=latin_parquet,
    ),
    Row("65", "a bad line of JSON", (JSONL,), ("reviews.jsonl:5001: not valid JSON: ", "(column "), change=bad_line),
    Row(
        "65",
        "a number of many digits",
        (JSONL,),
        ("reviews.jsonl:1: not valid JSON: Exceeds the limit",),
        change=written(b'{"text": "a", "label": ' + b"9" * 5000 + b"}", "reviews.jsonl"),
    ),
    *(
        Row(
            "66",
            f"a bomb as {suffix}",
            (f"data.path=bomb.csv{suffix}",),
            (f"bomb.csv{suffix}: its ", "bytes unpack to more than 67,108,864, over 100 times as many"),
            change=bomb(f"bomb.csv{suffix}", pack),
        )
        for suffix, pack in [(".gz", lambda data: gzip.compress(data, 1)), (".zst", zstandard.compress)]
    ),
    Row(
        "66", "no gzip at all", ("data.path=a.csv.gz",), ("not a whole .gz file",), change=written(b"text", "a.csv.gz")
    ),
    Row("67", "a script for data", ("data.path=imdb",), ("'imdb': the folder holds no data file",), change=script),
    Row(
        "68",
        "no validation split",
        ("data.path=parts",),
        ("validation was cut from train: 10 % (6 of 60 rows), stratified, equal texts together, seed 42",),
        change=splits(("train", TEXTS, LABELS), ("test", ["a", "b"], ["negative", "positive"])),
        accepted=True,
    ),
    Row(
        "69", "two rows", says=("data.label_column 'label': 2 classes in 2 rows; ",), change=csv(TEXTS[:2], LABELS[:2])
    ),
    Row(
        "69",
        "four rows",
        says=("cannot be cut from train: the class", "2 are needed"),
        change=csv(TEXTS[:4], LABELS[:4]),
    ),
]
