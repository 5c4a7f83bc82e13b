"""Every format, compression and kind of source gives the same rows; every unreadable one says what is wrong."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import zstandard

from trainables.errors import BadInput
from workflows.data import compression
from workflows.data.compression import COMPRESSIONS
from workflows.data.formats import FORMATS, Columns, extensions, read_file
from workflows.data.packages import locate
from workflows.data.sources import SOURCES, Request, from_hub, kind_of, load

COLUMNS = Columns((("data.text_column", "text"), ("data.label_column", "label")))
TEXTS = ["NA", "null", 'a "quoted", text', "two\nlines", "naïve 🎬"]
LABELS = ["None", "007", "b", "b", ""]
FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS, "other": range(5)})
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def written(folder: Path, name: str, frame: pd.DataFrame = FRAME) -> Path:
    extension, compression = extensions(name)
    path = folder / name.removesuffix(compression)
    if extension in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if extension == ".tsv" else ",")
    elif extension == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=extension != ".json")
    if compression:
        (folder / name).write_bytes(COMPRESS[compression](path.read_bytes()))
        path.unlink()
    return folder / name


def request(path: Path | str, columns: Columns = COLUMNS) -> Request:
    return Request(str(path), columns)


@pytest.mark.parametrize("compression", ["", *COMPRESSIONS])
@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_under_every_compression_gives_the_same_rows(tmp_path, extension, compression):
    path = written(tmp_path, f"data{extension}{compression}")
    frame = read_file(path, COLUMNS).frame
    assert frame["text"].tolist() == TEXTS
    assert frame["label"].tolist() == LABELS
    assert list(frame) == ["text", "label"]


def _file(folder: Path) -> str:
    return str(written(folder, "data.csv"))


def _folder(folder: Path) -> str:
    written(folder, "part-0.csv", FRAME[:3])
    written(folder, "part-1.csv", FRAME[3:])
    return str(folder)


def _glob(folder: Path) -> str:
    _folder(folder)
    return str(folder / "part-*.csv")


def _saved(folder: Path) -> str:
    import datasets

    datasets.Dataset.from_pandas(FRAME).select([4, 3, 2, 1, 0]).select([4, 3, 2, 1, 0]).save_to_disk(folder / "saved")
    return str(folder / "saved")


def _package(folder: Path) -> str:
    (folder / "reviews_for_test").mkdir()
    (folder / "reviews_for_test" / "__init__.py").write_text("raise RuntimeError('was imported')")
    written(folder / "reviews_for_test", "data.csv")
    return "pkg://reviews_for_test/data.csv"


def _hub(folder: Path) -> str:
    written(folder, "train.parquet")
    return str(folder)


EXAMPLES = {"file": _file, "folder": _folder, "glob": _glob, "saved": _saved, "package": _package, "hub": _hub}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_gives_the_same_rows(tmp_path, monkeypatch, kind):
    monkeypatch.syspath_prepend(str(tmp_path))
    path = EXAMPLES[kind](tmp_path)
    # load_dataset takes a local folder as it takes a Hub id, so the Hub's code runs without a network
    rows = SOURCES[kind](request(path))
    assert rows.frame["text"].tolist() == TEXTS
    assert rows.frame["label"].tolist() == LABELS
    assert kind == "hub" or kind_of(path) == kind


def test_class_label_names_arrive_from_hub_saved_folder_and_parquet_alike(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    (tmp_path / "parquet").mkdir()
    data.to_parquet(tmp_path / "parquet" / "train.parquet")
    datasets.DatasetDict(train=data).save_to_disk(tmp_path / "saved")
    loaded = [load(request(tmp_path / name)) for name in ("parquet", "saved")]
    loaded.append(from_hub(request(tmp_path / "parquet")))
    for rows in loaded:
        assert rows.class_names == {"label": ("neg", "pos")}
        assert rows.split.tolist() == ["train", "train"]


def test_files_named_after_splits_become_splits_and_others_are_left_out(tmp_path):
    for name, part in {"train-0.csv": FRAME[:2], "valid.csv": FRAME[2:3], "notes.csv": FRAME[3:4]}.items():
        written(tmp_path, name, part)
    (tmp_path / "test").mkdir()
    written(tmp_path / "test", "a.csv", FRAME[4:])
    rows = load(request(tmp_path))
    found = dict(zip(rows.frame["text"], rows.split, strict=True))
    assert found == {TEXTS[0]: "train", TEXTS[1]: "train", TEXTS[2]: "valid", TEXTS[4]: "test"}


def test_a_name_that_only_begins_like_a_split_is_no_split(tmp_path):
    written(tmp_path, "testimonials.csv")
    assert load(request(tmp_path)).split is None


def test_home_and_relative_paths_are_understood(tmp_path, monkeypatch):
    written(tmp_path, "data.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert len(load(request("~/data.csv")).frame) == len(load(request("data.csv")).frame) == 5


def test_appended_zstd_frames_are_read_to_the_end(tmp_path):
    parts = [zstandard.compress(b"text,label\na,b\n"), zstandard.compress(b"c,d\n")]
    (tmp_path / "a.csv.zst").write_bytes(b"".join(parts))
    assert read_file(tmp_path / "a.csv.zst", COLUMNS).frame["text"].tolist() == ["a", "c"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_compressed_file_that_was_cut_off_is_refused_and_never_read_in_part(tmp_path, compression):
    content = COMPRESS[compression](b"text,label\n" + os.urandom(50_000).hex().encode())
    (tmp_path / f"a.csv{compression}").write_bytes(content[:-5])
    with pytest.raises(BadInput, match=f"not a whole {compression} file"):
        read_file(tmp_path / f"a.csv{compression}", COLUMNS)


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_what_unpacks_to_far_more_than_text_does_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 100_000)
    content = b"text,label\na,b\n"
    (tmp_path / f"a.csv{suffix}").write_bytes(COMPRESS[suffix](content * 6_000))
    assert len(read_file(tmp_path / f"a.csv{suffix}", COLUMNS).frame) == 11_999
    (tmp_path / f"b.csv{suffix}").write_bytes(COMPRESS[suffix](content + b"a" * 2_000_000))
    with pytest.raises(BadInput, match=rf"b\.csv{suffix}: its .* bytes unpack to more than [\d,]+, over 100 times"):
        read_file(tmp_path / f"b.csv{suffix}", COLUMNS)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\na,b\n".encode())
    assert read_file(tmp_path / "a.csv", COLUMNS).frame["text"].tolist() == ["a"]


def test_a_dictionary_column_of_parquet_is_read_as_its_values(tmp_path):
    FRAME.astype({"label": "category"}).to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet", COLUMNS).frame["label"].tolist() == LABELS


BAD_FILES = {
    "empty": ("a.csv", b"", ["a.csv", "empty"]),
    "blank": ("a.csv", b" \n\n", ["empty"]),
    "header only": ("a.csv", b"text,label\n", ["no rows"]),
    "no rows of JSON": ("a.json", b"[]", ["no rows"]),
    "latin-1": ("a.csv", b"text,label\nok,b\ncaf\xe9,b\n", ["a.csv:3", "byte 19", "0xe9", "UTF-8"]),
    "latin-1 after a mark": ("a.csv", b"\xef\xbb\xbftext,label\ncaf\xe9,b\n", ["a.csv:2", "byte 17"]),
    "utf-16": ("a.csv", "text,label".encode("utf-16"), ["a.csv:1", "byte 0"]),
    "semicolons": ("a.csv", b"text;label\na, b;c\n", ["one column", "';'"]),
    "tabs": ("a.csv", b"text\tlabel\na\tc\n", ["one column", ".tsv"]),
    "commas in a tsv": ("a.tsv", b"text,label\na,c\n", ["one column", ".csv"]),
    "long row": ("a.csv", b'text,label\n"a\nb",c\na,b,c\n', ["a.csv:4", "3 fields", "header has 2"]),
    "long first row": ("a.csv", b"text,label\na,b,c\n", ["a.csv:2", "3 fields"]),
    "short row": ("a.csv", b'text,label\n\n"a\nb",c\nd\n', ["a.csv:5", "1 fields", "header has 2"]),
    "open quote": ("a.csv", b'text,label\na,b\n"c,d\ne,f\n', ["a.csv:3", "never closed"]),
    "column twice": ("a.csv", b"text,label,text\na,b,c\n", ["2 columns", "'text'"]),
    "wrong column": (
        "a.csv",
        b"texts,label\na,b\n",
        ["no column 'text'", "did you mean 'texts'", "Known: texts, label", "data.text_column"],
    ),
    "wrong label column": ("a.jsonl", b'{"text": "a", "labels": 1}', ["'label'", "'labels'", "data.label_column"]),
    "bad line": ("a.jsonl", b'{"text": "a", "label": 1}\n\n{"text": \n', ["a.jsonl:3", "not valid JSON"]),
    "line is a list": ("a.jsonl", b"[1, 2]\n", ["a.jsonl:1", "object"]),
    "bad array": ("a.json", b'[{"text": "a",\n "label" 1}]', ["a.json:2", "not valid JSON"]),
    "array of texts": ("a.json", b'["a"]', ["item 0", "object"]),
    "deep": ("a.jsonl", b"[" * 100_000, ["a.jsonl:1", "nested too deeply"]),
    "cut parquet": ("a.parquet", b"PAR1 and then nothing", ["a.parquet", "not a whole Parquet file"]),
    "no bzip2": ("a.csv.bz2", b"text", ["not a whole .bz2 file"]),
    "no xz": ("a.csv.xz", b"text", ["not a whole .xz file"]),
    "no zstd": ("a.csv.zst", b"text", ["not a whole .zst file"]),
    "no gzip": ("a.csv.gz", b"text", ["not a whole .gz file"]),
    "unknown format": ("a.xlsx", b"text", ["not known", ".csv"]),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_an_unreadable_file_says_where_and_what_is_wrong(tmp_path, case):
    name, content, parts = BAD_FILES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load(request(tmp_path / name))
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_PATHS = {
    "s3://bucket/a.csv": ["s3:// is not supported yet"],
    "missing.csv": ["no such file", "did you mean", "missin.csv"],
    "nowhere/a.csv": ["no such file", "nowhere"],
    "": ["no such file or folder", "pkg://package/path"],
    "~no-such-user/a.csv": ["cannot be a path", "home"],
    "x" * 5000: ["cannot be a path", "too long"],
    "none-*.csv": ["no file matches"],
    "mixed": [".csv and .json", "one format"],
    "nothing": ["holds no data file"],
    "pkg://no_such_package_here/a.csv": ["no package 'no_such_package_here'"],
    "pkg://scattertext.data/a.csv": ["top-level"],
    "pkg://scattertext/../a.csv": ["inside"],
    "pkg://scattertext/dat/a.csv": ["no 'dat/a.csv'", "did you mean 'data'"],
    "pkg://os.path/a.csv": ["top-level"],
    "pkg://difflib/a.csv": ["single module"],
}


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leads_nowhere_says_so(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed").mkdir()
    (tmp_path / "nothing").mkdir()
    written(tmp_path, "missin.csv")
    written(tmp_path / "mixed", "a.csv")
    written(tmp_path / "mixed", "a.json")
    with pytest.raises(BadInput) as caught:
        load(request(path))
    for part in BAD_PATHS[path]:
        assert part in str(caught.value)


def test_revision_is_refused_where_there_is_no_hub(tmp_path):
    with pytest.raises(BadInput, match=r"data\.revision.*Hub"):
        load(Request(str(written(tmp_path, "a.csv")), COLUMNS, revision="main"))


def test_without_a_network_a_hub_id_explains_the_forms_a_source_can_have(tmp_path):
    code = (
        "from workflows.data.sources import *\nfrom trainables.errors import BadInput\n"
        "try: load(Request('stanfordnlp/imdb', Columns((('data.text_column', 'text'),))))\n"
        "except BadInput as error: print(error)"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(root)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    for part in ("stanfordnlp/imdb", "no such local path", "pkg://package/path", "Hub id"):
        assert part in run.stdout


HUB_ERRORS = {
    "Dataset scripts are no longer supported, but found imdb.py": "Parquet files instead",
    "Dataset 'x' is a gated dataset on the Hub. You must be authenticated to access it.": "hf auth login",
    "Config name is missing. Please pick one among the available configs": "data.name",
    "Dataset 'no/such' doesn't exist on the Hub or cannot be accessed.": "no such data set",
}


@pytest.mark.parametrize("message", HUB_ERRORS)
def test_each_refusal_of_the_hub_gets_a_hint(message):
    from workflows.data.sources import _hub_hint

    assert HUB_ERRORS[message] in _hub_hint(RuntimeError(message))
    assert message in _hub_hint(RuntimeError(message))


def test_a_hub_configuration_that_does_not_exist_names_the_setting(tmp_path):
    written(tmp_path, "train.parquet")
    with pytest.raises(BadInput, match=r"data\.name"):
        from_hub(Request(str(tmp_path), COLUMNS, name="no-such-configuration"))


def test_locating_a_package_imports_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    _package(tmp_path)
    assert locate("pkg://reviews_for_test/data.csv") == tmp_path / "reviews_for_test" / "data.csv"
    assert "reviews_for_test" not in sys.modules


def test_values_of_json_keep_their_types_until_their_role_is_known(tmp_path):
    lines = [{"text": 1, "label": True}, {"text": 1.0, "label": 2**60 + 1}, {"text": "1", "label": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    frame = read_file(tmp_path / "a.jsonl", COLUMNS).frame
    assert frame["label"].tolist() == [True, 2**60 + 1, None]


def test_large_integers_beside_a_null_stay_exact_in_parquet(tmp_path):
    FRAME.assign(label=pd.array([2**60 + 1, None, 1, 1, 1], dtype="Int64")).to_parquet(tmp_path / "a.parquet")
    assert read_file(tmp_path / "a.parquet", COLUMNS).frame["label"].tolist() == [2**60 + 1, None, 1, 1, 1]
