"""Texts to token ids, once per (data, tokenizer, max_length), stored ragged and memory-mapped.

`tokenize` is called by every trial. The first to come writes the folder, the others open it; whoever dies while
writing leaves nothing behind that counts, because a folder counts only once it is COMMIT-ed, and only while its files
are what was committed: damaged ones are made anew.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from filelock import FileLock

from trainables.arguments import TrialSpec
from trainables.directory import CacheDirectory
from trainables.errors import CorruptFile
from trainables.files import COMMIT, is_committed, new_directory, read_json, sha256_json, verify, write_json
from trainables.records import SPLITS, Split
from trainables.stored_rows import StoredRows

_CHUNK = 1_000
_VERSION = 3


@dataclass(frozen=True)
class HiddenStates:
    """What the frozen blocks at the bottom of a model give for a split: the input of layer `boundary`, kept.

    `states` is (tokens, hidden size) in the order of `TokenSplit.input_ids`, or (texts, hidden size) where only the
    first token of each text is needed (`first_only`), in a file; bf16 is kept as its bits (uint16).
    """

    boundary: int
    first_only: bool
    states: np.ndarray | StoredRows


@dataclass(frozen=True)
class TokenSplit:
    """One split: `input_ids` of all texts end to end (int32), text i at offsets[i]:offsets[i + 1].

    `tokens_cut` says how many tokens of each text lie beyond max_length, int64, shape (texts,). Where there is
    `hidden`, a forward pass begins with it and not with the tokens.
    """

    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None
    labels: np.ndarray
    rows: np.ndarray
    tokens_cut: np.ndarray
    pad_token_id: int
    hidden: HiddenStates | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64, shape (texts,). Every pass asks for some of them, so they are found once."""
        return np.diff(self.offsets)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """Model inputs for some texts, padded to the longest of them; tensors of shape (texts, longest)."""
        spans = [(int(self.offsets[index]), int(self.offsets[index + 1])) for index in indices]
        shape = (len(spans), max(end - start for start, end in spans))
        inputs = {"input_ids": np.full(shape, self.pad_token_id, np.int64), "attention_mask": np.zeros(shape, np.int64)}
        if self.token_type_ids is not None:
            inputs["token_type_ids"] = np.zeros(shape, np.int64)
        for row, (start, end) in enumerate(spans):
            inputs["input_ids"][row, : end - start] = self.input_ids[start:end]
            inputs["attention_mask"][row, : end - start] = 1
            if self.token_type_ids is not None:
                inputs["token_type_ids"][row, : end - start] = self.token_type_ids[start:end]
        return {name: torch.from_numpy(array) for name, array in inputs.items()}


def tokenize(spec: TrialSpec, patience: float = -1) -> dict[Split, TokenSplit]:
    """Open the tokens of a trial's splits, making them first where nobody has, or where they are damaged.

    Raises filelock.Timeout after `patience` seconds of another process making them; negative: waits for it.
    """
    folder = CacheDirectory(Path(spec.cache)).tokens(key(spec))
    if _flaw(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Where the file system ignores locks, several write the same and the first one stays.
        with FileLock(folder.with_suffix(".lock"), timeout=patience):
            if flaw := _flaw(folder):
                if is_committed(folder):
                    logging.getLogger(__name__).warning("the tokens are made anew: %s", flaw)
                    # A damaged folder must not count as the first one.
                    (folder / COMMIT).unlink(missing_ok=True)
                _write(spec, folder)
    return {split: _open(folder, split) for split in SPLITS}


def _flaw(folder: Path) -> str | None:
    """Why a folder of tokens cannot be used: it is not there, or not what was written. None where it can."""
    try:
        _verify(folder, frozenset(map(_touched, folder.glob("*"))))
    except (CorruptFile, FileNotFoundError) as error:
        return str(error)
    return None


@functools.lru_cache(maxsize=64)
def _verify(folder: Path, _: frozenset[tuple[str, int, int]]) -> None:
    """Hash all files: once in a process that runs many trials, unless somebody touches one in between."""
    verify(folder)


def _touched(path: Path) -> tuple[str, int, int]:
    """Name, bytes, and when the file was last changed."""
    found = path.stat()
    return path.name, found.st_size, found.st_ctime_ns


def key(spec: TrialSpec) -> str:
    """Hash of all that decides a trial's tokens and their order."""
    return sha256_json(
        {
            "data": spec.data_fingerprint,
            "labels": list(spec.labels),
            "tokenizer": spec.model.tokenizer_sha256,
            "max_length": spec.training.max_length,
            "version": _VERSION,
        }
    )


def encode(tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int) -> TokenSplit:
    """Tokens of some texts in memory, for prediction: row i is text i, labels are all 0; what is cut is not counted."""
    input_ids, types = _token_ids(tokenizer, texts, pairs, max_length)
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in input_ids])]).astype(np.int64)
    uses_types = "token_type_ids" in tokenizer.model_input_names
    return TokenSplit(
        input_ids=_joined(input_ids, np.int32),
        offsets=offsets,
        token_type_ids=_joined(types, np.int8) if uses_types else None,
        labels=np.zeros(len(texts), np.int64),
        rows=np.arange(len(texts)),
        tokens_cut=np.zeros(len(texts), np.int64),
        pad_token_id=_pad_token_id(tokenizer),
    )


