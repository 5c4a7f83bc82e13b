"""Ragged, memory-mapped tokens are exactly what the tokenizer gives, made once and shared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tests.tiny import tiny_model, tiny_tokenizer
from tests.tiny_data import trial_spec
from trainables import forward, models
from trainables.arguments import TrialSpec
from trainables.files import verify
from trainables.tokens import encode, tokenize
from trainables.training import predict_logits


@pytest.fixture
def spec(tmp_path: Path) -> TrialSpec:
    return trial_spec(tiny_model("bert", tmp_path / "bert"), tmp_path)


def test_every_text_has_the_tokens_that_its_tokenizer_gives(spec: TrialSpec) -> None:
    tokenizer = tiny_tokenizer()
    for split, found in tokenize(spec).items():
        table = pq.read_table(Path(spec.data) / f"{split}.parquet").to_pydict()
        expected = tokenizer(table["text"], truncation=True, max_length=32)["input_ids"]
        got = [found.input_ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
        assert got == expected
        assert found.labels.tolist() == table["label"]
        assert found.rows.tolist() == table["row"]


def test_a_batch_is_what_the_tokenizer_would_pad(spec: TrialSpec) -> None:
    found = tokenize(spec)["train"]
    texts = pq.read_table(Path(spec.data) / "train.parquet")["text"].to_pylist()
    chosen = np.array([5, 0, 17])
    batch = found.batch(chosen)
    expected = tiny_tokenizer()([texts[index] for index in chosen], padding=True, return_tensors="pt")
    assert batch["input_ids"].tolist() == expected["input_ids"].tolist()
    assert batch["attention_mask"].tolist() == expected["attention_mask"].tolist()


def test_long_texts_are_cut_to_max_length_tokens(spec: TrialSpec) -> None:
    short = spec.model_copy(update={"training": spec.training.model_copy(update={"max_length": 5})})
    assert tokenize(short)["train"].lengths.max() == 5
    assert tokenize(spec)["train"].lengths.max() > 5


def test_what_lies_beyond_max_length_is_counted_for_each_text(spec: TrialSpec) -> None:
    short = tokenize(spec.model_copy(update={"training": spec.training.model_copy(update={"max_length": 8})}))
    for split, found in tokenize(spec).items():
        assert short[split].tokens_cut.tolist() == np.maximum(found.lengths - 8, 0).tolist()
        assert found.tokens_cut.tolist() == [0] * len(found)
    assert short["train"].tokens_cut.max() > 0


def test_tokens_are_made_once_and_then_only_opened(spec: TrialSpec) -> None:
    tokenize(spec)
    (folder,) = (path for path in (Path(spec.cache) / "tokens").iterdir() if path.is_dir())
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert isinstance(tokenize(spec)["train"].input_ids, np.memmap)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["train.input_ids", "test.labels.npy", "tokens.json", "COMMIT"])
def test_damaged_tokens_are_made_anew_and_named(spec: TrialSpec, name: str, caplog: pytest.LogCaptureFixture) -> None:
    before = {split: found.batch(np.arange(24)) for split, found in tokenize(spec).items()}
    (folder,) = (path for path in (Path(spec.cache) / "tokens").iterdir() if path.is_dir())
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    after = {split: found.batch(np.arange(24)) for split, found in tokenize(spec).items()}
    assert (folder / name).read_bytes() == whole
    assert {split: batch["input_ids"].tolist() for split, batch in after.items()} == {
        split: batch["input_ids"].tolist() for split, batch in before.items()
    }
    (said,) = caplog.messages
    assert "made anew" in said and str(folder / name) in said
    verify(folder)


def test_tokens_that_are_gone_in_part_are_made_anew(spec: TrialSpec) -> None:
    tokenize(spec)
    (folder,) = (path for path in (Path(spec.cache) / "tokens").iterdir() if path.is_dir())
    for name in ("train.offsets.npy", "COMMIT"):
        (folder / name).unlink()
        assert len(tokenize(spec)["train"]) == 64
        verify(folder)


def test_sentence_pairs_carry_the_type_of_each_token() -> None:
    found = encode(tiny_tokenizer(), ["a good movie", "bad"], ["it was great", "no"], 32)
    batch = found.batch(np.array([0, 1]))
    expected = tiny_tokenizer()(["a good movie", "bad"], ["it was great", "no"], padding=True)
    assert batch["token_type_ids"].tolist() == expected["token_type_ids"]
    assert 1 in batch["token_type_ids"]


def without_specials(folder: Path) -> Path:
    """Make a model's tokenizer one that adds no [CLS] and no [SEP]."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"post_processor": None}))
    return folder


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "modernbert"])
def test_a_text_without_any_token_is_one_of_its_own_and_reads_no_other(tmp_path: Path, name: str) -> None:
    spec = trial_spec(without_specials(tiny_model(name, tmp_path / "model")), tmp_path)
    model = models.load_model(spec.model, spec.labels, 1)
    tokenizer = AutoTokenizer.from_pretrained(spec.model.path)
    blank = [
        predict_logits(model, encode(tokenizer, texts, None, 32), 8, "fp32")
        for texts in (["", "good"], ["", "a bad film"])
    ]
    assert np.abs(blank[0][0] - blank[1][0]).max() < 1e-6
    assert np.abs(blank[0][0] - blank[0][1]).max() > 1e-4
    padded = forward.padded_logits(model, encode(tokenizer, ["", "good"], None, 32), np.arange(2))
    assert np.abs(blank[0] - padded.detach().numpy()).max() < 1e-5


def test_blank_texts_of_a_split_are_kept_where_the_tokenizer_gives_them_no_tokens(tmp_path: Path) -> None:
    spec = trial_spec(without_specials(tiny_model("bert", tmp_path / "bert")), tmp_path)
    path = Path(spec.data) / "train.parquet"
    table = pq.read_table(path).to_pydict()
    table["text"][3], table["text"][-1] = "", "  "
    pq.write_table(pa.table(table, schema=pq.read_schema(path)), path)
    found = tokenize(spec)["train"]
    assert len(found) == 64
    assert np.flatnonzero(found.lengths == 1).tolist() == [3, 63]
    assert found.batch(np.array([3]))["input_ids"].tolist() == [[found.pad_token_id]]


def test_an_interrupted_tokenisation_leaves_nothing_that_counts(
    spec: TrialSpec,
) -> None:
    (Path(spec.data) / "test.parquet").rename(Path(spec.data) / "hidden.parquet")
    with pytest.raises(FileNotFoundError):
        tokenize(spec)
    assert not [path for path in (Path(spec.cache) / "tokens").iterdir() if path.is_dir()]
    (Path(spec.data) / "hidden.parquet").rename(Path(spec.data) / "test.parquet")
    assert len(tokenize(spec)["test"]) == 24