def _token_ids(
    tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids and token type ids of each text, special tokens included, cut to `max_length` tokens.

    A text that has none, as a blank one under a tokenizer without special tokens, is one padding token: a model reads
    at least one token of each text, and would otherwise read the next text's.
    """
    encoded = tokenizer(
        texts,
        pairs,
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=True,
        verbose=False,
    )
    padding = _pad_token_id(tokenizer)
    return [ids or [padding] for ids in encoded["input_ids"]], [types or [0] for types in encoded["token_type_ids"]]


def _tokens_cut(
    tokenizer: Any, texts: list[str], pairs: list[str] | None, lengths: list[int], max_length: int
) -> list[int]:
    """How many tokens of each text lie beyond `max_length`; only texts that fill it are tokenised again."""
    full = [index for index, length in enumerate(lengths) if length >= max_length]
    cut = [0] * len(lengths)
    if full:
        whole = tokenizer(
            [texts[index] for index in full],
            None if pairs is None else [pairs[index] for index in full],
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        for index, ids in zip(full, whole, strict=True):
            cut[index] = len(ids) - lengths[index]
    return cut


def _joined(lists: list[list[int]], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.asarray(ids, dtype) for ids in lists])


def _write(spec: TrialSpec, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(spec.model.path, local_files_only=True, trust_remote_code=False)
    uses_types = "token_type_ids" in tokenizer.model_input_names
    with new_directory(folder, replace=False) as scratch:
        for split in SPLITS:
            _write_split(tokenizer, Path(spec.data) / f"{split}.parquet", scratch, split, spec.training.max_length)
        about = {"pad_token_id": _pad_token_id(tokenizer), "token_type_ids": uses_types}
        write_json(scratch / "tokens.json", about | {"unk_token_id": _unk_token_id(tokenizer)})


def unknown_id(spec: TrialSpec) -> int | None:
    """The id that stands for what the tokenizer of a trial does not know; None where it knows everything.

    To be asked once the tokens are there: they say it.
    """
    about = read_json(CacheDirectory(Path(spec.cache)).tokens(key(spec)) / "tokens.json")
    found: int | None = about["unk_token_id"]
    return found


def _unk_token_id(tokenizer: Any) -> int | None:
    """None too where the unknown token has another meaning besides, as in some byte-level tokenizers."""
    others = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.eos_token_id)
    return None if tokenizer.unk_token_id in others else tokenizer.unk_token_id


def _pad_token_id(tokenizer: Any) -> int:
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)


def _write_split(tokenizer: Any, source: Path, scratch: Path, split: str, max_length: int) -> None:
    """Tokenise one parquet file in chunks, so that memory does not grow with its rows."""
    lengths: list[int] = []
    cut: list[int] = []
    labels: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    with (scratch / f"{split}.input_ids").open("wb") as ids_file, (scratch / f"{split}.types").open("wb") as types_file:
        for chunk in _chunks(source):
            pairs = None if chunk["text_pair"][0] is None else chunk["text_pair"]
            input_ids, types = _token_ids(tokenizer, chunk["text"], pairs, max_length)
            _joined(input_ids, np.int32).tofile(ids_file)
            _joined(types, np.int8).tofile(types_file)
            lengths.extend(map(len, input_ids))
            cut.extend(_tokens_cut(tokenizer, chunk["text"], pairs, lengths[-len(input_ids) :], max_length))
            labels.append(np.asarray(chunk["label"], np.int64))
            rows.append(np.asarray(chunk["row"], np.int64))
    np.save(scratch / f"{split}.offsets.npy", np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(scratch / f"{split}.cut.npy", np.asarray(cut, np.int64))
    np.save(scratch / f"{split}.labels.npy", np.concatenate(labels))
    np.save(scratch / f"{split}.rows.npy", np.concatenate(rows))


def _chunks(source: Path) -> Iterator[dict[str, list[Any]]]:
    for batch in pq.ParquetFile(source).iter_batches(_CHUNK, columns=["row", "text", "text_pair", "label"]):
        yield batch.to_pydict()


def _open(folder: Path, split: str) -> TokenSplit:
    about = read_json(folder / "tokens.json")
    types = np.memmap(folder / f"{split}.types", np.int8, mode="r") if about["token_type_ids"] else None
    return TokenSplit(
        input_ids=np.memmap(folder / f"{split}.input_ids", np.int32, mode="r"),
        offsets=np.load(folder / f"{split}.offsets.npy", mmap_mode="r"),
        token_type_ids=types,
        labels=np.load(folder / f"{split}.labels.npy", mmap_mode="r"),
        rows=np.load(folder / f"{split}.rows.npy", mmap_mode="r"),
        tokens_cut=np.load(folder / f"{split}.cut.npy", mmap_mode="r"),
        pad_token_id=about["pad_token_id"],
    )
